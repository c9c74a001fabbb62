"""Pictures of training curves, of one run or of several beside each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xcit_dense.atomic_files import write_atomically
from xcit_dense.look.training_curves.reading import TOTAL_LOSS, Record, TrainingLog

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_CURVES = 12  # in a panel, if nothing is named; more are told apart by nobody
_LETTERS_BESIDE_EACH_OTHER = 88  # in the legend of a panel
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

    Of one run the loss terms and metrics are drawn, of many the largest and the first, of several
    runs the total loss and the metrics that papers report. What else was logged in training is
    drawn only if it is named, between them in a panel each; where something is named, a panel
    without any of it is left out. The file appears only when it is complete.

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
    panels = _panels(runs, names)
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    every_axes = figure.subplots(1, len(panels), sharex=True, squeeze=False)[0]
    for axes, draw in zip(every_axes, panels, strict=True):
        draw(axes)
    rows, letters = map(max, zip(*map(_add_legend, every_axes), strict=True))
    width = 6.5 * max(1.0, letters / _LETTERS_BESIDE_EACH_OTHER)
    figure.set_size_inches(width * len(panels), 5 + 0.19 * rows)
    suffix = Path(target).suffix[1:]
    write_atomically(target, lambda file: figure.savefig(file, dpi=120, format=suffix or None))


def _panels(
    runs: Mapping[str, TrainingLog], names: Collection[str]
) -> list[Callable[[Axes], None]]:
    """What draws each panel, from left to right."""
    others = _names_of_others(runs, names)
    panels = [partial(_draw_other, runs=runs, name=name) for name in others]
    if not names or any(_series(log.losses, names) for log in runs.values()):
        panels.insert(0, partial(_draw_losses, runs=runs, names=names))
    if not names or any(_series(log.evaluations, names) for log in runs.values()):
        panels.append(partial(_draw_metrics, runs=runs, names=names))
    return panels


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


def _draw_losses(axes: Axes, runs: Mapping[str, TrainingLog], names: Collection[str]) -> None:
    if len(runs) == 1:
        (log,) = runs.values()
        _draw_losses_of_one(axes, log.losses, names)
        return
    for colour, (run, log) in zip(_colours(len(runs)), runs.items(), strict=True):
        iterations = [record.iteration for record in log.losses]
        losses = _series(log.losses, names or (TOTAL_LOSS,))
        for number, (name, values) in enumerate(losses.items()):
            curve = smoothed(values, _window(log.losses))
            _plot_styled(axes, iterations, curve, f"{run}: {name}", colour, number)
    _finish(axes, "training loss")


def _draw_metrics(axes: Axes, runs: Mapping[str, TrainingLog], names: Collection[str]) -> None:
    if len(runs) == 1:
        (log,) = runs.values()
        _draw_metrics_of_one(axes, log.evaluations, names)
        return
    for colour, (run, log) in zip(_colours(len(runs)), runs.items(), strict=True):
        metrics = _known_metrics(log.evaluations, names)
        if not names:
            headlines = {name: metrics[name] for name in metrics if _is_headline(name)}
            most = max(1, _MOST_CURVES // len(runs))
            metrics = headlines or dict(list(metrics.items())[:most])
        iterations = [record.iteration for record in log.evaluations]
        for number, (name, values) in enumerate(metrics.items()):
            _plot_styled(axes, iterations, values, f"{run}: {name}", colour, number, marker="o")
    _finish(axes, "evaluation")


def _draw_losses_of_one(axes: Axes, records: tuple[Record, ...], names: Collection[str]) -> None:
    iterations = [record.iteration for record in records]
    window = _window(records)
    series = _series(records, names)
    terms = {name: values for name, values in series.items() if name != TOTAL_LOSS}
    shown = sorted(terms, key=lambda name: -_size(terms[name]))
    if not names:
        shown = shown[: _MOST_CURVES - 1]
    drawn = [name for name in terms if name in shown]  # as they were logged
    if TOTAL_LOSS in series:
        values = series[TOTAL_LOSS]
        axes.plot(iterations, values, color="black", alpha=0.2, linewidth=0.8)
        curve = smoothed(values, window)
        axes.plot(iterations, curve, label=TOTAL_LOSS, color="black", linewidth=2.5, zorder=3)
    for colour, name in zip(_colours(len(drawn)), drawn, strict=True):
        curve = smoothed(terms[name], window)
        axes.plot(iterations, curve, label=name, color=colour, linewidth=1.2)
    title = "training loss" + (f" (mean of ~{window})" if window > 1 else "")
    _finish(axes, title + _left_out(len(terms) - len(drawn), "smaller terms"))
    axes.set_ylim(bottom=0)


def _draw_metrics_of_one(axes: Axes, records: tuple[Record, ...], names: Collection[str]) -> None:
    iterations = [record.iteration for record in records]
    metrics = _known_metrics(records, names)
    drawn = sorted(metrics, key=lambda name: not _is_headline(name))  # else as they were logged
    if not names:
        drawn = drawn[:_MOST_CURVES]
    for colour, name in zip(_colours(len(drawn)), drawn, strict=True):
        style = {"marker": "o", "markersize": 3, "linewidth": 2.5 if _is_headline(name) else 1.2}
        axes.plot(iterations, metrics[name], label=name, color=colour, **style)
    _finish(axes, "evaluation" + _left_out(len(metrics) - len(drawn), "metrics"))


def _size(values: list[float]) -> float:
    return sum(abs(value) for value in values if math.isfinite(value))


def _is_headline(name: str) -> bool:
    return name.endswith(_HEADLINE_ENDINGS)


def _left_out(count: int, what: str) -> str:
    return f", without {count} {what}" if count else ""


def _colours(count: int) -> list[Any]:
    """Colours that can be told apart: matplotlib's ten, of more curves as many hues."""
    from matplotlib import colormaps

    if count <= 10:
        return [f"C{number}" for number in range(count)]
    return [colormaps["turbo"](number / (count - 1)) for number in range(count)]


