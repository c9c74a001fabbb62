"""The frames of videos."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})


class UnreadableVideoError(ValueError):
    """A video, or its end, cannot be decoded; the message says why, without the file's name."""


def is_video(file: Path) -> bool:
    """Whether a file is called as videos are."""
    return file.suffix.lower() in VIDEO_SUFFIXES


def frames_of(file: Path) -> Iterator[np.ndarray]:
    """The frames of a video, uint8 (H, W, 3) in blue, green, red, one after the other.

    Raises:
        UnreadableVideoError: there are none, or fewer than the video says.
    """
    if not _can_be_named(file):
        raise UnreadableVideoError("OpenCV opens a video only if its name is valid UTF-8")
    declared = count_frames(file)
    video = cv2.VideoCapture(str(file))
    number = 0
    try:
        while True:
            there, pixels = video.read()
            if not there:
                break
            number += 1
            yield pixels
    finally:
        video.release()
    if not number:
        raise UnreadableVideoError("no video, or of an unknown format")
    if number < declared:
        raise UnreadableVideoError(
            f"it declares {declared} frames, and {number} can be decoded: it is cut short, or its "
            "editor has hidden the others"
        )


def count_frames(file: Path) -> int:
    """How many frames a video says that it has; 0 where it says nothing."""
    if not _can_be_named(file):
        return 0
    video = cv2.VideoCapture(str(file))
    try:
        return int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    finally:
        video.release()


def _can_be_named(file: Path) -> bool:
    """Whether OpenCV may get the name of a file: others end the process."""
    try:
        str(file).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
