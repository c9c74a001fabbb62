"""The transforms of a config's test pipeline, for images that are already read."""

from collections.abc import Callable
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from xcit_dense.openmmlab.config_tree import bare_name, innermost_dataset

_LOADERS = ("LoadImageFromFile", "LoadImageFromNDArray")


class InferencePipeline:
    """What the test pipeline of a config does after reading the image, without annotations.

    Args:
        cfg: a config of mmdet or mmseg.

    Raises:
        ValueError: there is no such pipeline, or it does not begin with reading an image file.
    """

    def __init__(self, cfg: Config) -> None:
        if not cfg.get("test_dataloader"):
            raise ValueError("there is no test_dataloader, whose pipeline prepares the images")
        loader, *others = innermost_dataset(cfg.test_dataloader.dataset).pipeline
        if bare_name(loader["type"]) not in _LOADERS:
            raise ValueError(
                f"the test pipeline begins with {loader['type']}; only images that "
                f"{_LOADERS[0]} reads can be predicted on"
            )
        self._pixel_type = np.float32 if loader.get("to_float32") else np.uint8
        init_default_scope(cfg.get("default_scope", "mmdet"))
        self._transforms: Callable[[dict], dict] = Compose(
            [step for step in others if "Annotations" not in bare_name(step["type"])]
        )

    def __call__(self, image: np.ndarray, source: str = "") -> dict[str, Any]:
        """Prepare an image, uint8 (H, W, 3) in blue, green, red, for the model.

        Returns:
            ``inputs`` (3, h, w) and ``data_samples``.
        """
        size = image.shape[:2]
        results = {
            "img": image.astype(self._pixel_type, copy=False),
            "img_path": source,
            "img_id": 0,
            "img_shape": size,
            "ori_shape": size,
            "seg_fields": [],
        }
        return self._transforms(results)
