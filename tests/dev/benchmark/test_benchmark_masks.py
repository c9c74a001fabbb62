"""Masks made one by one need a small part of the memory that all at once need."""

import io
import json
import sys
from types import SimpleNamespace

import pytest
from dev.benchmark import mask_memory
from dev.benchmark.mask_heads import HEADS
from dev.benchmark.mask_memory import WAYS, MaskTask, measure, report


@pytest.mark.parametrize("head", HEADS)
def test_memory_of_masks_is_bounded(head):
    task = MaskTask(height=1500, width=2000, instances=30, head=head)
    costs = {way: measure(way, task) for way in WAYS}
    bytes_of_a_pixel = 1 if head == "Mask R-CNN" else 4
    whole_images = task.height * task.width * task.instances * bytes_of_a_pixel
    assert costs["mm"].peak_bytes > 0.9 * whole_images
    assert costs["one by one"].peak_bytes < 0.6 * whole_images
    assert costs["one by one"].checksum == costs["mm"].checksum  # equal results

    title, _, first, second = report(costs, task).splitlines()
    things = "classes" if head == "segmentor" else "masks"
    assert title == f"| {head}: 30 {things} on 2000 x 1500 | peak memory | time |"
    assert first.startswith("| mm | ")
    assert second.startswith("| one by one | ")


def test_a_process_of_its_own_measures_what_it_is_asked(monkeypatch, capsys):
    request = {"way": "one by one", "task": {"height": 40, "width": 50, "instances": 2}}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(request)))
    mask_memory.work()
    assert json.loads(capsys.readouterr().out).keys() == {"peak_bytes", "seconds", "checksum"}


@pytest.mark.parametrize(
    "end",
    [
        {"returncode": -9, "stderr": ""},
        {"returncode": 1, "stderr": "DefaultCPUAllocator: can't allocate memory: you tried ..."},
    ],
)
def test_too_little_memory_is_a_result(monkeypatch, end):
    process = SimpleNamespace(stdout="", **end)
    monkeypatch.setattr(mask_memory.subprocess, "run", lambda *args, **kwargs: process)
    task = MaskTask(height=4, width=5, instances=2)
    cost = mask_memory.measure_in_own_process("mm", task)
    assert report({"mm": cost}, task).splitlines()[-1] == "| mm | out of memory | |"


def test_other_failures_are_errors(monkeypatch):
    process = SimpleNamespace(stdout="", returncode=1, stderr="no such module")
    monkeypatch.setattr(mask_memory.subprocess, "run", lambda *args, **kwargs: process)
    with pytest.raises(RuntimeError, match="mm: the measurement failed\nno such module"):
        mask_memory.measure_in_own_process("mm", MaskTask())


@pytest.mark.parametrize("nothing", [dict(instances=0), dict(height=0), dict(width=-1)])
def test_nothing_to_measure_is_an_error(nothing):
    with pytest.raises(ValueError, match="at least 1 each is needed"):
        MaskTask(**nothing)
