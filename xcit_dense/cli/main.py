"""The command ``xcit-dense``, and how each command ends."""

import gc
import logging
import os
import signal
import sys
import traceback
from argparse import REMAINDER, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from threading import Timer
from typing import Any, NoReturn

import torch

from xcit_dense import __version__
from xcit_dense.atomic_files import named_in_errors
from xcit_dense.errors import UserError, in_one_line

_SHOWS_TRACEBACKS = "XCIT_DENSE_TRACEBACK"

COMMANDS = {
    "new-config": "write a config for your own data",
    "train": "train a detector or a segmentor from a config",
    "test": "evaluate a checkpoint",
    "predict": "predict on your own images and videos",
    "swap": "put XCiT into a config that you have",
    "check-data": "say what is wrong with the data of a config",
    "doctor": "examine the model of a config",
    "attention": "draw what the attention of a model looks at",
    "browse": "draw what a model is fed in training",
    "curves": "draw losses and metrics of runs",
    "convert": "write a checkpoint by other names",
}
"""Each is the module of that name, with _ for -; ``tools/`` has the same as scripts."""


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
    run(_find(args.command))


def _find(command: str) -> Callable[[], int | None]:
    """The function of a command, or the end where a package is missing."""
    try:
        return import_module(f"xcit_dense.cli.{command.replace('-', '_')}").main
    except ModuleNotFoundError as error:
        package = error.name.partition(".")[0]
        remedy = "matplotlib" if package == "matplotlib" else "'xcit_dense[openmmlab]', or [onedl]"
        sys.exit(
            f"error: xcit-dense {command} needs {package}, which is not installed: pip install "
            f"{remedy}"
        )


def run(command: Callable[[], int | None]) -> None:
    """Run a command; whatever goes wrong ends it, and each process of it, with one line.

    With the variable ``XCIT_DENSE_TRACEBACK`` set, Python's traceback follows instead.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    sys.unraisablehook = _stop_all_the_same
    logging.FileHandler.handleError = _stop_without_log
    try:
        exit_code = command()
    except KeyboardInterrupt:
        _stop()
    except Exception as error:  # of anybody's code: models, transforms, decoders
        if isinstance(error.__context__, KeyboardInterrupt):  # caught where anything is
            _stop()
        if os.environ.get(_SHOWS_TRACEBACKS):
            raise
        # before the processes have joined, all fail alike; afterwards one may fail alone
        speaks = torch.distributed.is_initialized() or os.environ.get("LOCAL_RANK", "0") == "0"
        sys.exit(f"error: {_in_one_line(error)}" if speaks else 1)
    if torch.distributed.is_initialized():
        _part()
    if exit_code:
        sys.exit(exit_code)


def _part() -> None:
    """Part from the other processes, when all has gone well.

    Models that are garbage keep threads of gloo alive, which can abort a process that ends.
    """
    gc.collect()
    torch.distributed.destroy_process_group()


def _stop_all_the_same(ignored: Any) -> None:
    """Repeat a Ctrl-C that came where Python ignores exceptions: in a fork, in a destructor."""
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    elif "DataLoader worker" not in str(ignored.exc_value):  # which was stopped too
        sys.__unraisablehook__(ignored)


def _stop_without_log(handler: logging.FileHandler, record: logging.LogRecord) -> None:
    """End a command whose log cannot be written; Python prints a traceback a line, and goes on."""
    error = sys.exc_info()[1]
    if not isinstance(error, OSError):
        logging.Handler.handleError(handler, record)
        return
    with named_in_errors(handler.baseFilename):
        raise error


def _stop() -> NoReturn:
    print("stopped", file=sys.stderr)
    sys.unraisablehook = lambda ignored: None  # of what was stopped half built
    gc.freeze()  # else Python goes through half a million objects at its end, for seconds
    sys.exit(130)  # as shells count it


def _in_one_line(error: Exception) -> str:
    """What went wrong, and in which part of the config, if that was being built."""
    lines = str(error).splitlines()
    if lines and lines[0].startswith("Caught "):  # in a worker, whose traceback torch hands on
        lines = [lines[-1].partition(": ")[2]]
    if isinstance(error, OSError) and error.strerror:
        text = ": ".join(filter(None, [error.filename and str(error.filename), error.strerror]))
    elif isinstance(error, UserError | OSError) or _is_of_the_network(error):
        text = " ".join(lines)
    else:
        text = f"{in_one_line(error)} ({_SHOWS_TRACEBACKS}=1 shows where)"
    place = _place_in_config(error)
    return f"{place}: {text}" if place else text


def _is_of_the_network(error: Exception) -> bool:
    """Whether a wrong value was named by the network, which knows of no other errors."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    module = frame.f_globals.get("__name__", "")
    return isinstance(error, ValueError) and module.startswith("xcit_dense.network")


def _place_in_config(error: Exception) -> str:
    """The path of the dict from which mmengine was building something; its type if not found."""
    built = [
        dict(frame.f_locals["cfg"].items())
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_name in ("build_from_cfg", "build_runner_from_cfg")
        and hasattr(frame.f_locals.get("cfg"), "items")
    ]
    if not built:
        return ""
    from xcit_dense.mm.config import dicts_in  # here: convert and curves do without mmengine

    place = ""
    for outer, inner in pairwise(built):
        paths = [path for path, node in dicts_in(outer) if node.get("type") == inner.get("type")]
        place += next(filter(None, paths), "")
    return place.removeprefix(".") or str(built[-1].get("type", ""))
