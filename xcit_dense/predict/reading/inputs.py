"""From files to single images, each with a name for its outputs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xcit_dense.predict.reading.decoding import Decoding, viewable
from xcit_dense.predict.reading.image_files import UnreadableImageError, read_image
from xcit_dense.predict.reading.input_files import Skipped
from xcit_dense.predict.reading.output_names import output_names
from xcit_dense.predict.reading.videos import (
    UnreadableVideoError,
    count_frames,
    frames_of,
    is_video,
)


@dataclass(frozen=True)
class InputImage:
    """An image to predict on.

    Attributes:
        source: its file; for a frame, the video's and the number of the frame, counted from 1.
        name: where its outputs go, relative and without a suffix; no two images share one.
        pixels: uint8 (H, W, 3) in blue, green, red, or what the test pipeline decodes instead.
    """

    source: str
    name: str
    pixels: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[:2]

    @property
    def background(self) -> np.ndarray:
        """What predictions are drawn on, uint8 (H, W, 3) in blue, green, red."""
        return viewable(self.pixels)


def read_inputs(
    files: Sequence[Path], decoding: Decoding | None = None
) -> Iterator[InputImage | Skipped]:
    """Read images, and the frames of videos, one after the other.

    Outputs are named as :func:`output_names` says. Frames stand in a folder that is called as the
    video is, ``a.mp4``.

    Args:
        files: absolute paths.
        decoding: how images are decoded; None for 8-bit blue, green, red.
    """
    names = output_names(files)
    for file in files:
        if is_video(file):
            yield from _read_video(file, names[file])
            continue
        try:
            yield InputImage(str(file), names[file], read_image(file, decoding))
        except UnreadableImageError as error:
            yield Skipped(str(file), str(error))


def count_images(files: Sequence[Path]) -> int:
    """How many images there are in files, by what videos say about their length."""
    return sum(max(1, count_frames(file)) if is_video(file) else 1 for file in files)


def _read_video(file: Path, name: str) -> Iterator[InputImage | Skipped]:
    try:
        for number, pixels in enumerate(frames_of(file), start=1):
            yield InputImage(f"{file}#{number}", f"{name}/{number:06d}", pixels)
    except UnreadableVideoError as error:
        yield Skipped(str(file), str(error))
