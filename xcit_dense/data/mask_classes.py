"""From the values that masks hold to classes, and to label maps that mmsegmentation reads."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from xcit_dense.data.mask_folder import MaskFolder, MaskValues, read_mask
from xcit_dense.errors import UserError, counted, listed
from xcit_dense.mm.data import IGNORED_LABEL

_BINARY = [0, 255]
_SHOWN = 12  # of values
_COLOURED_NAME = re.compile(r"(.+?)[\s:]+(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3}):*")

Names = dict[str, int | None]
"""Colours, 0xRRGGBB, by the names of classes, where a file of names has them."""


@dataclass(frozen=True)
class Classes:
    """What the values of masks mean.

    Attributes:
        names: of the labels 0, 1, ...
        labels: label of each value; 255 for what is left out.
        are_colours: whether values are colours, 0xRRGGBB, also those of palettes and greys.
    """

    names: list[str]
    labels: dict[int, int]
    are_colours: bool

    def labels_of(self, content: MaskValues) -> np.ndarray:
        """The label, uint8 (n,), of each of the values of a mask."""
        values = content.colours if self.are_colours else content.values
        return np.array([self.labels[value] for value in values.tolist()], np.uint8)

    def fit(self, content: MaskValues) -> bool:
        """Whether mmseg reads the right labels from the mask as it is."""
        is_read = content.kind == "numbers"
        return is_read and np.array_equal(self.labels_of(content), content.values)

    def shown(self) -> dict[int, str]:
        """The value of each label in the masks, in words."""
        return {label: _shown(value, self.are_colours) for value, label in self.labels.items()}


def read_names(path: Path) -> Names:
    """Read names of classes, one a line, with a colour behind where masks hold colours.

    As in ``road 128 64 128``, or CVAT's ``road:128,64,128::``. Empty lines and those that begin
    with ``#`` are passed over.

    Raises:
        UserError: the file is no text, names nothing, or a class twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"--names {path}: cannot be read as text ({error})") from error
    names: Names = {}
    for line in map(str.strip, lines):
        if not line or line.startswith("#"):
            continue
        match = _COLOURED_NAME.fullmatch(line)
        name = match[1] if match else line
        if name in names:
            raise UserError(f"--names {path}: {name} is there twice")
        names[name] = _packed(match.groups()[1:]) if match else None
    if not names:
        raise UserError(f"--names {path}: is empty; wanted is the name of a class a line")
    return names


def find_classes(
    folders: Sequence[MaskFolder], names: Names | None = None, ignored: str | None = None
) -> Classes:
    """Decide what the values of masks mean.

    Numbers are classes in their order, and 255 is left out unless there are only 0 and 255, or as
    many names as values. Colours, and numbers with different palettes, are classes by the colours
    that the names have, else in the order of red, green, blue.

    Of two folders one may hold numbers with palettes, and the other the same numbers without: their
    colours differ, and numbers count.

    Without names 0 and 255 are ``background`` and ``foreground``, other numbers ``class_0`` and so
    on, and colours are counted. ``ignored``, a number or ``R,G,B``, is left out too.

    Raises:
        UserError: names, the ignored value and the values do not agree; fewer than two classes, or
            more than 255.
    """
    contents = [content for folder in folders for content in folder.contents]
    pairs = _pairs(contents)
    has_colours = any(content.kind == "colours" for content in contents)
    are_colours = has_colours or not _have_one_colour(pairs)
    by_folder = [_pairs(folder.contents) for folder in folders]
    greys, others = (
        {pair for part in by_folder if is_grey == all(map(_is_grey, part)) for pair in part}
        for is_grey in (True, False)
    )
    if greys and others and not {colour for _, colour in greys} <= {colour for _, colour in others}:
        of_greys, of_others = ({value for value, _ in part} for part in (greys, others))
        are_nested = of_greys <= of_others or of_others <= of_greys
        if has_colours or not are_nested or not _have_one_colour(others):
            raise UserError(
                f"{folders[0].masks} and {folders[1].masks} have masks of different kinds, colours "
                "or palettes and grey values, which do not have the same classes: save both in one "
                "kind"
            )
        are_colours = False
    values = sorted({pair[are_colours] for pair in pairs})
    shown = {_shown(value, are_colours): value for value in values}
    left_out = shown.get((ignored or "").replace(",", " "))
    if ignored is not None and left_out is None:
        raise UserError(
            f"--ignore-label {ignored}: no pixel has it; there are {listed(list(shown), _SHOWN)}"
        )
    kept = [value for value in values if value != left_out]
    of_labels = (_of_colours if are_colours else _of_numbers)(kept, names, left_out)
    if not 2 <= len(of_labels) <= IGNORED_LABEL:
        raise UserError(
            f"{counted(len(of_labels), 'class')} of the values {listed(list(shown), _SHOWN)}; "
            f"wanted are 2 to {IGNORED_LABEL}: what is no object is a class too, the background"
        )
    labels = {value: label for label, value in enumerate(of_labels.values()) if value in kept}
    return Classes(list(of_labels), dict.fromkeys(values, IGNORED_LABEL) | labels, are_colours)


