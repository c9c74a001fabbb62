"""What ``tools/test.py`` draws and keeps of single images, each under a name of its own."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
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


class _ImageHook(Hook):
    """Writes something of every tested image.

    Args:
        out_dir: folder for it.
    """

    def __init__(self, out_dir: str) -> None:
        self._folder = Path(out_dir)

    def before_test(self, runner: Runner) -> None:
        """Look up the images of the data set, for names that tell them apart."""
        dataset = runner.test_dataloader.dataset
        infos = map(dataset.get_data_info, range(len(dataset)))
        paths = dict.fromkeys(Path(os.path.abspath(info["img_path"])) for info in infos)
        self._names = output_names(list(paths))

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Write what there is of the samples of a batch."""
        for sample in outputs:
            self._write(sample, self._names[Path(os.path.abspath(sample.img_path))])

    def _write(self, sample: Any, name: str) -> None:
        raise NotImplementedError


class PictureHook(_ImageHook):
    """Draw every tested image as ``tools/predict.py`` does: ground truth left, prediction right."""

    def before_test(self, runner: Runner) -> None:
        """Look up the images and the classes."""
        super().before_test(runner)
        self._categories = categories_of(runner.test_dataloader.dataset.metainfo, "the data set")

    def _write(self, sample: Any, name: str) -> None:
        image = read_image(sample.img_path)
        prediction = from_sample(sample)
        if isinstance(prediction, Detections):
            prediction = prediction.above(0.3)
        halves = []
        for caption, drawn in [
            ("ground truth", ground_truth_of(sample)),
            ("prediction", [prediction]),
        ]:
            picture = shrunk(image, 1600)
            for each in drawn:
                picture = draw_prediction(picture, each, self._categories, image.shape[:2])
            if drawn:
                halves.append(below_caption(picture, caption))
        write_picture(self._folder / f"{name}.jpg", np.hstack(halves))


class LabelMapHook(_ImageHook):
    """Keep the predicted label map of every tested image as a PNG, as mmseg's ``IoUMetric`` does.

    The values are the labels from 0; where the data set leaves out a zero label, they are those of
    its own files, from 1.
    """

    def _write(self, sample: Any, name: str) -> None:
        prediction = from_sample(sample)
        if isinstance(prediction, SegmentationMap):
            labels = prediction.labels + bool(sample.metainfo.get("reduce_zero_label"))
            write_label_map(self._folder / f"{name}.png", labels)
