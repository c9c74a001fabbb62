"""Writes generated scenes in COCO's layout (instances, 2017)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from dev.demo_data.image_files import write_jpeg
from dev.demo_data.plan import SPLITS, Plan, Progress, without_progress
from dev.demo_data.scenes import Instance, Scene
from dev.demo_data.shapes import CATEGORIES
from dev.demo_data.whole_folder import make_whole_folder

CATEGORY_IDS = (1, 2, 4, 7, 9)
"""Identifiers of ``CATEGORIES`` in the files: with gaps, as COCO's own have."""

INSTANCE_CLASSES = CATEGORIES

INSTANCE_PALETTE = [(220, 20, 60), (0, 130, 200), (60, 180, 75), (245, 190, 30), (145, 30, 180)]
"""RGB triple of each of ``INSTANCE_CLASSES`` for drawing."""


def write_coco(
    root: Path | str,
    plan: Plan,
    *,
    overwrite: bool = False,
    progress: Progress = without_progress,
) -> bool:
    """Writes ``annotations/instances_{train,val}2017.json`` and ``{train,val}2017/*.jpg``.

    The folder appears only when it is complete; one made by the same plan is kept.

    Args:
        root: the folder to make, for instance ``data/demo/coco``.
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
            scenes = progress(plan.scenes(split), f"coco {split}", plan.count(split))
            _write_split(folder, split, scenes)

    return make_whole_folder(root, plan.record("coco"), fill, overwrite)


def _write_split(folder: Path, split: str, scenes: Iterable[Scene]) -> None:
    image_folder = folder / f"{split}2017"
    image_folder.mkdir()
    content = _empty_content(split)
    for image_id, scene in enumerate(scenes, start=1):
        file_name = f"{image_id:012d}.jpg"
        write_jpeg(image_folder / file_name, scene.image)
        content["images"].append(_image_entry(scene, image_id, file_name))
        for instance in scene.instances:
            annotation_id = len(content["annotations"]) + 1
            content["annotations"].append(annotation(instance, annotation_id, image_id))
    target = folder / "annotations" / f"instances_{split}2017.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(content), encoding="utf-8")


def _empty_content(split: str) -> dict[str, Any]:
    names = zip(CATEGORY_IDS, CATEGORIES, strict=True)
    return {
        "info": {"description": f"Generated shapes, {split}", "version": "1.0", "year": 2017},
        "licenses": [{"id": 1, "name": "CC0 1.0", "url": ""}],
        "images": [],
        "annotations": [],
        "categories": [
            {"id": number, "name": name, "supercategory": "shape"} for number, name in names
        ],
    }


def _image_entry(scene: Scene, image_id: int, file_name: str) -> dict[str, Any]:
    height, width = scene.image.shape[:2]
    return {
        "id": image_id,
        "file_name": file_name,
        "height": height,
        "width": width,
        "license": 1,
    }


def annotation(instance: Instance, annotation_id: int, image_id: int) -> dict[str, Any]:
    """Returns COCO's annotation of one instance: polygons, or counts for a crowd.

    The box is x, y, width, height in pixels and encloses the visible mask exactly; the area is
    the number of the mask's pixels.
    """
    if instance.iscrowd:
        segmentation: Any = run_lengths(instance.mask)
    else:
        segmentation = [polygon.round(3).ravel().tolist() for polygon in instance.polygons]
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": CATEGORY_IDS[instance.category],
        "bbox": _box(instance.mask),
        "area": float(instance.mask.sum()),
        "segmentation": segmentation,
        "iscrowd": int(instance.iscrowd),
    }


def run_lengths(mask: np.ndarray) -> dict[str, list[int]]:
    """Encodes a mask, bool (H, W), as COCO's uncompressed run lengths.

    Returns:
        ``size`` [H, W], and ``counts``: lengths of alternating runs of 0 and 1 in column-major
        order, the first (of zeros) possibly 0.
    """
    pixels = np.concatenate([[False], mask.ravel(order="F")])
    changes = np.flatnonzero(pixels[1:] != pixels[:-1])
    bounds = np.concatenate([[0], changes, [mask.size]])
    return {"size": list(mask.shape), "counts": np.diff(bounds).tolist()}


def _box(mask: np.ndarray) -> list[float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = columns[0], rows[0]
    return [float(left), float(top), float(columns[-1] - left + 1), float(rows[-1] - top + 1)]
