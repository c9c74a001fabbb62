"""A picture of a data set: how much there is of each class, sizes, and images with annotations."""

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray
from PIL import Image

from xcit_dense.data.data_sets import DataSet
from xcit_dense.data.pixels import Amounts, loader_of
from xcit_dense.errors import UserError
from xcit_dense.look import image_places, short
from xcit_dense.predict.drawing import draw_prediction, shrunk
from xcit_dense.predict.inputs import InputImage, read_image
from xcit_dense.predict.results import (
    Categories,
    Detections,
    RunLengths,
    SegmentationMap,
    categories_of,
    coco_masks,
)

SMALL = 8
"""Pixels a side of an object: smaller ones are seldom found (two strides of the finest level)."""
_IMAGES = 12
_LONGEST_SIDE = 480  # of an image
_BARS = 40
_BLUE, _RED = "#3b6fb5", "#c8403a"


def draw_data_set(data_set: DataSet, amounts: Amounts, with_masks: bool = True) -> Figure:
    """Draw the numbers of a data set, and some images with their annotations.

    Args:
        data_set: in COCO's format with content that can be used, or of mmseg; has images and
            classes.
        amounts: how much its images have of each class.
        with_masks: whether the masks of its objects were checked, and are drawn.
    """
    metainfo = {**getattr(data_set.kind, "METAINFO", {}), **(data_set.node.get("metainfo") or {})}
    names = data_set.names_of_kind if data_set.content is None else None
    categories = categories_of({**metainfo, "classes": names or data_set.class_names}, "")
    figure = Figure((20, 12), dpi=100, layout="constrained")
    title = f"{data_set.split}: {data_set.file or data_set.folder('img_path')}"
    figure.suptitle(title, fontsize="x-large", parse_math=False)
    left, right = figure.subfigures(1, 2, width_ratios=(1, 3))
    top, bottom = right.subfigures(2, 1, height_ratios=(1, 3))
    is_map = data_set.content is None
    _draw_classes(left.subplots(), categories, amounts, is_map)
    if is_map:
        _draw_image_sizes(top.subplots(), amounts.sizes)
    else:
        of_images, of_objects, of_aspects = top.subplots(1, 3)
        _draw_image_sizes(of_images, amounts.sizes)
        boxes = data_set.objects.boxes[data_set.objects.is_used, 2:]
        _draw_objects(of_objects, of_aspects, boxes)
    _draw_images(bottom, data_set, amounts, categories, with_masks)
    return figure


def _draw_classes(axes: Axes, categories: Categories, amounts: Amounts, is_map: bool) -> None:
    """Draw a bar for each class that is there; of many the most frequent and the rarest."""
    count = len(categories.names)
    counts = np.bincount(amounts.label, amounts.amount, minlength=count)
    pairs = np.unique(np.column_stack([amounts.image, amounts.label]), axis=0)
    images = np.bincount(pairs[:, 1], minlength=count).tolist()
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    half = _BARS // 2
    shown = order if len(order) <= _BARS else np.concatenate([order[:half], order[-half:]])
    for row, label in enumerate(shown):
        colour = np.array(categories.palette[label]) / 255
        axes.barh(row, counts[label], color=colour, edgecolor="black", linewidth=0.3)
        amount = f"{counts[label] / counts.sum():.2%}" if is_map else f"{counts[label]:,.0f}"
        text = f" {amount} in {images[label]:,} image{'s' * (images[label] != 1)}"
        axes.text(counts[label], row, text, va="center")
    axes.set_yticks(range(len(shown)), [short(categories.names[label]) for label in shown])
    axes.set(ylim=(_BARS - 0.4, -0.6), xlim=(0, 1.8 * max(1, counts.max())), xticks=[])
    axes.spines[:].set_visible(False)
    few = "" if len(shown) == len(order) else f",\nthe most frequent and rarest of {len(order)}"
    axes.set_title(f"{'share of the pixels' if is_map else 'objects'} of each class{few}")
    if absent := [name for name, each in zip(categories.names, counts, strict=True) if not each]:
        text = f"not there ({len(absent)}): {', '.join(absent)}"
        lines = textwrap.wrap(text, 50, max_lines=6)
        axes.set_xlabel("\n".join(lines), color=_RED, parse_math=False)


def _draw_image_sizes(axes: Axes, sizes: NDArray[np.int_]) -> None:
    found, counts = np.unique(sizes[:, ::-1], axis=0, return_counts=True)
    areas = 20 + 400 * counts / len(sizes)
    axes.scatter(*found.T, s=areas, color=_BLUE, alpha=0.5, linewidths=0)
    axes.set(xlim=(0, None), ylim=(0, None), xlabel="width", ylabel="height")
    smallest = f", sides of {sizes.min()} to {sizes.max()} pixels" if len(sizes) else ""
    axes.set_title(f"{len(sizes):,} images{smallest}")


