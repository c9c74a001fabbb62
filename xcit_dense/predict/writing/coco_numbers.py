"""Numbers of categories and images in COCO's JSON."""

import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from xcit_dense.errors import UserError

# Of the 90 numbers of COCO's categories the data set of 2017 uses 80.
_UNUSED_BY_COCO = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}


class CocoNumbers:
    """Numbers of categories and images; 1, 2, 3 and so on for images.

    Args:
        names: of the classes. They get :func:`category_ids`.

    Attributes:
        categories: the number of each label.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.categories = category_ids(names)
        self._last = 0

    def of_image(self, source: str) -> int:
        """The number of the next image."""
        self._last += 1
        return self._last


class AnnotatedNumbers(CocoNumbers):
    """The numbers that a file of annotations gives, so that its evaluation takes predictions.

    An image has the number of the annotated one whose ``file_name`` its path ends with. Images that
    are not annotated get numbers beyond those.

    Args:
        path: a data set in COCO's format.
        names: of the classes, which must all be categories there.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it has another format, or lacks a class.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        images, categories = _read(path)
        lacking = [name for name in names if name not in categories]
        if lacking:
            raise UserError(
                f"{path} has no category {lacking[0]!r}, which the model predicts; it has "
                f"{', '.join(sorted(categories))}"
            )
        self.categories = [categories[name] for name in names]
        self._images = images
        self._last = max(images.values(), default=0)

    def of_image(self, source: str) -> int:
        """The number of an image, which no other has."""
        parts = PurePath(source).parts
        for first in range(len(parts)):
            number = self._images.pop(parts[first:], None)
            if number is not None:
                return number
        return super().of_image(source)


def category_ids(names: Sequence[str]) -> list[int]:
    """Numbers of categories: COCO's own for its 80 classes, else 1, 2, 3 and so on."""
    from mmdet.datasets import CocoDataset

    if tuple(names) == tuple(CocoDataset.METAINFO["classes"]):
        return [number for number in range(1, 91) if number not in _UNUSED_BY_COCO]
    return list(range(1, len(names) + 1))


def _read(path: Path) -> tuple[dict[tuple[str, ...], int], dict[str, int]]:
    """Numbers of images by the parts of their names, and of categories by name."""
    if not path.is_file():
        raise FileNotFoundError(f"annotations {path} do not exist")
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        images = {_parts(image["file_name"]): int(image["id"]) for image in content["images"]}
        categories = {each["name"]: each["id"] for each in content["categories"]}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is no data set in COCO's format ({type(error).__name__}: {error})"
        ) from error
    return images, categories


def _parts(file_name: str) -> tuple[str, ...]:
    return PurePath(os.path.normpath(file_name)).parts
