"""Which declared strides fit which maps, without a model."""

from types import SimpleNamespace

import pytest
from torch import nn

from xcit_dense.doctor import Trial
from xcit_dense.doctor.run_checks import strides_fit_maps


class Part(nn.Module):
    def __init__(self, **attributes):
        super().__init__()
        vars(self).update(attributes)


def findings(image_size, map_sizes, **attributes):
    """Where one part of a model is given maps of some heights and widths."""
    model = nn.ModuleDict({"part": Part(**attributes)})
    trial = Trial(None, model=model, image_size=image_size, map_sizes={"part": map_sizes})
    return [finding.text for finding in strides_fit_maps(trial)]


def square(*sides):
    return [(side, side) for side in sides]


def generator(*strides):
    return SimpleNamespace(strides=strides)


@pytest.mark.parametrize(
    ("side", "sides", "strides"),
    [
        (300, (38, 19, 10, 5, 3, 1), (8, 16, 32, 64, 100, 300)),  # SSD300
        (320, (20, 10, 5, 3, 2, 1), (16, 32, 64, 107, 160, 320)),  # SSDLite
        (128, (16, 8, 4, 2, 1), [550 / places for places in (69, 35, 18, 9, 5)]),  # YOLACT
        (128, (4, 8, 16), [(32, 32), (16, 16), (8, 8)]),  # YOLOv3, from coarse to fine
    ],
)
def test_strides_are_right_where_the_maps_have_that_many_places(side, sides, strides):
    assert not findings((side, side), square(*sides), prior_generator=generator(*strides))
    finer = square(*(2 * places for places in sides))
    (text,) = findings((side, side), finer, prior_generator=generator(*strides))
    assert text.startswith("model.part.")


@pytest.mark.parametrize(
    ("image_size", "map_sizes", "attributes", "is_wrong"),
    [
        ((128, 256), [(16, 32)], {"featmap_strides": [8]}, False),
        ((128, 256), [(32, 64)], {"featmap_strides": [8]}, True),
        ((128, 256), [(8, 32)], {"featmap_strides": [16]}, True),  # both directions count
        ((128, 128), square(16), {"featmap_strides": [8, 16]}, True),  # more strides than maps
        ((128, 128), square(16, 8), {"featmap_strides": [8]}, False),
        # heads that choose among levels are compared with those
        ((128, 128), square(32, 16, 8), {"feature_strides": (8, 16), "in_index": [1, 2]}, False),
        ((128, 128), square(32, 16, 8), {"feature_strides": (4, 8), "in_index": [1, 2]}, True),
        # one that no level has fails in the training step
        ((128, 128), square(32, 16), {"feature_strides": (4, 8), "in_index": [0, 9]}, True),
        ((128, 128), square(32, 16), {"feature_strides": (4, 8), "in_index": [-9, 0]}, True),
        # what is no list of strides is left alone
        *(
            ((128, 128), square(3), {"featmap_strides": strides}, False)
            for strides in (None, "8", [], [None], [0], [(8, 16)])
        ),
    ],
)
def test_strides_fit_the_maps_that_are_given(image_size, map_sizes, attributes, is_wrong):
    assert bool(findings(image_size, map_sizes, **attributes)) == is_wrong
