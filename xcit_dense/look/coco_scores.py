"""Detectors, class by class: read out of COCO's evaluation, which has computed all of it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from itertools import chain
from typing import Any

import numpy as np

from xcit_dense.look.class_scores import ClassScores

_MOST_IMAGES = 12
_KINDS = {"bbox": "box", "segm": "mask"}
_NEAR = 0.5  # IoU of boxes from which an object is taken for one of another class


@dataclass(frozen=True)
class MissedObjects:
    """An image with objects that were missed.

    Attributes:
        image_id: in the annotation file.
        missed: left, top, width, height of those not found as what they are, and the name; with
            what they are taken for, if that is so.
        found: boxes of the others.
        false: boxes of detections where no object is, with the name.
    """

    image_id: Any
    missed: list[tuple[list[float], str]]
    found: list[list[float]]
    false: list[tuple[list[float], str]]


def watch_coco_evaluations(see: Callable[[Any], None]) -> None:
    """Have every evaluation of pycocotools shown to ``see`` when it is done; of several the last.

    mmdet's metrics keep none. Another evaluation would take as long again, and keeping the
    evaluation itself would keep its memory.
    """
    from pycocotools.cocoeval import COCOeval

    plain = inspect.unwrap(COCOeval.summarize)

    @wraps(plain)
    def summarize(evaluation: Any) -> None:
        plain(evaluation)
        see(evaluation)

    COCOeval.summarize = summarize


def scores_of_coco(evaluation: Any) -> ClassScores | None:
    """What pycocotools' ``COCOeval`` says of each class, once it is accumulated.

    AP is COCO's: the mean precision over recalls and IoU thresholds. What is missed and mixed up
    depends on the score from which a detection counts: here the one of the best F1 over all
    classes. Then a detection that matches its object in COCO's sense, at the lowest IoU threshold,
    is right. Of what is left, boxes of different classes with an IoU of 0.5 are mixed up, the best
    score first; masks are not looked at for that.

    Returns:
        None for proposals without classes, keypoints, or where there is no object at all.
    """
    p = evaluation.params
    if p.iouType not in _KINDS or not p.useCats:
        return None
    if not any(evaluation.evalImgs):
        return None
    detections, objects = _matches(evaluation)
    if not len(objects["id"]):
        return None
    kind, iou = _KINDS[p.iouType], float(p.iouThrs[0])
    names = [evaluation.cocoGt.cats[identity]["name"] for identity in p.catIds]
    count = len(names)
    precisions = evaluation.eval["precision"][..., 0, -1]  # (IoU, recall, class), -1 of absent ones
    precisions = np.where(precisions < 0, np.nan, precisions)

    threshold = _best_threshold(detections, len(objects["id"]))
    detections = {
        key: column[detections["score"] >= threshold] for key, column in detections.items()
    }
    taken_for, is_false = _taken_for(evaluation, detections, objects, count)
    confusion = np.zeros((count + 1, count + 1), int)
    np.add.at(confusion, (objects["label"], taken_for), 1)
    np.add.at(confusion[count], detections["label"][is_false], 1)

    there, right = confusion[:-1].sum(axis=1), confusion.diagonal()[:-1]
    with np.errstate(invalid="ignore"):  # absent classes
        columns = {
            "class": np.array(names),
            "objects": there,
            f"{kind} AP": precisions.mean(axis=(0, 1)),
            f"{kind} AP{100 * iou:.0f}": precisions[0].mean(axis=0),
            "recall": right / there,
            "precision": right / np.bincount(detections["label"], minlength=count),
        }
    return ClassScores(
        columns,
        size="objects",
        main=f"{kind} AP",
        easier=f"{kind} AP{100 * iou:.0f}",
        confusion=confusion,
        condition=f"detections from a score of {threshold:.2f} (best F1), IoU from {iou:g}",
        recalls=p.recThrs,
        precisions=precisions[0],
        iou=iou,
        worst=_worst(evaluation, detections, objects, taken_for, is_false, names),
    )


def _matches(evaluation: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """All detections, the best first, and all objects, by id, that are not to be ignored."""
    p = evaluation.params
    step = len(p.areaRng) * len(p.imgIds)  # of all sizes, which come first
    seen = [
        (label, image, each)
        for label in range(len(p.catIds))
        for image, each in enumerate(evaluation.evalImgs[label * step :][: len(p.imgIds)])
        if each is not None
    ]
    labels, images = np.array([place[:2] for place in seen]).reshape(-1, 2).T

    def joined(key: str, dtype: type) -> np.ndarray:
        return np.fromiter(chain.from_iterable(each[key] for *_, each in seen), dtype)

    def matched(key: str) -> np.ndarray:
        return np.concatenate([each[key][0] for *_, each in seen]).astype(int)

    counts = [len(each["dtIds"]) for *_, each in seen]
    detections = {
        "id": joined("dtIds", int),
        "score": joined("dtScores", float),
        "object": matched("dtMatches"),  # 0 of none
        "image": np.repeat(images, counts),
        "label": np.repeat(labels, counts),
    }
    best = np.argsort(-detections["score"], kind="stable")
    best = best[matched("dtIgnore")[best] == 0]
    counts = [len(each["gtIds"]) for *_, each in seen]
    objects = {
        "id": joined("gtIds", int),
        "image": np.repeat(images, counts),
        "label": np.repeat(labels, counts),
    }
    by_id = np.argsort(objects["id"])
    by_id = by_id[joined("gtIgnore", int)[by_id] == 0]
    return (
        {name: column[best] for name, column in detections.items()},
        {name: column[by_id] for name, column in objects.items()},
    )


def _best_threshold(detections: dict[str, np.ndarray], objects: int) -> float:
    """The score from which detections have the best F1, whatever their class."""
    right = np.cumsum(detections["object"] > 0)
    f1 = 2 * right / (np.arange(len(right)) + 1 + objects)
    return float(detections["score"][f1.argmax()]) if len(right) else 1.0


def _taken_for(
    evaluation: Any, detections: dict[str, np.ndarray], objects: dict[str, np.ndarray], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """What each object is taken for, ``count`` for nothing, and which detections are of nothing."""
    from pycocotools.mask import iou

    taken_for = np.full(len(objects["id"]), count)
    is_false = detections["object"] == 0
    right = np.searchsorted(objects["id"], detections["object"][~is_false])
    taken_for[right] = detections["label"][~is_false]
    missed = np.flatnonzero(taken_for == count)
    false = np.flatnonzero(is_false)
    for image in np.intersect1d(objects["image"][missed], detections["image"][false]):
        those = missed[objects["image"][missed] == image]
        by = false[detections["image"][false] == image]
        overlap = iou(
            _boxes(evaluation.cocoDt, detections["id"][by]),
            _boxes(evaluation.cocoGt, objects["id"][those]),
            np.zeros(len(those), np.uint8),
        )
        overlap[detections["label"][by][:, None] == objects["label"][those]] = 0
        for row, detection in enumerate(by):
            column = overlap[row].argmax()
            if overlap[row, column] >= _NEAR:
                taken_for[those[column]] = detections["label"][detection]
                is_false[detection] = False
                overlap[:, column] = 0
    return taken_for, is_false


def _boxes(coco: Any, ids: np.ndarray) -> np.ndarray:
    """Left, top, width, height, (n, 4)."""
    return np.array([coco.anns[i]["bbox"] for i in ids.tolist()], float).reshape(-1, 4)


def _worst(
    evaluation: Any,
    detections: dict[str, np.ndarray],
    objects: dict[str, np.ndarray],
    taken_for: np.ndarray,
    is_false: np.ndarray,
    names: list[str],
) -> list[MissedObjects]:
    """The images with most objects that are not found as what they are."""
    is_missed = taken_for != objects["label"]
    counts = np.bincount(objects["image"][is_missed])
    worst = []
    for image in np.argsort(-counts, kind="stable")[:_MOST_IMAGES]:
        if not counts[image]:
            break
        here = objects["image"] == image
        lost, found = here & is_missed, here & ~is_missed
        texts = [
            names[label] + (f" as {names[taken]}" if taken < len(names) else "")
            for label, taken in zip(objects["label"][lost], taken_for[lost], strict=True)
        ]
        wrong = is_false & (detections["image"] == image)
        missed_boxes = _boxes(evaluation.cocoGt, objects["id"][lost]).tolist()
        false_boxes = _boxes(evaluation.cocoDt, detections["id"][wrong]).tolist()
        false_names = [names[label] for label in detections["label"][wrong]]
        worst.append(
            MissedObjects(
                image_id=evaluation.params.imgIds[image],
                missed=list(zip(missed_boxes, texts, strict=True)),
                found=_boxes(evaluation.cocoGt, objects["id"][found]).tolist(),
                false=list(zip(false_boxes, false_names, strict=True)),
            )
        )
    return worst
