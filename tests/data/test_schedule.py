"""Schedules are the recipe's for the recipe's data, and fit the length of others."""

from pathlib import Path

import pytest

from xcit_dense.data.new_config import Request
from xcit_dense.data.schedule import DETECTION, SEGMENTATION, propose_schedule
from xcit_dense.errors import UserError


def schedule(num_images, recipe=DETECTION, notes=None, **asked):
    request = Request(out=Path("c.py"), **asked)
    return propose_schedule(recipe, num_images, request, [] if notes is None else notes)


@pytest.mark.parametrize(
    ("images", "batch", "gpus", "epochs", "expected"),
    [
        # epochs, iterations, rate, warm-up, steps, interval, lines of the log
        (117_266, 2, 8, None, (36, 7330, 1e-4, 500, [27, 33], 1, 50)),  # as for COCO
        (44, 2, 1, None, (300, 22, 1.25e-5, 500, [225, 275], 10, 22)),
        (300, 4, 2, None, (80, 38, 5e-5, 304, [60, 73], 4, 38)),
        (45, 4, 2, 12, (12, 6, 5e-5, 7, [9, 11], 1, 6)),
        (100, 2, 1, 97, (97, 50, 1.25e-5, 485, [73, 89], 3, 50)),
        (2, 2, 1, 1, (1, 1, 1.25e-5, 2, [], 1, 1)),
    ],
)
def test_a_schedule_fits_the_length_of_the_training(images, batch, gpus, epochs, expected):
    made = schedule(images, batch_size=batch, gpus=gpus, epochs=epochs)
    assert tuple(made.values()) == (batch * gpus, *expected)


@pytest.mark.parametrize(("recipe", "rate"), [(DETECTION, 1e-4), (SEGMENTATION, 6e-5)])
def test_random_weights_learn_ten_times_as_fast_which_is_said(recipe, rate):
    assert schedule(100, recipe, batch_size=16)["rate"] == rate
    fast = schedule(100, recipe, notes := [], batch_size=16, pretrained=False)
    assert fast["rate"] == pytest.approx(10 * rate)
    assert f"the recipe's {rate:g} for 16 images, and 10 times that for random weights" in notes[0]


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(UserError, match="a batch of 8 images is more than the 7"):
        schedule(7, batch_size=4, gpus=2)
