"""The check for a GPU, as far as it can be seen without one and within seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from dev.benchmark.gpu_checks import compiled_levels, kept_by_a_block, levels
from dev.benchmark.gpu_models import Setup
from dev.benchmark.gpu_timing import PLAIN, TRAINING, Row, Timer, rows

PROJECT = Path(__file__).parents[2]
QUICK = Setup("cpu", quick=True)


def run(*arguments):
    command = [sys.executable, "tools/gpu_check.py", *map(str, arguments)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line():
    done = run()
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: torch finds no CUDA device")


def test_what_does_not_fit_into_the_time_is_listed(tmp_path):
    done = run("--device", "cpu", "--quick", "--seconds", 0, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert {one["result"] for one in found["checks"] + found["timings"]} == {"skipped"}
    assert len(found["timings"]) == len(list(rows(QUICK)))
    assert "the time was up" in (tmp_path / "gpu_check.md").read_text()


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_levels_are_measured_against_float64(dtype):
    measured = levels(QUICK, "gram", dtype)
    assert 0 < measured.value <= measured.bound


def test_memory_of_a_checkpointed_block():
    assert kept_by_a_block(QUICK, "direct", True, 1.1).value == pytest.approx(1, abs=0.05)


def test_compiled_levels_take_one_graph():
    measured = compiled_levels(QUICK, "direct", "fp32")
    assert measured.value <= measured.bound
    assert measured.note == "1 graph(s) by aot_eager"


def test_a_training_step_counts_three_times_the_products_of_inference():
    timer = Timer(QUICK)
    step = Row("XCiT direct", PLAIN, TRAINING, "fp32", 1, 64, 64)
    plain = Row("XCiT direct", PLAIN, "inference", "fp32", 1, 64, 64)
    trained, inferred = timer.measure(step), timer.measure(plain)
    assert trained["gflop"] == pytest.approx(3 * inferred["gflop"])
    assert trained["gbyte"] > 2 * inferred["gbyte"]
    assert trained["ms"] > 0
