"""Files that are there whole or not at all, whenever the process or the machine dies."""

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_LEFTOVER = re.compile(r"\..+\.partial-[0-9a-f]{8}")


def write_atomically(path: str | os.PathLike, write: Callable[[BinaryIO], object]) -> None:
    """Write a file beside its place, flush it to the disk and rename it into place.

    Whoever reads ``path`` at any moment, also after a crash, finds the old content or the new one,
    both complete. Missing folders are made; a symbolic link is followed; permission bits are those
    that :func:`open` would give. What a killed writer has left in the folder is removed first.

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
    _remove_leftovers(target.parent)
    partial = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
    try:
        with _locked_new_file(partial) as file:
            if target.exists():
                os.fchmod(file.fileno(), target.stat().st_mode)
            write(file)
            file.flush()
            os.fsync(file.fileno())
            os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _flush_folder(target.parent)


@contextlib.contextmanager
def _locked_new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file, locked while it is written: the lock ends with the process, however it ends."""
    with open(path, "xb") as file:
        # without locks (some network disks) leftovers cannot be told, and stay
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield file


def _remove_leftovers(folder: Path) -> None:
    """Remove partial files whose writers are dead, which is to say, which nobody has locked."""
    for path in folder.iterdir():
        if _LEFTOVER.fullmatch(path.name) and path.is_file():
            # another process may just have removed it, or be writing it
            with contextlib.suppress(OSError), open(path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def _flush_folder(folder: Path) -> None:
    """Bring the new name to the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # some network disks cannot; the file is in place either way
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
