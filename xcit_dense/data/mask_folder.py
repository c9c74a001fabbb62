"""A folder of masks beside a folder of images: which belong together, and what values they hold."""

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from xcit_dense.data.image_checks import look_at_all
from xcit_dense.data.image_files import size_as_shown
from xcit_dense.errors import UserError, counted, in_one_line, listed
from xcit_dense.predict.inputs import IMAGE_SUFFIXES, known_formats

_MOST_VALUES = 256  # of a mask: label maps of mmseg have a byte a pixel
_SAMPLED = 20  # images whose neighbours in name tell how masks end


class MaskValues(NamedTuple):
    """What a mask holds.

    Attributes:
        kind: ``numbers`` in one channel, equal ``greys`` in several, or ``colours``.
        values: int (n,), increasing: the numbers of its pixels, or 0xRRGGBB of their colours.
        pixels: int (n,), how many have each.
        colours: int (n,), 0xRRGGBB of each as a viewer shows it: of a palette, or a grey.
        image_size: width and height of its image, in pixels.
    """

    kind: str
    values: np.ndarray
    pixels: np.ndarray
    colours: np.ndarray
    image_size: tuple[int, int]


@dataclass(frozen=True)
class MaskFolder:
    """Images and their masks.

    Attributes:
        images: folder of the images, absolute.
        masks: that of the masks.
        pairs: paths of each image and of its mask, relative to these, with ``/``.
        suffixes: of images and of masks: without them the two paths of a pair are equal.
        contents: of each mask.
        notes: what a user should know of it, a line each.
    """

    images: Path
    masks: Path
    pairs: list[tuple[str, str]]
    suffixes: set[tuple[str, str]]
    contents: list[MaskValues]
    notes: list[str]

    def part(self, numbers: list[int]) -> "MaskFolder":
        """Some of the images, by their numbers."""
        pairs, contents = ([each[i] for i in numbers] for each in (self.pairs, self.contents))
        return replace(self, pairs=pairs, contents=contents)


def read_mask_folder(
    images: Path, masks: Path, img_suffix: str | None = None, seg_map_suffix: str | None = None
) -> MaskFolder:
    """Find the mask of each image and read all masks, in threads and showing the progress.

    Args:
        images: searched to its depths.
        masks: the same; may be the same folder, with both suffixes.
        img_suffix: how names of images end, ``_leftImg8bit.png``; None: as ``.png`` does.
        seg_map_suffix: how names of masks end, ``_mask.png``; None: what most of them have behind
            the names of images.

    Raises:
        UserError: a folder has no images, none has a mask, several masks could be that of an image;
            or masks or images cannot be used (unreadable, JPEG, photographs, another size than the
            image): the first three are named.
    """
    images, masks = (Path(os.path.abspath(path)) for path in (images, masks))
    if images == masks and not (img_suffix and seg_map_suffix):
        raise UserError(f"{images} has images and masks: give --img-suffix and --seg-map-suffix")
    image_names, mask_names = _files_in(images, img_suffix), _files_in(masks, seg_map_suffix)
    stems = {n: n.removesuffix(img_suffix or os.path.splitext(n)[1]) for n in image_names}
    suffix = seg_map_suffix or _suffix_behind(list(stems.values()), mask_names)
    known = set(mask_names)
    pairs = [(name, stem + suffix) for name, stem in stems.items() if stem + suffix in known]
    if not pairs:
        raise UserError(
            f"no image has a mask by its name: {images} has {listed(image_names)}; {masks} has "
            f"{listed(mask_names)}. The name of a mask must begin with that of its image, and lie "
            "in a folder that is called alike: rename them, or tell how they end by --img-suffix "
            "and --seg-map-suffix"
        )
    files = [(images / image, masks / mask) for image, mask in pairs]
    contents = look_at_all(_read_pair, files, "masks")
    if faults := [content for content in contents if isinstance(content, str)]:
        raise UserError(f"masks or images that cannot be used: {listed(faults)}")
    notes = [f"{masks}: {counted(len(pairs), 'mask')}; images in {images}"]
    with_mask, with_image = zip(*pairs, strict=True)
    for what, lacks, alone in (
        ("image", "a mask", sorted(set(image_names) - set(with_mask))),
        ("mask", "an image", sorted(known - set(with_image))),
    ):
        if alone:
            shown = f"{counted(len(alone), what)} without {lacks}, left out: {listed(alone)}"
            notes.append(f"mind: {shown}: see their names, and --img-suffix")
    suffixes = {(name.removeprefix(stems[name]), suffix) for name in with_mask}
    return MaskFolder(images, masks, pairs, suffixes, contents, notes)


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


