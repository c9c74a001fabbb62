"""The options of ``tools/predict.py``."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

import torch

from xcit_dense.mm.config import add_config_changes


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Predict on images with a trained detector or segmentor. Writes pictures and, "
        "for detection, predictions.json in COCO's format, for segmentation, label maps.",
        epilog="Exit code: 0 if all inputs were predicted, 3 if some were skipped, 1 if all were "
        "or nothing could be done, 2 for a wrong command line, 130 and 143 if stopped by Ctrl-C "
        "or SIGTERM.",
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
        "--score-thr", type=_score, default=0.3, help="least score of a detection, 0 to 1 (0.3)"
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
        "--annotations",
        type=Path,
        metavar="FILE",
        help="number categories and images in predictions.json as this file in COCO's format does",
    )
    add_config_changes(parser)
    return parser


def check_options(parser: ArgumentParser, args: Namespace) -> None:
    """End with a message where a device is not there or the results have no place."""
    try:
        device = torch.empty(0, device=args.device).device
    except (RuntimeError, AssertionError, ImportError) as error:  # as torch's backends do
        reason = str(error).splitlines()[0].partition(". ")[0]
        parser.error(f"--device {args.device}: {reason}")
    if device.type == "meta":
        parser.error(f"--device {args.device}: has no memory, so nothing can be predicted there")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=args.out).close()
    except OSError as error:
        parser.error(f"--out {args.out}: {error.strerror}")


def _at_least(smallest: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < smallest:
            raise ValueError
        return int(text)

    number.__name__ = f"number of at least {smallest}"  # argparse names it in its message
    return number


def _score(text: str) -> float:
    try:
        score = float(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no number") from error
    if not 0 <= score <= 1:
        raise ArgumentTypeError(f"{text}: scores go from 0 to 1")
    return score
