"""Evaluating a checkpoint: the command line of ``tools/test.py``."""

import os.path as osp
from argparse import ArgumentParser

from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

import xcit_dense.predict.picture_hook  # noqa: F401
from xcit_dense.cli.options import add_shared_options, load_config
from xcit_dense.mm.config_tree import dicts_in, type_name
from xcit_dense.mm.data_roots import check_data_exists
from xcit_dense.mm.launcher import (
    build_runner,
    evaluate_whole,
    log_in_one_process,
    use_launcher,
)
from xcit_dense.mm.starting_checkpoints import check_checkpoints
from xcit_dense.predict.class_maps import keep_classes_only

# Metrics that take masks as run lengths, and those that do without logits
_COCO_METRICS = {"CocoMetric", "CocoPanopticMetric"}
_CLASS_METRICS = {"IoUMetric", "CityscapesMetric"}


def make_parser() -> ArgumentParser:
    """The command line, with mm's names."""
    parser = ArgumentParser(description="Evaluate a checkpoint of a detector or a segmentor.")
    parser.add_argument("config", help="path of the config")
    parser.add_argument("checkpoint", help="path or URL of the checkpoint")
    add_shared_options(parser)
    parser.add_argument(
        "--out",
        help="keep the predictions: a .pkl file (detection), a folder of label maps (segmentation)",
    )
    parser.add_argument(
        "--show-dir", metavar="DIR", help="draw ground truth and prediction side by side into DIR"
    )
    parser.add_argument("--tta", action="store_true", help="test-time augmentation")
    return parser


def is_detection(cfg: Config) -> bool:
    """Tell a config of mmdet from one of mmseg, by its default scope."""
    return cfg.get("default_scope", "mmdet") == "mmdet"


def use_tta(cfg: Config) -> None:
    """Wrap the model and the test pipeline for test-time augmentation.

    Raises:
        ValueError: the config has no ``tta_model`` and ``tta_pipeline``.
    """
    if "tta_model" not in cfg or "tta_pipeline" not in cfg:
        raise ValueError("--tta: the config lacks tta_model and tta_pipeline")
    for _, dataset in dicts_in(cfg.test_dataloader.dataset):
        if "pipeline" in dataset:
            dataset["pipeline"] = cfg.tta_pipeline
    if is_detection(cfg):
        _leave_masks_out(cfg)
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def _leave_masks_out(cfg: Config) -> None:
    """Predict and evaluate boxes only: mmdet's test-time augmentation cannot merge masks."""
    if cfg.model.get("roi_head", {}).get("mask_head"):
        print_log("mmdet's test-time augmentation merges boxes, not masks: evaluating boxes only")
        cfg.model.roi_head.mask_head = None
        cfg.model.roi_head.mask_roi_extractor = None
        for evaluator in _evaluators(cfg):
            evaluator.metric = ["bbox"]


def _evaluators(cfg: Config) -> list[ConfigDict]:
    evaluators = cfg.test_evaluator
    return evaluators if isinstance(evaluators, list) else [evaluators]


def use_show_dir(cfg: Config, folder: str) -> None:
    """Draw every tested image into ``folder``."""
    cfg.custom_hooks = [
        *(cfg.get("custom_hooks") or []),
        {"type": "PictureHook", "out_dir": osp.abspath(folder)},
    ]


def keep_predictions(cfg: Config, out: str) -> None:
    """Write the predictions to ``out`` beside evaluating them.

    Raises:
        ValueError: detections are wanted in a file that is no pickle.
    """
    evaluators = _evaluators(cfg)
    if not is_detection(cfg):
        cfg.custom_hooks = [
            *(cfg.get("custom_hooks") or []),
            {"type": "LabelMapHook", "out_dir": osp.abspath(out)},
        ]
        return
    if not out.endswith((".pkl", ".pickle")):
        raise ValueError(f"--out {out}: detections are dumped to a .pkl file")
    cfg.test_evaluator = [*evaluators, {"type": "DumpDetResults", "out_file_path": out}]


def save_memory(cfg: Config, runner: Runner) -> None:
    """Let the model leave out, or encode, what nothing reads but the metrics of COCO or mmseg."""
    if not isinstance(runner.model, nn.Module):  # a flexible runner builds its model later
        return
    if any(_reads_predictions(hook) for hook in runner.hooks):
        return
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    metrics = {type_name(evaluator) for evaluator in _evaluators(cfg)}
    if metrics <= _COCO_METRICS:
        # here, since it needs pycocotools, which comes with mmdet
        from xcit_dense.predict import encode_masks

        encode_masks(model)
    if metrics <= _CLASS_METRICS:
        keep_classes_only(model)


def _reads_predictions(hook: Hook) -> bool:
    """Whether a hook may look at them: one of a user, or one of mmdet or mmseg that draws."""
    if type(hook).__module__.partition(".")[0] in ("mmengine", "xcit_dense"):
        return False
    looks = any(
        getattr(type(hook), name) is not getattr(Hook, name)
        for name in ("after_test_iter", "_after_iter")
    )
    return looks and getattr(hook, "draw", True)


def main(argv: list[str] | None = None) -> None:
    """Evaluate as the arguments say (``sys.argv`` if None)."""
    parser = make_parser()
    args = parser.parse_args(argv)
    cfg = load_config(args)
    cfg.load_from, cfg.resume = args.checkpoint, False
    try:
        if args.tta:
            use_tta(cfg)
        if args.show_dir is not None:
            use_show_dir(cfg, args.show_dir)
        if args.out is not None:
            keep_predictions(cfg, args.out)
    except ValueError as error:
        parser.error(str(error))
    evaluate_whole(cfg)
    use_launcher(cfg)
    check_checkpoints(cfg)
    check_data_exists(cfg, ["test"])
    runner = build_runner(cfg)
    log_in_one_process(runner)
    save_memory(cfg, runner)
    runner.test()
