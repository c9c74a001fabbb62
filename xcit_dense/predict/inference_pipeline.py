"""The transforms of a config's test pipeline, for images that are already read."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from xcit_dense.errors import in_one_line
from xcit_dense.mm.config import type_name
from xcit_dense.predict.reading.decoding import Decoding
from xcit_dense.predict.scope import scope_of, tested_dataset

_LOADERS = ("LoadImageFromFile", "LoadImageFromNDArray")


class InferencePipeline:
    """What the test pipeline of a config does after reading the image, without annotations.

    Args:
        cfg: a config of mmdet or mmseg.

    Attributes:
        decoding: how the pipeline wants image files decoded.

    Raises:
        ValueError: there is no such pipeline, it does not begin with reading an image file, or it
            cannot be built.
    """

    def __init__(self, cfg: Config) -> None:
        loader, *others = _steps(cfg)
        self.decoding = Decoding.of_loader(loader)
        self._as_floats = bool(loader.get("to_float32"))
        kept = [step for step in others if "Annotations" not in type_name(step)]
        init_default_scope(scope_of(cfg))
        try:
            self._transforms: Callable[[dict], dict] = Compose(kept)
        except Exception as error:  # any transform may refuse its arguments in any way
            raise ValueError(f"the test pipeline cannot be built ({in_one_line(error)})") from error

    def __call__(self, image: np.ndarray, source: str = "") -> dict[str, Any]:
        """Prepare an image for the model.

        Args:
            image: uint8 (H, W, 3) in blue, green, red, or what :attr:`decoding` gives.
            source: its file.

        Returns:
            ``inputs`` (3, h, w) and ``data_samples``.

        Raises:
            ValueError: the pixels are of another kind, or too few in a direction.
        """
        self.decoding.check(image)
        image = self.decoding.convert(image)
        size = image.shape[:2]
        results = {
            "img": image.astype(np.float32) if self._as_floats else image,
            "img_path": source,
            "img_id": 0,
            "img_shape": size,
            "ori_shape": size,
            "seg_fields": [],
        }
        try:
            return self._transforms(results)
        except cv2.error as error:
            height, width = size
            reason = f"the test pipeline cannot transform {width} x {height} pixels ({error.err})"
            raise ValueError(reason) from error


def _steps(cfg: Config) -> list[dict]:
    """The steps of the test pipeline, of which the first reads an image file."""
    if not cfg.get("test_dataloader"):
        raise ValueError("there is no test_dataloader, whose pipeline prepares the images")
    steps = tested_dataset(cfg).get("pipeline")
    if not steps:
        raise ValueError("the data set of test_dataloader has no pipeline")
    first = type_name(steps[0])
    if first not in _LOADERS:
        raise ValueError(
            f"the test pipeline begins with {first}; only images that {_LOADERS[0]} reads can be "
            "predicted on"
        )
    return list(steps)
