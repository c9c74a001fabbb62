"""Writes generated scenes in the layout of ADE20K's scene parsing challenge."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from dev.demo_data.coco_format import INSTANCE_PALETTE
from dev.demo_data.image_files import write_jpeg, write_label_png
from dev.demo_data.plan import SPLITS, Plan, Progress, without_progress
from dev.demo_data.scenes import Scene
from dev.demo_data.shapes import CATEGORIES
from dev.demo_data.whole_folder import make_whole_folder

SEGMENTATION_CLASSES = ("background", *CATEGORIES)
"""Names of the labels 1, 2, ... in the files; label 0 is 'other' and ignored."""

SEGMENTATION_PALETTE = [(120, 120, 120), *INSTANCE_PALETTE]
"""RGB triple of each of ``SEGMENTATION_CLASSES`` for drawing."""

OTHER, BACKGROUND, FIRST_CATEGORY = 0, 1, 2

_FOLDERS = {"train": "training", "val": "validation"}


def write_ade20k(
    root: Path | str,
    plan: Plan,
    *,
    overwrite: bool = False,
    progress: Progress = without_progress,
) -> bool:
    """Writes ``{images,annotations}/{training,validation}/ADE_{train,val}_*.{jpg,png}``.

    The folder appears only when it is complete; one made by the same plan is kept.

    Args:
        root: the folder to make, for instance ``data/demo/ade20k``.
        plan: which scenes to write.
        overwrite: whether to replace a data set made by another plan.
        progress: wraps the scenes of a split, given a description and their number.

    Returns:
        True if the data set was written, False if the present one was kept.

    Raises:
        FileExistsError: if the folder holds something else (see ``make_whole_folder``).
    """

    def fill(folder: Path) -> None:
        for split in SPLITS:
            scenes = progress(plan.scenes(split), f"ade20k {split}", plan.count(split))
            _write_split(folder, split, scenes)

    return make_whole_folder(root, plan.record("ade20k"), fill, overwrite)


def label_map(scene: Scene) -> np.ndarray:
    """Returns the labels of a scene, uint8 (H, W).

    0 is 'other' (crowds; ``reduce_zero_label`` turns it into the ignored 255), 1 is the
    background, and 2 onwards are the categories.
    """
    labels = np.full(scene.image.shape[:2], BACKGROUND, np.uint8)
    for instance in scene.instances:
        label = OTHER if instance.iscrowd else FIRST_CATEGORY + instance.category
        labels[instance.mask] = label
    return labels


def _write_split(folder: Path, split: str, scenes: Iterable[Scene]) -> None:
    images = folder / "images" / _FOLDERS[split]
    annotations = folder / "annotations" / _FOLDERS[split]
    images.mkdir(parents=True)
    annotations.mkdir(parents=True)
    for number, scene in enumerate(scenes, start=1):
        name = f"ADE_{split}_{number:08d}"
        write_jpeg(images / f"{name}.jpg", scene.image)
        write_label_png(annotations / f"{name}.png", label_map(scene))
