"""Evaluating a checkpoint: the command line of ``tools/test.py``."""

import logging
import os.path as osp
import sys
from argparse import ArgumentParser, Namespace

import mmengine.device.utils
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from xcit_dense.cli.predict import context, pixels
from xcit_dense.cli.prepare import add_shared_options, prepare
from xcit_dense.errors import UserError
from xcit_dense.large.evaluating import evaluate_ways
from xcit_dense.large.ways import Way, choose_way
from xcit_dense.look.evaluation_hook import EvaluationHook
from xcit_dense.mm.config import CONFIG_HELP, dicts_in, model_scope, type_name
from xcit_dense.mm.launch import build_runner, log_in_one_process
from xcit_dense.mm.loading import LoadReportHook
from xcit_dense.mm.mixed_precision import default_dtype
from xcit_dense.predict import Predictor, encode_masks, keep_classes_only
from xcit_dense.predict.picture_hook import LabelMapHook, PictureHook
from xcit_dense.predict.results import metainfo_of_checkpoint, metainfo_of_test_data
from xcit_dense.weights import load_checkpoint

# Metrics that take masks as run lengths, and those that do without logits
_COCO_METRICS = {"CocoMetric", "CocoPanopticMetric"}
_CLASS_METRICS = {"IoUMetric", "CityscapesMetric"}


def make_parser() -> ArgumentParser:
    """The command line, with mm's names."""
    parser = ArgumentParser(description="Evaluate a checkpoint of a detector or a segmentor.")
    parser.add_argument("config", help=CONFIG_HELP)
    parser.add_argument("checkpoint", help="path or URL of the checkpoint")
    add_shared_options(parser)
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (a GPU if there is one)")
    parser.add_argument(
        "--out",
        help="keep the predictions: a .pkl file (detection), a folder of label maps (segmentation)",
    )
    parser.add_argument(
        "--show-dir", metavar="DIR", help="draw ground truth and prediction side by side into DIR"
    )
    parser.add_argument("--tta", action="store_true", help="test-time augmentation")
    ways = parser.add_argument_group(
        "images of any size",
        "as xcit-dense predict takes them, in their own resolution; a table compares several ways",
    )
    ways.add_argument(
        "--context", type=context, nargs="+", metavar="PIXELS", help="of a stream, or whole"
    )
    ways.add_argument("--tile", type=pixels, nargs="+", metavar="PIXELS", help="sides of tiles")
    ways.add_argument(
        "--overlap", type=int, metavar="PIXELS", help="that tiles share (a quarter of a tile)"
    )
    return parser


def use_checkpoint(cfg: Config, args: Namespace) -> None:
    """Load the whole model from the checkpoint in every process, however training divides it."""
    cfg.load_from, cfg.resume = args.checkpoint, False
    cfg.pop("strategy", None)
    if cfg.get("runner_type") == "FlexibleRunner":
        cfg.pop("runner_type")


def use_classes_of_checkpoint(cfg: Config, args: Namespace) -> None:
    """Let labels of a detector mean what they meant in its training.

    That is so unless the config has the same classes in another order.
    """
    if not is_detection(cfg) or not osp.isfile(args.checkpoint):
        return
    trained = metainfo_of_checkpoint(load_checkpoint(args.checkpoint)).get("classes", ())
    given = metainfo_of_test_data(cfg).get("classes") or ()
    if list(trained) == list(given) or sorted(trained) != sorted(given):
        return
    print_log(
        f"the checkpoint was trained with the classes {', '.join(trained)}, which the config has "
        "in another order: labels follow the checkpoint",
        logger="current",
        level=logging.WARNING,
    )
    for _, dataset in dicts_in(cfg.test_dataloader.dataset):
        if "ann_file" in dataset:
            dataset.metainfo = {"classes": tuple(trained)}


def use_device(cfg: Config, args: Namespace) -> None:
    """Evaluate on the device that is asked for.

    Raises:
        UserError: it is not there, or several processes would share it.
    """
    if args.device is None:
        return
    if args.launcher != "none":
        raise UserError(f"--device {args.device}: with --launcher every process takes a GPU")
    try:
        device = torch.empty(0, device=args.device).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {args.device}: {str(error).splitlines()[0]}") from error
    if device.type == "cuda":
        torch.cuda.set_device(device)
    mmengine.device.utils.DEVICE = device.type  # what get_device() returns


