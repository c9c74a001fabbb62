"""Drawing segmentations: one picture an image, ground truth left, prediction right."""

import os.path as osp
from collections.abc import Sequence
from typing import Any

import mmcv
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.visualization import Visualizer


@HOOKS.register_module()
class SegmentationPictureHook(Hook):
    """Write a picture for every tested image under its own name, as mmdet's hook does.

    mmseg's hooks hand pictures to the visualizer instead, which names them after a step and, on
    upstream, keeps one of fifty.

    Args:
        draw: whether to draw at all.
        test_out_dir: folder of the pictures.
    """

    def __init__(self, draw: bool = False, test_out_dir: str | None = None) -> None:
        self.draw = draw and test_out_dir is not None
        self.test_out_dir = test_out_dir

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any, outputs: Sequence[Any]
    ) -> None:
        """Draw the samples of a batch."""
        if not self.draw:
            return
        visualizer = Visualizer.get_current_instance()
        for sample in outputs:
            name = osp.basename(sample.img_path)
            visualizer.add_datasample(
                name,
                mmcv.imread(sample.img_path, channel_order="rgb"),
                data_sample=sample.cpu(),
                with_labels=False,
                out_file=osp.join(self.test_out_dir, osp.splitext(name)[0] + ".png"),
            )
