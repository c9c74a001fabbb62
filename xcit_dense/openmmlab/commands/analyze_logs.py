"""Curves and figures of one or several runs: the command line of ``tools/analyze_logs.py``."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from xcit_dense.openmmlab.commands.data_roots import DataError
from xcit_dense.training_curves import (
    draw_curves,
    find_scalar_log,
    last_evaluation,
    metrics_table,
    read_training_log,
)


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Draw losses and metrics of one or several runs, and print their last "
        "evaluations."
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="work folder, or its scalars.json"
    )
    parser.add_argument(
        "-o", "--out", type=Path, help="picture to write (RUN/curves.png; of several: curves.png)"
    )
    parser.add_argument(
        "--keys",
        nargs="+",
        default=(),
        metavar="NAME",
        help="losses and metrics to draw (of one run all, of several the total loss, mAP and mIoU)",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Draw and print as the arguments say (``sys.argv`` if None).

    Raises:
        FileNotFoundError: a run has no log.
        DataError: a log is damaged, or what is wanted cannot be drawn.
    """
    args = make_parser().parse_args(argv)
    paths = [find_scalar_log(run) for run in args.runs]
    target = args.out or Path("curves.png")
    if args.out is None and len(args.runs) == 1 and args.runs[0].is_dir():
        target = args.runs[0] / "curves.png"
    try:
        logs = dict(zip(_names(args.runs), map(read_training_log, paths), strict=True))
        title = ", ".join(logs) if len(logs) > 1 else _title(args.runs[0], paths[0])
        draw_curves(logs, target, title, args.keys)
    except ValueError as error:
        raise DataError(str(error)) from error
    print(metrics_table({run: last_evaluation(log) for run, log in logs.items()}))
    for path in paths:
        print(f"read:    {path}")
    print(f"written: {target}")


def _names(runs: Sequence[Path]) -> list[str]:
    """Short names of runs: those of their folders, or their paths where these are equal."""
    runs = [run.resolve() for run in runs]
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else list(map(str, runs))


def _title(run: Path, log: Path) -> str:
    return f"{run.resolve().name}, {log.resolve().parts[-3]}"
