"""Predictions on images, in two lines.

>>> predictor = Predictor("config.py", "checkpoint.pth")  # doctest: +SKIP
>>> detections = predictor("image.jpg")  # doctest: +SKIP
"""

import copy
import logging
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.logging import print_log
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, TRANSFORMS, init_default_scope
from torch import nn

from xcit_dense.errors import UserError, in_one_line
from xcit_dense.mm.config import innermost_dataset, model_scope, read_config, type_name
from xcit_dense.mm.loading import load_checkpoint, load_complete
from xcit_dense.mm.mixed_precision import default_dtype
from xcit_dense.predict.class_maps import keep_classes_only
from xcit_dense.predict.drawing import draw_prediction
from xcit_dense.predict.inputs import read_image
from xcit_dense.predict.masks import encode_masks_in_boxes, predicts_as_mm
from xcit_dense.predict.query_masks import encode_query_masks
from xcit_dense.predict.results import (
    Categories,
    Detections,
    Prediction,
    categories_of,
    from_sample,
    metainfo_of_checkpoint,
    metainfo_of_test_data,
)
from xcit_dense.weights import unwrap_checkpoint

_LOADERS = ("LoadImageFromFile", "LoadImageFromNDArray")
# a part that predictions do without; slim checkpoints lack it
_ONLY_FOR_TRAINING = "auxiliary_head."
_MUCH_SMALLER = 4


class Predictor:
    """A trained detector or segmentor, and the pipeline that leads to it.

    Args:
        config: a config of mmdet or mmseg, or its path.
        checkpoint: path or URL of the trained weights.
        device: ``cpu``, ``cuda``, ``cuda:1`` and so on; None takes the accelerator if there is one.
        amp: predict in mixed precision: bfloat16, on CUDA devices that lack it float16.

    Attributes:
        categories: names and colours of the labels.
        loader: how the config's test pipeline wants image files decoded.
        model: the model, in eval mode.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        UserError: the config is missing or has no usable model or test pipeline, or the checkpoint
            is unusable or does not fit it.
    """

    def __init__(
        self,
        config: Config | Path | str,
        checkpoint: Path | str,
        device: str | None = None,
        amp: bool = False,
    ) -> None:
        cfg = config if isinstance(config, Config) else read_config(str(config))
        self._scope = model_scope(cfg) or "mmdet"
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._amp = amp
        self._has_warned = False
        init_default_scope(self._scope)
        self.loader, self._transforms = _test_pipeline(cfg)
        self.model, self.categories = _trained_model(cfg, checkpoint)
        self.model.to(self._device).eval()
        if self._scope == "mmdet":
            encode_masks(self.model)
        elif self._scope == "mmseg":
            keep_classes_only(self.model)

    def __call__(self, image: np.ndarray | Path | str) -> Prediction:
        """Predict on an image file, or on pixels, uint8 (H, W, 3) in blue, green, red.

        Returns:
            :class:`Detections` or a :class:`SegmentationMap`, by what the model predicts.

        Raises:
            UnreadableImageError: the file cannot be read.
            TypeError: what is given is neither.
        """
        if isinstance(image, str | PathLike):
            image = read_image(image, self.loader)
        return self.predict_batch([image])[0]

    @torch.no_grad()
    def predict_batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """Predict on images, each uint8 (H, W, 3) in blue, green, red, or as :attr:`loader` gives.

        Images that the pipeline brings to different sizes are predicted one after the other:
        padding them to a common size would change what attention sees, and so the predictions.

        Raises:
            TypeError: one of them is no array.
            ValueError: the pipeline or the model cannot take one.
        """
        prepared = [self._prepare(image) for image in images]
        of_shape: dict[torch.Size, list[int]] = {}
        for index, sample in enumerate(prepared):
            of_shape.setdefault(sample["inputs"].shape, []).append(index)
        predictions: dict[int, Prediction] = {}
        for indices in of_shape.values():
            batch = {
                key: [prepared[index][key] for index in indices]
                for key in ("inputs", "data_samples")
            }
            kind = self._device.type
            dtype = default_dtype(kind) if self._amp else None
            with torch.autocast(kind, dtype, enabled=self._amp):
                samples = self.model.test_step(batch)
            for index, sample in zip(indices, samples, strict=True):
                predictions[index] = self._named(from_sample(sample))
        return [predictions[index] for index in range(len(images))]

    def draw(
        self, image: np.ndarray, prediction: Prediction, longest_side: int | None = None
    ) -> np.ndarray:
        """As :func:`draw_prediction`, with the names and colours of this model."""
        return draw_prediction(image, prediction, self.categories, longest_side)

    def _prepare(self, image: np.ndarray) -> dict[str, Any]:
        """What the test pipeline makes of pixels: ``inputs`` (C, h, w) and ``data_samples``."""
        if not isinstance(image, np.ndarray):
            raise TypeError(
                f"{type(image).__name__}: an image is its path or an array of its pixels; several "
                "arrays go to predict_batch"
            )
        color_type = self.loader.color_type
        of_bytes = image.dtype == np.uint8 or color_type == "unchanged"
        if not of_bytes or image.ndim not in (2, 3) or not image.size:
            raise ValueError(
                f"pixels of shape {image.shape} and type {image.dtype}: expected uint8 (H, W, 3) "
                "in blue, green, red, as xcit_dense.predict.read_image gives"
            )
        if color_type.startswith("grayscale") and image.ndim == 3:  # a video's
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        size = image.shape[:2]
        results = {
            "img": image.astype(np.float32) if self.loader.to_float32 else image,
            "img_path": "",
            "img_id": 0,
            "img_shape": size,
            "ori_shape": size,
            "seg_fields": [],
        }
        try:
            prepared = self._transforms(results)
        except Exception as error:  # such as OpenCV's, for images that are too long and thin
            raise ValueError(
                f"the test pipeline cannot transform {size[1]} x {size[0]} pixels "
                f"({in_one_line(error)})"
            ) from error
        self._warn_of_shrinking(size, prepared["inputs"].shape[1:])
        return prepared

    def _warn_of_shrinking(self, size: tuple[int, int], shrunk: Sequence[int]) -> None:
        if self._has_warned or max(size) <= _MUCH_SMALLER * max(shrunk):
            return
        self._has_warned = True
        _warn(
            f"the test pipeline shrinks {size[1]} x {size[0]} pixels to {shrunk[1]} x {shrunk[0]}: "
            "small objects may be lost. Cut large images into tiles, or let Resize keep more: "
            "--cfg-options test_dataloader.dataset.pipeline.1.scale='(WIDTH,HEIGHT)', if it is "
            "step 1"
        )

    def _named(self, prediction: Prediction) -> Prediction:
        """See that all labels have names; leave out what a panoptic map gives to nothing."""
        count = len(self.categories.names)
        if isinstance(prediction, Detections) and prediction.scores is None:
            return prediction.where(prediction.labels < count)
        largest = prediction.labels.max(initial=0)
        if largest >= count:
            raise ValueError(
                f"the model predicts label {int(largest)}, but only {count} classes are named, "
                "from 0: the checkpoint or the test data of the config describe other classes (a "
                "segmentor that tells one class from the rest has two: num_classes=2)"
            )
        return prediction