def _draw_objects(of_sizes: Axes, of_aspects: Axes, boxes: NDArray[np.float64]) -> None:
    """Draw how many objects have which size, small ones in red, and how wide they are."""
    sides = np.sqrt(boxes.prod(axis=1))
    _draw_histogram(of_sizes, sides, 0, 11, [f"{2**power}" for power in range(12)])
    for bar in of_sizes.patches[: 4 * int(np.log2(SMALL))]:
        bar.set_color(_RED)
    share = f", {(sides < SMALL).mean():.0%} below {SMALL} pixels" if len(sides) else ""
    of_sizes.set(xlabel="root of width x height in pixels", title=f"{len(sides):,} objects{share}")
    labels = [f"1:{2**-power}" if power < 0 else f"{2**power}:1" for power in range(-4, 5)]
    _draw_histogram(of_aspects, boxes[:, 0] / boxes[:, 1], -4, 4, labels)
    of_aspects.set(xlabel="width : height", title="aspects of objects")


def _draw_histogram(
    axes: Axes, values: NDArray[np.float64], first: int, last: int, labels: list[str]
) -> None:
    """Draw how many values there are between powers of two; those outside count at the ends."""
    edges = 2.0 ** np.arange(first, last + 0.25, 0.25)
    axes.hist(np.clip(values, edges[0], edges[-1]), edges, color=_BLUE, edgecolor="white")
    axes.set_xscale("log", base=2)
    axes.set_xticks(2.0 ** np.arange(first, last + 1), labels)


def choose_images(amounts: Amounts, image_count: int, number: int = _IMAGES) -> list[int]:
    """Choose images by chance: one of each class while there is room for them, then any."""
    chance = np.random.default_rng(0)
    order = chance.permutation(len(amounts.image))
    _, first = np.unique(amounts.label[order], return_index=True)
    of_classes = chance.permutation(amounts.image[order][first])
    chosen = dict.fromkeys([*of_classes.tolist(), *chance.permutation(image_count).tolist()])
    return list(chosen)[:number]


def _draw_images(
    figure: SubFigure,
    data_set: DataSet,
    amounts: Amounts,
    categories: Categories,
    with_masks: bool,
) -> None:
    files, loader = data_set.image_files, loader_of(data_set)
    chosen = choose_images(amounts, len(files))
    places = image_places(figure, len(chosen), columns=4)
    for axes, index in zip(places, chosen, strict=True):
        file, size = Path(files[index]), None
        axes.set_title(short(file.name), fontsize="small")
        try:
            picture = InputImage(file, "", "", read_image(file, loader)).background
            if data_set.content is None:
                truth = _label_map(data_set, index)
            else:
                truth = _objects(data_set, index, with_masks)
                size = tuple(data_set.objects.sizes[index, ::-1])
        except (UserError, OSError):
            axes.text(0.5, 0.5, "cannot be read", ha="center", color=_RED)
            continue
        picture = draw_prediction(shrunk(picture, _LONGEST_SIDE), truth, categories, size)
        axes.imshow(picture[..., ::-1])


def _objects(data_set: DataSet, index: int, with_masks: bool) -> Detections:
    """The objects of an image that are learnt."""
    objects = data_set.objects
    chosen = np.flatnonzero((objects.image == index) & objects.is_used)
    boxes = objects.boxes[chosen]
    boxes[:, 2:] += boxes[:, :2]
    records = [data_set.content["annotations"][each] for each in chosen]
    size = data_set.objects.sizes[index, ::-1].tolist()
    masks = [_run_lengths(one["segmentation"], *size) for one in records] if with_masks else None
    return Detections(boxes, objects.label[chosen], masks=masks)


def _run_lengths(outline: list | dict, height: int, width: int) -> RunLengths:
    if isinstance(outline, dict) and isinstance(outline["counts"], str):
        return outline
    encoded = coco_masks().frPyObjects(outline, height, width)
    return coco_masks().merge(encoded) if isinstance(encoded, list) else encoded


def _label_map(data_set: DataSet, index: int) -> SegmentationMap:
    """The label map of an image, as training sees it."""
    with Image.open(data_set.label_map_files[index]) as opened:
        labels = np.array(opened).astype(np.uint8)
    if labels.ndim != 2:
        raise UserError(f"{data_set.label_map_files[index]} has several channels")
    if data_set.default("reduce_zero_label"):
        labels = np.where(np.isin(labels, (0, 255)), 255, labels - 1)
    return SegmentationMap(labels)
