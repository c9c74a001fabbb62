"""What is told of each class, on predictions made by hand."""

import copy
import csv
import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from xcit_dense.look import evaluation_hook
from xcit_dense.look.coco_scores import scores_of_coco
from xcit_dense.look.evaluation_hook import EvaluationHook
from xcit_dense.look.pixel_scores import PixelConfusion

# ids in another order than the classes, and with gaps
CLASSES = {"car": 7, "bus $1 $2": 2, "van": 40, "boat": 3}


def boxes_of(*rows):
    return [
        dict(zip(("image_id", "category_id", "bbox", "score"), row, strict=False)) for row in rows
    ]


# three cars and a bus in a row, a bus and a crowd of vans, one van
OBJECTS = boxes_of(
    (1, 7, [0, 0, 20, 20]),
    (1, 7, [30, 0, 20, 20]),
    (1, 7, [60, 0, 20, 20]),
    (1, 2, [60, 40, 30, 20]),
    (2, 2, [0, 0, 40, 40]),
    (2, 40, [50, 50, 40, 40]),
    (3, 40, [10, 10, 20, 20]),
)
DETECTIONS = boxes_of(
    (1, 7, [0, 0, 20, 20], 0.9),
    (1, 2, [31, 0, 20, 20], 0.8),  # a car as a bus
    (1, 7, [0, 60, 20, 20], 0.7),  # where nothing is
    (2, 2, [0, 0, 40, 36], 0.95),
    (2, 40, [55, 55, 20, 20], 0.6),  # of the crowd
    (3, 40, [10, 10, 20, 20], 0.5),
    (3, 7, [50, 50, 20, 20], 0.1),  # below the best score
)
CONFUSION = [  # rows: bus, boat, car, van, nothing; columns: and missed
    [1, 0, 0, 0, 1],
    [0, 0, 0, 0, 0],
    [1, 0, 1, 0, 1],
    [0, 0, 0, 1, 0],
    [0, 0, 1, 0, 0],
]


def mask_of(box):
    left, top, across, down = box
    return [[left, top, left + across, top, left + across, top + down, left, top + down]]


@pytest.fixture
def coco(tmp_path):
    """The annotation file, and images."""
    annotations = [
        dict(each, id=number, iscrowd=int(number == 6), area=each["bbox"][2] * each["bbox"][3],
             segmentation=mask_of(each["bbox"]))
        for number, each in enumerate(OBJECTS, start=1)
    ]  # fmt: skip
    images = [dict(id=i, width=100, height=100, file_name=f"{i}.jpg") for i in (1, 2, 3)]
    for image in images:
        cv2.imwrite(str(tmp_path / image["file_name"]), np.full((100, 100, 3), 128, np.uint8))
    categories = [dict(id=i, name=name) for name, i in CLASSES.items()]
    path = tmp_path / "val.json"
    content = dict(images=images, annotations=annotations, categories=categories)
    path.write_text(json.dumps(content))
    return path


def evaluated(path, detections=DETECTIONS, kind="bbox", classes=None):
    truth = COCO(path)
    found = copy.deepcopy(detections)
    if kind == "segm":
        for each in found:
            each["segmentation"] = truth.annToRLE(
                dict(image_id=each["image_id"], segmentation=mask_of(each.pop("bbox")))
            )
    evaluation = COCOeval(truth, truth.loadRes(found), kind)
    evaluation.params.catIds = classes or sorted(CLASSES.values())
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


@pytest.mark.parametrize(("kind", "word"), [("bbox", "box"), ("segm", "mask")])
def test_ap_of_a_class_is_cocos_of_this_class_alone(coco, kind, word):
    whole = evaluated(coco, kind=kind)
    scores = scores_of_coco(whole)
    assert scores.mean == pytest.approx(whole.stats[0])
    assert scores.columns["objects"].tolist() == [2, 0, 3, 1]  # without the crowd
    for name, ap, ap50 in zip(
        scores.names, scores.columns[f"{word} AP"], scores.columns[f"{word} AP50"], strict=True
    ):
        alone = evaluated(coco, kind=kind, classes=[CLASSES[name]]).stats
        assert (ap, ap50) == pytest.approx(tuple(alone[:2])) or (np.isnan(ap) and alone[0] == -1)
    assert scores.precisions.shape == (101, 4)


