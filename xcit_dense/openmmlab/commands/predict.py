"""Predicting on a user's own images: the command line of ``tools/predict.py``."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.utils import ProgressBar

from xcit_dense.openmmlab.checkpoints import CheckpointError
from xcit_dense.openmmlab.commands.config_files import ConfigError, read_config
from xcit_dense.openmmlab.prediction import Detections, Prediction, Predictor
from xcit_dense.openmmlab.prediction.inputs import (
    InputImage,
    Skipped,
    count_images,
    find_files,
    read_inputs,
)
from xcit_dense.openmmlab.prediction.writers import CocoFile, write_label_map

ALL_PREDICTED, NOTHING_PREDICTED, SOME_SKIPPED = 0, 1, 3

# What a model and its pipeline raise for an image they cannot take, such as one too large.
_ERRORS_OF_AN_IMAGE = (RuntimeError, ValueError, AssertionError, MemoryError, cv2.error)


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Predict on images with a trained detector or segmentor. Writes pictures and, "
        "for detection, predictions.json in COCO's format, for segmentation, label maps.",
        epilog="Exit code: 0 if all inputs were predicted, 3 if some were skipped, 1 if all were "
        "or nothing could be done, 2 for a wrong command line.",
    )
    parser.add_argument("config", help="path of the config")
    parser.add_argument("checkpoint", help="path or URL of the checkpoint")
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="image, video, folder, or pattern in quotes"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where results go")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (a GPU if there is one)")
    parser.add_argument(
        "--batch-size", type=_at_least(1), default=1, help="images at once; of equal size only (1)"
    )
    parser.add_argument(
        "--score-thr", type=float, default=0.3, help="least score of a detection (0.3)"
    )
    parser.add_argument(
        "--max-side",
        type=_at_least(0),
        default=1600,
        metavar="PIXELS",
        help="largest height or width of the pictures, 0 for that of the images (1600)",
    )
    parser.add_argument("--no-pictures", action="store_true", help="write the results only")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE", help="change the config"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Predict as the arguments say (``sys.argv`` if None).

    Returns:
        The exit code.

    Raises:
        FileNotFoundError: there is no such config or checkpoint.
        ConfigError: the config is unusable.
        CheckpointError: the checkpoint is unusable or does not fit the config.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    _check_device_and_folder(parser, args)
    cfg = read_config(args.config, args.cfg_options)
    files, skipped = find_files(args.inputs, leave_out=args.out)
    predicted = 0
    if files:
        predictor = _make_predictor(args, cfg)
        progress = ProgressBar(count_images(files), file=sys.stderr)
        with ExitStack() as stack:
            write = _make_writer(args, cfg, predictor, stack)
            for item, prediction in _predict_all(predictor, files, args.batch_size):
                if isinstance(item, Skipped):
                    skipped.append(item)
                else:
                    write(item, prediction)
                    predicted += 1
                progress.update()
        print(file=sys.stderr)
    _summarize(predicted, skipped, args.out)
    if not predicted:
        return NOTHING_PREDICTED
    return SOME_SKIPPED if skipped else ALL_PREDICTED


def _check_device_and_folder(parser: ArgumentParser, args: Namespace) -> None:
    """End with a message where a device is not there or the results have no place."""
    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:
        parser.error(f"--device {args.device}: {str(error).splitlines()[0]}")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {args.out}: {error.strerror}")


def _make_predictor(args: Namespace, cfg: Config) -> Predictor:
    try:
        return Predictor(cfg, args.checkpoint, args.device)
    except CheckpointError:
        raise
    except ValueError as error:
        raise ConfigError(f"config {args.config}: {error}") from error


def _predict_all(
    predictor: Predictor, files: Sequence[Path], batch_size: int
) -> Iterator[tuple[InputImage | Skipped, Prediction | None]]:
    batch: list[InputImage] = []
    for item in read_inputs(files):
        if isinstance(item, Skipped):
            yield item, None
            continue
        batch.append(item)
        if len(batch) == batch_size:
            yield from _predict_batch(predictor, batch)
            batch = []
    if batch:
        yield from _predict_batch(predictor, batch)


def _predict_batch(
    predictor: Predictor, batch: Sequence[InputImage]
) -> list[tuple[InputImage | Skipped, Prediction | None]]:
    try:
        predictions = predictor.predict_batch([image.pixels for image in batch])
    except _ERRORS_OF_AN_IMAGE as error:
        if len(batch) > 1:  # find out whose fault it is
            return [pair for image in batch for pair in _predict_batch(predictor, [image])]
        first_line = (str(error).strip() or "no message").splitlines()[0]
        reason = f"{type(error).__name__}: {first_line}"
        return [(Skipped(batch[0].source, reason), None)]
    return list(zip(batch, predictions, strict=True))


def _make_writer(
    args: Namespace, cfg: Config, predictor: Predictor, stack: ExitStack
) -> Callable[[InputImage, Prediction], None]:
    """What writes a prediction, open until ``stack`` ends."""
    coco_file = None
    if cfg.get("default_scope", "mmdet") == "mmdet":
        coco_file = stack.enter_context(
            CocoFile(args.out / "predictions.json", predictor.categories)
        )

    def write(image: InputImage, prediction: Prediction) -> None:
        if isinstance(prediction, Detections):
            prediction = prediction.above(args.score_thr)
            coco_file.add(image.source, image.pixels.shape[:2], prediction)
        else:
            path = args.out / "labels" / f"{image.name}.png"
            write_label_map(path, prediction, predictor.categories)
        if not args.no_pictures:
            picture = predictor.draw(image.pixels, prediction, args.max_side or None)
            _save_picture(args.out / "pictures" / f"{image.name}.jpg", picture)

    return write


def _save_picture(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), picture):
        raise OSError(f"{path}: the picture could not be written")


def _summarize(predicted: int, skipped: Sequence[Skipped], out: Path) -> None:
    print(f"{predicted} images predicted, {len(skipped)} inputs skipped")
    for item in skipped:
        print(f"  skipped {item.source}: {item.reason}")
    if predicted:
        written = ", ".join(sorted(path.name for path in out.iterdir() if path.name[0] != "."))
        print(f"written to {out}: {written}")


def _at_least(smallest: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < smallest:
            raise ValueError
        return int(text)

    number.__name__ = f"number of at least {smallest}"  # argparse names it in its message
    return number
