"""``xcit-dense predict --mode stream``: a raster band by band gives what mm gives for the whole."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from rasters import patches, rasterio, run, save

from xcit_dense.large import planning
from xcit_dense.large.ways import trained_size
from xcit_dense.mm.config import read_config
from xcit_dense.predict import Predictor


def image_of(values):
    """What a loader gives for bands in red, green, blue; the mean of all images where no data."""
    image = np.ascontiguousarray(values[..., ::-1]).astype(np.float32)
    image[~values.any(axis=2)] = [103.53, 116.28, 123.675]
    return image


def labels_in(path):
    with rasterio.open(path) as file:
        return file.read(1)


@pytest.mark.parametrize("size", [(430, 560), (600, 133), (97, 31)])
def test_labels_of_the_whole(segmentor, tmp_path, size, capsys):
    values = patches(*size)
    values[values == 0] = 1  # no nodata
    path = save(tmp_path / "scene.tif", values)
    options = ["--context", "whole", "--probabilities", "--polygons"]
    assert run(segmentor, [path], tmp_path / "out", *options) == 0
    assert "stream, attention sees the whole image: as asked for" in capsys.readouterr().out
    expected = Predictor(segmentor.config, segmentor.checkpoint, "cpu").logits_of(
        [image_of(values)]
    )
    expected = expected[0].numpy()
    found = labels_in(tmp_path / "out/labels/scene.tif")
    assert (found == expected.argmax(0)).mean() >= 0.9999
    with rasterio.open(tmp_path / "out/probabilities/scene.tif") as file:
        apart = np.exp(expected) / np.exp(expected).sum(0) - file.read() / 254
    assert np.abs(apart).max() < 0.01
    assert (tmp_path / "out/polygons/scene.geojson").exists()


def test_objects_of_the_whole(detector, tmp_path):
    values = patches(290, 333).clip(1)
    path = save(tmp_path / "scene.tif", values)
    options = ["--context", "whole", "--score-thr", "0.05"]
    assert run(detector, [path], tmp_path / "out", *options) == 0
    found = json.loads((tmp_path / "out/predictions.json").read_bytes())["annotations"]
    predictor = Predictor(detector.config, detector.checkpoint, "cpu")
    (expected,) = predictor.predict_batch([image_of(values)], resize=False)
    expected = expected.above(0.05)
    assert len(found) == len(expected) > 5
    names = [each["category_id"] - 1 for each in found]
    np.testing.assert_array_equal(names, expected.labels)
    boxes = np.array([each["bbox"] for each in found])
    sides = expected.boxes[:, 2:] - expected.boxes[:, :2]
    np.testing.assert_allclose(boxes, np.hstack([expected.boxes[:, :2], sides]), atol=0.1)
    for each, mask in zip(found, expected.masks, strict=True):
        one, other = coco_mask.decode(each["segmentation"]), coco_mask.decode(mask)
        assert (one != other).sum() <= 0.01 * other.sum()


def test_the_context_is_what_the_model_was_trained_at(segmentor, detector, tmp_path, capsys):
    path = save(tmp_path / "deep.tif", patches(330, 400, 4, np.uint16, 4000))
    options = ["--bands", "3,2,1", "--stretch", "0,4095", "--score-thr", "0.01"]
    for model, size in ((segmentor, 144), (detector, 192)):
        assert run(model, [path], tmp_path / "out", *options) == 0
        told = f"sees {size} pixels around each place: what the model was trained at"
        assert told in capsys.readouterr().out
    values = patches(330, 400)
    labels = labels_in(tmp_path / "out/labels/deep.tif")
    np.testing.assert_array_equal(labels == 255, ~values.any(axis=2))
    assert len(np.unique(labels)) > 2
    assert json.loads((tmp_path / "out/predictions.json").read_bytes())["annotations"]


def test_sizes_of_training_in_configs():
    sizes = {"xcit_upernet_ade20k": 512, "xcit_maskrcnn_coco": 1333}
    sizes |= {"demo/xcit_upernet_demo": 144, "demo/xcit_maskrcnn_demo": 192}
    for name, size in sizes.items():
        cfg = read_config(f"xcit_dense::{name}.py")
        assert trained_size(cfg, "upernet" in name) == size
    cfg = read_config("xcit_dense::xcit_upernet_ade20k.py")
    del cfg.model.data_preprocessor.size
    assert trained_size(cfg, True) == 512  # of the crop
    cfg.pop("train_dataloader")
    assert trained_size(cfg, True) is None


def test_what_cannot_be_streamed(segmentor, tmp_path, capsys, save_model):
    changes = {"model.decode_head.type": "PSPHead", "model.decode_head.in_index": 3}
    model = save_model(
        tmp_path / "psp", segmentor.config, changes | {"model.decode_head.in_channels": 16}
    )
    path = save(tmp_path / "scene.tif", patches(200, 300))
    assert run(model, [path], tmp_path / "out", "--mode", "auto") == 0
    told = "tiles of 144 pixels that share 36: PSPHead cannot be run band by band"
    assert told in capsys.readouterr().out
    with pytest.raises(Exception, match="--mode stream: PSPHead cannot be run"):
        run(model, [path], tmp_path / "out", "--context", "64")


def test_a_plan_and_where_the_tokens_lie(segmentor, tmp_path, capsys, monkeypatch):
    path, out = save(tmp_path / "scene.tif", patches(330, 400)), tmp_path / "out"
    assert run(segmentor, [path], out, "--plan", "--memory", "1") == 0
    # 42 x 50 patches of 8 pixels, 16 channels and four levels in float32; cells of 9 tokens
    assert "2,100 tokens take 0.5 MB in memory, moments of 30 cells 0.0 MB" in (
        capsys.readouterr().out
    )
    assert not list(out.iterdir())
    labels = []
    for memory in ("1", "0"):
        assert run(segmentor, [path], out, "--memory", memory, "--no-pictures") == 0
        labels.append(labels_in(out / "labels/scene.tif"))
    assert f"tokens take 0.5 MB in {out}, moments" in capsys.readouterr().out
    np.testing.assert_array_equal(*labels)
    assert [each.name for each in out.iterdir()] == ["labels"]
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000))
    assert run(segmentor, [path], out, "--memory", "0.0001") == 1
    told = r"tokens take 0.5 MB, more than the memory, 0.1 MB .* where 0.0 MB are free"
    assert re.search(told, capsys.readouterr().out)


def test_the_expected_time_of_long_work(segmentor, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(planning, "_PIXELS", 20_000)
    path = save(tmp_path / "scene.tif", patches(600, 300))
    assert run(segmentor, [path], tmp_path / "out", "--mode", "stream") == 0
    printed = capsys.readouterr()
    assert re.search(r"by a first band, it takes about \d+:\d\d:\d\d", printed.out)
    assert "600 of 600 rows of pixels" in printed.err


def test_from_python(detector, tmp_path):
    path = save(tmp_path / "scene.tif", patches(200, 300))
    predictor = Predictor(detector.config, detector.checkpoint, "cpu")
    for mode, options in (("stream", dict(context=64)), ("tiles", dict(tile=128))):
        damage = predictor.predict_raster(path, tmp_path / mode, mode, score_thr=0.01, **options)
        assert damage == []
        assert json.loads((tmp_path / mode / "predictions.json").read_bytes())["annotations"]
        assert (tmp_path / mode / "pictures/scene.jpg").exists()
