"""Files of predictions: COCO's JSON for objects, indexed PNGs for segmentations."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from xcit_dense.openmmlab.prediction.model import Categories
from xcit_dense.openmmlab.prediction.results import Detections, SegmentationMap

# Of the 90 numbers of COCO's categories the data set of 2017 uses 80.
_UNUSED_BY_COCO = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
_LARGEST_PALETTE = 256


class CocoFile:
    """Detections on one image after the other, as a data set in COCO's JSON format.

    The annotations are written as they come, so that memory does not grow with their number. The
    file appears when it is complete; an error on the way completes it with what there is.

    Args:
        path: the file to write.
        categories: names of the labels.
    """

    def __init__(self, path: Path, categories: Categories) -> None:
        self._path = path
        self._ids = category_ids(categories.names)
        self._categories = [
            {"id": number, "name": name}
            for number, name in zip(self._ids, categories.names, strict=True)
        ]
        self._images: list[dict[str, Any]] = []
        self._annotations = 0

    def __enter__(self) -> "CocoFile":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._partial = self._path.with_name(f".{self._path.name}.partial-{os.getpid()}")
        self._file = self._partial.open("w", encoding="utf-8")
        self._file.write('{"annotations": [')
        return self

    def add(self, source: str, size: tuple[int, int], detections: Detections) -> None:
        """Add an image, of height and width ``size``, with what was found in it."""
        image_id = len(self._images) + 1
        height, width = size
        self._images.append({"id": image_id, "file_name": source, "width": width, "height": height})
        for index in range(len(detections)):
            self._file.write(",\n" if self._annotations else "\n")
            self._annotations += 1
            entry = {"id": self._annotations, "image_id": image_id}
            json.dump(entry | self._entry(detections, index), self._file)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        ending = json.dumps({"images": self._images, "categories": self._categories})
        self._file.write("\n], " + ending[1:])
        self._file.close()
        os.replace(self._partial, self._path)

    def _entry(self, detections: Detections, index: int) -> dict[str, Any]:
        left, top, right, bottom = map(float, detections.boxes[index])
        width, height = right - left, bottom - top
        entry = {
            "category_id": self._ids[detections.labels[index]],
            "bbox": [round(side, 3) for side in (left, top, width, height)],
            "area": round(width * height, 3),
            "iscrowd": 0,
        }
        if detections.scores is not None:
            entry["score"] = round(float(detections.scores[index]), 5)
        if detections.masks is not None:
            from pycocotools import mask as coco_mask

            mask = detections.masks[index]
            entry["area"] = int(coco_mask.area(mask))
            entry["segmentation"] = {**mask, "counts": mask["counts"].decode("ascii")}
        return entry


def category_ids(names: Sequence[str]) -> list[int]:
    """Numbers of categories: COCO's own for its 80 classes, else 1, 2, 3 and so on."""
    from mmdet.datasets import CocoDataset

    if tuple(names) == tuple(CocoDataset.METAINFO["classes"]):
        return [number for number in range(1, 91) if number not in _UNUSED_BY_COCO]
    return list(range(1, len(names) + 1))


def write_label_map(path: Path, segmentation: SegmentationMap, categories: Categories) -> None:
    """Write the labels of all pixels as a PNG with a palette: the values are the labels.

    Raises:
        ValueError: there are more labels than a palette has colours.
    """
    if len(categories.names) > _LARGEST_PALETTE:
        raise ValueError(
            f"{len(categories.names)} classes: an indexed PNG has at most {_LARGEST_PALETTE}"
        )
    picture = Image.fromarray(segmentation.labels.astype(np.uint8), mode="P")
    picture.putpalette(np.array(categories.palette, dtype=np.uint8).tobytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
