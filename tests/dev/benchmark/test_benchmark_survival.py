"""A contender that runs out of memory, dies or cannot be built does not end the run."""

import sys
from pathlib import Path

import pytest
from dev.benchmark import (
    INFERENCE,
    Contender,
    Plan,
    Results,
    parse_sizes,
    report,
    run_benchmark,
)
from dev.benchmark.machine import GemmRates, MachineRunner
from dev.benchmark.worker import Worker


class MachineHere:
    """A machine that needs no process and no time."""

    def wait_until_ready(self):
        pass

    def ask(self, method, *arguments):
        return {
            "describe": {"CPU": "fake"},
            "gemm_rates": GemmRates(1e9, 2e9),
            "available_memory": 2**40,
        }[method]

    def stop(self):
        pass


def start(make, *arguments, **options):
    return MachineHere() if make is MachineRunner else Worker(make, *arguments, **options)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory")
def test_the_others_go_on(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    import fake_benchmark_contenders as fakes

    names = ["steady", "greedy", "mortal", "unbuildable"]
    plan = Plan(
        contenders=tuple(Contender(name, getattr(fakes, name)) for name in names),
        reference="steady",
        modes=(INFERENCE,),
        sizes={INFERENCE: parse_sizes(["32", "64", "96"])},
        batch_sizes={INFERENCE: 1},
        repeats=2,
        memory_limit=2**30,
    )
    results = Results("command", plan.reference)
    sizes_done = []
    run_benchmark(
        plan,
        results,
        after_size=lambda: sizes_done.append(len(results.measurements)),
        start=start,
    )

    assert sizes_done == [4, 8, 12]
    statuses = {
        name: [m.status for m in results.measurements if m.contender == name] for name in names
    }
    failed = "failed: ImportError: its library is missing"
    assert statuses == {
        "steady": ["measured"] * 3,
        "greedy": ["measured", "out of memory", "not tried: out of memory at 64x64"],
        "mortal": ["measured", "died (signal 9)", "not tried: died (signal 9) at 64x64"],
        "unbuildable": [failed] * 3,
    }
    for measurement in results.measurements:
        assert len(measurement.seconds) == (2 if measurement.measured else 0)
    first = results.measurements[0]
    assert first.flops == 2 * 9 * 3 * 4 * 32 * 32
    assert first.output_bytes == 4 * (4 * 32 * 32) * 4
    assert "out of memory" in report(results)
