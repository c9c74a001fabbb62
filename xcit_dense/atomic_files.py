"""Files that are there whole or not at all, whenever their writer dies."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def named_in_errors(path: str | os.PathLike) -> Iterator[None]:
    """Let errors of the system name a file, as those of a full disk do not by themselves."""
    try:
        yield
    except Exception as error:
        ours = error if isinstance(error, OSError) else error.__context__  # torch hides it
        if not isinstance(ours, OSError) or ours.strerror is None:
            raise
        raise OSError(ours.errno, ours.strerror, os.fspath(path)) from error


def write_atomically(
    path: str | os.PathLike, write: Callable[[BinaryIO], object], flush: bool = True
) -> None:
    """Write a file beside its place, flush it to the disk and rename it into place.

    Whoever reads ``path`` at any moment finds the old content or the new one, both complete.
    Missing folders are made, a symbolic link is followed. What a killed writer leaves is
    ``.NAME.partial``, which the next one of the same file writes over.

    Args:
        path: the file to make or to replace.
        write: writes the content into the open binary file that it is given.
        flush: False for one of many files that are quickly made anew; after a power failure it may
            be empty.

    Raises:
        FileExistsError: ``path`` is a folder, a device or another thing that is no plain file.
        OSError: the file, which the error names, cannot be written; the old content is still there.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise FileExistsError(f"{path} is there and no plain file")
    partial = target.with_name(f".{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    with named_in_errors(path):
        try:
            with open(partial, "wb") as file:
                write(file)
                if flush:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(partial, target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


class StoppableFile:
    """A file for :func:`torch.save`, which may be closed before torch is done with it.

    When a Ctrl-C comes while torch saves, the file is closed first; what torch then writes, in a
    destructor of C++, would fail and abort the process.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, content: bytes) -> int:
        """Write, unless the file is closed."""
        return len(content) if self._file.closed else self._file.write(content)

    def flush(self) -> None:
        """Flush the file, unless it is closed."""
        if not self._file.closed:
            self._file.flush()