def _names_of_others(runs: Mapping[str, TrainingLog], wanted: Collection[str]) -> list[str]:
    known = {name for log in runs.values() for record in log.others for name in record.values}
    return [name for name in dict.fromkeys(wanted) if name in known]


def _draw_other(axes: Axes, runs: Mapping[str, TrainingLog], name: str) -> None:
    """Draws a learning rate, an accuracy or the like, a run in its colour."""
    for colour, (run, log) in zip(_colours(len(runs)), runs.items(), strict=True):
        values = _series(log.others, (name,)).get(name)
        if values:
            label = f"{run}: {name}" if len(runs) > 1 else name
            iterations = [record.iteration for record in log.others]
            axes.plot(iterations, values, label=label, color=colour, linewidth=1.2)
    _finish(axes, name)


def _plot_styled(
    axes: Axes,
    iterations: list[int],
    values: list[float],
    label: str,
    colour: Any,
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
    if not axes.lines:
        axes.text(0.5, 0.5, "nothing logged yet", transform=axes.transAxes, ha="center")


def _add_legend(axes: Axes) -> tuple[int, int]:
    """Names the curves below the axes, where nothing is hidden.

    Returns:
        How many rows they take, and how many letters are beside each other in one.
    """
    labels = axes.get_legend_handles_labels()[1]
    if not labels:
        return 0, 0
    from matplotlib.transforms import ScaledTranslation

    longest = max(map(len, labels)) + 6  # the piece of a line before it
    columns = max(1, min(len(labels), _LETTERS_BESIDE_EACH_OTHER // longest))
    below = ScaledTranslation(0, -0.5, axes.figure.dpi_scale_trans)  # inches
    place = {"bbox_to_anchor": (0.5, 0), "bbox_transform": axes.transAxes + below}
    axes.legend(loc="upper center", fontsize="small", ncols=columns, frameon=False, **place)
    return math.ceil(len(labels) / columns), columns * longest
