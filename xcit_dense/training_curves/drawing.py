"""Pictures of training curves, of one run or of several beside each other."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from xcit_dense.atomic_files import write_atomically
from xcit_dense.training_curves.reading import TOTAL_LOSS, Record, TrainingLog

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINES_OF_LEGEND = 24
_HEADLINE_ENDINGS = ("_mAP", "mIoU")
_LINE_STYLES = ("-", "--", ":", "-.")


def smoothed(values: Iterable[float], window: int) -> list[float]:
    """Returns exponential means over about ``window`` values, unbiased from the first one on.

    Values that are not finite leave a gap and do not enter the mean.

    Raises:
        ValueError: if the window is less than 1.
    """
    if window < 1:
        raise ValueError(f"a window has at least 1 value, not {window}")
    memory = 1 - 1 / window
    total = weight = 0.0
    means = []
    for value in values:
        if math.isfinite(value):
            total, weight = memory * total + value, memory * weight + 1
        means.append(total / weight if math.isfinite(value) else math.nan)
    return means


def draw_curves(
    runs: Mapping[str, TrainingLog],
    target: Path | str,
    title: str = "",
    names: Collection[str] = (),
) -> None:
    """Draws losses (left) and evaluation metrics (right) against the training iteration.

    Of one run all loss terms and metrics are drawn, of several the total loss and the metrics that
    papers report. What else was logged in training is drawn only if it is named, between them in a
    panel each. The file appears only when it is complete.

    Args:
        runs: what to draw, by the name of the run; a panel without data says so.
        target: the picture to write; its suffix chooses the format, for instance ``.png``.
        title: heading of the picture.
        names: what to draw instead: losses, metrics, or anything else that was logged.

    Raises:
        ImportError: if matplotlib is missing.
        ValueError: if the suffix is not a format that matplotlib writes, or a run has none of a
            name.
    """
    # Only drawing needs matplotlib, and no window: hence neither at import time nor pyplot.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    _check_names(runs, names)
    others = _names_of_others(runs, names)
    panels = 2 + len(others)
    figure = Figure(figsize=(6.5 * panels, 5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    left, *middle, right = figure.subplots(1, panels, sharex=True)
    if len(runs) == 1:
        (log,) = runs.values()
        _draw_losses_of_one(left, log.losses, names)
        _draw_metrics_of_one(right, log.evaluations, names)
    else:
        for number, (run, log) in enumerate(runs.items()):
            _draw_run(left, right, f"C{number % 10}", run, log, names)
        _finish(left, "training loss")
        _finish(right, "evaluation")
    for axes, name in zip(middle, others, strict=True):
        _draw_other(axes, runs, name)
    suffix = Path(target).suffix[1:]
    write_atomically(target, lambda file: figure.savefig(file, dpi=120, format=suffix or None))


def _check_names(runs: Mapping[str, TrainingLog], names: Collection[str]) -> None:
    known = dict.fromkeys(
        name
        for log in runs.values()
        for record in (*log.losses, *log.evaluations, *log.others)
        for name in record.values
    )
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"{unknown[0]!r} was not logged; there are {', '.join(known) or 'none'}")


def _draw_losses_of_one(axes: Axes, records: tuple[Record, ...], names: Collection[str]) -> None:
    iterations = [record.iteration for record in records]
    window = _window(records)
    for name, values in _series(records, names).items():
        if name == TOTAL_LOSS:
            axes.plot(iterations, values, color="black", alpha=0.2, linewidth=0.8)
            style = {"color": "black", "linewidth": 2.5, "zorder": 3}
        else:
            style = {"linewidth": 1.2}
        axes.plot(iterations, smoothed(values, window), label=name, **style)
    _finish(axes, "training loss" + (f" (mean of ~{window})" if window > 1 else ""))
    axes.set_ylim(bottom=0)


def _draw_metrics_of_one(axes: Axes, records: tuple[Record, ...], names: Collection[str]) -> None:
    iterations = [record.iteration for record in records]
    for name, values in _known_metrics(records, names).items():
        width = 2.5 if name.endswith(_HEADLINE_ENDINGS) else 1.2
        axes.plot(iterations, values, label=name, marker="o", markersize=3, linewidth=width)
    _finish(axes, "evaluation")


def _draw_run(
    left: Axes, right: Axes, colour: str, run: str, log: TrainingLog, names: Collection[str]
) -> None:
    """Draws a run in its colour; the style of a line tells what it is."""
    losses = _series(log.losses, names or (TOTAL_LOSS,))
    iterations = [record.iteration for record in log.losses]
    for number, (name, values) in enumerate(losses.items()):
        curve = smoothed(values, _window(log.losses))
        _plot_styled(left, iterations, curve, f"{run}: {name}", colour, number)
    metrics = _known_metrics(log.evaluations, names)
    if not names:
        headlines = {name: v for name, v in metrics.items() if name.endswith(_HEADLINE_ENDINGS)}
        metrics = headlines or metrics
    iterations = [record.iteration for record in log.evaluations]
    for number, (name, values) in enumerate(metrics.items()):
        _plot_styled(right, iterations, values, f"{run}: {name}", colour, number, marker="o")


def _names_of_others(runs: Mapping[str, TrainingLog], wanted: Collection[str]) -> list[str]:
    known = {name for log in runs.values() for record in log.others for name in record.values}
    return [name for name in dict.fromkeys(wanted) if name in known]


def _draw_other(axes: Axes, runs: Mapping[str, TrainingLog], name: str) -> None:
    """Draws a learning rate, an accuracy or the like, a run in its colour."""
    for number, (run, log) in enumerate(runs.items()):
        values = _series(log.others, (name,)).get(name)
        if values:
            label = f"{run}: {name}" if len(runs) > 1 else name
            iterations = [record.iteration for record in log.others]
            axes.plot(iterations, values, label=label, color=f"C{number % 10}", linewidth=1.2)
    _finish(axes, name)


def _plot_styled(
    axes: Axes,
    iterations: list[int],
    values: list[float],
    label: str,
    colour: str,
    number: int,
    marker: str = "",
) -> None:
    style = _LINE_STYLES[number % len(_LINE_STYLES)]
    axes.plot(
        iterations, values, label=label, color=colour, linestyle=style, marker=marker, markersize=3
    )


def _window(records: tuple[Record, ...]) -> int:
    return max(1, len(records) // 20)


def _series(records: tuple[Record, ...], wanted: Collection[str]) -> dict[str, list[float]]:
    """Returns a list of values for each name, as long as the records, with NaN for gaps."""
    names = dict.fromkeys(name for record in records for name in record.values)
    return {
        name: [record.values.get(name, math.nan) for record in records]
        for name in names
        if not wanted or name in wanted
    }


def _known_metrics(records: tuple[Record, ...], wanted: Collection[str]) -> dict[str, list[float]]:
    """Returns the series of metrics, without those that were never judged."""
    series = {
        # COCO's evaluation writes -1 where there is nothing to judge, as for sizes that are absent.
        name: [math.nan if value == -1 else value for value in values]
        for name, values in _series(records, wanted).items()
    }
    return {name: values for name, values in series.items() if not all(map(math.isnan, values))}


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("iteration")
    axes.grid(alpha=0.3)
    curves = len(axes.get_legend_handles_labels()[0])
    if curves:
        axes.legend(fontsize="small", ncols=math.ceil(curves / _LINES_OF_LEGEND))
    else:
        axes.text(0.5, 0.5, "nothing logged yet", transform=axes.transAxes, ha="center")
