"""What is measured on large images: right metrics, every way, and a table of them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from dev.benchmark_large import command, size
from dev.benchmark_large.accuracy import average_precision, mean_iou, pixels_of
from dev.benchmark_large.ways import Way, label_all, predict
from dev.demo_data.scenes import draw_side_by_side

from xcit_dense.mm.config import read_config
from xcit_dense.predict import Predictor
from xcit_dense.predict.results import encode_mask

DEMO = Path(__file__).parents[2] / "configs/demo"
TINY = {"model.backbone.arch.embed_dims": 16, "model.backbone.arch.depth": 4}
CHANGES = {
    "upernet": {
        **TINY,
        "model.decode_head.in_channels": [16] * 4,
        "model.decode_head.channels": 16,
        "model.auxiliary_head": None,
    },
    "maskrcnn": {
        **TINY,
        "model.neck.in_channels": [16] * 4,
        "model.test_cfg.rpn.max_per_img": 20,
        "model.test_cfg.rcnn.max_per_img": 10,
    },
}


@pytest.fixture(scope="module", params=CHANGES)
def model(request, tmp_path_factory):
    """A config, changes that make it small, and random weights."""
    config, changes = str(DEMO / f"xcit_{request.param}_demo.py"), CHANGES[request.param]
    checkpoint = str(tmp_path_factory.mktemp("model") / "random.pth")
    size._save_random(config, changes, checkpoint)
    return config, changes, checkpoint


def table(path):
    """The cells of the rows of a Markdown table, without its head."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


def options(changes):
    return [f"{name}={value}".replace(" ", "") for name, value in changes.items()]


def test_accuracy_has_all_ways_on_both_kinds_and_the_picture(model, tmp_path):
    config, changes, checkpoint = model
    arguments = "--context 72 --seeds 1 --size 150 --threads 1 --cfg-options"
    given = ["accuracy", config, checkpoint, "--out", str(tmp_path), *arguments.split()]
    is_segmentor = "upernet" in config
    picture = ["--picture", str(tmp_path / "seams.jpg")] if is_segmentor else []
    command.main([*given, *options(changes), *picture])
    rows = table(tmp_path / "accuracy.md")
    assert [row[0] for row in rows] == ["heterogeneous"] * 5 + ["homogeneous"] * 5
    assert [row[1] for row in rows[:5]] == [row[1] for row in rows[5:]]
    assert len({row[1] for row in rows}) == 5
    assert rows[4][-1] == rows[9][-1] == "1.00x"
    assert all(0 <= float(cell) <= 1 for row in rows for cell in row[2:-2])
    if is_segmentor:
        assert cv2.imread(str(tmp_path / "seams.jpg")).shape[1] == 3 * 3 * 72


class ThisProcess:
    """In the place of a process of its own, which takes seconds to start."""

    def __init__(self, make):
        self.made = make()

    def call(self, method, *arguments):
        return getattr(self.made, method)(*arguments)

    def stop(self):
        pass


def test_size_has_all_ways_and_leaves_nothing_but_the_table(model, tmp_path, monkeypatch):
    monkeypatch.setattr(size, "OwnProcess", ThisProcess)
    config, changes, checkpoint = model
    given = ["size", config, checkpoint, "--out", str(tmp_path), "--threads", "1"]
    sizes = ["--context", "96", "--sizes", "100x130", "200x130"]
    command.main([*given, *sizes, "--cfg-options", *options(changes)])
    rows = table(tmp_path / "size.md")
    assert [row[0] for row in rows] == ["100x130"] * 3 + ["200x130"] * 3
    assert [row[3] for row in rows[::3]] == ["1.00x"] * 2 and rows[1][5] == "1.00x"
    assert [path.name for path in tmp_path.iterdir()] == ["size.md"]


def test_a_stream_sees_what_the_test_pipeline_gives(model):
    config, changes, checkpoint = model
    predictor = Predictor(read_config(config, changes), checkpoint)
    scene = draw_side_by_side(np.random.default_rng(0), 160, 192, 96)
    if predictor.is_segmentor:
        found = label_all(predict(predictor, pixels_of(scene), Way(), 1), 160, 192)
        expected = predictor.logits_of([scene.image[..., ::-1]])[0].argmax(0).numpy()
        assert (found == expected).mean() > 0.9999
    else:
        found = predict(predictor, pixels_of(scene), Way(), 1)
        expected = predictor.predict_batch([scene.image[..., ::-1]], resize=False)[0]
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


def test_rasters_are_made_of_scenes_side_by_side(tmp_path):
    size.write_raster(tmp_path / "a.npy", size.Size(600, 1100))
    raster = np.load(tmp_path / "a.npy")
    assert raster.shape == (600, 1100, 3) and raster.dtype == np.uint8
    np.testing.assert_array_equal(raster[512:, 512:1024], raster[:88, :512])


def test_mean_iou_is_that_of_all_pixels_whose_class_is_known():
    truth = np.array([[0, 0, 1, 1, 255]])
    assert mean_iou([truth], [truth * 0]) == pytest.approx((2 / 4 + 0) / 2)
    assert mean_iou([truth, truth], [truth * 0, truth]) == pytest.approx((4 / 6 + 2 / 4) / 2)


def test_average_precision_counts_more_than_a_hundred_objects_and_no_crowds():
    def boxes(count, **more):
        mask = np.zeros((4, 4), bool)
        mask[:2, :2] = True
        return [
            dict(bbox=[5 * n, 0, 4, 4], area=16, category_id=0, score=1 - n / 1000, iscrowd=0)
            | dict(segmentation=encode_mask(mask))
            | more
            for n in range(count)
        ]

    assert average_precision([boxes(150)], [boxes(150)], "bbox") == 1
    assert average_precision([boxes(150)], [boxes(75)], "bbox") == pytest.approx(0.5, abs=0.01)
    crowd = [dict(boxes(11)[-1], iscrowd=1)]
    assert average_precision([boxes(10) + crowd], [boxes(10)], "bbox") == 1
    assert average_precision([boxes(1), []], [[], boxes(1)], "segm") == 0