def test_what_is_mixed_up_and_missed(coco):
    scores = scores_of_coco(evaluated(coco))
    assert scores.names == ["bus $1 $2", "boat", "car", "van"]
    assert scores.confusion.tolist() == CONFUSION
    assert "score of 0.50" in scores.condition
    assert scores.columns["recall"][[0, 2, 3]].tolist() == pytest.approx([1 / 2, 1 / 3, 1])
    assert scores.columns["precision"][[0, 2, 3]].tolist() == pytest.approx([1 / 2, 1 / 2, 1])
    assert scores.mixed_up(3) == [(2, 0)]
    (worst,) = scores.worst
    assert worst.image_id == 1
    assert worst.missed == [
        ([30, 0, 20, 20], "car as bus $1 $2"), ([60, 0, 20, 20], "car"),
        ([60, 40, 30, 20], "bus $1 $2"),
    ]  # fmt: skip
    assert worst.found == [[0, 0, 20, 20]]
    assert worst.false == [([0, 60, 20, 20], "car")]


def test_no_objects(coco):
    content = json.loads(coco.read_text())
    coco.write_text(json.dumps(content | {"annotations": []}))
    assert scores_of_coco(evaluated(coco)) is None


class Infos(list):
    metainfo = {"classes": tuple(CLASSES)}  # noqa: RUF012

    def get_data_info(self, index):
        return self[index]


def runner_of(evaluator, infos, tmp_path):
    evaluator.dataset_meta = Infos.metainfo
    loop = SimpleNamespace(evaluator=evaluator, dataloader=SimpleNamespace(dataset=Infos(infos)))
    return SimpleNamespace(log_dir=str(tmp_path / "log"), val_loop=loop, test_loop=loop)


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(evaluation_hook, "print_log", lambda line, logger: lines.append(line))
    return lines


def detection_samples(detections, kinds):
    for image in (1, 2, 3):
        found = [each for each in detections if each["image_id"] == image]
        boxes = torch.tensor([each["bbox"] for each in found]).reshape(-1, 4).float()
        boxes[:, 2:] += boxes[:, :2]
        ids = [*CLASSES.values()]
        instances = {
            "bboxes": boxes,
            "labels": torch.tensor([ids.index(each["category_id"]) for each in found], dtype=int),
            "scores": torch.tensor([each["score"] for each in found]),
        }
        if "segm" in kinds:
            masks = torch.zeros(len(found), 100, 100, dtype=torch.bool)
            for mask, (left, top, right, bottom) in zip(masks, boxes.int(), strict=True):
                mask[top:bottom, left:right] = True
            instances["masks"] = masks
        yield {"img_id": image, "ori_shape": (100, 100), "pred_instances": instances}


@pytest.mark.parametrize("kinds", [["bbox"], ["bbox", "segm"]])
def test_the_best_validation_and_every_test_are_drawn(coco, tmp_path, kinds, said):
    from mmdet.evaluation import CocoMetric

    infos = [{"img_id": i, "img_path": str(tmp_path / f"{i}.jpg")} for i in (1, 2, 3)]
    runner = runner_of(Evaluator(CocoMetric(str(coco), kinds)), infos, tmp_path)
    hook = EvaluationHook()
    hook.before_run(runner)
    folder = tmp_path / "log/evaluation"

    def evaluate(detections, split):
        getattr(hook, f"before_{split}")(runner)
        runner.val_loop.evaluator.process(list(detection_samples(detections, kinds)))
        metrics = runner.val_loop.evaluator.evaluate(3)
        getattr(hook, f"after_{split}_epoch")(runner, metrics)
        table = folder / "per_class.csv"
        rows = {row["class"]: row for row in csv.DictReader(table.open())} if table.exists() else {}
        return metrics, rows

    assert evaluate([], "val")[1] == evaluate([], "val")[1] == {}
    assert len(said) == 1 and "where something is predicted" in said[0]
    metrics, rows = evaluate(DETECTIONS, "val")
    for kind in kinds:
        word = {"bbox": "box", "segm": "mask"}[kind]
        found = [float(row[f"{word} AP"]) for row in rows.values() if row["objects"] != "0"]
        assert np.mean(found) == pytest.approx(metrics[f"coco/{kind}_mAP"], abs=6e-4)
    assert [*rows][-1] == "boat"  # which is not there
    assert rows["van"]["recall"] == "1.0000" and rows["car"]["recall"] == "0.3333"
    pictures = {path.name: cv2.imread(str(path)) for path in folder.iterdir()}
    assert {*pictures} == {"per_class.csv", "per_class.png", "precision_recall.png",
                           "confusion_matrix.png", "worst_images.jpg"}  # fmt: skip
    assert all(pictures[name].std() > 10 for name in pictures if name != "per_class.csv")
    worse = [each for each in DETECTIONS if each["image_id"] == 2]
    assert evaluate(worse, "val")[1] == rows
    lines = len(said)
    assert evaluate(worse, "test")[1] != rows
    assert str(folder) in said[lines]
    assert said[-1].split("\n")[2].split()[:2] == ["car", "3"]  # the worst class, below the head


