"""Laws of the generated scenes."""

import numpy as np
import pytest
from dev.demo_data import CATEGORIES, Plan, draw_scene
from dev.demo_data.mask_outlines import has_hole, mask_to_polygons
from dev.demo_data.shapes import TYPICAL_COLOURS, coverage, outline, outline_area
from dev.demo_data.textures import colour_distance, random_colour

SIZES = [(32, 24), (48, 64), (160, 192)]


def generator(seed=0):
    return np.random.default_rng(seed)


def scenes_of(height, width, count=12):
    return [draw_scene(generator(seed), height, width, with_crowd=True) for seed in range(count)]


def test_same_seed_gives_same_scene_and_another_seed_another():
    first, again, other = (draw_scene(generator(seed), 64, 80) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.image, again.image)
    assert len(first.instances) == len(again.instances)
    for one, two in zip(first.instances, again.instances, strict=True):
        assert one.category == two.category
        np.testing.assert_array_equal(one.mask, two.mask)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_declared_shapes_and_types(height, width):
    for scene in scenes_of(height, width):
        assert scene.image.shape == (height, width, 3)
        assert scene.image.dtype == np.uint8
        for instance in scene.instances:
            assert instance.mask.shape == (height, width)
            assert instance.mask.dtype == bool
            assert 0 <= instance.category < len(CATEGORIES)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_masks_are_visible_disjoint_and_without_holes(height, width):
    for scene in scenes_of(height, width):
        assert np.sum([instance.mask for instance in scene.instances], axis=0).max() == 1
        for instance in scene.instances:
            assert instance.mask.sum() >= 4
            assert instance.iscrowd or not has_hole(instance.mask)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_polygons_enclose_the_area_of_the_mask(height, width):
    for scene in scenes_of(height, width):
        for instance in scene.instances:
            if instance.iscrowd:
                continue
            area = sum(outline_area(polygon) for polygon in instance.polygons)
            perimeter = sum(
                np.linalg.norm(polygon - np.roll(polygon, 1, axis=0), axis=1).sum()
                for polygon in instance.polygons
            )
            assert abs(area - instance.mask.sum()) <= 0.25 * perimeter + 2


def test_numbers_of_objects():
    assert draw_scene(generator(), 64, 64, num_objects=0).instances == ()
    counts = {len(draw_scene(generator(seed), 96, 96).instances) for seed in range(40)}
    assert counts == {1, 2, 3, 4}


def test_crowd_is_the_lowest_instance_and_the_only_one_marked():
    for scene in scenes_of(96, 96):
        assert [instance.iscrowd for instance in scene.instances].index(True) == 0
        assert sum(instance.iscrowd for instance in scene.instances) == 1


def test_objects_stand_out_from_what_surrounds_them():
    contrasts = []
    for seed in range(30):
        scene = draw_scene(generator(seed), 96, 96, num_objects=1)
        (instance,) = scene.instances
        inside = scene.image[instance.mask].mean(axis=0)
        outside = scene.image[~instance.mask].mean(axis=0)
        contrasts.append(colour_distance(inside[None], outside)[0])
    assert min(contrasts) > 20
    assert np.median(contrasts) > 45


def test_a_category_has_a_typical_colour_from_which_objects_stray():
    distances = np.full((250, len(CATEGORIES)), np.nan)
    nearest = []
    for seed in range(250):
        scene = draw_scene(generator(seed), 48, 48, num_objects=1)
        (instance,) = scene.instances
        mean = scene.image[instance.mask].mean(axis=0).astype(np.float32)
        typical = np.float32(TYPICAL_COLOURS)
        distances[seed] = colour_distance(typical, mean)
        nearest.append(distances[seed].argmin() == instance.category)
    assert 0.6 < np.mean(nearest) < 0.99  # colour helps, and is not enough


@pytest.mark.parametrize(
    ("height", "width", "num_objects", "message"),
    [(15, 64, 1, "at least 16 x 16"), (64, 64, -1, "may not be negative")],
)
def test_bad_arguments_are_refused(height, width, num_objects, message):
    with pytest.raises(ValueError, match=message):
        draw_scene(generator(), height, width, num_objects=num_objects)


@pytest.mark.parametrize("category", CATEGORIES)
def test_raster_covers_as_much_as_the_outline_encloses(category):
    corners = outline(category, (32.3, 30.8), 20.0, 0.7)
    assert coverage([corners], 64, 64).sum() == pytest.approx(outline_area(corners), rel=0.05)
    assert np.linalg.norm(corners - (32.3, 30.8), axis=1).max() == pytest.approx(20.0)


def test_unknown_category_is_refused():
    with pytest.raises(ValueError, match="unknown category 'hexagon'; known are circle"):
        outline("hexagon", (0, 0), 1, 0)


def test_outlines_of_masks():
    mask = np.zeros((20, 20), bool)
    mask[2:12, 3:9] = True
    (polygon,) = mask_to_polygons(mask)
    np.testing.assert_allclose(polygon.min(axis=0), (3, 2), atol=0.13)
    np.testing.assert_allclose(polygon.max(axis=0), (9, 12), atol=0.13)
    assert not has_hole(mask)
    mask[5, 5] = False
    assert has_hole(mask)
    assert mask_to_polygons(np.zeros((20, 20), bool)) == ()
    assert not has_hole(np.zeros((20, 20), bool))


def test_random_colour_keeps_its_distance():
    for seed in range(20):
        rng = generator(seed)
        ground = random_colour(rng)
        colour = random_colour(rng, avoid=[ground], minimum_distance=45)
        assert colour_distance(colour[None], ground)[0] >= 45


def test_every_split_has_an_empty_image_and_a_crowd():
    plan = Plan(train=3, val=3, size=48, seed=5)
    for split in ("train", "val"):
        with_objects, empty, crowded = plan.scenes(split)
        assert with_objects.instances
        assert not empty.instances
        assert crowded.instances[0].iscrowd


def test_scenes_do_not_depend_on_the_counts_but_on_everything_else():
    image = Plan(train=3, val=3, size=48).scene("train", 0).image
    np.testing.assert_array_equal(Plan(train=9, val=8, size=48).scene("train", 0).image, image)
    others = [
        Plan(size=48).scene("val", 0),
        Plan(size=48).scene("train", 3),
        Plan(size=48, seed=1).scene("train", 0),
        Plan(size=49).scene("train", 0),
    ]
    assert not any(np.array_equal(other.image, image) for other in others)


def test_both_orientations_occur_with_the_size_as_longer_side():
    shapes = {Plan(size=48).scene("train", index).image.shape[:2] for index in range(24)}
    assert shapes == {(40, 48), (48, 40), (36, 48), (48, 36)}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (dict(train=-1), "train must be at least 3"),
        (dict(val=2), "val must be at least 3"),
        (dict(size=31), "size must be at least 32"),
        (dict(seed=-1), "seed may not be negative"),
    ],
)
def test_bad_plans_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        Plan(**parameters)
