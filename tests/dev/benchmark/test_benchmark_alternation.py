"""Contenders are asked in turn, warm-ups first; what takes too long is left out."""

from dev.benchmark import INFERENCE, Contender, Plan, Results, parse_sizes, run_benchmark
from dev.benchmark.contender_runner import MemoryRun, WarmUp
from dev.benchmark.machine import GemmRates, MachineRunner
from dev.benchmark.peak_memory import PeakMemory


class Recorder:
    """A worker in this process: writes down what it is asked, and pretends."""

    def __init__(self, asked, name, seconds_a_pixel):
        self.asked, self.name, self.seconds_a_pixel = asked, name, seconds_a_pixel

    def wait_until_ready(self):
        self.asked.append((self.name, "ready"))

    def stop(self):
        self.asked.append((self.name, "stop"))

    def ask(self, method, *arguments):
        self.asked.append((self.name, method))
        if method == "warm_up":
            _, height, width, _ = arguments
            self.seconds = self.seconds_a_pixel * height * width
        answers = {
            "describe": lambda: {"CPU": "fake"},
            "available_memory": lambda: 100,
            "gemm_rates": lambda: GemmRates(1.0, 2.0),
            "limit_memory": lambda: True,
            "warm_up": lambda: WarmUp(1, 1, None),
            "measure_memory": lambda: MemoryRun(PeakMemory(1, "guess"), None, self.seconds),
            "time_run": lambda: self.seconds,
            "release": lambda: None,
        }
        return answers[method]()


def run(sizes, seconds_a_pixel, **options):
    """Run with recorders; returns the results and what was asked."""
    asked = []

    def start(make, task, **_):
        if make is MachineRunner:
            return Recorder(asked, "machine", 0)
        return Recorder(asked, task.contender.name, seconds_a_pixel[task.contender.name])

    plan = Plan(
        contenders=tuple(Contender(name, build=None) for name in seconds_a_pixel),
        reference="a",
        modes=(INFERENCE,),
        sizes={INFERENCE: parse_sizes(sizes)},
        batch_sizes={INFERENCE: 1},
        **options,
    )
    results = Results("command", "a")
    run_benchmark(plan, results, start=start)
    return results, asked


def test_timed_runs_alternate_after_all_warm_ups():
    _, asked = run(["10"], {"a": 1e-6, "b": 1e-6, "c": 1e-6}, repeats=3)
    runs = [(name, method) for name, method in asked if method in ("warm_up", "time_run")]
    assert runs == [(n, "warm_up") for n in "abc"] + [(n, "time_run") for n in "abc"] * 3


def test_all_are_ready_before_the_first_computes_and_all_are_stopped():
    _, asked = run(["10"], {"a": 1e-6, "b": 1e-6}, repeats=1)
    assert asked.index(("b", "ready")) < asked.index(("a", "warm_up"))
    assert {name for name, method in asked if method == "stop"} == {"a", "b", "machine"}


def test_the_machine_is_measured_before_and_after_each_size():
    results, asked = run(["10", "20"], {"a": 1e-6}, repeats=1)
    kinds = [m for _, m in asked if m in ("gemm_rates", "warm_up")]
    assert kinds == ["gemm_rates", "warm_up", "gemm_rates", "warm_up", "gemm_rates"]
    assert len(results.gemm_rates["fp32"]) == 3


def test_sizes_over_budget_are_skipped_with_a_prediction():
    results, _ = run(["10", "20", "40"], {"a": 1e-6, "b": 0.01}, seconds_per_run=5.0)
    assert [m.status for m in results.measurements if m.contender == "b"] == [
        "measured",
        "measured",
        "skipped: over budget (16 s predicted, 5 s allowed)",
    ]
    assert all(m.measured for m in results.measurements if m.contender == "a")


def test_long_runs_are_repeated_less_than_short_ones():
    results, _ = run(["10"], {"a": 1e-6, "b": 0.25}, repeats=5)
    assert [len(m.seconds) for m in results.measurements] == [5, 2]
