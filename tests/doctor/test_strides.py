"""Which declared strides fit which maps, without a model."""

from types import SimpleNamespace

import pytest
from torch import nn

from xcit_dense.doctor import Trial
from xcit_dense.doctor.checks import strides_fit_maps


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


SSD300 = {"prior_generator": SimpleNamespace(strides=(8, 16, 32, 64, 100, 300))}
YOLOV3 = {"anchor_generator": SimpleNamespace(strides=[(32, 32), (16, 16), (8, 8)])}


@pytest.mark.parametrize(
    ("image_size", "map_sizes", "attributes", "is_wrong"),
    [
        ((300, 300), square(38, 19, 10, 5, 3, 1), SSD300, False),
        ((300, 300), square(75, 38, 19, 10, 5, 3), SSD300, True),
        ((128, 128), square(4, 8, 16), YOLOV3, False),  # from coarse to fine
        ((128, 256), [(16, 32)], {"featmap_strides": [8]}, False),
        ((128, 256), [(8, 32)], {"featmap_strides": [16]}, True),  # both directions count
        ((128, 128), square(16), {"featmap_strides": [8, 16]}, True),  # more strides than maps
        ((128, 128), square(16, 8), {"featmap_strides": [8]}, False),
        # heads that choose among levels are compared with those
        ((128, 128), square(32, 16, 8), {"feature_strides": (8, 16), "in_index": [1, 2]}, False),
        ((128, 128), square(32, 16, 8), {"feature_strides": (4, 8), "in_index": [1, 2]}, True),
        # what is no list of strides is left alone
        ((128, 128), square(3), {"featmap_strides": None}, False),
        ((128, 128), square(3), {"featmap_strides": [(8, 16)]}, False),
    ],
)
def test_strides_fit_the_maps_that_are_given(image_size, map_sizes, attributes, is_wrong):
    assert bool(findings(image_size, map_sizes, **attributes)) == is_wrong
