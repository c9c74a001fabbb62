"""Curves and figures of one or several runs: the command line of ``tools/analyze_logs.py``."""

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path

from xcit_dense.look.curves import draw_curves, read_run


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
        help="what to draw, a panel each: losses, metrics, lr, grad_norm, whatever was logged (of "
        "one run the loss with its largest terms, of several the loss; mAP, mIoU or PQ)",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Draw and print as the arguments say (``sys.argv`` if None).

    Raises:
        FileNotFoundError: a run has no log.
        UserError: a log is damaged, or what is wanted cannot be drawn.
    """
    args = make_parser().parse_args(argv)
    folder = args.runs[0] if len(args.runs) == 1 and args.runs[0].is_dir() else Path()
    target = args.out or folder / "curves.png"
    runs = dict(zip(_names(args.runs), map(read_run, args.runs), strict=True))
    draw_curves(runs, target, args.keys)
    print_metrics({name: run.last_evaluation() for name, run in runs.items()})
    for run in runs.values():
        print(*(f"read:    {log}" for log in run.logs), sep="\n")
    print(f"written: {target}")


def _names(runs: Sequence[Path]) -> list[str]:
    """Short names of runs: those of their folders, or their paths where these are equal."""
    names = [run.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def print_metrics(runs: Mapping[str, Mapping[str, float]]) -> None:
    """Print metrics by the name of the run, a line a metric and a column a run."""
    names = list(dict.fromkeys(name for metrics in runs.values() for name in metrics))
    if not names:
        print("no evaluation yet")
        return
    rows = [["", *runs]] if len(runs) > 1 else []
    for name in names:
        of_runs = (metrics.get(name) for metrics in runs.values())
        rows.append([name, *("-" if value is None else f"{value:.4f}" for value in of_runs)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *values in rows:
        print(name.ljust(widths[0]), *map(str.rjust, values, widths[1:]), sep="  ")
