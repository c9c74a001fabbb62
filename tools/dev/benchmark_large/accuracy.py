"""How good predictions on large generated scenes are, and the time they take, by the ways."""

import contextlib
import io
import time
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
from xcit_dense.predict.results import Detections, coco_masks, encode_mask

KINDS = {"heterogeneous": draw_side_by_side, "homogeneous": draw_large_scene}
_UNKNOWN = 255


@dataclass
class Score:
    """What one way came to on the scenes of one kind.

    Attributes:
        seconds: of the CPU, all threads together.
        truths, found: for each scene label maps (H, W), or annotations of objects in COCO's format.
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
        return {
            name: average_precision(self.truths, self.found, kind)
            for name, kind in kinds.items()
            if kind == "bbox" or "segmentation" in str(self.found)
        }


def measure_accuracy(
    predictor: Predictor,
    ways: list[Way],
    seeds: int,
    size: int,
    side: int,
    batch_size: int,
) -> list[Score]:
    """Predict in every way on scenes of ``size`` pixels made of, or like, those of ``side``."""
    scores = [Score(kind, way) for kind in KINDS for way in ways]
    with tqdm(total=seeds * len(scores), unit="prediction") as progress:
        for seed in range(-1, seeds):  # the first one, a smaller scene, warms up
            for kind, draw in KINDS.items():
                length = 2 * side if seed < 0 else size
                scene = draw(np.random.default_rng((1 + seed, len(kind))), length, length, side)
                for score in (score for score in scores if score.kind == kind):
                    progress.set_description(f"{kind}, {score.way}")
                    seconds, found = _timed(predictor, scene, score.way, batch_size)
                    if seed >= 0:
                        score.seconds += seconds
                        score.truths.append(_truth(scene, predictor.is_segmentor))
                        score.found.append(found)
                        progress.update()
    return scores


def pixels_of(scene: Scene) -> Pixels:
    """A scene as a raster."""
    return Pixels(ArrayRaster("scene", lambda: scene.image, "YXC"))


def _timed(
    predictor: Predictor, scene: Scene, way: Way, batch_size: int
) -> tuple[float, np.ndarray | list[dict]]:
    start = time.process_time()
    found = predict(predictor, pixels_of(scene), way, batch_size)
    if not isinstance(found, Detections):
        found = label_all(found, *scene.image.shape[:2])
    seconds = time.process_time() - start
    return seconds, found if predictor.is_segmentor else _annotations(found)


def _truth(scene: Scene, of_labels: bool) -> np.ndarray | list[dict]:
    if of_labels:
        labels = label_map(scene)
        return np.where(labels < BACKGROUND, _UNKNOWN, labels - BACKGROUND)
    masks = [encode_mask(mask) for mask in scene.masks]
    boxes = coco_masks().toBbox(masks) if masks else []
    return [
        dict(
            category_id=shape.category,
            iscrowd=int(shape.iscrowd),
            segmentation=mask,
            bbox=list(box),
            area=float(coco_masks().area(mask)),
        )
        for shape, mask, box in zip(scene.shapes, masks, boxes, strict=True)
    ]


def _annotations(found: Detections) -> list[dict]:
    boxes = np.hstack([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]])
    entries = [
        dict(category_id=int(label), bbox=box.tolist(), score=float(score))
        for label, box, score in zip(found.labels, boxes, found.scores, strict=True)
    ]
    for entry, mask in zip(entries, found.masks or [], strict=False):
        entry["segmentation"] = mask
    return entries


def mean_iou(truths: list[np.ndarray], found: list[np.ndarray]) -> float:
    """The mean over the classes that are there of intersection over union, in all maps together."""
    pairs = 0
    for truth, labels in zip(truths, found, strict=True):
        known = truth != _UNKNOWN
        codes = truth[known].astype(int) * 256 + labels[known]
        pairs = pairs + np.bincount(codes, minlength=256**2).reshape(256, 256)
    union = pairs.sum(0) + pairs.sum(1) - pairs.diagonal()
    return float((pairs.diagonal()[union > 0] / union[union > 0]).mean())


def average_precision(truths: list[list[dict]], found: list[list[dict]], kind: str) -> float:
    """COCO's AP, of all detections: large images have more than a hundred objects."""
    with contextlib.redirect_stdout(io.StringIO()):
        judged = COCOeval(_coco(truths), _coco(found), kind)
        judged.params.maxDets = [10**6]
        judged.evaluate()
        judged.accumulate()
    precision = judged.eval["precision"][:, :, :, 0]  # of areas of all sizes
    return float(precision[precision >= 0].mean())


def _coco(images: list[list[dict]]) -> COCO:
    numbered = [dict(entry, image_id=n) for n, entries in enumerate(images) for entry in entries]
    coco = COCO()
    coco.dataset = dict(
        images=[dict(id=number, height=0, width=0) for number in range(len(images))],
        annotations=[{"area": 0, "iscrowd": 0, **e, "id": n} for n, e in enumerate(numbered, 1)],
        categories=[dict(id=label) for label in {e["category_id"] for e in numbered}],
    )
    coco.createIndex()
    return coco