def use_tta(cfg: Config, args: Namespace) -> None:
    """Wrap the model and the test pipeline for test-time augmentation.

    Raises:
        UserError: the config has no ``tta_model`` and ``tta_pipeline``.
    """
    if not args.tta:
        return
    if "tta_model" not in cfg or "tta_pipeline" not in cfg:
        raise UserError("--tta: the config lacks tta_model and tta_pipeline")
    for _, dataset in dicts_in(cfg.test_dataloader.dataset):
        if "pipeline" in dataset:
            dataset["pipeline"] = cfg.tta_pipeline
    if is_detection(cfg) and cfg.model.get("roi_head", {}).get("mask_head"):
        print_log("mmdet's test-time augmentation merges boxes, not masks: evaluating boxes only")
        cfg.model.roi_head.mask_head = None
        cfg.model.roi_head.mask_roi_extractor = None
        for metric in metrics_of(cfg):
            metric.metric = ["bbox"]
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def is_detection(cfg: Config) -> bool:
    """Tell a model of mmdet from one of mmseg."""
    return model_scope(cfg) != "mmseg"


def metrics_of(cfg: Config) -> list[ConfigDict]:
    """The metrics of a test: given as one, as a list, or inside of an evaluator."""
    given = cfg.test_evaluator
    if isinstance(given, dict) and "metrics" in given:  # Evaluator, MultiDatasetsEvaluator
        given = given.metrics
    return list(given) if isinstance(given, (list, tuple)) else [given]


def keep_detections(cfg: Config, args: Namespace) -> None:
    """Let mmdet's metric that keeps predictions stand beside those that judge them.

    Raises:
        UserError: they are of several data sets, of which mmdet has each judged by one metric.
    """
    if not args.out or not is_detection(cfg):
        return
    if not args.out.endswith((".pkl", ".pickle")):
        raise UserError(f"--out {args.out}: detections are kept in a .pkl file")
    metrics = [*metrics_of(cfg), {"type": "mmdet.DumpDetResults", "out_file_path": args.out}]
    if "metrics" not in cfg.test_evaluator:
        cfg.test_evaluator = metrics
    elif type_name(cfg.test_evaluator) == "MultiDatasetsEvaluator":
        raise UserError(f"--out {args.out}: test_evaluator judges several data sets: leave one")
    else:
        cfg.test_evaluator.metrics = metrics


def save_memory(cfg: Config, runner: Runner) -> None:
    """Let the model leave out, or encode, what nothing reads but the metrics of COCO or mmseg."""
    if any(_reads_predictions(hook) for hook in runner.hooks):
        return
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    metrics = {type_name(metric) for metric in metrics_of(cfg)}
    if metrics <= _COCO_METRICS:
        encode_masks(model)
    if metrics <= _CLASS_METRICS:
        keep_classes_only(model)


def _reads_predictions(hook: Hook) -> bool:
    """Whether a hook may look at them: one of a user, or one of mmdet or mmseg that draws."""
    if type(hook).__module__.partition(".")[0] in ("mmengine", "xcit_dense"):
        return False
    looks = type(hook).after_test_iter is not Hook.after_test_iter
    return looks and getattr(hook, "draw", True)


def compare_ways(cfg: Config, args: Namespace) -> None:
    """Evaluate the ways to predict on images of any size that are asked for; print a table."""
    predictor = Predictor(cfg, args.checkpoint, args.device, args.amp)
    ways = [choose_way(predictor, "stream", side) for side in args.context or ()]
    ways += [
        choose_way(predictor, "tiles", tile=side, overlap=args.overlap) for side in args.tile or ()
    ]

    def tell(way: Way, done: int, count: int) -> None:
        if 10 * done // count > 10 * (done - 1) // count:
            print(f"{way.told}: {done} of {count} images", file=sys.stderr, flush=True)

    rows = evaluate_ways(predictor, cfg, ways, tell)
    lines = [[*rows[0]], *([row.pop("way"), *(f"{x:.3f}" for x in row.values())] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others in lines:
        print(first.ljust(widths[0]), *map(str.rjust, others, widths[1:]), sep="  ")


def main(argv: list[str] | None = None) -> None:
    """Evaluate as the arguments say (``sys.argv`` if None)."""
    parser = make_parser()
    args = parser.parse_args(argv)
    changes = (use_checkpoint, use_classes_of_checkpoint, use_device, use_tta, keep_detections)
    by_ways = bool(args.context or args.tile)
    others = args.out or args.show_dir or args.tta or args.launcher != "none"
    if by_ways and others:
        parser.error("--context and --tile go without --out, --show-dir, --tta and --launcher")
    if args.overlap is not None and not args.tile:
        parser.error("--overlap: goes with --tile")
    cfg = prepare(args, changes, splits=["test"])
    if by_ways:
        compare_ways(cfg, args)
        return
    runner = build_runner(cfg)
    log_in_one_process(runner)
    runner.hooks[:] = [hook for hook in runner.hooks if not isinstance(hook, LoadReportHook)]
    runner.register_hook(LoadReportHook(complete=True))
    if args.out and not is_detection(cfg):
        runner.register_hook(LabelMapHook(args.out))
    if args.show_dir:
        runner.register_hook(PictureHook(args.show_dir))
    runner.register_hook(EvaluationHook())
    save_memory(cfg, runner)
    device = mmengine.device.get_device()
    with torch.autocast(device, default_dtype(device), enabled=args.amp):
        runner.test()
