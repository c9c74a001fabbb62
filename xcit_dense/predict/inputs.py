"""From what a user names on a command line to single images, each with a name for its outputs."""

import glob
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path, PurePath

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from PIL import Image, UnidentifiedImageError

from xcit_dense.errors import UserError, in_one_line

# of the formats that are read, whatever a file is called: for others Pillow may start programs, as
# Ghostscript for EPS
IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif"}
    | {".tiff", ".webp"}
)
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
_OF_DEEP = (
    "its values have more than 8 bits, which would be cut: say which become black and white, as by "
    "--stretch 0,4095 or 2%,98%"
)


@dataclass(frozen=True)
class InputImage:
    """An image to predict on.

    Attributes:
        file: its file, or that of its video.
        source: the path of the file, of a frame with ``#`` and its number, counted from 1.
        name: where its outputs go, relative and without a suffix; no two images share one.
        pixels: uint8 (H, W, 3) in blue, green, red, or what the test pipeline decodes instead.
    """

    file: Path
    source: str
    name: str
    pixels: np.ndarray

    @property
    def background(self) -> np.ndarray:
        """What predictions are drawn on, uint8 (H, W, 3) in blue, green, red."""
        is_viewable = self.pixels.dtype == np.uint8 and self.pixels.shape[2:] == (3,)
        return self.pixels if is_viewable else read_image(self.file)


def find_files(
    inputs: Sequence[str], leave_out: Sequence[Path] = ()
) -> tuple[list[Path], list[UserError]]:
    """The files that files, folders and patterns name, each once, in their order.

    Folders are searched to their depths, through links too, for images and videos.

    Args:
        inputs: paths of files and folders, or patterns such as ``images/**/*.jpg``.
        leave_out: folders whose files do not count, such as those of earlier results.

    Returns:
        Absolute paths, and errors for the inputs that name none or cannot be searched.
    """
    excluded = {Path(os.path.realpath(folder)) for folder in leave_out}
    found: list[str] = []
    errors: list[UserError] = []
    for name in inputs:
        matches = [name] if os.path.exists(name) else sorted(glob.glob(name, recursive=True))
        files = [file for match in matches for file in _files_in(match, errors)]
        kept = [f for f in files if excluded.isdisjoint(Path(os.path.realpath(f)).parents)]
        if not kept:
            errors.append(UserError(f"{name}: no images or videos there, earlier results aside"))
        found += kept
    once = {os.path.realpath(file): Path(os.path.abspath(file)) for file in reversed(found)}
    return list(reversed(once.values())), errors


def _files_in(place: str, errors: list[UserError]) -> Iterator[str]:
    """A file, or images and videos in a folder, those of a folder before those further below."""

    def tell(error: OSError) -> None:
        errors.append(UserError(f"{error.filename}: cannot be searched ({error.strerror})"))

    if not os.path.isdir(place):
        yield place
        return
    searched = set()
    for path, folders, names in os.walk(place, onerror=tell, followlinks=True):
        if os.path.realpath(path) in searched:  # a link led back
            folders.clear()
            continue
        searched.add(os.path.realpath(path))
        folders.sort()
        known = IMAGE_SUFFIXES | VIDEO_SUFFIXES
        yield from (f"{path}/{n}" for n in sorted(names) if PurePath(n).suffix.lower() in known)


def is_video(file: PurePath) -> bool:
    """Whether a file is called as videos are."""
    return file.suffix.lower() in VIDEO_SUFFIXES


def shared_folder(files: Sequence[Path]) -> Path:
    """The innermost folder that has all files in it or below it."""
    return Path(os.path.commonpath([file.parent for file in files]))


