"""A new config for own data: what is asked for, its text, and the files that are written."""

import json
import os
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any, BinaryIO

from xcit_dense.atomic_files import write_atomically
from xcit_dense.data.image_checks import look_at_all
from xcit_dense.errors import UserError, counted
from xcit_dense.network.architectures import DROP_PATH_RATES
from xcit_dense.weights.published_weights import KIND_OF_THE_RELEASE, published_url


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked for: the options of ``xcit-dense new-config`` that both kinds of data have.

    ``scale`` has the longer side first; what is None is proposed. ``title`` is the first line.
    """

    out: Path
    title: str = ""
    head: str | None = None
    arch: str = "small_12"
    patch_size: int = 16
    pretrained: bool = True
    scale: tuple[int, int] | None = None
    batch_size: int = 2
    gpus: int = 1
    epochs: int | None = None
    val_fraction: float = 0.2
    seed: int = 0

    def beside(self, part: str) -> Path:
        """Where something that belongs to the config goes."""
        return self.out.resolve().with_name(f"{self.out.stem}_{part}")


@dataclass(frozen=True)
class NewConfig:
    """A config to write.

    Attributes:
        text: of the config.
        files: what writes each file that it needs besides.
        notes: what was found, mended and proposed, and why, a line each.
    """

    text: str
    files: dict[Path, Callable[[BinaryIO], object]]
    notes: list[str]


def write_config(made: NewConfig, out: Path, force: bool) -> None:
    """Write a config, and first the files that it needs.

    Raises:
        UserError: one of them is there already, and ``force`` is not given; nothing is written.
        OSError: a file cannot be written.
    """
    for path in (out, *made.files):
        if path.exists() and not force:
            raise UserError(f"{path} is there already: name another by -o, or --force replaces it")

    def write(path: Path) -> None:
        # label maps are many, and quickly made anew
        write_atomically(path, made.files[path], flush=path.suffix != ".png")

    look_at_all(write, list(made.files), "files")
    write_atomically(out, writer(made.text))


def writer(text: str) -> Callable[[BinaryIO], object]:
    """What writes a text into an open file."""
    return lambda file: file.write(text.encode())


def divide(names: Sequence[str], request: Request, notes: list[str]) -> list[list[int]]:
    """Divide images by chance, at least one in either part; tells how in ``notes``.

    Copies that Roboflow made of one image, as the names of the files tell, stay together. Returns
    the numbers of the images to train on, and of those to validate on.

    Raises:
        UserError: there is one image only.
    """
    groups: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        groups.setdefault(name.partition(".rf.")[0], []).append(number)
    if len(groups) < 2:
        raise UserError("one image cannot be divided: give images to validate on, too")
    drawn = list(groups.values())
    Random(request.seed).shuffle(drawn)
    count = min(max(round(request.val_fraction * len(drawn)), 1), len(drawn) - 1)
    parts = [sorted(chain.from_iterable(part)) for part in (drawn[count:], drawn[:count])]
    notes.append(
        f"validation: {len(parts[1])} of {counted(len(names), 'image')}, drawn with --seed "
        f"{request.seed} (--val-fraction {request.val_fraction:g}, or give what to validate on, "
        "too)"
    )
    return parts


def filled(
    template: str, base: str, request: Request, classes: list[str], notes: list[str], **values: Any
) -> str:
    """The text of a config: a template with ``{name}`` where values go; empty lines are left out.

    ``notes`` gets what a model of the config ``base`` starts from.
    """
    url, start = None, "random weights"
    if request.pretrained:
        url = published_url(KIND_OF_THE_RELEASE, request.arch, request.patch_size)
        start = f"{url}, fetched when training begins (--no-pretrained: random weights)"
    notes.append(f"model: {base} with XCiT {request.arch}, starting from {start}")
    text = template.format(
        base=base,
        request=request,
        title=" ".join(request.title.split()),
        metainfo=_wrapped("metainfo = dict(classes=(", map(quoted, classes), ",))"),
        weights=url and f'dict(type="Pretrained", checkpoint={quoted(url)})',
        backbone=f'arch="{request.arch}", patch_size={request.patch_size}, '
        f"drop_path_rate={DROP_PATH_RATES.get(request.arch, 0.0)}, init_cfg=weights",
        **values,
    )
    return "".join(f"{line}\n" for line in text.split("\n") if line.strip())


def _wrapped(opening: str, items: Iterable[str], closing: str) -> str:
    """A statement on lines of 100 letters, or on up to four where there are many items."""
    blank = "\0"  # within items, where no line ends
    line = opening + ", ".join(item.replace(" ", blank) for item in items) + closing
    width = max(100, len(line) // 3)
    lines = textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)
    return "\n    ".join(lines).replace(blank, " ")


def relative(paths: Sequence[Path], data: Sequence[Path]) -> tuple[str, list[str]]:
    """The innermost folder above all data, and what paths are below it, as Python writes them."""
    root = os.path.commonpath(data)
    root = "" if root == os.sep else f"{root}/"  # such paths are easier to read whole
    return quoted(root), [quoted(str(path).removeprefix(root)) for path in paths]


def quoted(text: str) -> str:
    """A text as Python writes it."""
    return json.dumps(text, ensure_ascii=False)
