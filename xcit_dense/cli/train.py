"""Training from a config: the command line of ``tools/train.py``."""

from argparse import ArgumentParser, Namespace
from importlib.util import find_spec

from mmengine.config import Config

from xcit_dense.cli.prepare import add_shared_options, prepare
from xcit_dense.data.checking import check_data, show
from xcit_dense.errors import UserError
from xcit_dense.look.evaluation_hook import EvaluationHook
from xcit_dense.mm.config import CONFIG_HELP, type_name
from xcit_dense.mm.console import Essentials, essentials_only, tell
from xcit_dense.mm.launch import build_runner, processes_of, say
from xcit_dense.mm.mixed_precision import DTYPES
from xcit_dense.mm.progress_hook import Bar, ProgressHook, bar_on_terminal
from xcit_dense.mm.resuming import use_resume
from xcit_dense.mm.saving import hold_work_dir
from xcit_dense.mm.start_hook import StartHook
from xcit_dense.weights.published_weights import (
    KIND_OF_THE_RELEASE,
    published_kinds,
    published_url,
)

# kinds of optimizer wrapper that --amp can take the place of
AMP_WRAPPERS = ("OptimWrapper", "AmpOptimWrapper", "MixedPrecisionOptimWrapper")
# by the package that each needs
TRACKERS = {"tensorboard": "TensorboardVisBackend", "wandb": "WandbVisBackend"}


def make_parser() -> ArgumentParser:
    """The command line, with mm's names."""
    parser = ArgumentParser(description="Train a detector or a segmentor from a config.")
    parser.add_argument("config", help=CONFIG_HELP)
    add_shared_options(parser)
    parser.add_argument(
        "--amp-dtype",
        choices=list(DTYPES),
        help="mixed precision in this type (bfloat16; float16 on CUDA devices that lack it)",
    )
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
    parser.add_argument(
        "--force", action="store_true", help="train in a work dir that another training is in"
    )
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate by the batch size over that of the recipe",
    )
    parser.add_argument(
        "--tracker",
        choices=list(TRACKERS),
        help="send losses and metrics there too, to TensorBoard or to Weights & Biases",
    )
    return parser


def use_amp(cfg: Config, args: Namespace) -> None:
    """Turn mixed precision on, in bfloat16 where the device has it, or in the type asked for.

    Raises:
        UserError: the optimizer wrapper has no mixed-precision counterpart.
    """
    if not args.amp and args.amp_dtype is None:
        return
    kind = type_name(cfg.optim_wrapper) or "OptimWrapper"
    if kind not in AMP_WRAPPERS:
        raise UserError(
            f"--amp: optim_wrapper.type is {kind!r}, wanted one of {', '.join(AMP_WRAPPERS)}"
        )
    cfg.optim_wrapper.type = "MixedPrecisionOptimWrapper"
    if args.amp_dtype is not None:
        cfg.optim_wrapper.dtype = args.amp_dtype


def scale_learning_rate(cfg: Config, args: Namespace) -> None:
    """Turn on mmengine's scaling of the learning rate by the batch size.

    Raises:
        UserError: the config does not say for which batch size its learning rate is.
    """
    if not args.auto_scale_lr:
        return
    if "base_batch_size" not in (cfg.get("auto_scale_lr") or {}):
        raise UserError(
            f"--auto-scale-lr: auto_scale_lr is {cfg.get('auto_scale_lr')} in the config, wanted "
            "is dict(base_batch_size=...), the batch size that its learning rate is for"
        )
    cfg.auto_scale_lr.enable = True


def use_pretrained(cfg: Config, args: Namespace) -> None:
    """Let the backbone start from a kind of published ImageNet weights, from a file or a URL.

    Raises:
        UserError: no weights of this kind are published for the config's backbone.
    """
    source = args.pretrained
    if source is None:
        return
    backbone = cfg.model.backbone
    if source in published_kinds():
        if type_name(backbone) != "XCiT":
            raise UserError(
                f"--pretrained {source}: these weights are for XCiT, the backbone of the config "
                f"is {type_name(backbone)}; name a file or a URL"
            )
        arch, patch_size = backbone.get("arch", "small_12"), backbone.get("patch_size", 16)
        source = published_url(source, arch, patch_size)
    backbone.init_cfg = {"type": "Pretrained", "checkpoint": source}


def use_tracker(cfg: Config, args: Namespace) -> None:
    """Send what is logged to a tracker too.

    Raises:
        UserError: its package is not installed.
    """
    tracker = args.tracker
    if tracker is None:
        return
    if find_spec(tracker) is None:
        raise UserError(f"--tracker {tracker}: it is not installed: pip install {tracker}")
    if cfg.get("visualizer") is None:  # as mmengine has it then
        cfg.visualizer = {"type": "Visualizer", "vis_backends": [{"type": "LocalVisBackend"}]}
    backends = cfg.visualizer.get("vis_backends") or []
    if TRACKERS[tracker] not in map(type_name, backends):
        cfg.visualizer.vis_backends = [*backends, {"type": TRACKERS[tracker]}]


def resume(cfg: Config, args: Namespace) -> None:
    """Go on from the checkpoint that is asked for, on the command line or in the config."""
    if args.resume is not None:
        use_resume(cfg, args.resume)
    elif cfg.get("resume"):
        use_resume(cfg, cfg.get("load_from") or "auto")


def main(argv: list[str] | None = None) -> None:
    """Train as the arguments say (``sys.argv`` if None)."""
    args = make_parser().parse_args(argv)
    changes = (use_amp, scale_learning_rate, use_pretrained, use_tracker, resume)
    splits = ["train", "val"]
    cfg = prepare(args, changes, splits)
    data, findings = check_data(cfg, splits, processes_of(cfg), trains=True)
    show(findings)
    for data_set in data.of("train"):
        say(data_set.summary)
    with (
        hold_work_dir(cfg, args.force),
        bar_on_terminal() as bar,
        essentials_only() as essentials,
    ):
        _train(cfg, bar, essentials)


def _train(cfg: Config, bar: Bar | None, essentials: Essentials) -> None:
    runner = build_runner(cfg)
    runner.register_hook(StartHook(essentials))
    runner.register_hook(EvaluationHook())
    if bar is not None:
        runner.register_hook(ProgressHook(bar))
    pretrained = cfg.model.get("backbone", {}).get("init_cfg")
    if not (cfg.get("resume") or cfg.get("load_from") or pretrained):
        tell(
            "The backbone starts from random weights. The published recipes start from ImageNet "
            "weights: add --pretrained."
        )
    runner.train()
