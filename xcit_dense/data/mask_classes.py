"""From the values that masks hold to classes, and to label maps that mmsegmentation reads."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xcit_dense.data.mask_folder import MaskFolder, MaskValues
from xcit_dense.errors import Finding, UserError
from xcit_dense.mm.data import IGNORED_LABEL

_BINARY = [0, 255]
_MANY_THIN = 6  # values that lie in single pixels only
_THIN = 1.5  # pixels in a row: label maps of photographs have 2 and more, smooth edges 1.0 to 1.2
_COLOUR = re.compile(r"^(.*?)[\s:,;]*(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})[\s:,;]*(.*)$")

Colour = tuple[int, int, int]


class ClassName(NamedTuple):
    """A line of a file of names; the colour where the line has one."""

    name: str
    colour: Colour | None


@dataclass(frozen=True)
class Classes:
    """What the values of masks mean.

    Attributes:
        names: of the labels 0, 1, ...
        palette: red, green and blue of each, where files or names tell.
        labels: label of each value; 255 for what is left out.
        has_colours: whether values are colours, 0xRRGGBB, also those of palettes and greys.
        reduce_zero_label: whether mmseg reads the right labels with this setting.
        fit_in_place: whether it reads the right labels from the masks as they are.
        findings: what a user should know.
    """

    names: list[str]
    palette: list[Colour] | None
    labels: dict[int, int]
    has_colours: bool
    reduce_zero_label: bool
    fit_in_place: bool
    findings: list[Finding]


def read_names(path: Path) -> list[ClassName]:
    """Read names of classes, one a line; a line may have a colour, ``road 128 64 128``.

    The colour may stand before the name, with commas, or as in CVAT's ``road:128,64,128::``. Empty
    lines and those that begin with ``#`` are passed over.

    Raises:
        UserError: the file cannot be read, names nothing, or one thing twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--names {path}: cannot be read as text ({error})") from error
    found = [_read_name(line.strip()) for line in lines if line.strip() and line.strip()[0] != "#"]
    for key in ("name", "colour"):
        counts = Counter(getattr(line, key) for line in found if getattr(line, key) is not None)
        if twice := [value for value, count in counts.items() if count > 1]:
            raise UserError(f"--names {path}: the {key} {twice[0]} is there twice")
    if not found:
        raise UserError(f"--names {path}: is empty; wanted is the name of a class a line")
    return found


def _read_name(line: str) -> ClassName:
    match = _COLOUR.match(line)
    if match and bool(match[1]) != bool(match[5]) and max(map(int, match.group(2, 3, 4))) < 256:
        return ClassName(match[1] or match[5], tuple(map(int, match.group(2, 3, 4))))
    return ClassName(line, None)


def find_classes(
    folders: Sequence[MaskFolder],
    names: Sequence[ClassName] | None = None,
    ignored: str | int | None = None,
) -> Classes:
    """Decide what the values of masks mean.

    Numbers are classes in their order, and 255 is left out unless there are only 0 and 255, or as
    many names as values. Colours are classes by the colours that the names have, else in the order
    of red, green, blue.

    Args:
        folders: what was read of training, and of validation where that is a folder of its own.
        names: of the classes; None for ``class_0`` with the number in the masks, ``class_i`` of
            colours, and ``background`` and ``foreground`` of 0 and 255.
        ignored: a number, or ``R,G,B``, that is left out too. 0 moves the others down by one.

    Raises:
        UserError: masks have smooth edges; names, the ignored value and the values do not agree;
            fewer than two classes, or more than 255.
    """
    contents = [content for folder in folders for content in folder.contents]
    shared = _shared_colours(contents)
    has_colours = shared is None or any(content.has_colours for content in contents)
    pixels, runs = Counter(), Counter()
    for content in contents:
        values = as_colours(content.values, content) if has_colours else content.values
        for value, *counts in zip(values.tolist(), content.pixels, content.runs, strict=True):
            pixels[value] += int(counts[0])
            runs[value] += int(counts[1])
    findings = _thin_values(pixels, runs, has_colours)
    ignored_value = _read_ignored(ignored, pixels, has_colours)
    labelled = _labels_of_colours if has_colours else _labels_of_numbers
    lines, labels = labelled(sorted(pixels), names, ignored_value)
    classes = [line.name for line in lines]
    if not 2 <= len(classes) <= IGNORED_LABEL:
        found = listed(_shown(value, has_colours) for value in labels)
        raise UserError(
            f"{len(classes)} classes of the values {found}; wanted are 2 to {IGNORED_LABEL}: what "
            "is no object is a class too, the background"
        )
    reduces = ignored_value == 0 and not has_colours
    with_palette = [content.palette for content in contents if content.palette is not None]
    known = {**_colours_at(with_palette[:1]), **(shared or {})}
    as_read = {value: value for value in labels}
    if reduces:
        as_read = {value: IGNORED_LABEL if value in _BINARY else value - 1 for value in labels}
    fit = not has_colours and labels == as_read and all(c.has_one_channel for c in contents)
    return Classes(
        classes,
        _palette(lines, labels, known, int(reduces)),
        labels,
        has_colours,
        reduces and fit,
        fit,
        findings + _what_is_found(classes, labels, pixels, has_colours, ignored_value),
    )


def _palette(
    lines: Sequence[ClassName], labels: dict[int, int], known: dict[int, Colour], first: int
) -> list[Colour] | None:
    """Colours of the names, else those of the files; None where they tell no classes apart."""
    of_labels = {label: value for value, label in labels.items() if label != IGNORED_LABEL}
    values = [of_labels.get(label, label + first) for label in range(len(lines))]
    pairs = zip(lines, values, strict=True)
    colours = [line.colour or known.get(value) for line, value in pairs]
    are_greys = colours == [(value,) * 3 for value in values] != [(0,) * 3, (255,) * 3]
    is_useful = all(colours) and len(set(colours)) == len(colours) and not are_greys
    return colours if is_useful else None


def as_colours(values: np.ndarray, content: MaskValues) -> np.ndarray:
    """The colours, 0xRRGGBB, of what a mask holds: of its palette, else greys."""
    if content.has_colours:
        return values
    if content.palette is None:
        return values.astype(np.int32) * 0x010101
    table = np.zeros((max(values.max() + 1, len(content.palette)), 3), np.int32)
    table[: len(content.palette)] = content.palette
    return (table @ (1 << 16, 1 << 8, 1))[values]


def _shared_colours(contents: Iterable[MaskValues]) -> dict[int, Colour] | None:
    """Colours of the numbers in files with palettes; None where files have different ones."""
    shared: dict[int, Colour] = {}
    for content in contents:
        if content.palette is None:
            continue
        for value in content.values.tolist():
            colour = _colours_at([content.palette]).get(value, (0, 0, 0))
            if shared.setdefault(value, colour) != colour:
                return None
    return shared


def _colours_at(palettes: Sequence[np.ndarray]) -> dict[int, Colour]:
    return {i: tuple(colour) for palette in palettes for i, colour in enumerate(palette.tolist())}


def _thin_values(pixels: Counter, runs: Counter, has_colours: bool) -> list[Finding]:
    """Values that lie in single pixels only, as compression and smooth edges leave them."""
    thin = [value for value in sorted(pixels) if pixels[value] < _THIN * runs[value]]
    shown = listed([_shown(value, has_colours) for value in thin])
    if len(thin) >= _MANY_THIN and 2 * len(thin) >= len(pixels):
        raise UserError(
            f"of {len(pixels)} different values in the masks {len(thin)} lie in single pixels only "
            f"({shown}): the masks were JPEG once, or were resized or drawn with smooth edges; "
            "export them anew as PNG, resize by nearest neighbour"
        )
    rare = [value for value in thin if pixels[value] < 1e-3 * sum(pixels.values())]
    if not rare:
        return []
    shown = listed([_shown(value, has_colours) for value in rare])
    text = f"values that lie in few single pixels: {shown}"
    return [Finding(text, "if they are no classes, export the masks anew as PNG", is_wrong=False)]


def _read_ignored(ignored: str | int | None, pixels: Counter, has_colours: bool) -> int | None:
    if ignored is None:
        return None
    numbers = re.findall(r"\d+", str(ignored))
    if len(numbers) != (3 if has_colours else 1):
        kind = "colours: give R,G,B" if has_colours else "numbers: give one of them"
        raise UserError(f"--ignore-label {ignored}: the masks hold {kind}")
    value = _packed(tuple(map(int, numbers))) if has_colours else int(numbers[0])
    if value not in pixels:
        found = listed([_shown(value, has_colours) for value in sorted(pixels)])
        raise UserError(f"--ignore-label {ignored}: no pixel has it; there are {found}")
    return value


