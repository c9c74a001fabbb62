"""From what a user names on a command line to single images, each with a name for its outputs."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import cv2
import numpy as np

from xcit_dense.openmmlab.prediction.image_files import (
    IMAGE_SUFFIXES,
    UnreadableImageError,
    read_image,
)

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})


@dataclass(frozen=True)
class InputImage:
    """An image to predict on.

    Attributes:
        source: its file; for a frame, the video's and the number of the frame, counted from 1.
        name: where its outputs go, relative and without a suffix; no two images share one.
        pixels: uint8 (H, W, 3) in blue, green, red.
    """

    source: str
    name: str
    pixels: np.ndarray


@dataclass(frozen=True)
class Skipped:
    """An input that nothing was predicted on.

    Attributes:
        source: its file.
        reason: why.
    """

    source: str
    reason: str


def find_files(inputs: Sequence[str], leave_out: Path) -> tuple[list[Path], list[Skipped]]:
    """The files that files, folders and patterns name, each once, in their order.

    Folders are searched to their depths for images and videos; other files in them do not count.

    Args:
        inputs: paths of files and folders, or patterns such as ``images/**/*.jpg``.
        leave_out: a folder whose files do not count when folders are searched.

    Returns:
        The files, and the inputs that name none.
    """
    found: dict[Path, None] = {}
    skipped = []
    for name in inputs:
        matches = [name] if os.path.exists(name) else sorted(glob.glob(name, recursive=True))
        files = [file for match in matches for file in _files_at(Path(match), leave_out)]
        found.update(dict.fromkeys(files))
        if not matches:
            skipped.append(Skipped(name, "no such file or folder"))
        elif not files:
            skipped.append(Skipped(name, "no images or videos in this folder"))
    return list(found), skipped


def read_inputs(files: Sequence[Path]) -> Iterator[InputImage | Skipped]:
    """Read images, and the frames of videos, one after the other.

    Outputs are named by the paths below the folder that all files share. Where two would be equal,
    ``a.jpg`` and ``a.png``, the later one gets a number. Frames stand in a folder that is called
    as the video is, ``a.mp4``.
    """
    names = _names(files)
    for file in files:
        if _is_video(file):
            yield from _read_video(file, names[file])
            continue
        try:
            yield InputImage(str(file), names[file], read_image(file))
        except UnreadableImageError as error:
            yield Skipped(str(file), str(error))


def count_images(files: Sequence[Path]) -> int:
    """How many images there are in files, by what videos say about their length."""
    return sum(max(1, _frames_in(file)) if _is_video(file) else 1 for file in files)


def _is_video(file: Path) -> bool:
    return file.suffix.lower() in VIDEO_SUFFIXES


def _files_at(path: Path, leave_out: Path) -> list[Path]:
    if not path.is_dir():
        return [_absolute(path)]
    known = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    return sorted(
        _absolute(file)
        for file in path.rglob("*")
        if file.suffix.lower() in known
        and file.is_file()
        and _absolute(leave_out) not in _absolute(file).parents
    )


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _names(files: Sequence[Path]) -> dict[Path, str]:
    if not files:
        return {}
    shared = os.path.commonpath([file.parent for file in files])
    taken: set[str] = set()
    names = {}
    for file in files:
        wanted = PurePath(os.path.relpath(file, shared))
        wanted = (wanted if _is_video(file) else wanted.with_suffix("")).as_posix()
        name, number = wanted, 1
        while name.casefold() in taken:  # some file systems take A for a
            number += 1
            name = f"{wanted}_{number}"
        taken.add(name.casefold())
        names[file] = name
    return names


def _read_video(file: Path, name: str) -> Iterator[InputImage | Skipped]:
    declared = _frames_in(file)
    video = cv2.VideoCapture(str(file))
    number = 0
    try:
        while True:
            there, pixels = video.read()
            if not there:
                break
            number += 1
            yield InputImage(f"{file}#{number}", f"{name}/{number:06d}", pixels)
    finally:
        video.release()
    if not number:
        yield Skipped(str(file), "no video, or of an unknown format")
    elif number < declared:
        yield Skipped(str(file), f"frames {number + 1} to {declared} cannot be decoded")


def _frames_in(file: Path) -> int:
    video = cv2.VideoCapture(str(file))
    try:
        return int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    finally:
        video.release()
