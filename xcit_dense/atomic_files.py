"""Files that are there whole or not at all, whenever their writer dies."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: str | os.PathLike, write: Callable[[BinaryIO], object]) -> None:
    """Write a file beside its place, flush it to the disk and rename it into place.

    Whoever reads ``path`` at any moment finds the old content or the new one, both complete.
    Missing folders are made, a symbolic link is followed. What a killed writer leaves is
    ``.NAME.partial``, which the next one of the same file writes over.

    Args:
        path: the file to make or to replace.
        write: writes the content into the open binary file that it is given.

    Raises:
        FileExistsError: ``path`` is a folder, a device or another thing that is no plain file.
        OSError: the file cannot be written; the old content is still there.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise FileExistsError(f"{path} is there and no plain file")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        with open(partial, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