def _suffix_behind(stems: list[str], masks: list[str]) -> str:
    """What most of the masks have behind the stem of an image."""
    sample = stems[:: max(1, len(stems) // _SAMPLED)]
    behind = Counter(
        mask.removeprefix(stem) for stem in sample for mask in masks if mask.startswith(stem)
    )
    most = [suffix for suffix, count in behind.items() if count == max(behind.values())]
    if len(most) > 1:
        raise UserError(
            f"{stems[0]} and others have several masks, whose names end in {', '.join(most)}: tell "
            "which by --seg-map-suffix"
        )
    return most[0] if most else ""


def _read_pair(files: tuple[Path, Path]) -> MaskValues | str:
    """What a mask holds, or what is wrong with it or its image."""
    image, mask = files
    try:
        kind, codes, palette = read_mask(mask)
        width, height = size_as_shown(image)
    except UserError as error:
        return str(error)
    if codes.shape != (height, width):
        shape = f"{codes.shape[1]} x {codes.shape[0]}"
        return f"{mask} has {shape} pixels, its image {width} x {height}, as it is shown"
    values, pixels = np.unique(codes, return_counts=True)
    values = values.astype(np.int64)
    if len(values) > _MOST_VALUES:
        return (
            f"{mask} has {len(values)} different {'colours' if kind == 'colours' else 'values'}: "
            "it is a photograph, was JPEG once, or was resized with smooth edges; wanted is one "
            "value or colour a class: export the masks anew, as PNG"
        )
    colours = values if kind == "colours" else values * 0x010101
    if palette is not None:
        colours = np.pad(palette, (0, 256 - len(palette)))[values]
    return MaskValues(kind, values, pixels, colours, (width, height))


def read_mask(path: Path) -> tuple[str, np.ndarray, np.ndarray | None]:
    """Read the values of a mask, whatever a file keeps them in.

    Returns:
        The kind, as in :class:`MaskValues`; integers (H, W), numbers or 0xRRGGBB; the colours
        0xRRGGBB of its palette, if it has one. Alpha is left out.

    Raises:
        UserError: it cannot be read, is a JPEG, or has fractions.
    """
    try:
        with Image.open(path, formats=known_formats()) as image:
            kind, mode, pixels = image.format, image.mode, np.array(image)
            palette = image.getpalette("RGB") if mode == "P" else None
    except Exception as error:  # what a decoder raises for damaged bytes is anyone's guess
        raise UserError(f"{path}: cannot be read ({in_one_line(error)})") from error
    if kind in ("JPEG", "MPO"):
        what = "is a JPEG, which changes values and colours at edges"
        raise UserError(f"{path} {what}: export the masks anew, as PNG")
    if pixels.ndim == 2 and pixels.dtype.kind in "biu":
        return "numbers", pixels, None if palette is None else _packed(np.reshape(palette, (-1, 3)))
    if mode not in ("RGB", "RGBA"):
        what = f"has pixels of the kind {mode}: wanted are whole numbers or RGB, as PNG"
        raise UserError(f"{path} {what}")
    if (pixels[..., :3] == pixels[..., :1]).all():
        return "greys", pixels[..., 0], None
    return "colours", _packed(pixels[..., :3]), None


def _packed(colours: np.ndarray) -> np.ndarray:
    return colours.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
