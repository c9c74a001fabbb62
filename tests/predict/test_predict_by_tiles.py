"""``xcit-dense predict --tile``: from a raster to results that lie where it lies."""

import json
import re
import shlex
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from rasters import WHERE, damage, patches, rasterio, run, save

from xcit_dense.cli import predict
from xcit_dense.predict import Predictor

DOCUMENT = Path(__file__).parents[2] / "docs/large_images.md"


def test_the_command_of_the_document_labels_a_geotiff(segmentor, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    values = patches(430, 560)
    save("scene.tif", values)
    command = next(line for line in DOCUMENT.read_text().splitlines() if "predict CONFIG" in line)
    _, name, config, checkpoint, *rest = shlex.split(command)
    assert (name, config, checkpoint) == ("predict", "CONFIG", "CHECKPOINT")
    model = [segmentor.config, segmentor.checkpoint]
    assert predict.main([*model, *rest]) == 0
    assert "stream, attention sees 144 pixels" in capsys.readouterr().out
    assert predict.main([*model, *rest, "--mode", "tiles", "--tile", "1024"]) == 0
    printed = capsys.readouterr().out
    assert "scene.tif: 560 x 430 pixels, bands 1,2,3 as red, green, blue\n  1 tiles" in printed

    valid = values.any(axis=2)
    image = np.ascontiguousarray(values[..., ::-1])
    image[~valid] = image[valid].mean(axis=0).round()
    predictor = Predictor(segmentor.config, segmentor.checkpoint, "cpu")
    expected = predictor.logits_of([image])[0].argmax(0).numpy()
    with rasterio.open("found/labels/scene.tif") as file:
        assert (file.crs, file.transform, file.nodata) == ("EPSG:25832", WHERE, 255)
        np.testing.assert_array_equal(file.read(1), np.where(valid, expected, 255))
        assert json.loads(file.tags()["classes"]) == list(predictor.categories.names)
    with rasterio.open("found/probabilities/scene.tif") as file:
        best = file.read().argmax(0)
        assert (best == expected)[valid].mean() > 0.99
    areas = json.loads(Path("found/polygons/scene.geojson").read_bytes())
    assert areas["crs"]["properties"]["name"].endswith("25832") and areas["features"]
    assert Path("found/pictures/scene.jpg").exists()
    assert not list(Path("found").rglob("*partial*"))


def test_objects_of_four_bands_of_16_bits(detector, tmp_path):
    path = save(tmp_path / "deep.tif", patches(430, 560, 4, np.uint16, 4000))
    options = ["--tile", "256", "--bands", "3,2,1", "--score-thr", "0.05", "--batch-size", "2"]
    assert run(detector, [path], tmp_path / "cut", *options) == 1  # 8 bits are wanted
    out = tmp_path / "out"
    assert run(detector, [path], out, *options, "--stretch", "0,4095") == 0
    entries = json.loads((out / "predictions.json").read_bytes())
    (image,) = entries["images"]
    assert (image["file_name"], image["width"], image["height"]) == ("deep.tif", 560, 430)
    features = json.loads((out / "objects/deep.geojson").read_bytes())["features"]
    assert len(features) == len(entries["annotations"]) > 0
    for feature, entry in zip(features, entries["annotations"], strict=True):
        assert feature["properties"]["score"] == entry["score"]
        rings = feature["geometry"]["coordinates"]
        polygons = [rings] if feature["geometry"]["type"] == "Polygon" else rings
        corners = np.concatenate([ring for polygon in polygons for ring in polygon])
        columns, rows = (corners.T - [[400000], [5700000]]) / [[0.5], [-0.5]]
        left, top, width, height = entry["bbox"]
        assert left - 1 <= columns.min() and columns.max() <= left + width + 1
        assert top - 1 <= rows.min() and rows.max() <= top + height + 1
    assert {"deep.jpg", "deep_most_1.jpg"} <= {path.name for path in (out / "pictures").iterdir()}


@pytest.mark.parametrize("way", [("--tile", "300"), ("--mode", "stream")])
def test_a_damaged_block_is_nodata_and_exit_code_3(segmentor, detector, tmp_path, capsys, way):
    values = patches(600, 700)
    good, bad = (save(tmp_path / name, values) for name in ("b_good.tif", "a_bad.tif"))
    damage(bad, row=3, column=4)
    inputs, options = [bad, good], [*way, "--no-pictures"]
    assert run(segmentor, inputs, tmp_path / "out", *options) == 3
    printed = capsys.readouterr().out
    assert "2 images predicted, 0 inputs skipped" in printed
    assert "a_bad.tif: rows 256 to 511, columns 512 to 699 cannot be read" in printed
    lost = np.zeros(values.shape[:2], bool)
    lost[256:512, 512:] = True
    for path, nodata in ((good, ~values.any(axis=2)), (bad, ~values.any(axis=2) | lost)):
        with rasterio.open(tmp_path / "out/labels" / path.name) as file:
            np.testing.assert_array_equal(file.read(1) == 255, nodata)
    assert run(detector, inputs, tmp_path / "objects", *way) == 3
    inputs.append(save(tmp_path / "c.tif", values[..., :2]))
    assert run(segmentor, inputs, tmp_path / "out", *options) == 1  # says the worse of the two
    assert re.search(r"skipped .*c\.tif.*--bands", capsys.readouterr().out)


def test_memory_does_not_grow_with_the_raster(segmentor, tmp_path):
    peaks = []
    for height in (256, 512, 1536):  # the first one warms up
        path = save(tmp_path / f"{height}.tif", patches(height, 512))
        tracemalloc.start()
        options = ["--tile", "256", "--overlap", "64", "--no-pictures", "--polygons"]
        assert run(segmentor, [path], tmp_path / "out", *options) == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.25 * peaks[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tile", "64", "--context", "64"], "--tile and --context: tiles or a stream"),
        (["--mode", "tiles", "--context", "64"], "--mode tiles --context: goes with a stream"),
        (["--mode", "stream", "--overlap", "64"], "--mode stream --overlap: goes with tiles"),
        (["--context", "-1"], "--context: -1: has to be a number of pixels"),
        (["--tile", "64", "--overlap", "64"], "--tile 64 --overlap 64: an overlap is 0 to"),
        (["--tile", "0"], "--tile: 0: has to be"),
    ],
)
def test_options_that_do_not_go_together(segmentor, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit, match="2"):
        run(segmentor, ["a.tif"], tmp_path, *options)
    assert message in capsys.readouterr().err
