"""Training from a config: the command line of ``tools/train.py``."""

from argparse import ArgumentParser

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from xcit_dense.openmmlab.commands.data_roots import check_data_exists
from xcit_dense.openmmlab.commands.options import add_shared_options, load_config

# ImageNet weights from which the paper's release starts, e.g. small_12 and 16.
PUBLISHED_WEIGHTS = "https://dl.fbaipublicfiles.com/xcit/xcit_{arch}_p{patch_size}_384_dist.pth"


def make_parser() -> ArgumentParser:
    """The command line, with mm's names."""
    parser = ArgumentParser(description="Train a detector or a segmentor from a config.")
    parser.add_argument("config", help="path of the config")
    add_shared_options(parser)
    parser.add_argument(
        "--pretrained",
        nargs="?",
        const="published",
        metavar="PATH_OR_URL",
        help="weights the backbone starts from; alone: the release's ImageNet weights",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="go on from this checkpoint; alone or 'auto': from the newest in the work dir",
    )
    parser.add_argument("--amp", action="store_true", help="automatic mixed precision")
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate by the batch size over that of the recipe",
    )
    return parser


def use_amp(cfg: Config) -> None:
    """Turn mixed precision on.

    Raises:
        ValueError: the optimizer wrapper has no mixed-precision counterpart, or there is no
            accelerator, which mmengine's mixed precision needs.
    """
    kind = cfg.optim_wrapper.get("type", "OptimWrapper")
    if kind not in ("OptimWrapper", "AmpOptimWrapper"):
        raise ValueError(f"--amp: optim_wrapper.type is {kind!r}, wanted 'OptimWrapper'")
    if not torch.accelerator.is_available():
        raise ValueError("--amp: mixed precision of mmengine needs a GPU, and none was found")
    cfg.optim_wrapper.type = "AmpOptimWrapper"
    cfg.optim_wrapper.setdefault("loss_scale", "dynamic")


def scale_learning_rate(cfg: Config) -> None:
    """Turn on mmengine's scaling of the learning rate by the batch size.

    Raises:
        ValueError: the config does not say for which batch size its learning rate is.
    """
    if "base_batch_size" not in cfg.get("auto_scale_lr", {}):
        raise ValueError(
            "--auto-scale-lr: the config lacks auto_scale_lr = dict(base_batch_size=...)"
        )
    cfg.auto_scale_lr.enable = True


def use_pretrained(cfg: Config, source: str) -> None:
    """Let the backbone start from the weights at ``source``, or from the ``'published'`` ones.

    Raises:
        ValueError: no weights are published for the config's backbone.
    """
    backbone = cfg.model.backbone
    if source == "published":
        if not isinstance(backbone.get("arch"), str):
            raise ValueError("--pretrained: no weights are published for an arch of your own")
        source = PUBLISHED_WEIGHTS.format(arch=backbone.arch, patch_size=backbone.patch_size)
    backbone.init_cfg = {"type": "Pretrained", "checkpoint": source}


def use_resume(cfg: Config, checkpoint: str) -> None:
    """Go on from a checkpoint, or from the newest one of the work dir (``'auto'``)."""
    cfg.resume = True
    cfg.load_from = None if checkpoint == "auto" else checkpoint


def main(argv: list[str] | None = None) -> None:
    """Train as the arguments say (``sys.argv`` if None)."""
    parser = make_parser()
    args = parser.parse_args(argv)
    cfg = load_config(args)
    try:
        if args.amp:
            use_amp(cfg)
        if args.auto_scale_lr:
            scale_learning_rate(cfg)
        if args.pretrained is not None:
            use_pretrained(cfg, args.pretrained)
    except ValueError as error:
        parser.error(str(error))
    if args.resume is not None:
        use_resume(cfg, args.resume)
    check_data_exists(cfg, ["train", "val"])

    runner = RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)
    pretrained = cfg.model.get("backbone", {}).get("init_cfg")
    if not (cfg.get("resume") or cfg.get("load_from") or pretrained):
        print_log(
            "The backbone starts from random weights. The published recipes start from ImageNet "
            "weights: add --pretrained.",
            logger="current",
        )
    runner.train()
