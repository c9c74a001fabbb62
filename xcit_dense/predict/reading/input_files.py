"""From what a user names on a command line to the files of images and videos."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xcit_dense.predict.reading.image_files import IMAGE_SUFFIXES
from xcit_dense.predict.reading.videos import VIDEO_SUFFIXES


@dataclass(frozen=True)
class Skipped:
    """An input that nothing was done with.

    Attributes:
        source: its file.
        reason: why.
    """

    source: str
    reason: str

    def __str__(self) -> str:
        """Both; bytes of names that are not UTF-8 are written as numbers."""
        text = f"{self.source}: {self.reason}"
        return os.fsencode(text).decode("utf-8", "backslashreplace")


def find_files(
    inputs: Sequence[str], leave_out: Sequence[Path] = ()
) -> tuple[list[Path], list[Skipped]]:
    """The files that files, folders and patterns name, each once, in their order.

    Folders are searched to their depths for images and videos; other files in them do not count.
    Links to folders are followed, but no folder is searched twice.

    Args:
        inputs: paths of files and folders, or patterns such as ``images/**/*.jpg``.
        leave_out: folders, such as those of earlier results, whose files do not count where
            folders are searched or patterns match.

    Returns:
        The files, and the inputs that name none or cannot be searched.
    """
    found: dict[tuple[str, str], Path] = {}
    skipped = []
    excluded = {os.path.realpath(folder) for folder in leave_out}
    for name in inputs:
        search = _Search(excluded)
        files = list(search.files_of(name))
        for file in files:
            found.setdefault((os.path.realpath(file.parent), file.name), file)
        skipped += search.skipped
        if not files and not search.skipped:
            reason = "no images or videos in this folder, earlier results aside"
            skipped.append(Skipped(name, reason))
    return list(found.values()), skipped


@dataclass
class _Search:
    """A search for the files of one input.

    Attributes:
        excluded: real paths of folders whose files do not count.
        searched: real paths of folders that were searched.
        skipped: what could not be.
    """

    excluded: set[str]
    searched: set[str] = field(default_factory=set)
    skipped: list[Skipped] = field(default_factory=list)

    def files_of(self, name: str) -> Iterator[Path]:
        """What a path or a pattern names."""
        if os.path.lexists(name):
            path = Path(os.path.abspath(name))
            yield from self._files_in(path) if path.is_dir() else [path]
            return
        matches = [Path(os.path.abspath(match)) for match in glob.glob(name, recursive=True)]
        if not matches:
            self.skipped.append(Skipped(name, "no such file or folder"))
        for path in sorted(matches):
            if path.is_dir():
                yield from self._files_in(path)
            elif not self._is_excluded(path.parent):
                yield path

    def _files_in(self, folder: Path) -> Iterator[Path]:
        real = os.path.realpath(folder)
        if real in self.searched or self._is_excluded(folder):
            return
        self.searched.add(real)
        try:
            names = os.listdir(folder)
        except OSError as error:
            self._skip(folder, f"cannot be searched ({error.strerror})")
            return
        # links last, so that files get the names of the folders that they are in
        for path in sorted((folder / name for name in names), key=_links_last):
            if os.path.isdir(path):
                yield from self._files_in(path)
            elif os.path.isfile(path):
                if _has_known_suffix(path):
                    yield path
            elif os.path.islink(path) and (_has_known_suffix(path) or not path.suffix):
                self._skip(path, "a link that leads nowhere")
            elif _has_known_suffix(path):
                self._skip(path, "no file that can be read")

    def _skip(self, path: Path, reason: str) -> None:
        self.skipped.append(Skipped(str(path), reason))

    def _is_excluded(self, folder: Path) -> bool:
        real = Path(os.path.realpath(folder))
        return not self.excluded.isdisjoint(map(str, (real, *real.parents)))


def _links_last(path: Path) -> tuple[bool, str]:
    return os.path.islink(path), path.name


def _has_known_suffix(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES
