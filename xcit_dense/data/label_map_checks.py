"""What may be wrong with the label maps of a segmentation, read as mmseg reads them."""

import os.path as osp
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from PIL import Image

from xcit_dense.data.image_checks import look_at_all
from xcit_dense.errors import Finding, findings_by_kind, in_one_line, listed
from xcit_dense.mm.data import IGNORED_LABEL
from xcit_dense.predict.inputs import known_formats

LARGE_SHARE = 0.25  # of the pixels
NEW_CONFIG = "xcit-dense new-config --masks, which makes maps of class numbers of them"
_ENDS = "training ends where it meets one"

UNREADABLE = Finding(f"cannot be read; {_ENDS}", "write them anew, as PNG")
CHANNELS = Finding(
    "have several channels; wanted is one channel with the number of the class of each pixel; "
    f"{_ENDS}",
    f"convert maps in colours before: {NEW_CONFIG}",
)
COMPRESSED = Finding(
    "are in JPEG's compression, which changes labels along all edges",
    "write them anew from their source, as PNG",
)
NO_CLASS = Finding("have no pixel of any class; they teach nothing", "leave them out", False)


class ReadMap(NamedTuple):
    """What a label map holds.

    Attributes:
        file: where it is.
        size: height and width; None if it cannot be used.
        counts: int (256,), pixels of each label, before ``reduce_zero_label``.
        extremes: the smallest and the largest label in the file; mmseg keeps their lowest 8 bits.
        fault: why it cannot be used, and which it is, with its details.
    """

    file: str
    size: tuple[int, int] | None = None
    counts: np.ndarray = np.zeros(256, np.int64)
    extremes: tuple[int, int] = (0, 0)
    fault: tuple[Finding, str] | None = None


def read_label_maps(files: Sequence[str]) -> list[ReadMap]:
    """Read label maps, in threads, as ``LoadAnnotations`` of mmseg does: Pillow's own values."""
    return look_at_all(_read, files, "label maps")


def _read(file: str) -> ReadMap:
    if not osp.isfile(file):  # told by label_maps_are_there
        return ReadMap(file)
    try:
        with Image.open(file, formats=known_formats()) as opened:
            values, is_compressed = np.array(opened), opened.format in ("JPEG", "MPO")
    except Exception as error:  # what a decoder raises for damaged bytes is anyone's guess
        return ReadMap(file, fault=(UNREADABLE, f"{file} ({in_one_line(error)})"))
    if values.ndim != 2:
        return ReadMap(file, fault=(CHANNELS, f"{file} ({values.shape[2]})"))
    if is_compressed:
        return ReadMap(file, fault=(COMPRESSED, file))
    counts = np.bincount(values.astype(np.uint8).reshape(-1), minlength=256)
    return ReadMap(file, values.shape, counts, (int(values.min()), int(values.max())))


def check_label_maps(
    maps: Sequence[ReadMap],
    classes: Sequence[str],
    reduce_zero_label: bool,
    ignored: int = IGNORED_LABEL,
    are_all: bool = True,
) -> Iterator[Finding]:
    """Say what is wrong with label maps, one finding a kind.

    Args:
        maps: what :func:`read_label_maps` has read, one or more.
        classes: names of the labels in the maps.
        reduce_zero_label: of the data set: mmseg makes label 0 ignored, and 0 of label 1.
        ignored: the label of pixels that are left out; 255 is left out too.
        are_all: whether these are all of a data set; what some lack others may have.
    """
    faults = [each.fault for each in maps if each.fault]
    whole = sum(each.counts for each in maps)
    is_binary = set(np.flatnonzero(whole)) == {0, 255}
    if is_binary:
        yield Finding(
            f"the {len(maps)} label maps, such as {maps[0].file}, hold 0 and 255 only; 255 is left "
            f"out in training, and 0 is {'too' if reduce_zero_label else repr(classes[0])}: "
            "nothing else is learned",
            f"255 has to become 1: {NEW_CONFIG}",
            is_wrong=are_all,
        )
    else:
        labels = np.arange(256) - reduce_zero_label  # as loaded; -1 for what is left out
        labels[255] = -1
        labels[labels == ignored] = -1
        faults += _faults_of_labels(maps, labels, len(classes), are_all)
    yield from findings_by_kind(faults, len(maps), "label maps")
    if whole.any() and not is_binary:
        count = len(maps) if are_all else 0
        yield from _findings_of_classes(whole, classes, reduce_zero_label, count)


def _faults_of_labels(
    maps: Sequence[ReadMap], labels: np.ndarray, class_count: int, are_all: bool
) -> Iterator[tuple[Finding, str]]:
    """Find maps with labels that are no class, or without a class.

    ``labels``, (256,), is what the values of a map are loaded as.
    """
    is_class = (labels >= 0) & (labels < class_count)
    values, last = np.flatnonzero(is_class), max(each.extremes[1] for each in maps)
    beyond = Finding(
        f"have labels that are no class; with {class_count} classes in metainfo.classes they go "
        f"from {values[0]} to {values[-1]}, or are left out; {_ENDS}",
        "reduce_zero_label=True in all data sets, if 1 is the first class and 0 is left out"
        if not values[0] and last == values[-1] + 1
        else f"name all classes in metainfo.classes, or convert the maps: {NEW_CONFIG}",
    )
    is_empty = are_all and not any(each.counts[is_class].any() for each in maps)
    for each in maps:
        present = np.flatnonzero(each.counts)
        found = present[labels[present] >= class_count].tolist()
        found += [value for value in each.extremes if not 0 <= value <= 255]
        if found:
            yield beyond, f"{each.file} ({listed(found, 5)})"
        elif len(present) and not each.counts[is_class].any():
            yield replace(NO_CLASS, is_wrong=is_empty), each.file


def _findings_of_classes(
    whole: np.ndarray, classes: Sequence[str], reduce_zero_label: bool, map_count: int
) -> Iterator[Finding]:
    """Compare pixels of all maps by value, int (256,), with the classes.

    What says that label 0 is a class: it has many pixels, or the labels end where they do if it is.
    """
    share, last = whole[0] / whole.sum(), len(classes) - 1
    is_first_class = whole[: last + 1].all() and not whole[last + 1 : 255].any()
    if reduce_zero_label and (share >= LARGE_SHARE or is_first_class):
        names = f", and the labels end at {last}, the last of {last + 1} classes counted from 0"
        yield Finding(
            f"label 0 has {share:.0%} of the pixels{names if is_first_class else ''}; "
            "reduce_zero_label=True leaves it out, and makes label 1 the first class",
            f"reduce_zero_label=False in all data sets, if label 0 is {classes[0]!r}",
            is_wrong=False,
        )
    counts = whole[int(reduce_zero_label) :][: len(classes)]
    absent = [name for name, count in zip(classes, counts, strict=False) if not count]
    if absent and map_count >= len(classes):  # few maps cannot show all
        yield Finding(
            f"no pixel of {listed(absent, 5)} is in the {map_count} label maps ({len(absent)} of "
            f"{len(classes)} classes); what is not there is not learned",
            "see metainfo.classes, whose order is that of the labels",
            is_wrong=False,
        )
