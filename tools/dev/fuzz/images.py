"""Image files that are cut, changed, lie about their size, or are something else."""

import random
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from dev.fuzz.cases import CANARY, Case
from PIL import Image

from xcit_dense.predict import read_image

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000", "AVIF")
_MODES = ("RGB", "L", "P", "RGBA", "1", "I;16", "CMYK")
_PROGRAM = f"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 50 50
({CANARY}) (w) file closefile showpage
"""


def image_cases(generator: random.Random, count: int) -> Iterator[Case]:
    """Files called ``photo.jpg``, whatever is in them."""
    for number in range(count):
        content = _content(generator)
        yield Case(f"images {number}", lambda folder, content=content: _read(folder, content))


def _read(folder: Path, content: bytes) -> None:
    path = folder / "photo.jpg"
    path.write_bytes(content)
    pixels = read_image(path)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise AssertionError(f"an image of {pixels.dtype}, {pixels.shape}")


def _content(generator: random.Random) -> bytes:
    chance = generator.random()
    if chance < 0.05:
        return _PROGRAM.encode()
    if chance < 0.1:
        return _png(
            generator.choice([0, 1, 2**16, 2**31 - 1, 2**32 - 1]), generator.choice([1, 2**16])
        )
    if chance < 0.15:
        return generator.randbytes(generator.randint(0, 200))
    content = bytearray(_image(generator))
    change = generator.random()
    if change < 0.3:
        del content[generator.randrange(len(content)) :]
    elif change < 0.9:
        for _ in range(generator.randint(1, 20)):
            # most of what harms stands in the header
            end = len(content) if generator.random() < 0.5 else min(len(content), 100)
            content[generator.randrange(end)] = generator.choice([0, 1, 127, 128, 255])
    return bytes(content)


def _image(generator: random.Random) -> bytes:
    pixels = np.random.default_rng(generator.randrange(2**32)).integers(0, 256, (40, 50, 3))
    image = Image.fromarray(pixels.astype(np.uint8)).convert("RGB")
    mode = generator.choice(_MODES)
    image = image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)
    for name in generator.sample(_FORMATS, len(_FORMATS)):
        buffer = BytesIO()
        try:
            image.save(buffer, name)
        except (OSError, ValueError, KeyError):  # the format has no such mode, or is not there
            continue
        return buffer.getvalue()
    raise ValueError(f"no format has the mode {mode}")


def _png(width: int, height: int) -> bytes:
    """A PNG that claims a size, and holds a few pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
