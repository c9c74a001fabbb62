"""Detections as a data set in COCO's JSON format."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, BinaryIO

from xcit_dense.atomic_files import write_atomically
from xcit_dense.predict.categories import Categories
from xcit_dense.predict.masks.run_lengths import area
from xcit_dense.predict.results import Detections
from xcit_dense.predict.writing.coco_numbers import CocoNumbers


class CocoFile:
    """Detections on one image after the other, as a data set in COCO's JSON format.

    The annotations go to a nameless file as they come, so that memory does not grow with their
    number, and nothing is left of a run that is killed. The file appears at the end; an error on
    the way completes it with what there is. Without an image there is none.

    Args:
        path: the file to write.
        categories: names of the labels.
        numbers: of categories and images; None counts them.
    """

    def __init__(
        self, path: Path, categories: Categories, numbers: CocoNumbers | None = None
    ) -> None:
        self._path = path
        self._numbers = numbers or CocoNumbers(categories.names)
        self._categories = [
            {"id": number, "name": name}
            for number, name in zip(self._numbers.categories, categories.names, strict=True)
        ]
        self._images: list[dict[str, Any]] = []
        self._annotations = 0

    def __enter__(self) -> "CocoFile":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._listed = TemporaryFile("w+", encoding="ascii", dir=self._path.parent)
        return self

    def add(self, source: str, size: tuple[int, int], detections: Detections) -> None:
        """Add an image, of height and width ``size``, with what was found in it."""
        image_id = self._numbers.of_image(source)
        height, width = size
        entries = [self._entry(detections, index) for index in range(len(detections))]
        lines = []
        for entry in entries:
            self._annotations += 1
            numbered = {"id": self._annotations, "image_id": image_id} | entry
            lines.append((",\n" if self._annotations > 1 else "\n") + json.dumps(numbered))
        self._images.append({"id": image_id, "file_name": source, "width": width, "height": height})
        self._listed.write("".join(lines))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._listed:
            if self._images:
                write_atomically(self._path, self._write)

    def _write(self, file: BinaryIO) -> None:
        ending = json.dumps({"images": self._images, "categories": self._categories})
        self._listed.flush()
        self._listed.buffer.seek(0)
        file.write(b'{"annotations": [')
        shutil.copyfileobj(self._listed.buffer, file)
        file.write(b"\n], " + ending[1:].encode("ascii"))

    def _entry(self, detections: Detections, index: int) -> dict[str, Any]:
        left, top, right, bottom = map(float, detections.boxes[index])
        width, height = right - left, bottom - top
        entry = {
            "category_id": self._numbers.categories[detections.labels[index]],
            "bbox": [round(side, 3) for side in (left, top, width, height)],
            "area": round(width * height, 3),
            "iscrowd": 0,
        }
        if detections.scores is not None:
            entry["score"] = round(float(detections.scores[index]), 5)
        if detections.masks is not None:
            mask = detections.masks[index]
            entry["area"] = area(mask)
            entry["segmentation"] = {**mask, "counts": mask["counts"].decode("ascii")}
        return entry