def output_names(files: Sequence[Path]) -> dict[Path, str]:
    """A name for the outputs of each file: its path below the shared folder, without a suffix.

    Where two would be equal, the later one keeps its suffix, ``a.png`` after ``a.jpg``, and if that
    is taken too gets a number, ``a.png_2``. Videos always keep theirs. ``files`` are absolute.
    """
    shared = shared_folder(files)
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for file in files:
        path = file.relative_to(shared)
        whole = path.as_posix()
        name = whole if is_video(file) else path.with_suffix("").as_posix()
        candidates = chain([name, whole], (f"{whole}_{number}" for number in count(2)))
        # some file systems take A for a
        names[file] = next(each for each in candidates if each.casefold() not in taken)
        taken.add(names[file].casefold())
    return names


def read_inputs(
    files: Sequence[Path], loader: LoadImageFromFile | None = None
) -> Iterator[InputImage | UserError]:
    """Read images, and the frames of videos, one after the other; errors stand for damaged ones.

    Outputs are named as :func:`output_names` says, of frames by their number in a folder that is
    called as the video is, ``a.mp4``. ``loader`` is as for :func:`read_image`.
    """
    for file, name in output_names(files).items():
        if is_video(file):
            yield from _read_video(file, name)
            continue
        try:
            pixels = read_image(file, loader)
            if pixels.dtype == np.uint8 and _is_deep(file):
                raise UserError(f"{file}: {_OF_DEEP}")
            yield InputImage(file, str(file), name, pixels)
        except UserError as error:
            yield UserError(str(error))  # without the traceback, which holds pixels


def _is_deep(file: Path) -> bool:
    """Whether an image has values of more than 8 bits."""
    with Image.open(file, formats=known_formats()) as image:
        stored = [image.mode, *(str(tile[3]) for tile in image.tile)]
    return image.mode[0] in "IF" or any(";16" in kind for kind in stored)


def _read_video(file: Path, name: str) -> Iterator[InputImage | UserError]:
    number = 0
    with mmcv.VideoReader(str(file)) as video:
        for number, pixels in enumerate(video, start=1):
            yield InputImage(file, f"{file}#{number}", f"{name}/{number:06d}", pixels)
        count = max(video.frame_cnt, 0)  # OpenCV 5 says -1 of what it cannot open
        if not number or number < count:
            yield UserError(f"{file}: only {number} of {count} frames can be decoded")


def read_image(path: Path | str, loader: LoadImageFromFile | None = None) -> np.ndarray:
    """Read the first image of a file, into 8-bit blue, green, red if nothing else is said.

    mmcv decodes it, so that a model sees what it would see in training: by OpenCV, which cuts 16
    bits to the upper 8, repeats grey, converts CMYK, drops alpha and does the rotations that EXIF
    names. Pillow decodes it before, to find damage, which OpenCV may fill with grey.

    Args:
        path: an image of one of the formats of ``IMAGE_SUFFIXES``, whatever it is called.
        loader: other channels or another library, as a test pipeline may choose.

    Returns:
        uint8 (H, W, 3), or what ``loader`` gives.

    Raises:
        UserError: the file is missing, empty, damaged, too large, or of an unknown format.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # opening a pipe would wait for ever
        raise UserError(f"{path}: is no file")
    mode = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large is welcome
            with Image.open(path, formats=known_formats()) as image:
                image.load()
                mode = image.mode
            image.close()  # frees the pixels
        # for what OpenCV cannot decode it raises, or gives None
        return (loader or LoadImageFromFile())({"img_path": str(path)})["img"]
    except UnidentifiedImageError as error:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise UserError(
            f"{path}: its content is no image such as {suffixes}; other rasters are read by parts, "
            "--mode auto"
        ) from error
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{path}: is too large to be decoded whole; predict by parts, --mode auto "
            f"({in_one_line(error)})"
        ) from error
    except Exception as error:  # what a decoder raises for damaged bytes is anyone's guess
        reason = _OF_DEEP if mode == "F" else f"cannot be read ({in_one_line(error)})"
        raise UserError(f"{path}: {reason}") from error


def known_formats() -> list[str]:
    """Pillow's names of the formats of ``IMAGE_SUFFIXES``."""
    known = Image.registered_extensions()
    return list({known[suffix] for suffix in IMAGE_SUFFIXES if suffix in known})
