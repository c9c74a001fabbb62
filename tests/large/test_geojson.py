"""GeoJSON says where objects and areas lie; drawn again it is what it was made of."""

import json

import numpy as np
import pytest
from matplotlib.path import Path
from pycocotools.coco import COCO

from xcit_dense.large.geojson import write_areas, write_objects
from xcit_dense.large.label_polygons import label_polygons
from xcit_dense.large.runs import NOTHING, in_coco, runs_of
from xcit_dense.large.sources import Georeference
from xcit_dense.predict import Categories, Detections
from xcit_dense.predict.outputs import Outputs

CATEGORIES = Categories(("field", "road"), ((10, 200, 30), (250, 0, 5)))
TRANSFORM = (0.5, 0.0, 400000.0, 0.0, -0.5, 5700000.0)


def bands_of(labels, rows):
    return [labels[top : top + rows] for top in range(0, len(labels), rows)]


def drawn(polygons, shape):
    """Labels that polygons (label, rings) draw, at the centers of pixels; 255 elsewhere."""
    labels = np.full(shape, 255)
    centers = np.indices(shape)[::-1].reshape(2, -1).T + 0.5
    for label, rings in polygons:
        inside = np.zeros(shape, bool)
        for ring in rings:
            inside ^= Path(ring).contains_points(centers).reshape(shape)
        assert inside.any() and (labels[inside] == 255).all()
        labels[inside] = label
    return labels


@pytest.mark.parametrize("rows", [1, 7, 100])
@pytest.mark.parametrize("coarseness", [1, 6])
def test_areas_are_those_of_the_labels(rows, coarseness):
    rng = np.random.default_rng(rows)
    labels = rng.choice([0, 1, 2, 255], (8, 9)).astype(np.uint8)
    labels = labels.repeat(coarseness, 0).repeat(coarseness, 1)
    found = list(label_polygons(bands_of(labels, rows)))
    np.testing.assert_array_equal(drawn(found, labels.shape), labels)
    whole = list(label_polygons([labels]))
    assert corners_of(found) == corners_of(whole)  # none is cut by a band


def corners_of(polygons):
    return sorted((label, sorted(map(len, rings))) for label, rings in polygons)


def test_areas_are_cut_where_they_would_fill_the_memory():
    labels = np.zeros((30, 10), np.uint8)
    labels[::2, ::2] = 1
    found = list(label_polygons(bands_of(labels, 10), longest=20))
    assert sum(label == 0 for label, _ in found) == 3
    np.testing.assert_array_equal(drawn(found, labels.shape), labels)


def test_rasterio_draws_areas_where_they_were(tmp_path):
    features = pytest.importorskip("rasterio.features", reason="the extra geo is not installed")
    import rasterio

    labels = np.random.default_rng(0).choice([0, 1, 255], (60, 80)).astype(np.uint8)
    place = Georeference(rasterio.CRS.from_epsg(25832).to_wkt(), TRANSFORM)
    write_areas(tmp_path / "a.geojson", bands_of(labels, 13), CATEGORIES, place)
    content = json.loads((tmp_path / "a.geojson").read_text())
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::25832"
    shapes = [
        (each["geometry"], CATEGORIES.names.index(each["properties"]["class"]))
        for each in content["features"]
    ]
    transform = rasterio.Affine(*TRANSFORM)
    burnt = features.rasterize(shapes, labels.shape, fill=255, transform=transform)
    np.testing.assert_array_equal(burnt, labels)
    expected = list(features.shapes(labels, labels != 255, transform=transform))
    assert len(expected) == len(shapes)
    outer = shapes[0][0]["coordinates"][0]
    assert outer[0] == outer[-1] and signed_area(np.array(outer)) > 0


def signed_area(ring):
    x, y = ring.T
    return (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2


def found_in(shape):
    mask = np.zeros(shape, bool)
    mask[10:30, 20:60] = True
    mask[15:20, 30:40] = False
    mask[40:42, 5:8] = True
    boxes = np.array([[5, 10, 60, 42], [1.25, 2.5, 9, 8], [0, 0, 3, 3]])
    masks = [runs_of(mask), runs_of(mask[15:25, 25:35], 3, 1), NOTHING]
    return Detections(boxes, np.array([1, 0, 0]), np.array([0.9, 0.754321, 0.5]), masks), mask


def test_objects_have_outlines_and_boxes(tmp_path):
    found, mask = found_in((50, 70))
    write_objects(tmp_path / "a.geojson", found, CATEGORIES, None)
    content = json.loads((tmp_path / "a.geojson").read_text())
    assert "crs" not in content
    first, second, third = content["features"]
    assert first["properties"] == {"class": "road", "score": 0.9}
    assert first["geometry"]["type"] == "MultiPolygon"
    parts = [[np.array(ring[:-1]) for ring in part] for part in first["geometry"]["coordinates"]]
    assert (drawn([(1, part) for part in parts], mask.shape) == 1).sum() == mask.sum()
    assert second["geometry"]["type"] == third["geometry"]["type"] == "Polygon"
    assert sorted(third["geometry"]["coordinates"][0]) == [[0, 0], [0, 0], [0, 3], [3, 0], [3, 3]]
    boxes = Detections(found.boxes, found.labels)
    write_objects(tmp_path / "a.geojson", boxes, CATEGORIES, Georeference("", TRANSFORM))
    feature = json.loads((tmp_path / "a.geojson").read_text())["features"][1]
    assert feature["properties"] == {"class": "field"}
    corners = np.array(feature["geometry"]["coordinates"][0])
    assert signed_area(corners) == (9 - 1.25) * (8 - 2.5) / 4
    np.testing.assert_allclose(corners.max(axis=0), [400004.5, 5699998.75])


def test_nothing_found_is_an_empty_collection(tmp_path):
    nothing = Detections(np.empty((0, 4)), np.empty(0, int), np.empty(0), [])
    write_objects(tmp_path / "a.geojson", nothing, CATEGORIES, None)
    assert json.loads((tmp_path / "a.geojson").read_text())["features"] == []


def test_coco_has_masks_of_the_raster_unless_it_is_too_large(tmp_path):
    found, mask = found_in((50, 70))
    files = [tmp_path / "a.tif", tmp_path / "b.tif"]
    outputs = Outputs(tmp_path / "out", CATEGORIES, files)
    for file, size in zip(files, [(50, 70), (2**16, 2**16)], strict=True):
        outputs.add(file, str(file), size, in_coco(found, size))
    outputs.finish()
    coco = COCO(tmp_path / "out/predictions.json")
    np.testing.assert_array_equal(coco.annToMask(coco.loadAnns(1)[0]), mask)
    assert coco.loadAnns(4)[0]["bbox"] == [5, 10, 55, 32] and "segmentation" not in coco.anns[4]
