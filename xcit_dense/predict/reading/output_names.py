"""Names for the outputs of input files, no two alike."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePath

from xcit_dense.predict.reading.videos import is_video

# file systems take 255; suffixes and numbers are added
_LONGEST_IN_BYTES = 240


def output_names(files: Sequence[Path]) -> dict[Path, str]:
    """A name for each file: its path below the folder that all share, without a suffix.

    Where two would be equal, the later one keeps its suffix, ``a.png`` after ``a.jpg``, and if that
    is taken too gets a number, ``a.png_2``. Videos always keep theirs. Names that a file system
    would not take with a suffix more are cut.

    Args:
        files: absolute paths, each once.
    """
    if not files:
        return {}
    shared = os.path.commonpath([file.parent for file in files])
    taken: set[str] = set()
    names = {}
    for file in files:
        path = PurePath(os.path.relpath(file, shared))
        whole = _cut(path).as_posix()
        wanted = whole if is_video(file) else _cut(path.with_suffix("")).as_posix()
        name, number = wanted, 1
        while name.casefold() in taken:  # some file systems take A for a
            name = whole if number == 1 else f"{whole}_{number}"
            number += 1
        taken.add(name.casefold())
        names[file] = name
    return names


def _cut(path: PurePath) -> PurePath:
    encoded = os.fsencode(path.name)
    if len(encoded) <= _LONGEST_IN_BYTES:
        return path
    return path.with_name(encoded[:_LONGEST_IN_BYTES].decode("utf-8", "ignore"))
