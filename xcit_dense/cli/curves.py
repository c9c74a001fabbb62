"""Curves and figures of one or several runs: the command line of ``tools/analyze_logs.py``."""

from argparse import ArgumentParser
from pathlib import Path

from xcit_dense.look import picture_path
from xcit_dense.look.curves import draw_curves, read_run


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Draw losses and metrics of one or several runs, and print their last "
        "evaluations."
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="work folder, time-stamped folder or log"
    )
    parser.add_argument(
        "-o", "--out", type=picture_path, help="picture (RUN/curves.png; of several: curves.png)"
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
    runs = {str(run): read_run(run) for run in args.runs}
    draw_curves(runs, target, args.keys)
    for name, run in runs.items():
        evaluation = run.last_evaluation()
        print(f"{name}:" if evaluation else f"{name}: no evaluation yet")
        for metric, value in evaluation.items():
            print(f"  {metric:24} {value:.4f}")
    print(f"written: {target}")
