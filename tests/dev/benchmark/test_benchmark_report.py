"""Ratios, shares and exponents in the tables follow from the measurements."""

import json

import numpy as np
import pytest
from dev.benchmark import Measurement, Results, draw, report
from dev.benchmark.differences import largest_relative_difference, note_differences
from dev.benchmark.growth import growth_exponent
from dev.benchmark.machine import GemmRates
from dev.benchmark.plot import spread
from dev.benchmark.report import ratio


def measurement(contender, side, seconds, peak_bytes, mode="inference", **more):
    return Measurement(
        mode,
        side,
        side,
        1,
        contender,
        "fp32",
        seconds=seconds,
        peak_bytes=peak_bytes,
        output_bytes=10**6,
        flops=3 * 10**9,
        **more,
    )


@pytest.fixture
def results():
    """The reference is linear in time and memory; the other one quadratic in time."""
    found = Results(
        "python tools/benchmark.py",
        "timm_xcit",
        machine={"CPU": "a fast one"},
        settings={"dtype": "fp32"},
        gemm_rates={"fp32": [GemmRates(1e9, 9e9), GemmRates(1e9, 10e9), GemmRates(3e9, 12e9)]},
    )
    for side, scale in [(512, 1), (1024, 4), (2048, 16)]:
        found.measurements += [
            measurement("timm_xcit", side, [2.0 * scale, 9.0 * scale, 1.0 * scale], 10**8 * scale),
            measurement("xcit_auto", side, [0.5 * scale**2], 4 * 10**8 * scale, difference=2e-6),
        ]
    found.measurements.append(
        measurement("timm_xcit", 224, [1.0], 10**8, "training", kept_bytes=6 * 10**7)
    )
    found.measurements.append(Measurement("training", 224, 224, 1, "xcit_auto", "fp32", "died"))
    return found


def rows(results, contender):
    lines = [line for line in report(results).splitlines() if f"| {contender} " in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_rows_have_medians_ratios_and_shares(results):
    assert rows(results, "timm_xcit")[0] == [
        *["512x512", "timm_xcit", "2000", "reference", "100", "reference"],
        *["1", "3", "15%", "-"],
    ]
    assert rows(results, "xcit_auto")[0] == [
        *["512x512", "xcit_auto", "500", "4.00x faster", "400", "4.00x more"],
        *["1", "3", "60%", "2.0e-06"],
    ]


def test_training_rows_have_what_is_kept_and_what_went_wrong(results):
    assert rows(results, "timm_xcit")[3][6:8] == ["60", "reference"]
    assert rows(results, "xcit_auto")[3][:3] == ["224x224", "xcit_auto", "died"]


def test_without_two_large_sizes_there_is_no_growth_to_report(results):
    results.measurements = [m for m in results.measurements if m.height in (224, 512)]
    assert "Growth" not in report(results)
    assert "512x512" in report(results)


def test_growth_rows(results):
    assert rows(results, "timm_xcit")[4] == ["inference", "timm_xcit", "1.00", "1.00"]
    assert rows(results, "xcit_auto")[4] == ["inference", "xcit_auto", "2.00", "1.00"]
    assert rows(results, "timm_xcit")[5] == ["training", "timm_xcit", "-", "-"]


def test_the_header_says_how_it_was_made(results):
    text = report(results)
    for part in ["a fast one", "1 GFLOP/s by torch.mm", "10 GFLOP/s by a 1x1", "benchmark.py"]:
        assert part in text


def test_ratios():
    assert ratio(3.0, 2.0, "faster", "slower") == "1.50x faster"
    assert ratio(2.0, 3.0, "faster", "slower") == "1.50x slower"
    assert ratio(None, 3.0, "faster", "slower") == "-"


def test_growth_exponents_are_exact():
    points = [(x, 7 * x**1.3) for x in (10, 50, 300)]
    assert growth_exponent(points) == pytest.approx(1.3, abs=1e-12)
    assert growth_exponent([(1, 2), (2, 2), (4, 8)]) == pytest.approx(1.0)  # least squares
    assert growth_exponent([(5, 1), (5, 2)]) is None


def test_differences_are_relative_to_the_largest_value_of_a_level():
    expected = [np.array([1.0, -4.0]), np.array([100.0])]
    assert largest_relative_difference([np.array([1.0, -3.0]), np.array([100.0])], expected) == 0.25
    found = [measurement(name, 64, [1.0], 1) for name in ("xcit_direct", "xcit_gram", "timm_xcit")]
    note_differences(found, {"xcit_direct": expected, "xcit_gram": expected, "timm_xcit": None})
    assert [entry.difference for entry in found] == [None, 0.0, None]


def test_json_has_everything(results):
    content = json.loads(results.as_json())
    first = content["measurements"][0]
    assert (first["repeats"], first["median_seconds"]) == (3, 2.0)
    assert (first["fastest_seconds"], first["slowest_seconds"]) == (1.0, 9.0)
    assert content["measurements"][-1]["status"] == "died"
    assert content["gemm_rates"]["fp32"][0] == {"matmul": 1e9, "convolution": 9e9}


def test_the_picture_is_written_whole_or_not_at_all(results, tmp_path):
    draw(results, tmp_path / "plot.png")
    with pytest.raises(ValueError, match="format"):
        draw(results, tmp_path / "plot.nonsense")
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]


def test_labels_are_spread_as_little_as_possible():
    assert spread([0.1, 0.5, 0.9], 0.2) == pytest.approx([0.1, 0.5, 0.9])
    assert spread([0.5, 0.5], 0.2) == pytest.approx([0.4, 0.6])
    moved = spread([0.52, 0.1, 0.5, 0.51], 0.1)
    assert moved == pytest.approx([0.61, 0.1, 0.41, 0.51])
    assert spread([0.97, 0.99, 0.0, 0.01], 0.1) == pytest.approx([0.9, 1.0, 0.0, 0.1])
