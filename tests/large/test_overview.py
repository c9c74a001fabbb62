"""Pictures of the whole and of places show what lies there."""

import numpy as np
import pytest

from xcit_dense.large import overview
from xcit_dense.large.arrays import ArrayRaster
from xcit_dense.large.overview import (
    draw_labels,
    draw_objects,
    draw_place,
    places_with_most,
    thinned,
)
from xcit_dense.large.pixels import Pixels
from xcit_dense.large.runs import runs_of
from xcit_dense.large.sources import Window
from xcit_dense.predict import Categories, Detections

CATEGORIES = Categories(("one", "two"), ((250, 0, 0), (0, 0, 250)))


def pixels_of(array, bands=None):
    return Pixels(ArrayRaster("a", lambda: array, "YXC"), bands)


@pytest.mark.parametrize("size", [(50, 90), (7, 401), (1, 1), (100, 99)])
def test_the_whole_is_thinned_by_means(monkeypatch, size):
    monkeypatch.setattr(overview, "_PIXELS_AT_ONCE", 1000)  # several bands
    array = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    picture = thinned(pixels_of(array), 30)
    step = -(-max(size) // 30)
    assert picture.shape == (-(-size[0] // step), -(-size[1] // step), 3)
    whole = array[: size[0] // step * step, : size[1] // step * step, ::-1].astype(float)
    rows, columns = whole.shape[0] // step, whole.shape[1] // step
    if size[0] % step == size[1] % step == 0:
        means = whole.reshape(rows, step, columns, step, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(picture, means, atol=0.51)
    np.testing.assert_array_equal(thinned(pixels_of(array), 1000), array[..., ::-1])
    assert thinned(pixels_of(array, (1, 2)), 30).shape == picture.shape


def objects(*places):
    boxes = np.array([(left, top, left + 10, top + 10) for top, left in places], float).reshape(
        -1, 4
    )
    masks = [runs_of(np.ones((10, 10), bool), top, left) for top, left in places]
    return Detections(boxes, np.zeros(len(places), int), np.full(len(places), 0.5), masks)


def test_objects_are_drawn_at_their_places():
    found = objects((100, 300), (20, 40))
    for each in (found, Detections(found.boxes, found.labels)):
        drawn = draw_objects(np.full((40, 80, 3), 100, np.uint8), each, CATEGORIES, (200, 400))
        assert drawn.shape[0] > 40 and drawn.shape[1] == 80
        changed = (drawn[-40:] != 100).any(axis=2)
        assert changed[20:22, 60:62].all() and changed[4:6, 8:10].all()
        assert changed.sum() <= 2 * 16
        assert (drawn[-40:][20, 60] == (0, 0, 250)).all()  # the outline has the full colour


def test_labels_are_drawn_in_their_colours():
    labels = np.zeros((40, 80), np.uint8)
    labels[:, 40:] = 1
    drawn = draw_labels(np.full((40, 80, 3), 100, np.uint8), labels, CATEGORIES)
    assert drawn[39, 10, 2] > 150 and drawn[39, 70, 0] > 150


def test_places_with_most_hold_what_they_count():
    rng = np.random.default_rng(0)
    crowd = [(700 + int(y), 300 + int(x)) for y, x in rng.integers(0, 80, (30, 2))]
    few = [(100 + int(y), 1800 + int(x)) for y, x in rng.integers(0, 80, (5, 2))]
    found = objects(*few, *crowd, (990, 1990))
    places = places_with_most(found, (1000, 2000), side=200, count=2)
    assert len(places) == 2
    for place, group in zip(places, (crowd, few), strict=True):
        assert place[2:] == (200, 200) and place.top >= 0 and place.top + 200 <= 1000
        centers = np.array(group) + 5 - place[:2]
        assert ((centers >= 0) & (centers < 200)).all()
    assert len(places_with_most(found, (1000, 2000), side=200, count=9)) == 3
    assert places_with_most(found, (1000, 2000), side=5000) == [Window(0, 0, 1000, 2000)]
    assert places_with_most(objects(), (1000, 2000)) == []


def test_a_place_is_drawn_in_full_size():
    array = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    found = objects((195, 295), (250, 350), (10, 10))
    place = Window(200, 300, 100, 90)
    drawn = draw_place(pixels_of(array), found, CATEGORIES, place)
    changed = (drawn != array[place.slices][..., ::-1]).any(axis=2)
    assert drawn.shape == (100, 90, 3)
    assert changed[:5, :5].all() and changed[50:60, 50:60].all()
    assert not changed[70:].any()
