"""Curves and figures of one or several runs: the command line of ``tools/analyze_logs.py``."""

from argparse import ArgumentParser
from collections.abc import Collection, Sequence
from pathlib import Path

from xcit_dense.errors import UserError
from xcit_dense.look.training_curves import (
    TrainingLog,
    draw_curves,
    find_scalar_logs,
    last_evaluation,
    metrics_table,
    read_run,
)

_LONGEST_TITLE = 100  # of two panels


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Draw losses and metrics of one or several runs, and print their last "
        "evaluations."
    )
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="work folder, a time-stamped one in it, or a scalars.json",
    )
    parser.add_argument(
        "-o", "--out", type=Path, help="picture to write (RUN/curves.png; of several: curves.png)"
    )
    parser.add_argument(
        "--keys",
        nargs="+",
        default=(),
        metavar="NAME",
        help="what to draw: losses, metrics, lr, acc, grad_norm, whatever was logged (of one run "
        "all losses and metrics, of several the total loss, mAP and mIoU)",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Draw and print as the arguments say (``sys.argv`` if None).

    Raises:
        FileNotFoundError: a run has no log.
        UserError: a log is damaged, or what is wanted cannot be drawn.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    target = args.out or _beside(args.runs)
    if target.is_dir():
        parser.error(f"--out {target} is a folder; wanted is a picture's file, such as curves.png")
    starts = [find_scalar_logs(run) for run in args.runs]
    logs: dict[str, TrainingLog] = {}
    paths: list[Path] = []
    try:
        for name, of_run in zip(_names(args.runs), starts, strict=True):
            logs[name], counting = read_run(of_run)
            paths += counting
        title = _title_of_several(logs) if len(logs) > 1 else _title(args.runs[0], paths)
        _draw(logs, target, title, args.keys)
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error
    print(metrics_table({run: last_evaluation(log) for run, log in logs.items()}))
    for path in paths:
        print(f"read:    {path}")
    print(f"written: {target}")


def _beside(runs: Sequence[Path]) -> Path:
    """Where the picture goes if nothing is said: into the folder of a single run."""
    folder = runs[0] if len(runs) == 1 and runs[0].is_dir() else Path()
    return folder / "curves.png"


def _names(runs: Sequence[Path]) -> list[str]:
    """Short names of runs: those of their folders, or their paths where these are equal."""
    runs = [run.resolve() for run in runs]
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else list(map(str, runs))


def _draw(logs: dict[str, TrainingLog], target: Path, title: str, keys: Collection[str]) -> None:
    try:
        draw_curves(logs, target, title, keys)
    except RuntimeError as error:  # formats that need TeX
        raise UserError(f"{target}: {error}") from error


def _title_of_several(names: Collection[str]) -> str:
    title = ", ".join(names)
    return title if len(title) <= _LONGEST_TITLE else f"{len(names)} runs"


def _title(run: Path, logs: Sequence[Path]) -> str:
    """The name of a run, and when it was started, the first and the last time."""
    stamped = [
        log.resolve().parent.parent.name for log in logs if log.resolve().parent.name == "vis_data"
    ]
    starts = " to ".join(dict.fromkeys([*stamped[:1], *stamped[-1:]]))
    return ", ".join(dict.fromkeys(filter(None, [run.resolve().name, starts])))
