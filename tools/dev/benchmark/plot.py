"""The picture: time and peak memory against the number of pixels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dev.benchmark.names import INFERENCE, MODES, TRAINING
from dev.benchmark.results import Measurement, Results

from xcit_dense.atomic_files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = {
    "xcit_auto": "#1f5fd0",
    "xcit_gram": "#12a594",
    "xcit_direct": "#e5730f",
    "xcit_optimized": "#8b3fd1",
    "timm_xcit": "#111111",
    "timm_xcit_plain": "#777777",
    "resnet50": "#c2405e",
    "swin_tiny": "#4c9a2a",
    "convnext_tiny": "#b59410",
    "pvtv2_b2": "#5aa9d6",
}
_OTHER_COLORS = ("#d670b5", "#8a6d4b", "#3b7d7d", "#a0522d")
_SHAPES = {"fp32": "o", "bf16": "s", "fp16": "^"}
_TITLES = {INFERENCE: "inference", TRAINING: "training step"}
_FEW_POWERS_OF_TEN = 8  # a range that need not hold one
_LEAST_GAP = 0.048  # between two labels, as a share of the height of a panel


def draw(results: Results, target: Path) -> None:
    """Draw the modes that were measured, each with a panel for time and one for memory.

    The file appears only when it is complete.

    Args:
        results: what to draw.
        target: the picture to write; its suffix chooses the format.

    Raises:
        ImportError: matplotlib is missing.
    """
    # Only drawing needs matplotlib, and no window: hence neither at import time nor pyplot.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    modes = [mode for mode in MODES if results.of_mode(mode)]
    figure = Figure(figsize=(15, 5.2 * max(1, len(modes)) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    hardware = results.machine.get("GPU") or results.machine.get("CPU", "")
    settings = ", ".join(results.settings.values())
    figure.suptitle(f"{hardware}\n{settings}", fontsize=12)
    styles = _styles(results)
    panels = figure.subplots(max(1, len(modes)), 2, squeeze=False)
    for (time, memory), mode in zip(panels, modes, strict=False):
        lines = results.of_mode(mode)
        images = f"{lines[0].batch_size} image{'s' if lines[0].batch_size > 1 else ''}"
        heading = f"{_TITLES[mode]}, {images}"
        _panel(time, lines, styles, lambda m: m.median_seconds)
        time.set(title=f"{heading}: time", ylabel="seconds")
        _panel(memory, lines, styles, lambda m: (m.peak_bytes or 0) / 1e6)
        memory.set(title=f"{heading}: peak memory beyond weights and image", ylabel="MB")
    suffix = target.suffix[1:]
    write_atomically(target, lambda file: figure.savefig(file, dpi=120, format=suffix or None))


def _styles(results: Results) -> dict[str, dict[str, object]]:
    """Color by network, dashes for compiled ones, the shape of the marks by dtype."""
    others = itertools.cycle(_OTHER_COLORS)
    colors: dict[str, str] = {}
    styles = {}
    for measurement in results.measurements:
        name = measurement.contender.partition(":")[0].partition("+")[0]
        if name not in colors:
            colors[name] = _COLORS.get(name) or next(others)
        styles[measurement.contender] = {
            "color": colors[name],
            "linestyle": "--" if "+" in measurement.contender else "-",
            "marker": _SHAPES.get(measurement.dtype, "o"),
            "linewidth": 2.4 if "xcit" in name else 1.5,
            "markersize": 5,
        }
    return styles


def _panel(
    axes: Axes,
    measurements: Sequence[Measurement],
    styles: dict[str, dict[str, object]],
    value: Callable[[Measurement], float],
) -> None:
    ends: list[tuple[str, float, float]] = []
    for contender in dict.fromkeys(m.contender for m in measurements):
        points = [
            (m.pixels, value(m))
            for m in measurements
            if m.contender == contender and m.measured and value(m) > 0
        ]
        if points:
            axes.plot(*zip(*points, strict=True), **styles[contender])
            ends.append((contender, *points[-1]))
    axes.set(xscale="log", yscale="log", xlabel="image, height x width in pixels")
    axes.grid(which="major", alpha=0.35)
    axes.grid(which="minor", axis="y", alpha=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    if not ends:
        axes.text(0.5, 0.5, "nothing measured", transform=axes.transAxes, ha="center")
        return
    sizes = sorted({(m.pixels, f"{m.height}x{m.width}") for m in measurements})
    axes.set_xticks([pixels for pixels, _ in sizes], [name for _, name in sizes])
    axes.set_xticks([], minor=True)
    low, high = axes.get_ylim()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}" if high / low < _FEW_POWERS_OF_TEN else "")
    _label_lines(axes, ends, styles)


def _label_lines(
    axes: Axes, ends: Sequence[tuple[str, float, float]], styles: dict[str, dict[str, object]]
) -> None:
    """Write names to the right of the panel, as near to the ends of their lines as they fit."""
    low, high = (math.log(limit) for limit in axes.get_ylim())
    heights = [(math.log(y) - low) / (high - low) for _, _, y in ends]
    for (contender, x, y), height in zip(ends, spread(heights, _LEAST_GAP), strict=True):
        axes.annotate(
            contender,
            xy=(x, y),
            xytext=(1.04, height),
            textcoords="axes fraction",
            color=styles[contender]["color"],
            fontsize=9,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "relpos": (0, 0.5),
                "color": styles[contender]["color"],
                "alpha": 0.35,
                "linewidth": 0.8,
                "shrinkA": 1,
                "shrinkB": 3,
            },
        )


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Move places apart until neighbours are at least a gap apart, as little as possible.

    The order stays; groups that are too close are centered on the mean of their places. All stay
    between 0 and 1, if there is room.
    """
    groups: list[tuple[float, int]] = []  # center, members; from the lowest to the highest
    for place in sorted(places):
        center, members = place, 1
        while groups and center - groups[-1][0] < gap * (members + groups[-1][1]) / 2:
            other_center, other_members = groups.pop()
            center = (center * members + other_center * other_members) / (members + other_members)
            members += other_members
        groups.append((center, members))
    moved = [
        center + gap * (position - (members - 1) / 2)
        for center, members in groups
        for position in range(members)
    ]
    lowest, highest = 0.0, 1.0
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], highest)
        highest = moved[index] - gap
    for index in range(len(moved)):
        moved[index] = max(moved[index], lowest)
        lowest = moved[index] + gap
    order = sorted(range(len(places)), key=lambda index: places[index])
    return [moved[order.index(index)] for index in range(len(places))]