def encode_masks(model: nn.Module) -> int:
    """Let a detector predict masks one by one, as run lengths instead of arrays, in place.

    Heads are changed that are mmdet's own: those that paste masks in boxes (Mask R-CNN, Cascade)
    and those that fuse queries (MaskFormer, Mask2Former, panoptic maps too). Others stay.

    Returns:
        How many heads were changed.
    """
    if not predicts_as_mm(model):
        return 0
    return encode_masks_in_boxes(model) + encode_query_masks(model)


def _test_pipeline(cfg: Config) -> tuple[LoadImageFromFile, Compose]:
    """What reads an image in the test pipeline of a config, and the other steps for images."""
    dataset = innermost_dataset((cfg.get("test_dataloader") or {}).get("dataset") or {})
    steps = dataset.get("pipeline")
    if not steps:
        raise UserError(f"config {cfg.filename}: test_dataloader has no data set with a pipeline")
    first = type_name(steps[0])
    if first not in _LOADERS:
        raise UserError(
            f"config {cfg.filename}: the test pipeline begins with {first}; only images that "
            f"{_LOADERS[0]} reads can be predicted on"
        )
    try:
        loader = TRANSFORMS.build({**steps[0], "type": LoadImageFromFile})
        return loader, Compose([step for step in steps[1:] if "Annotations" not in type_name(step)])
    except Exception as error:  # any transform may refuse its arguments in any way
        raise UserError(
            f"config {cfg.filename}: the test pipeline cannot be built ({in_one_line(error)})"
        ) from error


def _trained_model(cfg: Config, checkpoint: Path | str) -> tuple[nn.Module, Categories]:
    """The model of a config with the weights of a checkpoint.

    The names of the classes are those that training has left in the checkpoint, else those of the
    config's test data.
    """
    try:
        # a copy: some modules of mm's change the dicts that they are built from
        model = revert_sync_batchnorm(MODELS.build(copy.deepcopy(cfg.get("model"))))
    except Exception as error:  # any module may refuse its arguments in any way
        raise UserError(
            f"config {cfg.filename}: the model cannot be built ({in_one_line(error)})"
        ) from error
    loaded = load_checkpoint(str(checkpoint))
    unused = load_complete(model, unwrap_checkpoint(loaded), checkpoint, _is_for_predicting)
    _check_unused([name for name in unused if _is_for_predicting(name)], checkpoint)
    described = {**metainfo_of_test_data(cfg), **metainfo_of_checkpoint(loaded)}
    return model, categories_of(described, checkpoint)


def _is_for_predicting(name: str) -> bool:
    return not name.startswith(_ONLY_FOR_TRAINING)


def _check_unused(names: list[str], source: object) -> None:
    """Refuse another backbone's weights, which may fill a smaller one; tell of other surplus."""
    of_backbone = [name for name in names if name.startswith("backbone.")]
    if of_backbone:
        raise UserError(
            f"{source} does not fit the config: {len(of_backbone)} of its tensors have no place in "
            f"the backbone, {of_backbone[0]} among them"
        )
    if names:
        _warn(f"{source}: {len(names)} of its tensors have no place in the model, as {names[0]}")


def _warn(line: str) -> None:
    print_log(line, logger="current", level=logging.WARNING)
