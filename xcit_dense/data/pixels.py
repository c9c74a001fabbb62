"""What a data set holds of each class, image by image; and its pixels, each of them checked."""

import math
import os.path as osp
from typing import NamedTuple

import numpy as np
from mmcv.transforms import LoadImageFromFile
from numpy.typing import NDArray

from xcit_dense.data.data_sets import DataSet, are_of_mm
from xcit_dense.data.image_checks import check_images
from xcit_dense.data.label_map_checks import ReadMap, check_label_maps, read_label_maps
from xcit_dense.errors import Finding
from xcit_dense.mm.config import type_name

_FEW = 8  # take well below a second


class Amounts(NamedTuple):
    """How much there is in a data set: a row for each object, or each class in each label map.

    Attributes:
        image: number of the image among the data set's images, (N,).
        label: of the class, (N,).
        amount: 1 for an object, or the number of pixels, (N,).
        sizes: heights and widths that images are annotated in, (I, 2).
    """

    image: NDArray[np.int_]
    label: NDArray[np.int_]
    amount: NDArray[np.int_]
    sizes: NDArray[np.int_]


def loader_of(data_set: DataSet) -> LoadImageFromFile:
    """What loads the images of a data set."""
    loads = [step for step in data_set.steps if type_name(step) == "LoadImageFromFile"]
    return LoadImageFromFile(**{k: v for k, v in (loads or [{}])[0].items() if k != "type"})


def check_some_label_maps(data_set: DataSet) -> list[Finding]:
    """Read a few label maps from all of a data set of mmseg, where its own steps read them."""
    steps = data_set.node.get("pipeline") or []
    loads = [step for step in steps if type_name(step) == "LoadAnnotations"]
    if not loads or loads[0].get("imdecode_backend", "pillow") != "pillow" or not are_of_mm(steps):
        return []
    return _check_label_maps(data_set, most=_FEW)[1]


def _check_label_maps(
    data_set: DataSet, most: int | None = None
) -> tuple[list[ReadMap], list[Finding]]:
    """Read the label maps of a data set of mmseg, or at most so many from all of it."""
    files = data_set.label_map_files
    maps = read_label_maps(files[:: math.ceil(len(files) / (most or len(files) or 1)) or 1])
    names, ignored = _classes_of_maps(data_set), data_set.default("ignore_index")
    if not names or not maps:
        return maps, []
    reduces, are_all = bool(data_set.default("reduce_zero_label")), len(maps) == len(files)
    return maps, list(check_label_maps(maps, names, reduces, ignored, are_all))


def _classes_of_maps(data_set: DataSet) -> list[str]:
    """Names of the labels in the maps, of which mmseg takes some where its class has more."""
    return data_set.names_of_kind or data_set.class_names or []


def check_pixels(data_set: DataSet) -> tuple[list[Finding], Amounts]:
    """Read all images and label maps that are there, and say what is wrong with them.

    Args:
        data_set: in COCO's format with content that can be used, or of mmseg; has images.
    """
    findings = []
    if data_set.content is not None:
        objects, used = data_set.objects, data_set.objects.is_used
        sizes = list(map(tuple, objects.sizes[:, ::-1].tolist()))
        rows = objects.image[used], objects.label[used], np.ones(used.sum(), int)
    else:
        names, reduces = _classes_of_maps(data_set), bool(data_set.default("reduce_zero_label"))
        maps, findings = _check_label_maps(data_set)
        sizes = [each.size for each in maps]
        counts = np.array([each.counts[int(reduces) :][: len(names)] for each in maps])
        rows = *np.nonzero(counts), counts[counts > 0]
    there = [pair for pair in zip(data_set.image_files, sizes, strict=True) if osp.isfile(pair[0])]
    findings = [*check_images(there, loader_of(data_set)), *findings]
    return findings, Amounts(*rows, np.array([size for size in sizes if size]).reshape(-1, 2))
