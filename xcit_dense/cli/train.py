"""Training from a config: the command line of ``tools/train.py``."""

from argparse import ArgumentParser

import torch
from mmengine.config import Config
from mmengine.logging import print_log

from xcit_dense.cli.options import add_shared_options, load_config
from xcit_dense.mm.config_tree import type_name
from xcit_dense.mm.data_roots import check_data_exists
from xcit_dense.mm.launcher import build_runner, use_launcher
from xcit_dense.mm.mixed_precision import DTYPES, checked_dtype
from xcit_dense.mm.resuming import (
    check_checkpoints,
    use_atomic_checkpoints,
    use_resume,
)
from xcit_dense.weights.published_weights import (
    KIND_OF_THE_RELEASE,
    published_kinds,
    published_url,
)

# kinds of optimizer wrapper that --amp can take the place of
AMP_WRAPPERS = ("OptimWrapper", "AmpOptimWrapper", "MixedPrecisionOptimWrapper")


def make_parser() -> ArgumentParser:
    """The command line, with mm's names."""
    parser = ArgumentParser(description="Train a detector or a segmentor from a config.")
    parser.add_argument("config", help="path of the config")
    add_shared_options(parser)
    parser.add_argument(
        "--pretrained",
        nargs="?",
        const=KIND_OF_THE_RELEASE,
        metavar="KIND_PATH_OR_URL",
        help="weights the backbone starts from: a kind of the release's ImageNet weights "
        f"({', '.join(published_kinds())}), a file or a URL; alone: {KIND_OF_THE_RELEASE}",
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
        "--amp-dtype",
        choices=list(DTYPES),
        help="data type of --amp (bfloat16; float16 on CUDA devices that lack it)",
    )
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate by the batch size over that of the recipe",
    )
    return parser


def use_amp(cfg: Config, dtype: str | None = None) -> None:
    """Turn mixed precision on, in bfloat16 where the device has it, or in ``dtype``.

    Raises:
        ValueError: the optimizer wrapper has no mixed-precision counterpart, or the GPU does not
            know the data type.
    """
    kind = type_name(cfg.optim_wrapper) or "OptimWrapper"
    if kind not in AMP_WRAPPERS:
        raise ValueError(f"--amp: optim_wrapper.type is {kind!r}, wanted 'OptimWrapper'")
    cfg.optim_wrapper.type = "MixedPrecisionOptimWrapper"
    if dtype is not None:
        cfg.optim_wrapper.dtype = checked_dtype(dtype)
    if (
        cfg.optim_wrapper.get("dtype") == "bfloat16"
        and torch.cuda.is_available()
        and not torch.cuda.is_bf16_supported()
    ):
        name = torch.cuda.get_device_name()
        raise ValueError(f"--amp: {name} does not know bfloat16, use --amp-dtype float16")


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
    """Let the backbone start from a kind of published ImageNet weights, from a file or a URL.

    Raises:
        ValueError: no weights of this kind are published for the config's backbone.
    """
    backbone = cfg.model.backbone
    if source in published_kinds():
        if type_name(backbone) != "XCiT":
            raise ValueError(
                f"--pretrained {source}: these weights are for XCiT, the backbone of the config "
                f"is {type_name(backbone)}; name a file or a URL"
            )
        arch, patch_size = backbone.get("arch", "small_12"), backbone.get("patch_size", 16)
        try:
            source = published_url(source, arch, patch_size)
        except ValueError as error:
            raise ValueError(f"--pretrained: {error}") from error
    backbone.init_cfg = {"type": "Pretrained", "checkpoint": source}


def main(argv: list[str] | None = None) -> None:
    """Train as the arguments say (``sys.argv`` if None)."""
    parser = make_parser()
    args = parser.parse_args(argv)
    cfg = load_config(args)
    try:
        if args.amp:
            use_amp(cfg, args.amp_dtype)
        elif args.amp_dtype is not None:
            raise ValueError("--amp-dtype chooses the data type of --amp: add --amp")
        if args.auto_scale_lr:
            scale_learning_rate(cfg)
        if args.pretrained is not None:
            use_pretrained(cfg, args.pretrained)
    except ValueError as error:
        parser.error(str(error))
    use_launcher(cfg)
    use_atomic_checkpoints(cfg)
    if args.resume is not None:
        use_resume(cfg, args.resume)
    elif cfg.get("resume") and not cfg.get("load_from"):
        use_resume(cfg, "auto")
    check_checkpoints(cfg)
    check_data_exists(cfg, ["train", "val"])

    runner = build_runner(cfg)
    pretrained = cfg.model.get("backbone", {}).get("init_cfg")
    if not (cfg.get("resume") or cfg.get("load_from") or pretrained):
        print_log(
            "The backbone starts from random weights. The published recipes start from ImageNet "
            "weights: add --pretrained.",
            logger="current",
        )
    runner.train()
