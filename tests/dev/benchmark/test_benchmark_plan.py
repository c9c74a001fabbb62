"""Plans are checked before anything starts; errors name the value and what is allowed."""

import pytest
import torch
from dev.benchmark import INFERENCE, TRAINING, Plan, parse_contenders, parse_sizes
from dev.benchmark.budget import predicted_seconds, repeats_for


def plan(**changes):
    settings = dict(
        contenders=parse_contenders(["xcit_auto:bf16", "xcit_optimized", "timm_xcit"]),
        reference="timm_xcit",
        modes=(INFERENCE, TRAINING),
        sizes={INFERENCE: parse_sizes(["64"]), TRAINING: parse_sizes(["64"])},
        batch_sizes={INFERENCE: 1, TRAINING: 2},
    )
    return Plan(**settings | changes)


def test_sizes_go_from_small_to_large_and_once():
    sizes = parse_sizes(["800x1344", "2048", "512", "512x512"])
    assert list(map(str, sizes)) == ["512x512", "800x1344", "2048x2048"]


@pytest.mark.parametrize("text", ["large", "0", "12x", "-5", "1x2x3", ""])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="expected one side in pixels, as 512, or HEIGHTxWIDTH"):
        parse_sizes([text])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(reference="resnet50"), "'resnet50' is not among the contenders xcit_auto:bf16, "),
        (dict(arch="huge"), "arch 'huge' is unknown; use one of nano_12, "),
        (dict(patch_size=4), "patch size 4 is unknown; use one of 8, 16"),
        (dict(dtype="fp8"), "dtype 'fp8' is unknown; use one of fp32, bf16, fp16"),
        (dict(device="tpu"), "device 'tpu' is unknown; use one of cpu, cuda"),
        (dict(repeats=0), "repeats 0: must be more than 0"),
        (dict(memory_limit=-1), "memory limit -1: must be more than 0"),
        (dict(batch_sizes={INFERENCE: 0, TRAINING: 2}), "inference batch size 0: must be more"),
    ],
)
def test_wrong_values_say_what_is_right(changes, message):
    with pytest.raises(ValueError, match=message):
        plan(**changes)


def test_missing_cuda_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no CUDA device here; use --device cpu"):
        plan(device="cuda")


def test_dtypes_and_modes_of_contenders():
    assert plan(dtype="fp16").dtypes() == ("bf16", "fp16")
    assert [c.name for c in plan().contenders_of(TRAINING)] == ["xcit_auto", "timm_xcit"]


def test_time_is_predicted_from_the_growth_so_far():
    assert predicted_seconds([], 100) is None
    assert predicted_seconds([(100, 2.0)], 400) == pytest.approx(8.0)
    quadratic = [(100, 1.0), (200, 4.0)]
    assert predicted_seconds(quadratic, 400) == pytest.approx(16.0)
    flat = [(100, 1.0), (200, 1.0)]  # small sizes hide the growth
    assert predicted_seconds(flat, 400) == pytest.approx(2.0)


def test_long_runs_are_repeated_less():
    assert [repeats_for(seconds, 5) for seconds in (0.1, 10, 15, 25, 100)] == [5, 5, 4, 2, 2]
    assert repeats_for(100, 1) == 1
