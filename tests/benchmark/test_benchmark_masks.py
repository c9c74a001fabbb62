"""Masks in boxes need a small part of the memory that whole images need."""

import io
import json
import sys

import pytest

from xcit_dense.benchmark import mask_memory
from xcit_dense.benchmark.mask_memory import WAYS, MaskTask, measure, report


def test_memory_of_masks_is_bounded():
    task = MaskTask(height=1500, width=2000, instances=60)
    costs = {way: measure(way, task) for way in WAYS}
    whole_images = task.height * task.width * task.instances  # a byte a pixel
    assert costs["mmdet"].peak_bytes > 0.9 * whole_images
    assert costs["in boxes"].peak_bytes < 0.4 * whole_images
    assert costs["in boxes"].result_bytes == costs["mmdet"].result_bytes  # equal masks

    head, _, first, second = report(costs, task).splitlines()
    assert head == "| 60 masks on 2000 x 1500 | peak memory | time |"
    assert first.startswith("| mmdet | ")
    assert second.startswith("| in boxes | ")


def test_a_process_of_its_own_measures_what_it_is_asked(monkeypatch, capsys):
    request = {"way": "in boxes", "task": {"height": 40, "width": 50, "instances": 2}}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(request)))
    mask_memory.work()
    assert json.loads(capsys.readouterr().out).keys() == {"peak_bytes", "seconds", "result_bytes"}


@pytest.mark.parametrize("nothing", [dict(instances=0), dict(height=0), dict(width=-1)])
def test_nothing_to_measure_is_an_error(nothing):
    with pytest.raises(ValueError, match="at least 1 each is needed"):
        MaskTask(**nothing)
