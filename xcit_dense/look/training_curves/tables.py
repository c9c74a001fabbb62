"""Evaluation metrics as text."""

from __future__ import annotations

from collections.abc import Mapping

from xcit_dense.look.training_curves.reading import TrainingLog


def last_evaluation(log: TrainingLog) -> dict[str, float]:
    """Returns the metrics of the last evaluation by name; empty if there was none."""
    return dict(log.evaluations[-1].values) if log.evaluations else {}


def metrics_table(metrics_of_runs: Mapping[str, Mapping[str, float]]) -> str:
    """Returns metrics as lines of text, a name and a value of each run, aligned in columns.

    Args:
        metrics_of_runs: metrics by name, by the name of the run. Several runs get a heading.
    """
    names = dict.fromkeys(name for metrics in metrics_of_runs.values() for name in metrics)
    if not names:
        return "no evaluation yet"
    longest = max(map(len, names))
    widths = {run: max(10, len(run)) if len(metrics_of_runs) > 1 else 10 for run in metrics_of_runs}
    lines = [
        f"{name:<{longest}}"
        + "".join(f"  {_number(metrics_of_runs[run].get(name)):>{widths[run]}}" for run in widths)
        for name in names
    ]
    if len(metrics_of_runs) > 1:
        heading = "".join(f"  {run:>{width}}" for run, width in widths.items())
        lines.insert(0, " " * longest + heading)
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