def segmentation_samples(tmp_path):
    """Twelve images, of classes 0 to 2; 255 is left out, in image i i rows are wrong."""
    for number in range(12):
        truth = torch.zeros(1, 20, 10, dtype=int)
        truth[:, 10:] = 1
        truth[..., 0] = 255
        prediction = truth.clamp(max=3).clone()
        prediction[:, :number] = 2
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), np.full((20, 10, 3), 128, np.uint8))
        yield {
            "img_path": str(path), "pred_sem_seg": {"data": prediction},
            "gt_sem_seg": {"data": truth},
        }  # fmt: skip


def test_pixels_are_counted_as_by_mmseg(tmp_path, said):
    from mmseg.evaluation import IoUMetric

    runner = runner_of(Evaluator(IoUMetric()), [], tmp_path)
    hook = EvaluationHook()
    for _ in range(2):
        hook.before_test(runner)
        runner.test_loop.evaluator.process(list(segmentation_samples(tmp_path)))
        metrics = runner.test_loop.evaluator.evaluate(12)
        hook.after_test_epoch(runner, metrics)
    assert len(runner.test_loop.evaluator.metrics) == 2
    scores = runner.test_loop.evaluator.metrics[1].scores
    assert 100 * scores.mean == pytest.approx(metrics["mIoU"], abs=6e-3)
    wrong = 9 * sum(range(11)) + 9 * 10, 9 * 1  # of 9 columns; the eleventh row is of class 1
    there = 12 * 9 * 10
    assert scores.confusion[:2, :3].tolist() == [
        [there - wrong[0], 0, wrong[0]], [0, there - wrong[1], wrong[1]]
    ]  # fmt: skip
    assert scores.confusion.sum() == 2 * there
    assert scores.columns["recall"][:2].tolist() == pytest.approx([1 - w / there for w in wrong])
    assert [path.path for path in scores.worst[:2]] == [f"{tmp_path}/{n}.png" for n in (11, 10)]
    assert len(scores.worst) == 8
    assert {path.name for path in (tmp_path / "log/evaluation").iterdir()} == {
        "per_class.csv", "per_class.png", "confusion_matrix.png", "worst_images.jpg"
    }  # fmt: skip


def test_images_that_are_segmented_well_keep_no_maps(tmp_path):
    metric = PixelConfusion(255)
    metric.dataset_meta = Infos.metainfo
    metric.process(None, list(segmentation_samples(tmp_path)))
    kept = [number for number, image in enumerate(metric.results) if image.truth is not None]
    assert kept == [4, 5, 6, 7, 8, 9, 10, 11]


def test_what_has_no_scores_of_one_data_set_is_said(tmp_path, said):
    from mmdet.evaluation.evaluator import MultiDatasetsEvaluator

    runner = runner_of(MultiDatasetsEvaluator([], ["a", "b"]), [], tmp_path)
    hook = EvaluationHook()
    hook.before_test(runner)
    hook.after_test_epoch(runner, {})
    assert len(said) == 1 and "one annotated data set" in said[0]
    assert not (tmp_path / "log").exists()


def test_of_many_classes_the_mixed_up_ones_are_drawn(tmp_path):
    """And curves of the worst; names that are formulas to matplotlib too."""
    from xcit_dense.look.class_scores import ClassScores
    from xcit_dense.look.score_pictures import _shown, draw_classes, draw_confusion, draw_curves

    count = 300
    confusion = np.diag(np.full(count + 1, 10))
    confusion[290, 3] = confusion[7, 295] = 5
    names = np.array([f"$\\frac class {number}$" for number in range(count)])
    values = np.linspace(0.1, 0.9, count)
    columns = {"class": names, "objects": confusion[:-1].sum(axis=1), "AP": values}
    recalls = np.linspace(0, 1, 101)
    precisions = np.outer(1 - recalls, values)
    scores = ClassScores(columns, "objects", "AP", "AP", confusion, "", recalls, precisions)
    there, shown = _shown(scores)
    assert {3, 7, 290, 295} <= {*shown} and len(shown) == 20 and there == count
    for draw in (draw_classes, draw_confusion, draw_curves):
        draw(scores, tmp_path / f"{draw.__name__}.png")
        assert max(cv2.imread(str(tmp_path / f"{draw.__name__}.png")).shape) < 3000
    assert "... and 290 more" in scores.text(10)


def test_a_class_that_is_only_found_has_a_column():
    from xcit_dense.look.class_scores import ClassScores
    from xcit_dense.look.score_pictures import _shown

    confusion = np.array([[5, 0, 3, 0], [0] * 4, [0] * 4, [0] * 4])  # there are none of 1 and 2
    scores = ClassScores({"class": np.array(["a", "b", "c"])}, "pixels", "IoU", "Acc", confusion)
    assert _shown(scores) == (2, [0, 2])
