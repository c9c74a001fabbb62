"""How good predictions on large generated scenes are, and the time they take, by the ways."""

import contextlib
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from dev.benchmark_large.ways import Way, label_all, predict
from dev.demo_data.data_set import BACKGROUND, label_map
from dev.demo_data.scenes import Scene, draw_large_scene, draw_side_by_side
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tqdm import tqdm

from xcit_dense.large.arrays import ArrayRaster
from xcit_dense.large.pixels import Pixels
from xcit_dense.predict.predictor import Predictor
from xcit_dense.predict.results import Detections, boxes_around, coco_masks, encode_mask

SIDE = 144  # pixels of the scenes that large ones are made of, or like
KINDS = {"heterogeneous": draw_side_by_side, "homogeneous": draw_large_scene}
_UNKNOWN = 255


@dataclass
class Score:
    """What one way came to on the scenes of one kind.

    Attributes:
        seconds: of the CPU, all threads together.
        truths, found: for each scene labels (H, W), or objects as annotations in COCO's format.
    """

    kind: str
    way: Way
    seconds: float = 0.0
    truths: list = field(default_factory=list)
    found: list = field(default_factory=list)

    def metrics(self) -> dict[str, float]:
        """Over all scenes together: mIoU, or box and mask AP."""
        if isinstance(self.truths[0], np.ndarray):
            return {"mIoU": mean_iou(self.truths, self.found)}
        kinds = {"box AP": "bbox", "mask AP": "segm"}
        return {n: average_precision(self.truths, self.found, k) for n, k in kinds.items()}


def measure_accuracy(
    predictor: Predictor, ways: Sequence[Way], seeds: int, size: int, batch_size: int
) -> list[Score]:
    """Predict in every way, in turn, on scenes of ``size`` pixels."""
    scores = [Score(kind, way) for kind in KINDS for way in ways]
    with tqdm(total=seeds * len(scores), unit="prediction") as progress:
        for seed in range(-1, seeds):  # the first one, smaller and not counted, warms up
            for kind, draw in KINDS.items():
                length = SIDE if seed < 0 else size
                scene = draw(np.random.default_rng((1 + seed, len(kind))), length, length, SIDE)
                for score in (score for score in scores if score.kind == kind):
                    start = time.process_time()
                    found = predict(predictor, pixels_of(scene), score.way, batch_size)
                    if predictor.is_segmentor:
                        found = label_all(found, length, length)
                    seconds = time.process_time() - start
                    if seed >= 0:
                        score.seconds += seconds
                        score.truths.append(_truth(scene, predictor.is_segmentor))
                        is_map = predictor.is_segmentor
                        score.found.append(found if is_map else _annotations(found))
                        progress.update()
    return scores


def pixels_of(scene: Scene) -> Pixels:
    """A scene as a raster."""
    return Pixels(ArrayRaster("scene", lambda: scene.image, "YXC"))


def _truth(scene: Scene, is_map: bool) -> np.ndarray | list[dict]:
    if is_map:
        labels = label_map(scene)
        return np.where(labels < BACKGROUND, _UNKNOWN, labels - BACKGROUND)
    masks = [encode_mask(mask) for mask in scene.masks]
    labels = np.array([shape.category for shape in scene.shapes])
    annotations = _annotations(Detections(boxes_around(masks), labels, None, masks))
    for annotation, shape in zip(annotations, scene.shapes, strict=True):
        annotation["iscrowd"] = int(shape.iscrowd)
    return annotations


def _annotations(found: Detections) -> list[dict]:
    scores = np.zeros(len(found)) if found.scores is None else found.scores
    boxes = np.hstack([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]])
    rows = zip(found.labels.tolist(), boxes.tolist(), scores.tolist(), found.masks, strict=True)
    return [
        dict(
            category_id=label,
            bbox=box,
            score=score,
            segmentation=mask,
            area=float(coco_masks().area(mask)),
            iscrowd=0,
        )
        for label, box, score, mask in rows
    ]


def mean_iou(truths: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """The mean over the classes that are there of intersection over union, in all maps together."""
    pairs = np.zeros((256, 256), int)
    for truth, labels in zip(truths, found, strict=True):
        known = truth != _UNKNOWN
        np.add.at(pairs, (truth[known], labels[known]), 1)
    union = pairs.sum(0) + pairs.sum(1) - pairs.diagonal()
    return float((pairs.diagonal()[union > 0] / union[union > 0]).mean())


def average_precision(
    truths: Sequence[list[dict]], found: Sequence[list[dict]], kind: str
) -> float:
    """COCO's AP, of all detections: large images have more than a hundred objects."""
    with contextlib.redirect_stdout(io.StringIO()):
        judged = COCOeval(_coco(truths), _coco(found), kind)
        judged.params.maxDets = [10**6]
        judged.evaluate()
        judged.accumulate()
    precision = judged.eval["precision"][:, :, :, 0]  # of areas of all sizes
    return float(precision[precision >= 0].mean())


def _coco(images: Sequence[list[dict]]) -> COCO:
    entries = [dict(entry, image_id=n) for n, of_image in enumerate(images) for entry in of_image]
    coco = COCO()
    coco.dataset = dict(
        images=[dict(id=number, height=0, width=0) for number in range(len(images))],
        annotations=[dict(entry, id=number) for number, entry in enumerate(entries, start=1)],
        categories=[dict(id=label) for label in {entry["category_id"] for entry in entries}],
    )
    coco.createIndex()
    return coco
