"""A batch as tensors and plain values, which load without running code."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement


def plain(value: Any) -> Any:
    """Turn a batch into tensors, numbers, strings, lists and dicts.

    Data samples become dicts of their fields and their metainfo, boxes and masks the tensors that
    they hold; of anything else that is not plain, what ``repr`` says.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy()) if value.dtype.kind in "biuf" else value.tolist()
    if isinstance(value, BaseDataElement):
        return {name: plain(field) for name, field in value.all_items()}
    if isinstance(value, Mapping):
        return {str(name): plain(field) for name, field in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    for content in ("tensor", "masks"):  # of mmdet's boxes and masks
        if hasattr(value, content):
            return plain(getattr(value, content))
    return repr(value)


def image_paths(batch: Any) -> list[str]:
    """The paths of the images of a batch, as far as its data samples know them."""
    samples = batch.get("data_samples") if isinstance(batch, Mapping) else None
    return [
        str(sample.img_path)
        for sample in samples or []
        if isinstance(sample, BaseDataElement) and "img_path" in sample
    ]
