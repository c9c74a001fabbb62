"""What a run of predictions writes: pictures, label maps, and detections in COCO's format."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from xcit_dense.atomic_files import write_atomically
from xcit_dense.errors import UserError, in_one_line
from xcit_dense.mm.annotations import ids_of_classes
from xcit_dense.predict.drawing import draw_prediction, shrunk
from xcit_dense.predict.inputs import InputImage, shared_folder
from xcit_dense.predict.results import Categories, Detections, Prediction, coco_masks

LARGEST_SIDE_OF_JPEG = 65500
PICTURES, LABELS, PROBABILITIES = "pictures", "labels", "probabilities"
_DETECTIONS = "predictions.json"


def folders_of_results(folder: Path) -> tuple[Path, ...]:
    """Where in an output folder there are images that are results."""
    return folder / PICTURES, folder / LABELS, folder / PROBABILITIES


class Annotations:
    """The numbers and names that a data set in COCO's format has for images and categories.

    An input is the annotated image whose ``file_name`` its path ends with.

    Args:
        path: the data set.
        files: the inputs, absolute paths.

    Attributes:
        categories: as in the data set.
        images: ``id`` and ``file_name`` of each input that is annotated, as the data set has them.

    Raises:
        UserError: there is no such file, it has another format, it knows none of the inputs, or two
            of them as one image.
    """

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        try:
            content = json.loads(path.read_bytes())
            annotated = {_plain(image["file_name"]): image for image in content["images"]}
            self.categories = [{"id": c["id"], "name": c["name"]} for c in content["categories"]]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"--annotations {path} is no data set in COCO's format ({in_one_line(error)})"
            ) from error
        self.images: dict[Path, dict[str, Any]] = {}
        input_of: dict[str, Path] = {}
        for file in files:
            ends = ("/".join(file.parts[first:]) for first in range(1, len(file.parts)))
            image = next((annotated[end] for end in ends if end in annotated), None)
            if image is None:
                continue
            name = image["file_name"]
            if input_of.setdefault(name, file) != file:
                raise UserError(
                    f"--annotations {path}: {file} and {input_of[name]} both end with the "
                    f"file_name {name}; predict on one of them"
                )
            self.images[file] = {"id": image["id"], "file_name": name}
        if not self.images:
            raise UserError(
                f"--annotations {path}: the inputs are not in it; {files[0]} ends with none of "
                f"the file_names, of which one is {next(iter(annotated), None)}"
            )


def _plain(file_name: str) -> str:
    """A path with slashes, without the dots that it begins with."""
    return file_name.replace("\\", "/").lstrip("./")


def category_ids(names: Sequence[str]) -> list[int]:
    """Numbers of categories: COCO's own for its 80 classes, else 1, 2, 3 and so on."""
    by_number = enumerate(MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"])
    of_coco = {number: name for number, name in by_number if name not in ("__background__", "N/A")}
    return list(of_coco if [*names] == [*of_coco.values()] else range(1, len(names) + 1))


@dataclass
class Outputs:
    """The results of a run, in one folder; an OSError tells that one cannot be written.

    Attributes:
        folder: where they go.
        categories: names and colours of the labels.
        files: the inputs, absolute paths.
        annotations: numbers for the JSON, which leaves out images that they lack.
        with_pictures: whether predictions are drawn.
        longest_side: largest height or width of a picture; None keeps the image's.

    Raises:
        UserError: the annotations have not one category for each class.
    """

    folder: Path
    categories: Categories
    files: Sequence[Path]
    annotations: Annotations | None = None
    with_pictures: bool = True
    longest_side: int | None = None

    def __post_init__(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._objects: list[dict[str, Any]] = []
        self._shared = shared_folder(self.files)
        names = self.categories.names
        if self.annotations:
            self._category_ids = ids_of_classes(names, self.annotations.categories, "--annotations")
        else:
            self._category_ids = category_ids(names)

    def write(self, image: InputImage, prediction: Prediction) -> None:
        """Write the results of an image; those for the JSON wait for :meth:`finish`."""
        if self.with_pictures:
            small, size = shrunk(image.background, self.longest_side), image.pixels.shape[:2]
            picture = draw_prediction(small, prediction, self.categories, size)
            write_picture(self.folder / PICTURES / f"{image.name}.jpg", picture)
        if isinstance(prediction, Detections):
            self.add(image.file, image.source, image.pixels.shape[:2], prediction)
        else:
            path = self.folder / LABELS / f"{image.name}.png"
            write_label_map(path, prediction.labels, self.categories)

    def finish(self) -> None:
        """Write the JSON, with the images so far, unless there are none."""
        if not self._images:
            return
        content = {
            "images": self._images,
            "categories": [
                {"id": number, "name": name}
                for number, name in zip(self._category_ids, self.categories.names, strict=True)
            ],
            "annotations": self._objects,
        }
        encoded = json.dumps(content).encode("ascii")
        write_atomically(self.folder / _DETECTIONS, lambda file: file.write(encoded))

    def add(self, file: Path, source: str, size: tuple[int, int], detections: Detections) -> None:
        """Add an image to the JSON, with its height and width and its objects.

        ``file`` and ``source`` are those of :class:`InputImage`.
        """
        if self.annotations is None:
            file_name = Path(source).relative_to(self._shared).as_posix()
            named = {"id": len(self._images) + 1, "file_name": file_name}
        elif file in self.annotations.images:
            named = self.annotations.images[file]
        else:
            return
        height, width = size
        self._images.append({**named, "width": width, "height": height})
        for index in range(len(detections)):
            numbered = {"id": len(self._objects) + 1, "image_id": named["id"]}
            self._objects.append(numbered | self._entry(detections, index))

    def _entry(self, detections: Detections, index: int) -> dict[str, Any]:
        left, top, right, bottom = map(float, detections.boxes[index])
        width, height = right - left, bottom - top
        entry = {
            "category_id": self._category_ids[detections.labels[index]],
            "bbox": [round(side, 3) for side in (left, top, width, height)],
            "area": round(width * height, 3),
            "iscrowd": 0,
        }
        if detections.scores is not None:
            entry["score"] = round(float(detections.scores[index]), 5)
        if detections.masks is not None:
            mask = detections.masks[index]
            entry["area"] = int(coco_masks().area(mask))
            entry["segmentation"] = {**mask, "counts": mask["counts"].decode("ascii")}
        return entry


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write uint8 (H, W, 3) in blue, green, red as a JPEG, shrunk if JPEG has no such sizes."""
    _write(path, Image.fromarray(shrunk(picture, LARGEST_SIDE_OF_JPEG)[..., ::-1]), "JPEG")


def write_label_map(path: Path, labels: np.ndarray, categories: Categories | None = None) -> None:
    """Write the labels of all pixels, int (H, W), as a PNG: the values are the labels.

    It has a palette with the colours of the categories where these are given, and are at most 256;
    else 8 bits of grey, or 16 where a label needs them.
    """
    if labels.max() > 255 or (categories and len(categories.names) > 256):
        picture = Image.fromarray(labels.astype(np.uint16))
    else:
        picture = Image.fromarray(labels.astype(np.uint8))
        if categories:
            picture.putpalette(np.array(categories.palette, dtype=np.uint8).tobytes())
    _write(path, picture, "PNG")


def _write(path: Path, picture: Image.Image, kind: str) -> None:
    """Write a picture whole, or not at all."""
    encoded = BytesIO()  # into a file Pillow's errors do not say what went wrong
    picture.save(encoded, kind, quality=95)
    write_atomically(path, lambda file: file.write(encoded.getvalue()), flush=False)
