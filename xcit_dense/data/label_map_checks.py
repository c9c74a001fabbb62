"""What may be wrong with the label maps of a segmentation, read as mmseg reads them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmcv.transforms import LoadImageFromFile
from PIL import ExifTags, Image, UnidentifiedImageError

from xcit_dense.data.kinds import Kind, findings_by_kind, look_at_all
from xcit_dense.errors import Finding, in_one_line
from xcit_dense.mm.data import IGNORED_LABEL
from xcit_dense.predict.inputs import known_formats

LARGE_SHARE = 0.25  # of the pixels
NEW_CONFIG = "xcit-dense new-config --masks, which makes maps of class numbers of them"
_ENDS = "training ends where it meets one"

NO_MAP = Kind("have no label map", _ENDS, "see data_prefix.seg_map_path and seg_map_suffix")
NO_IMAGE = Kind("have no image", "they are not trained on", "see data_prefix.img_path, img_suffix")
UNREADABLE = Kind("have a label map that cannot be read", _ENDS, "write it anew, as PNG")
CHANNELS = Kind(
    "have a label map of several channels; wanted is one channel with the number of the class of "
    "each pixel",
    _ENDS,
    f"convert maps in colours before: {NEW_CONFIG}",
)
OTHER_SIZE = Kind(
    "have a label map of another size than the image",
    _ENDS,
    "write the maps at the size of the image, without interpolation (PIL.Image.NEAREST)",
)
TURNED = Kind(
    "are turned by the loader, as their EXIF data say, and their label map is not",
    _ENDS,
    'color_type="color_ignore_orientation" for LoadImageFromFile in the pipelines of train, val '
    "and test",
)
COMPRESSED = Kind(
    "have a label map in JPEG's compression",
    "it changes labels along all edges",
    "write the maps anew from their source, as PNG",
)
ONE_PIXEL = Kind(
    "have a label map that is one pixel wide or high",
    "mmseg drops that side, and training ends where it meets one",
    "leave them out",
)
ALL_IGNORED = Kind(
    "have a label map without a pixel of any class",
    "they teach nothing",
    "leave them out",
    is_wrong=False,
)

OF_IMAGES = (NO_MAP, TURNED)  # named by their image


class ReadMap(NamedTuple):
    """What a label map holds.

    Attributes:
        counts: int (256,), pixels of each label, before ``reduce_zero_label``; all 0 if the map is
            of no use.
        extremes: the smallest and the largest label in the file; mmseg keeps their lowest 8 bits.
        faults: kinds, each with what is to be said of this map.
    """

    counts: np.ndarray
    extremes: tuple[int, int]
    faults: list[tuple[Kind, str]]


def read_label_maps(
    pairs: Sequence[tuple[Path, Path]], loader: LoadImageFromFile | None = None
) -> list[ReadMap]:
    """Read all label maps, in threads.

    Args:
        pairs: images, of which only the sizes are read, and their maps.
        loader: of the images; None for mm's default, which does the rotations that EXIF names.
    """
    turns = loader is None or loader.color_type in ("color", "grayscale")
    return look_at_all(lambda pair: _read(*pair, turns), pairs, "label maps")


def check_label_maps(
    pairs: Sequence[tuple[Path, Path]],
    classes: Sequence[str],
    reduce_zero_label: bool,
    ignored: int = IGNORED_LABEL,
    maps: Sequence[ReadMap] | None = None,
) -> Iterator[Finding]:
    """Say what is wrong with label maps, one finding a kind.

    Args:
        pairs: images and their maps; one of the two may be missing.
        classes: names of the labels in the maps.
        reduce_zero_label: of the data set: mmseg makes label 0 ignored, and 0 of label 1.
        ignored: the label of pixels that are left out; 255 is left out too.
        maps: what :func:`read_label_maps` has read of these pairs; None to read them now.
    """
    maps = read_label_maps(pairs) if maps is None else maps
    faults = [(pair, kind, detail) for pair, each in zip(pairs, maps, strict=True)
              for kind, detail in each.faults]  # fmt: skip
    whole = sum((each.counts for each in maps), np.zeros(256, np.int64))
    is_binary = set(np.flatnonzero(whole)) == {0, 255}
    if is_binary:
        yield Finding(
            f"the {len(pairs)} label maps, such as {pairs[0][1]}, hold 0 and 255 only; 255 is left "
            f"out in training, and 0 is {'too' if reduce_zero_label else repr(classes[0])}: "
            "nothing else is learned",
            f"255 has to become 1: {NEW_CONFIG}",
        )
    else:
        labels = np.arange(256) - reduce_zero_label  # as loaded; -1 for what is left out
        labels[255] = -1
        labels[labels == ignored] = -1
        faults += _faults_of_labels(pairs, maps, labels, classes)
    places = (
        (kind, f"{image if kind in OF_IMAGES else label_map} {detail}".rstrip())
        for (image, label_map), kind, detail in faults
    )
    yield from findings_by_kind(places, len(pairs), "pairs of image and label map")
    if not is_binary:
        yield from _findings_of_classes(whole, classes, reduce_zero_label, len(pairs))


def _faults_of_labels(
    pairs: Sequence[tuple[Path, Path]],
    maps: Sequence[ReadMap],
    labels: np.ndarray,
    classes: Sequence[str],
) -> Iterator[tuple[tuple[Path, Path], Kind, str]]:
    """Find maps with labels that are no class, or without a class.

    ``labels``, (256,), is what the values of a map are loaded as.
    """
    is_class = (labels >= 0) & (labels < len(classes))
    whole = sum(each.counts for each in maps)
    values = np.flatnonzero(is_class)
    beyond = Kind(
        f"have a label map with labels that are no class; with {len(classes)} classes in "
        f"metainfo.classes they go from {values[0]} to {values[-1]}, or are left out",
        _ENDS,
        "reduce_zero_label=True in all data sets, if 1 is the first class and 0 is left out"
        if not values[0] and np.flatnonzero(whole)[-1:] == values[-1] + 1
        else f"name all classes in metainfo.classes, or convert the maps: {NEW_CONFIG}",
    )
    empty = replace(ALL_IGNORED, is_wrong=not whole[is_class].any())
    for pair, each in zip(pairs, maps, strict=True):
        present = np.flatnonzero(each.counts)
        found = present[labels[present] >= len(classes)].tolist()
        found += [value for value in each.extremes if not 0 <= value <= 255]
        if found:
            yield pair, beyond, f"({_shortly(found)})"
        elif len(present) and not each.counts[is_class].any():
            yield pair, empty, ""


def _findings_of_classes(
    whole: np.ndarray, classes: Sequence[str], reduce_zero_label: bool, map_count: int
) -> Iterator[Finding]:
    """Compare pixels of all maps by value, int (256,), with the classes.

    What says that label 0 is a class: it has many pixels, or the labels end where they do if it is.
    """
    if not whole.any():
        return
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
            f"no pixel of {_shortly(absent)} is in the {map_count} label maps ({len(absent)} of "
            f"{len(classes)} classes); what is not there is not learned",
            "see metainfo.classes, whose order is that of the labels",
            is_wrong=False,
        )


def _shortly(values: Sequence[object]) -> str:
    return ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")


def _read(image: Path, label_map: Path, turns: bool) -> ReadMap:
    """Read the label map of an image as ``LoadAnnotations`` of mmseg does: Pillow's own values."""
    faults = [] if image.is_file() else [(NO_IMAGE, "")]
    nothing = ReadMap(np.zeros(256, np.int64), (0, 0), faults)
    if not label_map.is_file():
        faults.append((NO_MAP, ""))
        return nothing
    try:
        with Image.open(label_map, formats=known_formats()) as opened:
            values = np.array(opened)
            if opened.format in ("JPEG", "MPO"):
                faults.append((COMPRESSED, ""))
    except UnidentifiedImageError:
        faults.append((UNREADABLE, ""))
        return nothing
    except Exception as error:  # what a decoder raises for damaged bytes is anyone's guess
        faults.append((UNREADABLE, f"({in_one_line(error)})"))
        return nothing
    if values.ndim != 2:
        faults.append((CHANNELS, f"({values.shape[2]})"))
    elif 1 in values.shape:
        faults.append((ONE_PIXEL, f"({values.shape[0]} x {values.shape[1]})"))
    elif image.is_file():
        faults += _faults_of_size(image, values.shape, turns)
    if values.ndim != 2 or (COMPRESSED, "") in faults:
        return nothing
    counts = np.bincount(values.astype(np.uint8).reshape(-1), minlength=256)
    return ReadMap(counts, (int(values.min()), int(values.max())), faults)


def _faults_of_size(
    image: Path, of_map: tuple[int, int], turns: bool
) -> Iterator[tuple[Kind, str]]:
    try:
        with Image.open(image, formats=known_formats()) as opened:
            size = opened.size[::-1]
            is_turned = turns and opened.getexif().get(ExifTags.Base.Orientation, 1) > 4
    except Exception:  # check_images tells what is wrong with images
        return
    loaded = size[::-1] if is_turned and opened.format != "TIFF" else size
    if of_map != loaded:
        detail = f"({of_map[0]} x {of_map[1]} pixels, its image {loaded[0]} x {loaded[1]})"
        yield TURNED if of_map == loaded[::-1] and is_turned else OTHER_SIZE, detail
