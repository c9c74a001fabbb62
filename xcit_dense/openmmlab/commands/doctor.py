"""Examining the model of a config: the command line of ``tools/doctor.py``."""

import sys
from argparse import ArgumentParser

from mmengine.config import Config, DictAction

from xcit_dense.openmmlab.commands.config_files import read_config
from xcit_dense.openmmlab.doctor import DEFAULT_IMAGE_SIZE, diagnose, report
from xcit_dense.openmmlab.swap.config_source import ConfigSource


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Build the model of a config, take one training step and predict one image, on "
        "random images and weights. Exit code: 0 healthy, 1 something is wrong."
    )
    parser.add_argument("config", help="a file, or mmdet::... or mmseg::...")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE")
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
        help="pixels of the images that the model is tried on (%(default)s)",
    )


def examine(cfg: Config, size: tuple[int, int]) -> bool:
    """Print what a trial of a config's model finds, and say whether it is healthy."""
    diagnosis = diagnose(cfg, tuple(size))
    print(report(diagnosis))
    return diagnosis.is_healthy


def main(argv: list[str] | None = None) -> None:
    """Examine as the arguments say (``sys.argv`` if None)."""
    args = make_parser().parse_args(argv)
    cfg = read_config(str(ConfigSource.find(args.config).path), args.cfg_options)
    if not examine(cfg, args.size):
        sys.exit(1)
