"""Predictions on images, in two lines.

>>> predictor = Predictor("config.py", "checkpoint.pth")  # doctest: +SKIP
>>> detections = predictor("image.jpg")  # doctest: +SKIP
"""

import copy
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, TRANSFORMS, init_default_scope
from torch import Tensor

from xcit_dense.errors import UserError, in_one_line
from xcit_dense.mm.config import innermost_dataset, model_scope, read_config, type_name
from xcit_dense.mm.loading import load_complete
from xcit_dense.mm.mixed_precision import default_dtype
from xcit_dense.predict.drawing import draw_prediction
from xcit_dense.predict.inputs import read_image
from xcit_dense.predict.postprocessing import encode_masks, keep_classes_only, keeping_logits
from xcit_dense.predict.results import (
    Detections,
    Prediction,
    categories_of,
    from_sample,
    metainfo_of_checkpoint,
    metainfo_of_test_data,
)
from xcit_dense.weights import load_checkpoint, unwrap_checkpoint


class Predictor:
    """A trained detector or segmentor, and the pipeline that leads to it.

    Args:
        config: a config of mmdet or mmseg, or its path.
        checkpoint: path or URL of the trained weights.
        device: ``cpu``, ``cuda``, ``cuda:1`` and so on; None takes the accelerator if there is one.
        amp: predict in mixed precision: bfloat16, on CUDA devices that lack it float16.

    Attributes:
        categories: names and colours of the labels.
        cfg: the config.
        loader: how the config's test pipeline wants image files decoded.
        is_segmentor: whether the model is one of mmseg's, and labels pixels.
        model: the model, in eval mode.
        steps: classes of the steps of the test pipeline that do not resample images.

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
        self.cfg = cfg = config if isinstance(config, Config) else read_config(str(config))
        scope = model_scope(cfg) or "mmdet"
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._amp = amp
        self._told_of_shrinking = False
        self.is_segmentor = scope == "mmseg"
        init_default_scope(scope)
        load, *steps = _test_pipeline(cfg)
        try:
            self.loader = TRANSFORMS.build({**load, "type": LoadImageFromFile})
            self._transforms = Compose(steps)
            others = [step for step in steps if "Resize" not in type_name(step)]
            self.steps = [type_name(step) for step in others]
            self._without_resizing = Compose(others)
            # a copy: some modules of mm's change the dicts that they are built from
            model = revert_sync_batchnorm(MODELS.build(copy.deepcopy(cfg.get("model"))))
        except Exception as error:  # modules and transforms may refuse their arguments in any way
            raise UserError(
                f"config {cfg.filename}: the model or its test pipeline cannot be built "
                f"({in_one_line(error)})"
            ) from error
        loaded = load_checkpoint(str(checkpoint))
        load_complete(model, unwrap_checkpoint(loaded), checkpoint)
        described = {**metainfo_of_test_data(cfg), **metainfo_of_checkpoint(loaded)}
        self.categories = categories_of(described, checkpoint)
        self.model = model.to(self._device)
        self.model.eval()  # some of mm's models return nothing
        if self.is_segmentor:
            keep_classes_only(self.model)
        elif scope == "mmdet":
            encode_masks(self.model)

    def __call__(self, image: np.ndarray | Path | str) -> Prediction:
        """Predict on an image file, or on pixels, uint8 (H, W, 3) in blue, green, red.

        Returns:
            :class:`Detections` or a :class:`SegmentationMap`, by what the model predicts.

        Raises:
            UserError: the file cannot be read.
        """
        if isinstance(image, str | PathLike):
            image = read_image(image, self.loader)
        return self.predict_batch([image])[0]

    def predict_batch(self, images: Sequence[np.ndarray], resize: bool = True) -> list[Prediction]:
        """Predict on images, each uint8 (H, W, 3) in blue, green, red, or as :attr:`loader` gives.

        Neighbours that the pipeline brings to one size are predicted together: padding others to a
        common size would change what attention sees, and so the predictions.

        Args:
            images: their pixels.
            resize: False leaves out the steps of the test pipeline that resample images.

        Raises:
            ValueError: the model predicts a class without a name.
        """
        return [self.named(from_sample(sample)) for sample in self._run(images, resize)]

    def logits_of(self, images: Sequence[np.ndarray]) -> list[Tensor]:
        """The logits of a segmentor for images that are not resampled, on the model's device.

        Returns:
            (classes, H, W) for each; (1, H, W), probabilities, from a model that only tells one
            class from the rest.

        Raises:
            UserError: the model gives none.
        """
        with keeping_logits(self.model):
            samples = self._run(images, resize=False)
        if samples and "seg_logits" not in samples[0]:
            raise UserError(f"{type(self.model).__name__} gives no seg_logits, as segmentors do")
        return [sample.seg_logits.data for sample in samples]

    def predict_raster(
        self,
        path: Path | str,
        out: Path | str,
        mode: str = "auto",
        context: int | str | None = None,
        tile: int | None = None,
        overlap: int | None = None,
        **options: Any,
    ) -> list[str]:
        """Predict on an image of any size as ``xcit-dense predict`` does; results go to ``out``.

        Args:
            path: of the image.
            out: a folder.
            mode, context, tile, overlap: see :func:`xcit_dense.large.ways.choose_way`.
            options: see :func:`xcit_dense.large.predicting.predict_raster`.

        Returns:
            What is said of damaged places, which became nodata.

        Raises:
            OSError: a result cannot be written.
            UserError: the image cannot be opened so, or the model cannot be run so.
        """
        from xcit_dense.large import overview, predicting, ways  # which build on this module
        from xcit_dense.predict.outputs import Outputs

        way = ways.choose_way(self, mode, context, tile, overlap)
        file, folder = Path(path).absolute(), Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        outputs = Outputs(folder, self.categories, [file], longest_side=overview.LONGEST_SIDE)
        damage = predicting.predict_raster(self, outputs, file, file.stem, way, **options)
        outputs.finish()
        return damage

    @torch.no_grad()
    def _run(self, images: Sequence[np.ndarray], resize: bool) -> list[Any]:
        """The data samples that mm's model makes of images."""
        prepared = [self._prepare(image, resize) for image in images]
        samples: list[Any] = []
        for _, group in groupby(prepared, key=lambda item: item["inputs"].shape):
            with self.autocast():
                samples += self.model.test_step(pseudo_collate(list(group)))
        return samples

    def autocast(self) -> AbstractContextManager:
        """Within it the model predicts in mixed precision, if that is wanted."""
        kind = self._device.type
        dtype = default_dtype(kind) if self._amp else None
        return torch.autocast(kind, dtype, enabled=self._amp)

    def normalised(self, image: np.ndarray) -> Tensor:
        """What the model sees of an image that is not resampled, without padding: (C, H, W)."""
        height, width = image.shape[:2]
        data = pseudo_collate([self._prepare(image, resize=False)])
        return self.model.data_preprocessor(data)["inputs"][0, :, :height, :width]

    def draw(self, image: np.ndarray, prediction: Prediction) -> np.ndarray:
        """As :func:`draw_prediction`, with the names and colours of this model."""
        return draw_prediction(image, prediction, self.categories)

    def _prepare(self, image: np.ndarray, resize: bool) -> dict[str, Any]:
        """What the test pipeline makes of pixels: ``inputs`` (C, h, w) and ``data_samples``."""
        if self.loader.color_type.startswith("grayscale") and image.ndim == 3:  # a video's
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        size = image.shape[:2]
        results = {
            "img": image.astype(np.float32) if self.loader.to_float32 else image,
            "img_path": "",
            "img_id": 0,
            "img_shape": size,
            "ori_shape": size,
            "scale_factor": (1.0, 1.0),
            "seg_fields": [],
        }
        prepared = (self._transforms if resize else self._without_resizing)(results)
        if max(size) > 4 * max(prepared["inputs"].shape[1:]) and not self._told_of_shrinking:
            self._told_of_shrinking = True
            warnings.warn(
                "the test pipeline shrinks large images to less than a quarter: small objects may "
                "be lost. Predict by parts, --mode auto, or let Resize keep more: --cfg-options "
                "test_dataloader.dataset.pipeline.1.scale='(WIDTH,HEIGHT)', if it is step 1",
                stacklevel=2,
            )
        return prepared

    def named(self, prediction: Prediction) -> Prediction:
        """See that all labels have names; leave out what a panoptic map gives to nothing.

        Raises:
            ValueError: one has none.
        """
        count = len(self.categories.names)
        if isinstance(prediction, Detections) and prediction.scores is None:
            return prediction.where(prediction.labels < count)
        if (largest := prediction.labels.max(initial=0)) >= count:
            raise ValueError(
                f"the model predicts label {largest}, but the checkpoint or the config name "
                f"{count} classes (a segmentor that tells one class from the rest has two)"
            )
        return prediction


def _test_pipeline(cfg: Config) -> list[dict]:
    """The steps for images in the test pipeline of a config; the first one reads them."""
    dataset = innermost_dataset((cfg.get("test_dataloader") or {}).get("dataset") or {})
    first, *steps = dataset.get("pipeline") or [{}]
    if type_name(first) not in ("LoadImageFromFile", "LoadImageFromNDArray"):
        raise UserError(
            f"config {cfg.filename}: test_dataloader needs a data set with a pipeline that begins "
            f"with LoadImageFromFile, not {type_name(first) or 'nothing'}"
        )
    return [first, *(step for step in steps if "Annotations" not in type_name(step))]