def _labels_of_numbers(
    values: list[int], names: Sequence[ClassName] | None, ignored: int | None
) -> tuple[Sequence[ClassName], dict[int, int]]:
    left = [value for value in values if value != ignored]
    without_255 = [value for value in left if value != IGNORED_LABEL]
    labels = dict.fromkeys(values, IGNORED_LABEL)
    if names is None:
        kept = left if left == _BINARY else without_255
        words = ["background", "foreground"] if left == _BINARY else [f"class_{v}" for v in kept]
        return [ClassName(word, None) for word in words], labels | _numbered(kept)
    first = 1 if ignored == 0 else 0
    if left != _BINARY and all(first <= value < first + len(names) for value in without_255):
        return names, labels | {value: value - first for value in without_255}
    for kept in (left, without_255):
        if len(kept) == len(names):
            return names, labels | _numbered(kept)
    raise UserError(
        f"--names has {len(names)} names, and the masks hold {len(left)} values, {listed(left)}: "
        "wanted is one name a value, in their order, or names from 0 up to the largest"
    )


def _numbered(values: Iterable[int]) -> dict[int, int]:
    return {value: label for label, value in enumerate(values)}


def _labels_of_colours(
    values: list[int], names: Sequence[ClassName] | None, ignored: int | None
) -> tuple[Sequence[ClassName], dict[int, int]]:
    kept = [value for value in values if value != ignored]
    labels = dict.fromkeys(values, IGNORED_LABEL)
    if names is None:
        names = [ClassName(f"class_{i}", _split(value)) for i, value in enumerate(kept)]
    without = [line.name for line in names if line.colour is None]
    lines = [line for line in names if line.colour and _packed(line.colour) != ignored]
    label_of = _numbered(_packed(line.colour) for line in lines)
    unknown = [_shown(value, True) for value in kept if value not in label_of]
    if without or unknown:
        what = f"no colour for {listed(without)}" if without else f"no line for {listed(unknown)}"
        raise UserError(
            f"--names: the masks hold colours, {listed(_shown(value, True) for value in kept)}, "
            f"and there is {what}; wanted is a line for each, such as 'road 128 64 128'"
        )
    return lines, labels | {value: label_of[value] for value in kept}


def _what_is_found(
    classes: list[str],
    labels: dict[int, int],
    pixels: Counter,
    has_colours: bool,
    ignored: int | None,
) -> list[Finding]:
    findings = []
    absent = [name for label, name in enumerate(classes) if label not in labels.values()]
    if absent:
        findings.append(Finding(f"classes without a pixel: {listed(absent)}", is_wrong=False))
    if labels.get(IGNORED_LABEL) == IGNORED_LABEL != ignored and not has_colours:
        share = pixels[IGNORED_LABEL] / sum(pixels.values())
        text = f"255 is left out ({share:.1%} of the pixels)"
        findings.append(Finding(text, "a name for every value makes it a class", is_wrong=False))
    if labels.get(0) == 0 and not has_colours:
        text = f"0 is the class {classes[0]!r}, and is trained"
        findings.append(Finding(text, "--ignore-label 0 leaves it out", is_wrong=False))
    return findings


def labels_in(content: MaskValues, classes: Classes) -> set[int]:
    """The labels that a mask has."""
    values = as_colours(content.values, content) if classes.has_colours else content.values
    return {classes.labels[value] for value in values.tolist()}


def table_of(folders: Sequence[MaskFolder], classes: Classes) -> str:
    """Every value with its class, in how many images it is, and its part of the pixels."""
    pixels, images = Counter(), Counter()
    for content in (content for folder in folders for content in folder.contents):
        values = as_colours(content.values, content) if classes.has_colours else content.values
        for value, count in zip(values.tolist(), content.pixels.tolist(), strict=True):
            pixels[value] += count
            images[value] += 1
    total = sum(pixels.values())
    lines = [f"{'in the masks':>12}  {'label':>6}  {'images':>7}  {'pixels':>7}  class"]
    for value, label in sorted(classes.labels.items(), key=lambda pair: pair[::-1]):
        name = "(left out)" if label == IGNORED_LABEL else classes.names[label]
        shown = _shown(value, classes.has_colours)
        share = f"{pixels[value] / total:.2%}"
        lines.append(f"{shown:>12}  {label:>6}  {images[value]:>7}  {share:>7}  {name}")
    return "\n".join(lines)


def _shown(value: int, is_colour: bool) -> str:
    return " ".join(map(str, _split(value))) if is_colour else str(value)


def _split(colour: int) -> Colour:
    return colour >> 16, colour >> 8 & 255, colour & 255


def _packed(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def listed(items: Iterable[object], most: int = 12) -> str:
    """The first of some things, and how many more there are."""
    shown = [str(item) for item in items]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more