def _pairs(contents: Sequence[MaskValues]) -> set[tuple[int, int]]:
    """All values of masks, each with its colour."""
    both = [(content.values.tolist(), content.colours.tolist()) for content in contents]
    return {pair for values, colours in both for pair in zip(values, colours, strict=True)}


def _have_one_colour(pairs: set[tuple[int, int]]) -> bool:
    return len({value for value, _ in pairs}) == len(pairs)


def _is_grey(pair: tuple[int, int]) -> bool:
    value, colour = pair
    return colour == value * 0x010101


def _of_numbers(kept: list[int], names: Names | None, left_out: int | None) -> dict[str, int]:
    """The value of each class, where masks hold numbers."""
    without_255 = [value for value in kept if value != IGNORED_LABEL]
    if names is None:
        if kept == _BINARY:
            return {"background": 0, "foreground": 255}
        return {f"class_{value}": value for value in without_255}
    first = 1 if left_out == 0 else 0
    in_turn = range(first, first + len(names))
    if kept != _BINARY and set(without_255) <= set(in_turn):
        return dict(zip(names, in_turn, strict=True))
    for values in (kept, without_255):
        if len(values) == len(names):
            return dict(zip(names, values, strict=True))
    raise UserError(
        f"--names has {counted(len(names), 'name')}, and the masks hold "
        f"{counted(len(kept), 'value')}, {listed(kept, _SHOWN)}: wanted is one name a value, in "
        "their order, or names from 0 up to the largest"
    )


def _of_colours(kept: list[int], names: Names | None, left_out: int | None) -> dict[str, int]:
    """The value of each class, where masks hold colours."""
    if names is None:
        return {f"class_{i}": value for i, value in enumerate(kept)}
    without = [name for name, colour in names.items() if colour is None]
    unknown = [_shown(value, True) for value in kept if value not in names.values()]
    if without or unknown:
        what = f"colour for {listed(without)}" if without else f"line for {listed(unknown)}"
        raise UserError(
            f"--names: the masks hold colours, and there is no {what}; wanted is a line for each, "
            "such as 'road 128 64 128'"
        )
    return {name: colour for name, colour in names.items() if colour != left_out}


def _shown(value: int, is_colour: bool) -> str:
    return f"{value >> 16} {value >> 8 & 255} {value & 255}" if is_colour else str(value)


def _packed(colour: Sequence[str]) -> int:
    red, green, blue = map(int, colour)
    return red << 16 | green << 8 | blue


def write_label_map(mask: Path, content: MaskValues, classes: Classes, file: BinaryIO) -> None:
    """Write the label map of a mask as PNG."""
    _, values, _ = read_mask(mask)
    labels = classes.labels_of(content)[np.searchsorted(content.values, values)]
    Image.fromarray(labels).save(file, "PNG")
