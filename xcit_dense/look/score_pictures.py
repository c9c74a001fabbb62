"""Pictures that tell which class is bad, what it is taken for, and in which images."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from xcit_dense.look import image_places, save_figure, short
from xcit_dense.look.class_scores import ClassScores
from xcit_dense.look.coco_scores import MissedObjects
from xcit_dense.predict.drawing import draw_prediction, shrunk
from xcit_dense.predict.results import Categories, SegmentationMap

_ROWS = 50  # of classes below each other
_MOST_IN_MATRIX = 20
_MOST_CURVES = 6
_MOST_NAMES = 20  # of objects in an image
_LONGEST_SIDE = 480
_GRADES = ("#d9483b", "#f0a04b", "#4a90c2")  # below half of the mean, below the mean, above
_MISSED, _FOUND, _FALSE = "#ff3b30", "#00b4ff", "#ffd60a"


def draw_classes(scores: ClassScores, target: Path) -> None:
    """Draw a bar for each class that is there, the worst on top, with how much of it there is.

    Raises:
        OSError: the picture cannot be written.
    """
    ranked = scores.worst_first()
    parts = [ranked[first : first + _ROWS] for first in range(0, len(ranked), _ROWS)]
    rows = len(parts[0])
    figure = Figure((max(7, 4.2 * len(parts)), 1.6 + 0.24 * rows), layout="constrained")
    for axes, part in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        values, easier = scores.columns[scores.main][part], scores.columns[scores.easier][part]
        places = np.arange(len(part))
        grades = np.digitize(values, [scores.mean / 2, scores.mean])
        axes.barh(places, values, height=0.72, color=[_GRADES[grade] for grade in grades])
        axes.axvline(scores.mean, color="#444444", linestyle="--", linewidth=1)
        axes.plot(easier, places, "o", color="#444444", markersize=3.5, clip_on=False)
        for place, index in enumerate(part):
            size = scores.columns[scores.size][index]
            text = f"{size:.1%}" if isinstance(size, float) else f"{size:,}"
            axes.text(1.03, place, text, va="center", fontsize=8, color="#666666")
        axes.set_yticks(places, [short(scores.names[index]) for index in part], fontsize=8)
        axes.set(xlim=(0, 1), ylim=(rows - 0.4, -0.6))
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_title(scores.size, fontsize=8, color="#666666", loc="right")
    figure.suptitle(
        f"{scores.main} of {_classes(len(ranked))}: mean {scores.mean:.3f}\n"
        f"bars: {scores.main}, dots: {scores.easier}, line: mean",
        fontsize=11,
    )
    save_figure(figure, target)


def draw_curves(scores: ClassScores, target: Path) -> None:
    """Draw precision over recall: the mean of all classes, and those of the worst in colour.

    Raises:
        OSError: the picture cannot be written.
    """
    figure = Figure((8, 5.5), layout="constrained")
    axes = figure.subplots()
    ranked = scores.worst_first()
    # those that are never found have nothing to look at
    told = [index for index in ranked if scores.columns[scores.main][index] > 0][:_MOST_CURVES]
    for index in {*ranked} - {*told}:
        axes.plot(scores.recalls, scores.precisions[:, index], color="#d0d0d0", linewidth=0.8)
    for index in told:
        axes.plot(scores.recalls, scores.precisions[:, index], label=short(scores.names[index]))
    mean = scores.precisions[:, ranked].mean(axis=1)
    axes.plot(scores.recalls, mean, "k", linewidth=3, label="mean of all classes")
    worst = f", the {len(told)} worst in colour" if len(told) < len(ranked) else ""
    axes.set(
        xlabel="recall: part of the objects that are found",
        ylabel="precision: part of the detections that are right",
        title=f"{_classes(len(ranked))} at IoU {scores.iou:g}{worst}",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", frameon=False)
    save_figure(figure, target)


def draw_confusion(scores: ClassScores, target: Path) -> None:
    """Draw what each class is taken for, in parts of what is there of it.

    Of many classes those that are mixed up most are drawn, and what they are taken for else is
    added up.

    Raises:
        OSError: the picture cannot be written.
    """
    count = len(scores.names)
    there, shown = _shown(scores)
    matrix = scores.confusion[[*shown, count]]
    names = [short(scores.names[index]) for index in shown]
    columns, drawn = list(names), matrix[:, shown]
    if len(shown) < there:
        columns.append("another class")
        drawn = np.c_[drawn, matrix[:, :count].sum(axis=1) - drawn.sum(axis=1)]
    rows = names
    is_detection = scores.recalls is not None
    if is_detection:
        columns.append("missed")
        drawn = np.c_[drawn, matrix[:, count]]
        sums = matrix.sum(axis=1)
        rows = [f"{name} ({n})" for name, n in zip([*names, "nothing there"], sums, strict=True)]
    else:
        drawn = drawn[:-1]
    parts = drawn / np.maximum(1, matrix[: len(drawn)].sum(axis=1, keepdims=True))
    signs = np.full(parts.shape, -1.0)  # right is blue, wrong is red
    np.fill_diagonal(signs[: len(shown)], 1)
    signs[len(shown) :] = 0
    side = 2.6 + 0.42 * len(columns)
    figure = Figure((max(6.5, side + 0.6), max(4, side - 0.4)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(parts * signs, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    for (row, column), part in np.ndenumerate(parts):
        if part >= 0.005:
            colour = "white" if part * abs(signs[row, column]) > 0.6 else "black"
            axes.text(
                column, row, f"{part:.0%}", ha="center", va="center", fontsize=7, color=colour
            )
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_xlabel("what it is taken for")
    axes.set_ylabel("what it is")
    if is_detection:
        for line in (axes.axhline, axes.axvline):
            line(len(shown) - 0.5, color="black", linewidth=0.8)
    few = len(shown) < there
    which = f"the {len(shown)} of {there} classes mixed up most" if few else _classes(there)
    figure.suptitle(f"what the {scores.size} of {which} are taken for", fontsize=11)
    axes.set_title(scores.condition, fontsize=8, color="#666666")
    save_figure(figure, target)


def _shown(scores: ClassScores) -> tuple[int, list[int]]:
    """How many classes are there or are found, and those for a matrix.

    Of many classes, these are those in the largest mix-ups.
    """
    of_either = scores.confusion.sum(axis=0) + scores.confusion.sum(axis=1)
    there = np.flatnonzero(of_either[:-1]).tolist()
    if len(there) <= _MOST_IN_MATRIX:
        return len(there), there
    chosen: dict[int, None] = {}
    ranked = scores.mixed_up(len(there) * _MOST_IN_MATRIX)
    for index in [*sum(ranked, ()), *scores.worst_first()]:
        if len(chosen) < _MOST_IN_MATRIX and index in there:
            chosen[index] = None
    return len(there), sorted(chosen)


def draw_missed_objects(
    images: Mapping[Path, MissedObjects], read: Callable[[Path], np.ndarray], target: Path
) -> None:
    """Draw the images with most missed objects on one sheet.

    Args:
        images: by their path, at least one.
        read: gives uint8 (H, W, 3) in blue, green, red.
        target: the picture.

    Raises:
        OSError: the picture cannot be written.
    """
    figure, cells = _sheet(len(images), columns=min(4, len(images)), width=3.6, height=3.7)
    for axes, (path, image) in zip(cells, images.items(), strict=True):
        whole = read(path)
        small = shrunk(whole, _LONGEST_SIDE)
        axes.imshow(small[..., ::-1])
        ratio = small.shape[1] / whole.shape[1]
        for box in image.found:
            _outline(axes, box, ratio, _FOUND, 1.0)
        for box, _ in image.false:
            _outline(axes, box, ratio, _FALSE, 1.0, linestyle="--")
        for box, name in image.missed:
            _outline(axes, box, ratio, _MISSED, 1.8)
            if len(image.missed) <= _MOST_NAMES:
                _label(axes, box, ratio, short(name))
        objects = len(image.missed) + len(image.found)
        axes.set_title(f"{len(image.missed)} of {objects} missed · {short(path.name)}", fontsize=8)
    handles = [
        Rectangle((0, 0), 1, 1, fill=False, edgecolor=colour, linewidth=width, linestyle=style)
        for colour, width, style in ((_MISSED, 1.8, "-"), (_FOUND, 1, "-"), (_FALSE, 1, "--"))
    ]
    told = ["missed, or taken for another class", "found", "detected where no object is"]
    figure.legend(handles, told, loc="outside upper center", ncols=3, frameon=False)
    save_figure(figure, target)


def draw_wrong_pixels(
    images: Mapping[Path, Any],
    categories: Categories,
    read: Callable[[Path], np.ndarray],
    target: Path,
) -> None:
    """Draw the images that are segmented worst on one sheet: ground truth left, prediction right.

    Args:
        images: of :class:`WrongPixels`, by their path, at least one.
        categories: names and colours of the labels.
        read: gives uint8 (H, W, 3) in blue, green, red.
        target: the picture.

    Raises:
        OSError: the picture cannot be written.
    """
    figure, cells = _sheet(len(images), columns=min(2, len(images)), width=7.2, height=3.6)
    for axes, (path, image) in zip(cells, images.items(), strict=True):
        small = shrunk(read(path), _LONGEST_SIDE)
        halves = [
            draw_prediction(small, SegmentationMap(labels), categories)
            for labels in (image.truth, image.prediction)
        ]
        gap = np.full((len(small), 6, 3), 255, np.uint8)
        axes.imshow(np.hstack([halves[0], gap, halves[1]])[..., ::-1])
        axes.set_title(f"mIoU {image.mean_iou:.2f} · {short(path.name)}", fontsize=9)
    figure.suptitle("the worst images: ground truth left, prediction right", fontsize=11)
    save_figure(figure, target)


def _sheet(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with a place for each of ``count`` images, of so many inches."""
    rows = -(-count // columns)
    figure = Figure((columns * width, rows * height + 0.6), layout="constrained", dpi=130)
    return figure, image_places(figure, count, columns)


def _outline(axes: Axes, box: list[float], ratio: float, colour: str, width: float, **more: Any):
    left, top, across, down = (side * ratio for side in box)
    axes.add_patch(
        Rectangle((left, top), across, down, fill=False, edgecolor=colour, linewidth=width, **more)
    )


def _label(axes: Axes, box: list[float], ratio: float, name: str) -> None:
    """Write a name above a box, or inside where the image ends."""
    left, top = max(0, box[0] * ratio), max(0, box[1] * ratio)
    axes.text(
        left,
        top,
        name,
        fontsize=6,
        color="white",
        va="bottom" if top > 0.06 * _LONGEST_SIDE else "top",
        clip_on=True,
        bbox={"facecolor": _MISSED, "edgecolor": "none", "pad": 0.8},
    )


def _classes(count: int) -> str:
    return f"{count} class" if count == 1 else f"{count} classes"
