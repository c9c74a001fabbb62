"""The options that the command lines share, and their types; argparse shows what errors say."""

import argparse
import re
from pathlib import Path

import torch
from dev.benchmark.run import Size

from xcit_dense.network import ARCHS


def add_settings(parser: argparse.ArgumentParser, out: str) -> None:
    """Add what holds for all contenders, and the folder for the results."""
    add = parser.add_argument
    add("--out", type=Path, default=Path(out), help="folder to write to")
    add("--arch", choices=ARCHS, default="small_12", help="of XCiT")
    add("--patch-size", type=int, choices=(8, 16), default=16, help="of XCiT")
    add("--device", type=device, default="cpu", help="cpu or cuda")
    add("--threads", type=int, help="of torch on the CPU (default: torch's choice)")
    add("--repeats", type=int, default=5, help="timed runs of each contender at each size")


def size(text: str) -> Size:
    """Read ``512`` (a square), ``800x1344`` (height, width) or ``800x1344x2`` (and images)."""
    match = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*)(?:x([1-9]\d*))?)?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: write 512, 800x1344 or 800x1344x2 (images)")
    return Size(int(match[1]), int(match[2] or match[1]), int(match[3] or 1))


def device(text: str) -> str:
    """Read ``cpu`` or ``cuda``."""
    if text not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither cpu nor cuda")
    if text == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError("torch finds no CUDA device: use --device cpu")
    return text
