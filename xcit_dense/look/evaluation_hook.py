"""A hook that says and draws, after an evaluation, which classes and images are bad."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log

from xcit_dense.errors import UserError
from xcit_dense.look.class_scores import ClassScores
from xcit_dense.look.coco_scores import scores_of_coco, watch_coco_evaluations
from xcit_dense.look.pixel_scores import PixelConfusion
from xcit_dense.look.score_pictures import (
    draw_classes,
    draw_confusion,
    draw_curves,
    draw_missed_objects,
    draw_wrong_pixels,
)
from xcit_dense.predict.inputs import read_image
from xcit_dense.predict.results import categories_of

_LINES = 18  # of a table


class EvaluationHook(Hook):
    """Writes what an evaluation by COCO's metric or mmseg's ``IoUMetric`` says of each class.

    After a test, and after a validation that is the best one since the training was started, the
    folder ``WORK_DIR/TIMESTAMP/evaluation`` has a table of all classes, pictures of it, of
    precision over recall and of what is taken for what, and the worst images on a sheet.
    """

    priority = "LOWEST"  # what is to be saved of a model goes before

    def __init__(self) -> None:
        self._best = -np.inf
        self._said = False
        self._by_kind: dict[str, ClassScores] = {}
        self._pixels: PixelConfusion | None = None

    def before_run(self, runner: Any) -> None:
        """Begin to watch COCO's evaluations."""
        if find_spec("pycocotools"):
            watch_coco_evaluations(self._see)

    def _see(self, evaluation: Any) -> None:
        if scores := scores_of_coco(evaluation):
            self._by_kind[evaluation.params.iouType] = scores

    def before_val(self, runner: Any) -> None:
        """Let pixels be counted."""
        self._count_pixels(runner.val_loop.evaluator)

    def before_test(self, runner: Any) -> None:
        """Let pixels be counted."""
        self._count_pixels(runner.test_loop.evaluator)

    def _count_pixels(self, evaluator: Any) -> None:
        self._by_kind.clear()
        self._pixels = None
        for metric in evaluator.metrics:
            if isinstance(metric, PixelConfusion):
                self._pixels = metric
                return
        for metric in evaluator.metrics:
            if hasattr(metric, "intersect_and_union") and not metric.format_only:
                self._pixels = PixelConfusion(metric.ignore_index, metric.collect_device)
                self._pixels.dataset_meta = evaluator.dataset_meta
                evaluator.metrics.append(self._pixels)
                return

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        """Write if this validation is the best so far."""
        self._write(runner, runner.val_loop, only_if_best=True)

    def after_test_epoch(self, runner: Any, metrics: Any = None) -> None:
        """Write, and log the worst classes."""
        self._write(runner, runner.test_loop, only_if_best=False)

    def _write(self, runner: Any, loop: Any, only_if_best: bool) -> None:
        if not is_main_process():
            return
        scores = None if hasattr(loop.evaluator, "dataset_prefixes") else self._scores()
        if scores is None or not np.isfinite(scores.mean):
            if not self._said:
                print_log(
                    "no scores and pictures by class: they are of CocoMetric and IoUMetric, of one "
                    "annotated data set, where something is predicted",
                    logger="current",
                )
            self._said = True
            return
        if only_if_best and scores.mean <= self._best:
            return
        self._best = scores.mean
        folder = Path(runner.log_dir, "evaluation")
        scores.write_table(folder / "per_class.csv")
        draw_classes(scores, folder / "per_class.png")
        draw_confusion(scores, folder / "confusion_matrix.png")
        if scores.recalls is not None:
            draw_curves(scores, folder / "precision_recall.png")
        try:
            self._draw_worst(scores, loop.dataloader.dataset, folder / "worst_images.jpg")
        except UserError as error:  # of an image that only the config's own pipeline can read
            print_log(f"the worst images are not drawn: {error}", logger="current")
        worst = [
            f"{scores.names[index]} {scores.columns[scores.main][index]:.3f}"
            for index in scores.worst_first()[:3]
        ]
        print_log(
            f"{scores.main} by class, what is taken for what, and the worst images are in "
            f"{folder}; the worst classes: {', '.join(worst)}",
            logger="current",
        )
        if not only_if_best:
            print_log(f"\n{scores.text(_LINES)}", logger="current")

    def _scores(self) -> ClassScores | None:
        if self._pixels is not None:
            return self._pixels.scores
        masks, boxes = self._by_kind.get("segm"), self._by_kind.get("bbox")
        if masks and boxes:
            extra = {key: column for key, column in boxes.columns.items() if "AP" in key}
            masks.columns = {**masks.columns, **extra}
        return masks or boxes

    def _draw_worst(self, scores: ClassScores, dataset: Any, target: Path) -> None:
        if self._pixels is not None:
            images = {Path(image.path): image for image in scores.worst}
        else:
            infos = [dataset.get_data_info(index) for index in range(len(dataset))]
            paths = {info.get("img_id"): Path(info.get("img_path", "")) for info in infos}
            if len(paths) < len(infos):  # several data sets that use the same ids
                return
            images = {paths[i.image_id]: i for i in scores.worst if i.image_id in paths}
        readable = {path: image for path, image in images.items() if os.path.isfile(path)}
        if not readable:
            return
        if self._pixels is None:
            draw_missed_objects(readable, read_image, target)
        else:
            categories = categories_of(dataset.metainfo, "the data set")
            draw_wrong_pixels(readable, categories, read_image, target)
