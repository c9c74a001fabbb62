"""The run itself: contenders in processes of their own, asked in turn."""

from collections.abc import Callable
from typing import Any

from dev.benchmark.budget import repeats_for
from dev.benchmark.contender_runner import ContenderRunner, Task
from dev.benchmark.differences import note_differences
from dev.benchmark.lane import Asked, Lane
from dev.benchmark.machine import MachineRunner
from dev.benchmark.plan import Plan, Size
from dev.benchmark.results import Measurement, Results
from dev.benchmark.torch_settings import TorchSettings
from dev.benchmark.worker import Worker, WorkerError

_PATIENCE = 10  # a request may take this many times the seconds a run is allowed ...
_SECONDS_MORE = 600.0  # ... and this long in addition, for imports and compilation
_SHARE_OF_MEMORY = 0.85

Start = Callable[..., Asked]
Note = Callable[[str], None]


def run_benchmark(
    plan: Plan,
    results: Results,
    note: Note = lambda text: None,
    after_size: Callable[[], None] = lambda: None,
    start: Start = Worker,
) -> None:
    """Measure everything in the plan. Only one process computes at any time.

    Args:
        plan: what to measure.
        results: filled in on the way.
        note: told about progress.
        after_size: called whenever a size is complete.
        start: starts a worker.
    """
    settings = TorchSettings(plan.device, plan.threads, plan.tf32)
    patience = _PATIENCE * plan.seconds_per_run + _SECONDS_MORE
    machine = start(MachineRunner, settings, seconds_to_answer=patience)
    try:
        for mode in plan.modes:
            lanes: list[Lane] = []
            try:
                note(f"{mode}: starting {len(plan.contenders_of(mode))} contenders")
                for contender in plan.contenders_of(mode):
                    dtype = plan.dtype_of(contender)
                    task = Task(contender, mode, plan.arch, plan.patch_size, dtype, settings)
                    worker = start(ContenderRunner, task, seconds_to_answer=patience)
                    lanes.append(Lane(contender, worker))
                _wait_for(lanes, mode, note)
                if not results.machine:  # the first time: it has started beside the contenders
                    _describe_machine(machine, plan, results, note)
                _limit_memory(lanes, plan, machine, note)
                for size in plan.sizes[mode]:
                    results.measurements += _measure_size(lanes, plan, mode, size, note)
                    _measure_machine(machine, plan, results, note)
                    after_size()
            finally:
                for lane in lanes:
                    lane.worker.stop()
    finally:
        machine.stop()


def _wait_for(lanes: list[Lane], mode: str, note: Note) -> None:
    for lane in lanes:
        lane.wait_until_ready()
        if lane.stopped:
            note(f"{mode}: {lane.contender.label}: {lane.stopped}")


def _limit_memory(lanes: list[Lane], plan: Plan, machine: Asked, note: Note) -> None:
    """Let a contender that wants more memory than there is fail on its own."""
    available = machine.ask("available_memory")
    limit = plan.memory_limit or (available and int(_SHARE_OF_MEMORY * available))
    if limit is None:
        note("memory limit: none, as the available memory is not known")
        return
    for lane in lanes:
        if lane.stopped:
            continue
        try:
            limited = lane.worker.ask("limit_memory", limit)
        except WorkerError as error:
            lane.stopped = str(error)
            continue
        if not limited:
            note(f"memory limit: this system has none for {lane.contender.label}")
    note(f"memory limit: {limit / 2**30:.1f} GiB beyond the weights")


def _measure_size(
    lanes: list[Lane], plan: Plan, mode: str, size: Size, note: Note
) -> list[Measurement]:
    where = f"{mode} {size}"
    batch_size = plan.batch_sizes[mode]
    outputs: dict[str, Any] = {}
    for lane in lanes:
        label, dtype = lane.contender.label, plan.dtype_of(lane.contender)
        measurement = Measurement(mode, size.height, size.width, batch_size, label, dtype)
        lane.begin(measurement, size, plan.seconds_per_run)
        if lane.running:
            note(f"{where}: {label}: warm-up, memory")
            wanted = lane.contender.is_xcit and plan.outputs_fit_the_pipe(mode, size)
            outputs[label] = _first_runs(lane, size, batch_size, wanted)
        if not lane.running:
            note(f"{where}: {label}: {measurement.status}")
    note_differences([lane.current for lane in lanes], outputs)
    _timed_rounds(lanes, plan, where, note)
    for lane in lanes:
        lane.end()
    return [lane.current for lane in lanes]


def _first_runs(lane: Lane, size: Size, batch_size: int, with_outputs: bool) -> Any:
    """Warm up and measure memory; returns the outputs, if wanted and possible."""
    measurement = lane.current
    warm_up = lane.ask("warm_up", batch_size, size.height, size.width, with_outputs)
    memory = lane.ask("measure_memory") if warm_up else None
    if not memory:
        return None
    measurement.flops, measurement.output_bytes = warm_up.flops, warm_up.output_bytes
    measurement.peak_bytes, measurement.peak_method = memory.peak.bytes, memory.peak.method
    measurement.kept_bytes = memory.kept_bytes
    lane.first_seconds = memory.seconds
    return warm_up.outputs


def _timed_rounds(lanes: list[Lane], plan: Plan, where: str, note: Note) -> None:
    """One run of each in turn, again and again, so that what disturbs one disturbs all."""
    wanted = {
        lane.contender.label: repeats_for(lane.first_seconds, plan.repeats)
        for lane in lanes
        if lane.running
    }
    for number in range(max(wanted.values(), default=0)):
        note(f"{where}: timed runs, round {number + 1} of {max(wanted.values())}")
        for lane in lanes:
            if lane.running and number < wanted[lane.contender.label]:
                seconds = lane.ask("time_run")
                if seconds is not None:
                    lane.current.seconds.append(seconds)


def _describe_machine(machine: Asked, plan: Plan, results: Results, note: Note) -> None:
    machine.wait_until_ready()
    results.machine = machine.ask("describe")
    if plan.device == "cuda":
        results.bandwidth = machine.ask("bandwidth")
    _measure_machine(machine, plan, results, note)


def _measure_machine(machine: Asked, plan: Plan, results: Results, note: Note) -> None:
    for dtype in plan.dtypes():
        try:
            results.gemm_rates.setdefault(dtype, []).append(machine.ask("gemm_rates", dtype))
        except WorkerError as error:
            note(f"rate of matrix products in {dtype}: {error}")
