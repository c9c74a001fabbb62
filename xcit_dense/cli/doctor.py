"""Examining the model of a config: the command line of ``tools/doctor.py``."""

import sys
from argparse import ArgumentParser

from mmengine.config import Config

from xcit_dense.doctor import DEFAULT_IMAGE_SIZE, LARGEST_STRIDE, diagnose, report
from xcit_dense.mm.config import add_config_changes, read_config


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Build the model of a config, take one training step and predict one image, on "
        "random images and weights. Exit code: 0 healthy, 1 something is wrong."
    )
    parser.add_argument("config", help="a file, or mmdet::... or mmseg::...")
    add_config_changes(parser)
    add_size_option(parser)
    return parser


def add_size_option(parser: ArgumentParser) -> None:
    """Add the size of the images that a model is tried on."""
    parser.add_argument(
        "--size",
        nargs=2,
        type=int,
        default=DEFAULT_IMAGE_SIZE,
        metavar=("HEIGHT", "WIDTH"),
        help=f"pixels of the images, rounded up to multiples of {LARGEST_STRIDE} (%(default)s); a "
        "model that is made for one size takes that",
    )


def examine(cfg: Config, size: tuple[int, int]) -> bool:
    """Print what a trial of a config's model finds, and say whether it is healthy."""
    trial = diagnose(cfg, tuple(size))
    print(report(trial))
    return trial.is_healthy


def main(argv: list[str] | None = None) -> None:
    """Examine as the arguments say (``sys.argv`` if None)."""
    args = make_parser().parse_args(argv)
    if not examine(read_config(args.config, args.cfg_options), args.size):
        sys.exit(1)
