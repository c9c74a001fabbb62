"""Label maps that mmsegmentation reads, written from masks that it cannot read as they are."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from xcit_dense.atomic_files import write_atomically
from xcit_dense.data.mask_classes import Classes, as_colours
from xcit_dense.data.mask_folder import MaskFolder, read_mask
from xcit_dense.errors import UserError


def maps_of(folder: MaskFolder, folders: Sequence[MaskFolder], out: Path) -> Path:
    """Where the label maps of a folder go: that of training, and of validation if there is one."""
    return out / ("train", "val")[folders.index(folder)] if len(folders) > 1 else out


def write_label_maps(folders: Sequence[MaskFolder], classes: Classes, out: Path) -> None:
    """Write label maps as PNG that are called as the images with ``.png`` behind.

    Args:
        folders: what was read.
        classes: what its values mean; a palette shows them in any viewer.
        out: folder to write to; other files in it stay.

    Raises:
        UserError: images or masks lie there.
        OSError: something cannot be written; what was there stays.
    """
    for root in (root for folder in folders for root in (folder.images, folder.masks)):
        if root.is_relative_to(out):
            raise UserError(f"label maps would go to {out}, where your {root} is: choose OUT anew")
    values = np.array(sorted(classes.labels))
    labels = np.array([classes.labels[value] for value in values.tolist()], np.uint8)
    for folder in folders:
        write = partial(
            _write_label_map, folder, classes, values, labels, maps_of(folder, folders, out)
        )
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            done = pool.map(write, range(len(folder.pairs)))
            for _ in tqdm(done, "label maps", len(folder.pairs), unit="map", disable=None):
                pass


def _write_label_map(
    folder: MaskFolder,
    classes: Classes,
    values: np.ndarray,
    labels: np.ndarray,
    out: Path,
    index: int,
) -> None:
    image, mask = folder.pairs[index]
    codes = read_mask(folder.masks / mask)[0]
    if classes.has_colours:
        codes = as_colours(codes, folder.contents[index])
    picture = Image.fromarray(labels[np.searchsorted(values, codes)])
    if classes.palette:
        colours = np.array(classes.palette, np.uint8)
        # a full one: by its length Pillow chooses the bits of a pixel
        picture.putpalette(np.pad(colours, ((0, 256 - len(colours)), (0, 0))).tobytes())
    write_atomically(out / f"{image}.png", lambda file: picture.save(file, "PNG"), flush=False)
