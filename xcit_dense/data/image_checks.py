"""What may be wrong with images: each is decoded as training would decode it."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from mmcv.transforms import LoadImageFromFile
from PIL import ExifTags, Image, UnidentifiedImageError

from xcit_dense.data.kinds import Kind, findings_by_kind, look_at_all
from xcit_dense.errors import Finding, in_one_line
from xcit_dense.predict.inputs import IMAGE_SUFFIXES, known_formats

LARGEST_ASPECT = 10
_ENDS = "training ends where it meets one"
_TURNED_FILES = "or write them anew as they are seen (PIL.ImageOps.exif_transpose)"

MISSING = Kind(
    "are missing",
    _ENDS,
    "correct data_root and data_prefix, or file_name in the annotations, where capitals count",
)
EMPTY = Kind("have no content", _ENDS, "copy them again, or leave them out")
UNKNOWN = Kind(
    f"have a content that is no image such as {' '.join(sorted(IMAGE_SUFFIXES))}",
    _ENDS,
    "convert them to JPEG or PNG, of 8 bits and at most 4 bands; a new suffix does not convert",
)
DAMAGED = Kind(
    "are cut short or damaged",
    "by the version of OpenCV training ends there, or sees grey in the place of what is lost",
    "copy them again, or leave them out",
)
NOT_DECODED = Kind(
    "are decoded by Pillow, and not by the loader of the training pipeline",
    _ENDS,
    "convert them to JPEG or PNG of 8 bits",
)
TOO_LARGE = Kind(
    f"have more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels",
    "they were not looked into, predict refuses them, and training decodes the whole of one each "
    "time it cuts a piece out",
    "cut them into tiles",
)
OTHER_SIZE = Kind(
    "have another size than is annotated",
    "if boxes were drawn on that size they lie elsewhere",
    "take the images that were annotated, or scale their annotations",
)
TURNED = Kind(
    "are turned by the loader, as their EXIF data say, and annotated as they are stored",
    "boxes and masks lie elsewhere",
    'color_type="color_ignore_orientation" for LoadImageFromFile in the pipelines of train, val '
    f"and test, {_TURNED_FILES} and annotate these",
)
NOT_TURNED = Kind(
    "are annotated as their EXIF data turn them, which the loader does not do",
    "boxes and masks lie elsewhere",
    f'color_type="color" for LoadImageFromFile, which turns JPEG, PNG and TIFF, {_TURNED_FILES}',
)
MAYBE_TURNED = Kind(
    "are turned or mirrored by the loader, as their EXIF data say, in a way that their size does "
    "not show",
    "if they were annotated as they are stored, boxes and masks lie elsewhere",
    "look at them with xcit-dense browse; if they do lie elsewhere, "
    'color_type="color_ignore_orientation" for LoadImageFromFile in all pipelines',
    is_wrong=False,
)
DEEP = Kind(
    "have 16 bits a band",
    "the loader keeps the upper 8, so that 12-bit data becomes almost black",
    "scale them to 8 bits by what they hold",
    is_wrong=False,
)
FOURTH_BAND = Kind(
    "have a fourth band or transparent pixels",
    "the loader drops that band, and shows what is stored below transparent pixels",
    "if the band matters: color_type='unchanged' for LoadImageFromFile, in_channels=4 for the "
    "backbone, and four values of mean and std",
    is_wrong=False,
)
SEVERAL = Kind(
    "hold several images or pages",
    "the loader takes the first",
    "write each into a file of its own",
    is_wrong=False,
)
THIN = Kind(
    f"are one pixel wide or high, or more than {LARGEST_ASPECT} times as long as wide",
    "scaled to fit, they keep next to nothing on the short side, and batches grow by padding",
    "leave them out, or cut them into tiles",
    is_wrong=False,
)
ONE_VALUE = Kind(
    "are black, white or of one grey as loaded",
    "they teach background only, or wrongly where something is annotated",
    "see whether they were written in whole, and leave them out",
    is_wrong=False,
)


def check_images(
    files: Sequence[tuple[Path, tuple[int, int] | None]], loader: LoadImageFromFile | None = None
) -> Iterator[Finding]:
    """Decode images and say what training would stumble over, one finding a kind.

    Each is decoded twice, in threads: by Pillow, which finds what is cut short and opens no other
    formats than ``IMAGE_SUFFIXES`` lists, and by the loader, to see what the model will see.

    Args:
        files: images with their annotated height and width, None where nothing is annotated.
        loader: of the training pipeline; None for mm's default, OpenCV in colour.
    """
    loader = loader or LoadImageFromFile()
    faults = look_at_all(lambda file: _look(*file, loader), files, "images")
    found = (
        (kind, f"{path} {detail}".rstrip())
        for (path, _), of_one in zip(files, faults, strict=True)
        for kind, detail in of_one
    )
    yield from findings_by_kind(found, len(files), "images")


def _look(
    path: Path, annotated: tuple[int, int] | None, loader: LoadImageFromFile
) -> list[tuple[Kind, str]]:
    """The kinds of faults of an image, each with what is to be said of this one."""
    if not path.is_file():
        return [(MISSING, "(no plain file)" if os.path.lexists(path) else "")]
    if not path.stat().st_size:
        return [(EMPTY, "")]
    try:
        with Image.open(path, formats=known_formats()) as image:
            stored, layout = image.size[::-1], f"{image.mode} {image.tile}"
            turn = image.getexif().get(ExifTags.Base.Orientation, 1)
            if turn > 4 and image.format == "TIFF":  # whose size Pillow gives as turned
                stored = stored[::-1]
            pages = _pages(image)
            image.load()
            has_fourth = "RGBX" in layout or (
                "A" in image.getbands() and image.getchannel("A").getextrema()[0] < 255
            )
    except UnidentifiedImageError:
        return [(UNKNOWN, "")]
    except Image.DecompressionBombError:
        return [(TOO_LARGE, "")]
    except Exception as error:  # what a decoder raises for damaged bytes is anyone's guess
        return [(DAMAGED, f"({in_one_line(error)})")]
    try:
        pixels = loader({"img_path": str(path)})["img"]
    except Exception as error:
        return [(NOT_DECODED, f"({in_one_line(error)})")]
    size = pixels.shape[:2]
    faults = [*_faults_of_size(size, stored, annotated, turn, loader)]
    if ";16" in layout and pixels.dtype == np.uint8:
        faults.append((DEEP, f"(at most {pixels.max()} of 255 as loaded)"))
    if has_fourth and pixels.shape[2:] == (3,):
        faults.append((FOURTH_BAND, ""))
    if pages > 1:
        faults.append((SEVERAL, f"({pages})"))
    if min(size) == 1 or max(size) > LARGEST_ASPECT * min(size):
        faults.append((THIN, f"({size[0]} x {size[1]})"))
    if pixels.min() == pixels.max():
        faults.append((ONE_VALUE, f"({pixels.max()})"))
    return faults


def _pages(image: Image.Image) -> int:
    """How many images a file holds, smaller copies and what phones add to a photo aside."""
    if image.format == "MPO":
        return 1
    kinds = []
    for page in range(getattr(image, "n_frames", 1)):
        image.seek(page)
        kinds.append(getattr(image, "tag_v2", {}).get(ExifTags.Base.NewSubfileType, 0))
    image.seek(0)
    return kinds.count(0)


def _faults_of_size(
    size: tuple[int, int],
    stored: tuple[int, int],
    annotated: tuple[int, int] | None,
    turn: int,
    loader: LoadImageFromFile,
) -> Iterator[tuple[Kind, str]]:
    """Compare heights and widths: as loaded, as stored, and as annotated.

    ``turn`` is EXIF's orientation: 1 for none, 5 to 8 where height and width change places.
    """
    if annotated in (size, None):
        may_be_hidden = turn in (2, 3, 4) or (turn > 4 and size[0] == size[1])
        if may_be_hidden and loader.color_type in ("color", "grayscale"):
            yield MAYBE_TURNED, ""
        return
    detail = f"({size[0]} x {size[1]}, annotated as {annotated[0]} x {annotated[1]})"
    if turn > 4 and annotated == size[::-1]:
        yield NOT_TURNED if size == stored else TURNED, detail
    else:
        yield OTHER_SIZE, detail
