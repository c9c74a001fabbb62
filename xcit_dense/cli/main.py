"""The command ``xcit-dense``, and how each command ends."""

import os
import sys
from argparse import REMAINDER, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from importlib import import_module

import torch

from xcit_dense import __version__
from xcit_dense.errors import UserError
from xcit_dense.mm.launch import part

COMMANDS = {
    "train": "train a detector or a segmentor from a config",
    "test": "evaluate a checkpoint",
    "predict": "predict on your own images and videos",
    "swap": "put XCiT into a config that you have",
    "doctor": "examine the model of a config",
    "attention": "draw what the attention of a model looks at",
    "browse": "draw what a model is fed in training",
    "curves": "draw losses and metrics of runs",
    "convert": "write a checkpoint by other names",
}
"""Each is the module of that name; ``tools/`` has the same as scripts."""


def main() -> None:
    """Run the command that ``sys.argv`` names."""
    listed = "\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items())
    parser = ArgumentParser(
        prog="xcit-dense",
        description="XCiT for detection and segmentation on large images.",
        epilog=f"commands (xcit-dense COMMAND --help explains each):\n{listed}",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("arguments", nargs=REMAINDER, metavar="...")
    args = parser.parse_args()
    sys.argv = [f"xcit-dense {args.command}", *args.arguments]
    run(import_module(f"xcit_dense.cli.{args.command}").main)


def run(command: Callable[[], int | None]) -> None:
    """Run a command; what a user can mend ends it, and each process of it, with one line."""
    try:
        exit_code = command()
    except (FileNotFoundError, UserError) as error:
        # before the processes have joined, all fail alike; afterwards one may fail alone
        speaks = torch.distributed.is_initialized() or os.environ.get("LOCAL_RANK", "0") == "0"
        sys.exit(f"error: {error}" if speaks else 1)
    part()
    if exit_code:
        sys.exit(exit_code)
