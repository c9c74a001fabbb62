"""What ``tools/test.py`` draws and keeps of single images, each under a name of its own."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from xcit_dense.predict.drawing import below_caption, draw_prediction, shrunk
from xcit_dense.predict.inputs import output_names, read_image
from xcit_dense.predict.outputs import write_label_map, write_picture
from xcit_dense.predict.results import (
    Detections,
    SegmentationMap,
    categories_of,
    from_sample,
    ground_truth_of,
)


def names_of_images(dataset: Any) -> dict[Path, str]:
    """Names for the outputs of the images of a data set of mm's, by their absolute paths."""
    paths = (dataset.get_data_info(index)["img_path"] for index in range(len(dataset)))
    return output_names(list(dict.fromkeys(map(_absolute, paths))))


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(path))


@HOOKS.register_module()
class PictureHook(Hook):
    """Draw every tested image as ``tools/predict.py`` does: ground truth left, prediction right.

    Args:
        out_dir: folder of the pictures.
    """

    def __init__(self, out_dir: str) -> None:
        self._folder = Path(out_dir)

    def before_test(self, runner: Runner) -> None:
        """Look up the names of the images and of the classes."""
        dataset = runner.test_dataloader.dataset
        self._names = names_of_images(dataset)
        self._categories = categories_of(dataset.metainfo, "the data set")

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Draw the samples of a batch."""
        for sample in outputs:
            path = _absolute(sample.img_path)
            image = read_image(path)
            small = shrunk(image, 1600)
            prediction = from_sample(sample)
            if isinstance(prediction, Detections):
                prediction = prediction.above(0.3)
            truths = ground_truth_of(sample)
            halves = (
                {"ground truth": small, "prediction": small} if truths else {"prediction": small}
            )
            drawn = [*(("ground truth", truth) for truth in truths), ("prediction", prediction)]
            for half, each in drawn:
                halves[half] = draw_prediction(
                    halves[half], each, self._categories, image_size=image.shape[:2]
                )
            captioned = [below_caption(picture, half) for half, picture in halves.items()]
            write_picture(self._folder / f"{self._names[path]}.jpg", np.hstack(captioned))


@HOOKS.register_module()
class LabelMapHook(Hook):
    """Keep the predicted label map of every tested image as a PNG, as mmseg's ``IoUMetric`` does.

    The values are the labels from 0; where the data set leaves out a zero label, they are those of
    its own files, from 1.

    Args:
        out_dir: folder of the label maps.
    """

    def __init__(self, out_dir: str) -> None:
        self._folder = Path(out_dir)

    def before_test(self, runner: Runner) -> None:
        """Look up the names of the images."""
        self._names = names_of_images(runner.test_dataloader.dataset)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Write the label maps of a batch."""
        for sample in outputs:
            prediction = from_sample(sample)
            if isinstance(prediction, SegmentationMap):
                labels = prediction.labels + bool(sample.metainfo.get("reduce_zero_label"))
                name = self._names[_absolute(sample.img_path)]
                write_label_map(self._folder / f"{name}.png", labels)
