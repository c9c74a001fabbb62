"""A folder of masks beside a folder of images: which belong together, and what values they hold."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from tqdm import tqdm

from xcit_dense.errors import UserError, in_one_line
from xcit_dense.predict.inputs import IMAGE_SUFFIXES

MOST_VALUES = 256  # of a mask: label maps of mmseg have a byte a pixel
_SAMPLED = 20  # images whose neighbours in name tell the suffixes
_NAMED = 3  # of things of which there may be many
_JPEG = ("JPEG", "MPO")
_FORMATS = ("PNG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000", "AVIF", *_JPEG)
_INTEGERS = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")


@dataclass(frozen=True)
class MaskValues:
    """What a mask holds.

    Attributes:
        values: int (n,), increasing: the numbers of its pixels, or 0xRRGGBB of their colours.
        pixels: int (n,), how many have each.
        runs: int (n,), in how many horizontal runs these lie.
        has_colours: whether values are colours.
        has_one_channel: whether a reader finds the values in the file as they are here.
        palette: uint8 (m, 3), the colours of values, of a file that has some.
        image_size: width and height of its image, in pixels.
    """

    values: np.ndarray
    pixels: np.ndarray
    runs: np.ndarray
    has_colours: bool
    has_one_channel: bool
    palette: np.ndarray | None
    image_size: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class MaskFolder:
    """Images and their masks.

    Attributes:
        images: folder of the images, absolute.
        masks: that of the masks.
        pairs: paths of each image and of its mask, relative to these, with ``/``.
        suffixes: of images and of masks, one pair for every kind of image in the folder; without
            them the two paths of a pair are equal.
        contents: of each mask.
        without_mask: images that have none.
        without_image: masks that have none.
    """

    images: Path
    masks: Path
    pairs: list[tuple[str, str]]
    suffixes: list[tuple[str, str]]
    without_mask: list[str]
    without_image: list[str]
    contents: list[MaskValues] = field(default_factory=list)


def read_mask_folder(
    images: Path, masks: Path, img_suffix: str | None = None, seg_map_suffix: str | None = None
) -> MaskFolder:
    """Find the mask of each image and read all masks, in threads and showing the progress.

    Args:
        images: searched to its depths.
        masks: the same; may be the same folder.
        img_suffix: how names of images end, ``_leftImg8bit.png``; None to find that.
        seg_map_suffix: how names of masks end, ``_mask.png``; None to find that.

    Raises:
        UserError: a folder has no images, none has a mask, several masks could be that of an image;
            or masks or images cannot be used (unreadable, JPEG, photographs, another size than the
            image): the first three are named.
    """
    folder = pair_files(images, masks, img_suffix, seg_map_suffix)
    faults: list[str] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        files = ((folder.images / image, folder.masks / mask) for image, mask in folder.pairs)
        contents = pool.map(_read_pair, files)
        for content in tqdm(contents, "masks", len(folder.pairs), unit="mask", disable=None):
            if isinstance(content, UserError):
                faults.append(str(content))
                if len(faults) == _NAMED:
                    pool.shutdown(wait=False, cancel_futures=True)
                    break
            else:
                folder.contents.append(content)
    if faults:
        raise UserError(f"masks or images that cannot be used: {'; '.join(faults)}")
    return folder


def pair_files(
    images: Path, masks: Path, img_suffix: str | None = None, seg_map_suffix: str | None = None
) -> MaskFolder:
    """Find the mask of each image, by names; nothing is read. Arguments and errors are as above."""
    images, masks = (Path(os.path.abspath(path)) for path in (images, masks))
    image_names = _files_in(images, img_suffix)
    mask_names = _files_in(masks, seg_map_suffix)
    if images == masks:  # a JPEG is no mask
        mask_names = [n for n in mask_names if not n.lower().endswith((".jpg", ".jpeg"))]
    below = defaultdict(list)
    for name in mask_names:
        below[os.path.dirname(name)].append(name)
    mask_of: dict[str, str] = {}
    suffixes = []
    for ending in dict.fromkeys(map(_ending, image_names)):
        group = [name for name in image_names if _ending(name) == ending]
        pair, found = _best_suffixes(group, below, img_suffix, seg_map_suffix, images == masks)
        if found:
            suffixes.append(pair)
            mask_of |= found
    if not mask_of:
        raise UserError(
            f"no image has a mask by its name: {images} has {_first(image_names)}; {masks} has "
            f"{_first(mask_names)}. Names must begin alike and lie in folders that are called "
            "alike: rename them, or tell how they end by --img-suffix and --seg-map-suffix"
        )
    used = set(mask_of.values())
    if images == masks:  # what is a mask is no image without one, and the other way round
        mask_of = {image: mask for image, mask in mask_of.items() if image not in used}
        suffixes = [(a, b) for a, b in suffixes if any(i.endswith(a) for i in mask_of)]
        image_names = [name for name in image_names if name not in used]
        mask_names = [name for name in mask_names if name in used]
    return MaskFolder(
        images,
        masks,
        sorted(mask_of.items()),
        suffixes,
        [name for name in image_names if name not in mask_of],
        [name for name in mask_names if name not in used],
    )


def _files_in(folder: Path, suffix: str | None) -> list[str]:
    found = [
        PurePosixPath(os.path.relpath(path, folder), name).as_posix()
        for path, _, names in os.walk(folder, followlinks=True)
        for name in names
        if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
        if name.endswith(suffix or "")
    ]
    if not found:
        ending = f" whose name ends in {suffix}" if suffix else ""
        raise UserError(f"{folder}: there is no image{ending} in it or below it")
    return sorted(found)


def _ending(name: str) -> str:
    return os.path.splitext(name)[1]


def _best_suffixes(
    images: list[str],
    masks_below: dict[str, list[str]],
    img_suffix: str | None,
    seg_map_suffix: str | None,
    is_one_folder: bool,
) -> tuple[tuple[str, str], dict[str, str]]:
    """The suffixes by which most of the images have a mask, and those masks."""
    votes: Counter[tuple[str, str]] = Counter()
    step = max(1, len(images) // _SAMPLED)
    for image in images[::step]:
        if img_suffix and seg_map_suffix:
            votes[img_suffix, seg_map_suffix] += 1
            continue
        others = masks_below[os.path.dirname(image)]
        if is_one_folder:
            others = [name for name in others if name != image]
        shared = [_shared_length(image, mask, img_suffix, seg_map_suffix) for mask in others]
        longest = max(shared, default=0)
        if longest > len(os.path.dirname(image)) + bool(os.path.dirname(image)):
            pairs = zip(others, shared, strict=True)
            endings = [(image[n:], mask[n:]) for mask, n in pairs if n == longest]
            votes.update(e for e in endings if not (e[0][:1].isdigit() or e[1][:1].isdigit()))
    all_masks = {name for names in masks_below.values() for name in names}
    tried = {}
    for pair, _ in votes.most_common(8):
        found = {i: i.removesuffix(pair[0]) + pair[1] for i in images if i.endswith(pair[0])}
        tried[pair] = {
            image: mask
            for image, mask in found.items()
            if mask in all_masks and not (is_one_folder and mask == image)
        }
    most = max(map(len, tried.values()), default=0)
    best = [pair for pair, found in tried.items() if len(found) == most and most]
    if len({mask_suffix for _, mask_suffix in best}) > 1 and is_one_folder:
        best = [min(best, key=lambda pair: len(pair[0]))]  # a_mask.png is the mask of a.png
    if len({mask_suffix for _, mask_suffix in best}) > 1:
        choice = ", ".join(mask_suffix for _, mask_suffix in best)
        raise UserError(
            f"{images[0]} and others have several masks, whose names end in {choice}: tell which "
            "by --seg-map-suffix"
        )
    return (best[0], tried[best[0]]) if best else (("", ""), {})


def _shared_length(image: str, mask: str, img_suffix: str | None, mask_suffix: str | None) -> int:
    """Length of what the names of an image and of a mask begin with, without their suffixes."""
    image, mask = (
        name.removesuffix(suffix) if suffix else os.path.splitext(name)[0]
        for name, suffix in ((image, img_suffix), (mask, mask_suffix))
    )
    pairs = zip(image, mask, strict=False)
    shared = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(image), len(mask)))
    is_whole = shared == len(image) or not img_suffix
    return shared if is_whole and (shared == len(mask) or not mask_suffix) else 0


def _first(names: Iterable[str]) -> str:
    return ", ".join(islice(names, _NAMED))


def _read_pair(files: tuple[Path, Path]) -> MaskValues | UserError:
    """What a mask holds, or what is wrong with it or its image."""
    image, mask = files
    try:
        codes, palette, has_colours, has_one_channel = read_mask(mask)
        width, height = _size_as_shown(image)
        if codes.shape != (height, width):
            raise UserError(
                f"{mask} has {codes.shape[1]} x {codes.shape[0]} pixels, its image {width} x "
                f"{height}, as it is shown"
            )
        values, pixels, runs = _count(codes)
        if len(values) > MOST_VALUES:
            raise UserError(
                f"{mask} has {len(values)} different {'colours' if has_colours else 'values'}: it "
                "is a photograph, was JPEG once, or was resized with smooth edges; wanted is one "
                "value or colour a class: export the masks anew, as PNG"
            )
    except UserError as error:
        return UserError(str(error))  # without the traceback, which holds pixels
    size = (width, height)
    return MaskValues(values, pixels, runs, has_colours, has_one_channel, palette, size)


def read_mask(path: Path) -> tuple[np.ndarray, np.ndarray | None, bool, bool]:
    """Read the values of a mask, whatever a file keeps them in.

    Returns:
        Integers (H, W), numbers, or 0xRRGGBB where there are colours that are no greys; then
        palette, ``has_colours`` and ``has_one_channel`` as in :class:`MaskValues`. Alpha is left
        out.

    Raises:
        UserError: it cannot be read, is a JPEG, or has fractions.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.format in _JPEG:
                raise UserError(
                    f"{path} is a JPEG, which changes values and colours at edges: export the "
                    "masks anew, as PNG"
                )
            pixels = np.array(image)
            mode, palette = image.mode, image.getpalette("RGB") if image.mode == "P" else None
    except UserError:
        raise
    except Exception as error:  # what a decoder raises for damaged bytes is anyone's guess
        raise UserError(f"{path}: cannot be read ({in_one_line(error)})") from error
    if mode in _INTEGERS:
        colours = None if palette is None else np.array(palette, np.uint8).reshape(-1, 3)
        return pixels, colours, False, True
    if mode == "LA":
        return pixels[..., 0], None, False, False
    if mode not in ("RGB", "RGBA", "RGBX"):
        raise UserError(
            f"{path} has pixels of the kind {mode}: wanted are whole numbers or RGB, as PNG"
        )
    red, green, blue = (pixels[..., channel] for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return red, None, False, False
    return pixels[..., :3].astype(np.int32) @ (1 << 16, 1 << 8, 1), None, True, False


def _size_as_shown(path: Path) -> tuple[int, int]:
    """Width and height of an image as OpenCV turns it, by its EXIF; only the head is read."""
    try:
        with Image.open(path) as image:
            is_turned = image.format in _JPEG and image.getexif().get(0x112, 1) >= 5
            return image.size[::-1] if is_turned else image.size
    except Exception as error:
        raise UserError(f"{path}: cannot be read ({in_one_line(error)})") from error


def _count(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, and of each the pixels and the runs; fast where runs are long."""
    flat = codes.ravel()
    starts = np.append(0, np.flatnonzero(flat[1:] != flat[:-1]) + 1)
    lengths = np.diff(starts, append=flat.size)
    found = flat[starts].astype(np.int32)
    values, inverse, runs = np.unique(found, return_inverse=True, return_counts=True)
    return values, np.bincount(inverse, lengths).astype(np.int64), runs
