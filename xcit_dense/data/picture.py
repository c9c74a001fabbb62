"""A picture of a data set: how much there is of each class, sizes, and images with annotations."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from mmcv.transforms import LoadImageFromFile
from numpy.typing import NDArray

from xcit_dense.data.contact_sheet import AnnotatedImage, draw_sheet
from xcit_dense.predict.results import Categories

SMALL = 8
"""Pixels a side of an object: smaller ones are seldom found (two strides of the finest level)."""
_DPI = 110
_WIDTH = 16  # inches, as the next ones
_PANEL = 3.4
_BAR = 0.23
_BESIDE = 14  # bars from which on they stand beside everything else
_LONGEST_NAME = 26
_BLUE, _RED, _GREY = "#3b6fb5", "#c8403a", "#8a8a8a"


def draw_data_set(
    title: str,
    categories: Categories,
    amounts: Sequence[int],
    images_with: Sequence[int],
    image_sizes: NDArray[np.int_],
    sheet: Sequence[AnnotatedImage],
    object_sizes: NDArray[np.float64] | None = None,
    measured: str = "in the files",
    loader: LoadImageFromFile | None = None,
) -> Figure:
    """Draw a data set; no pixels are read but those of ``sheet``.

    Args:
        title: what it is.
        categories: names and colours of the classes.
        amounts: objects of each class, or pixels where there are no objects.
        images_with: images that have something of each class.
        image_sizes: widths and heights in pixels, (I, 2).
        sheet: some images, at most a few dozen.
        object_sizes: widths and heights in pixels, (N, 2); None for a segmentation.
        measured: at which scale the objects are measured.
        loader: of the images; None for mm's default, OpenCV in colour.

    Returns:
        The figure.
    """
    amounts, is_map = np.asarray(amounts), object_sizes is None
    is_beside = (amounts > 0).sum() >= _BESIDE
    bar_width = 5.2 if is_beside else 0.0
    width = int((_WIDTH - bar_width - 0.2) * _DPI)
    pictures = draw_sheet(sheet, categories, width, loader)[..., ::-1]
    ratios = [_PANEL, pictures.shape[0] / _DPI]
    figure = Figure((_WIDTH, 0.6 + sum(ratios)), dpi=_DPI, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08)
    figure.suptitle(title, fontsize="x-large", weight="bold", parse_math=False)
    if is_beside:
        left, right = figure.subfigures(1, 2, width_ratios=[bar_width, _WIDTH - bar_width])
        top, bottom = right.subfigures(2, 1, height_ratios=ratios)
        of_bars, *axes = left.subplots(), *top.subplots(1, 1 if is_map else 3, squeeze=False)[0]
    else:
        top, bottom = figure.subfigures(2, 1, height_ratios=ratios)
        of_bars, *axes = top.subplots(1, 2 if is_map else 4)
    room = int((sum(ratios) - 0.4) / _BAR) if is_beside else _BESIDE
    _draw_bars(of_bars, categories, amounts, images_with, is_map, room)
    _draw_image_sizes(axes[0], image_sizes)
    if not is_map:
        object_sizes = object_sizes[(object_sizes > 0).all(axis=1)]
        _draw_object_sizes(axes[1], object_sizes, measured)
        _draw_aspects(axes[2], object_sizes)
    paper = bottom.subplots()
    paper.imshow(pictures, interpolation="antialiased")
    paper.set_anchor("N")
    paper.set_axis_off()
    return figure


def _draw_bars(
    axes: Axes,
    categories: Categories,
    amounts: NDArray[np.int_],
    images_with: Sequence[int],
    is_map: bool,
    room: int,
) -> None:
    """Draw a bar for each class that is there, in the colour in which it is drawn into images.

    The most frequent comes first. Of more than there is ``room`` for, those between the frequent
    and the rare ones are left out.
    """
    order = np.argsort(-amounts, kind="stable")
    present = order[amounts[order] > 0].tolist()
    absent = [categories.names[label] for label in np.flatnonzero(amounts == 0)]
    note = f"not there ({len(absent)}): {', '.join(absent)}" if absent else ""
    notes = textwrap.wrap(note, 50, max_lines=4)
    room -= len(notes)
    if len(present) > room:
        rare = room // 3
        present[room - rare - 1 : -rare] = [-1]
    names, most, whole = [], max(1, amounts.max()), max(1, amounts.sum())
    for row, label in enumerate(present):
        names.append(_short(categories.names[label]) if label >= 0 else "")
        if label < 0:
            text = f"... {(amounts > 0).sum() - len(present) + 1} more classes ..."
            axes.text(most * 0.015, row, text, va="center", color=_GREY, fontsize="small")
            continue
        colour = np.array(categories.palette[label]) / 255
        axes.barh(row, amounts[label], color=colour, edgecolor="black", linewidth=0.3)
        number = f"{amounts[label] / whole:.2%}" if is_map else f"{amounts[label]:,}"
        text = f"{number} in {images_with[label]:,} image{'s' if images_with[label] != 1 else ''}"
        axes.text(amounts[label] + most * 0.015, row, text, va="center", fontsize="small")
    axes.set_yticks(range(len(names)), names, fontsize="small", parse_math=False)
    for row, line in enumerate(notes, start=len(names)):
        axes.text(0, row, line, va="center", fontsize="small", color=_RED, parse_math=False)
    rows = max(len(names) + len(notes), room + len(notes) if len(names) >= _BESIDE else 4)
    axes.set(ylim=(rows - 0.4, -0.6), xlim=(0, most * 1.6), xticks=[])
    axes.set_title("share of the pixels" if is_map else "objects of each class")
    axes.spines[:].set_visible(False)
    axes.tick_params(left=False)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}\u2026"


def _draw_image_sizes(axes: Axes, sizes: NDArray[np.int_]) -> None:
    """Draw a disk for each size, as large as it is frequent."""
    found, counts = np.unique(sizes, axis=0, return_counts=True)
    areas = 12 + 500 * counts / counts.max() * min(1, 5 / len(found) ** 0.5)
    axes.scatter(
        *found.T, s=areas, color=_BLUE, alpha=0.5 if len(found) < 1000 else 0.05, linewidths=0
    )
    low, high = sizes.min(), sizes.max()
    if high > 8 * low:
        axes.set(xscale="log", yscale="log")
        limits = low / 1.4, high * 1.4
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axis.set_minor_formatter(NullFormatter())
    else:
        limits = 0, high * 1.15
    axes.plot(limits, limits, color=_GREY, linewidth=0.8, linestyle=":", zorder=0)
    axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel="width", ylabel="height")
    range_of_sides = (
        f"sides of {low} to {high}" if len(found) > 1 else f"{found[0, 0]} x {found[0, 1]}"
    )
    axes.set_title(f"{len(sizes):,} image{'s' if len(sizes) > 1 else ''}, {range_of_sides}")
    axes.grid(alpha=0.2)


def _draw_object_sizes(axes: Axes, sizes: NDArray[np.float64], measured: str) -> None:
    """Draw how many objects have which size, small ones in red."""
    sides = np.sqrt(sizes.prod(axis=1))
    last = np.log2(max(512, sides.max(initial=0)))
    edges = 2 ** np.arange(0, last + 0.25, 0.25)
    counts, _ = np.histogram(np.maximum(sides, 1), edges)
    colours = [_RED if edge < SMALL else _BLUE for edge in edges[:-1]]
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colours, edgecolor="white")
    axes.axvline(SMALL, color=_RED, linestyle="--")
    share = (sides < SMALL).mean() if len(sides) else 0
    axes.text(
        0.02, 0.97, f"{share:.0%} below\n{SMALL} pixels", color=_RED, va="top",
        transform=axes.transAxes,
    )  # fmt: skip
    _by_two(axes, [f"{2**power}" for power in range(int(last) + 1)], 0)
    axes.set(xlabel=f"root of width x height in pixels, {measured}", ylabel="objects")
    half = f", half below {np.median(sides):.0f}" if len(sides) else ""
    axes.set_title(f"{len(sizes):,} objects{half}")


def _draw_aspects(axes: Axes, sizes: NDArray[np.float64]) -> None:
    """Draw how many objects are how wide for their height."""
    aspects = np.clip(sizes[:, 0] / sizes[:, 1], 1 / 16, 16)
    edges = 2 ** np.arange(-4, 4.25, 0.25)
    counts, _ = np.histogram(aspects, edges)
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=_BLUE, edgecolor="white")
    _by_two(axes, [f"1:{2**-p}" if p < 0 else f"{2**p}:1" for p in range(-4, 5)], -4)
    axes.set(xlabel="width : height", title="aspects of objects")


def _by_two(axes: Axes, labels: Sequence[str], first: int) -> None:
    """Let an axis go in powers of two, from that of ``first`` on."""
    axes.set_xscale("log", base=2)
    step = 1 if len(labels) <= 10 else 2
    axes.set_xticks(
        [2.0 ** (first + power) for power in range(len(labels))][::step], labels[::step]
    )
    axes.set_ylim(bottom=0)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.2)
    axes.set_axisbelow(True)
