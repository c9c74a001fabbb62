"""Types of command line options; argparse shows what their errors say."""

import re
from argparse import ArgumentTypeError

import torch
from dev.benchmark.contenders import CONTENDERS, DTYPES
from dev.benchmark.worker import Size


def size(text: str) -> Size:
    """Read ``512`` (a square), ``800x1344`` (height, width) or ``800x1344x2`` (and images)."""
    match = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*)(?:x([1-9]\d*))?)?", text)
    if not match:
        raise ArgumentTypeError(f"{text!r} is no size: write 512, 800x1344 or 800x1344x2 (images)")
    return Size(int(match[1]), int(match[2] or match[1]), int(match[3] or 1))


def contender(text: str) -> tuple[str, str]:
    """Read ``NAME`` or ``NAME:DTYPE``."""
    name, colon, dtype = text.partition(":")
    if name not in CONTENDERS:
        raise ArgumentTypeError(f"{name!r} is no contender: there are {', '.join(CONTENDERS)}")
    if colon and dtype not in DTYPES:
        raise ArgumentTypeError(f"{text!r}: {dtype!r} is none of {', '.join(DTYPES)}")
    return name, dtype


def device(text: str) -> str:
    """Read ``cpu`` or ``cuda``."""
    if text not in ("cpu", "cuda"):
        raise ArgumentTypeError(f"{text!r} is neither cpu nor cuda")
    if text == "cuda" and not torch.cuda.is_available():
        raise ArgumentTypeError("torch finds no CUDA device: use --device cpu")
    return text


def count(text: str) -> int:
    """Read a number above 0."""
    if not re.fullmatch(r"[1-9]\d*", text):
        raise ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)
