"""What may be wrong with images: each is decoded as training would decode it."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.pool import ThreadPool
from typing import Any

from mmcv.transforms import LoadImageFromFile
from PIL import ExifTags, Image
from tqdm import tqdm

from xcit_dense.errors import Finding, UserError, findings_by_kind
from xcit_dense.predict.inputs import read_image

_MOST_THREADS = 8  # each may hold a large image
_DARK = 16  # of 255; images of 12 bits are stored in 16, of which the upper 8 are loaded

UNREADABLE = Finding(
    "cannot be read; training ends where it meets one",
    "copy them again, convert them to JPEG or PNG of 8 bits, or leave them out",
)
OTHER_SIZE = Finding(
    "have another size than is annotated; boxes and masks lie elsewhere",
    "take the images that were annotated, or scale their annotations",
)
TURNED = Finding(
    "are turned by the loader, as their EXIF data say, and annotated as they are stored, or the "
    "other way round; boxes and masks lie elsewhere",
    'color_type="color_ignore_orientation" for LoadImageFromFile in all pipelines loads them as '
    'they are stored, "color" as they are seen',
)
DARK = Finding(
    f"have no value above {_DARK - 1} of 255 as loaded; of 16 bits the upper 8 are taken",
    "scale images of more than 8 bits to 8, by what they hold",
    is_wrong=False,
)


def check_images(
    files: Sequence[tuple[str, tuple[int, int] | None]], loader: LoadImageFromFile | None = None
) -> Iterator[Finding]:
    """Decode images and say what training would stumble over, one finding a kind.

    Args:
        files: images with the height and width of their annotations, None if these are not known.
        loader: of the training pipeline; None for mm's default, OpenCV in colour.
    """
    found = look_at_all(lambda file: _look(*file, loader), files, "images")
    yield from findings_by_kind(filter(None, found), len(files), "images")


def look_at_all(look: Callable[[Any], Any], items: Sequence[Any], name: str) -> list[Any]:
    """Call a function that reads a file for each item, in threads, with progress on a terminal."""
    threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
    with warnings.catch_warnings(), ThreadPool(threads) as pool:
        warnings.simplefilter("ignore")  # decoders warn of what is found here anyway
        results = pool.imap(look, items, chunksize=8)
        return list(tqdm(results, name, len(items), leave=False, unit="file", disable=None))


def _look(
    file: str, annotated: tuple[int, int] | None, loader: LoadImageFromFile | None
) -> tuple[Finding, str] | None:
    """What is wrong with an image, and which it is, with its details."""
    try:
        pixels = read_image(file, loader)
    except UserError as error:
        return UNREADABLE, str(error)
    size = pixels.shape[:2]
    if annotated not in (size, None):
        with Image.open(file) as image:
            is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) > 4
        detail = f"{file} ({size[0]} x {size[1]}, annotated as {annotated[0]} x {annotated[1]})"
        return TURNED if is_turned and annotated == size[::-1] else OTHER_SIZE, detail
    if pixels.max() < _DARK:
        return DARK, f"{file} (at most {pixels.max()})"
    return None
