"""Predictions on images, in two lines.

>>> predictor = Predictor("config.py", "checkpoint.pth")  # doctest: +SKIP
>>> detections = predictor("image.jpg")  # doctest: +SKIP
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config

from xcit_dense.predict.class_maps import keep_classes_only
from xcit_dense.predict.drawing import draw_prediction
from xcit_dense.predict.inference_pipeline import InferencePipeline
from xcit_dense.predict.masks import encode_masks
from xcit_dense.predict.model import build_trained_model
from xcit_dense.predict.reading.decoding import Decoding, viewable
from xcit_dense.predict.reading.image_files import read_image
from xcit_dense.predict.results import Detections, Prediction, from_sample
from xcit_dense.predict.scope import scope_of


class Predictor:
    """A trained detector or segmentor, and the pipeline that leads to it.

    Args:
        config: a config of mmdet or mmseg, or its path.
        checkpoint: path or URL of the trained weights.
        device: ``cpu``, ``cuda``, ``cuda:1`` and so on; None takes the accelerator if there is one.

    Attributes:
        categories: names and colours of the labels.
        model: the model, in eval mode.

    Raises:
        FileNotFoundError: there is no such config or checkpoint.
        UserError: the checkpoint is unusable or does not fit the config.
        ValueError: the config has no test pipeline for image files, or no usable model.
    """

    def __init__(
        self, config: Config | Path | str, checkpoint: Path | str, device: str | None = None
    ) -> None:
        if not isinstance(config, Config):
            config = Config.fromfile(config)
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._prepare = InferencePipeline(config)
        self.model, self.categories = build_trained_model(config, checkpoint, device)
        scope = scope_of(config)
        if scope == "mmdet":
            encode_masks(self.model)
        elif scope == "mmseg":
            keep_classes_only(self.model)

    @property
    def decoding(self) -> Decoding:
        """How the config's test pipeline wants image files decoded."""
        return self._prepare.decoding

    def __call__(self, image: np.ndarray | Path | str) -> Prediction:
        """Predict on an image file, or on pixels, uint8 (H, W, 3) in blue, green, red.

        Returns:
            :class:`Detections` or a :class:`SegmentationMap`, by what the model predicts.

        Raises:
            UnreadableImageError: the file cannot be read.
            TypeError: what is given is neither.
        """
        if isinstance(image, str | PathLike):
            image = read_image(image, self.decoding)
        return self.predict_batch([image])[0]

    @torch.no_grad()
    def predict_batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """Predict on images, each uint8 (H, W, 3) in blue, green, red, or as :attr:`decoding` says.

        Images that the pipeline brings to different sizes are predicted one after the other:
        padding them to a common size would change what attention sees, and so the predictions.

        Raises:
            TypeError: one of them is no array.
            ValueError: one has other pixels.
        """
        for image in images:
            if not isinstance(image, np.ndarray):
                raise TypeError(
                    f"{type(image).__name__}: an image is its path or an array of its pixels; "
                    "several arrays go to predict_batch"
                )
        prepared = [self._prepare(image) for image in images]
        predictions: dict[int, Prediction] = {}
        for indices in _of_equal_shape([sample["inputs"].shape for sample in prepared]):
            batch = {
                key: [prepared[index][key] for index in indices]
                for key in ("inputs", "data_samples")
            }
            for index, sample in zip(indices, self.model.test_step(batch), strict=True):
                predictions[index] = self._named(from_sample(sample))
        return [predictions[index] for index in range(len(images))]

    def draw(
        self, image: np.ndarray, prediction: Prediction, longest_side: int | None = None
    ) -> np.ndarray:
        """Draw a prediction into a copy of its image, both in blue, green, red.

        Args:
            image: as it was predicted on.
            prediction: on that image.
            longest_side: largest height or width of the picture; None keeps the image's.
        """
        return draw_prediction(viewable(image), prediction, self.categories, longest_side)

    def _named(self, prediction: Prediction) -> Prediction:
        """See that all labels have names; leave out what a panoptic map gives to nothing.

        Raises:
            ValueError: the model knows more classes than are named.
        """
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


def _of_equal_shape(shapes: Sequence[torch.Size]) -> list[list[int]]:
    """Indices of equal shapes together."""
    groups: dict[torch.Size, list[int]] = {}
    for index, shape in enumerate(shapes):
        groups.setdefault(shape, []).append(index)
    return list(groups.values())
