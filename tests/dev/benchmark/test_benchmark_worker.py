"""Workers answer, survive errors, and tell how they died."""

from pathlib import Path

import pytest
from dev.benchmark.worker import Worker, WorkerDied, WorkerFailed, WorkerOutOfMemory


@pytest.fixture
def fakes(monkeypatch):
    """The module of fakes, importable here and, by the same path, in the workers."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    import fake_benchmark_contenders

    return fake_benchmark_contenders


def test_errors_leave_the_worker_alive_and_a_signal_is_named(fakes):
    worker = Worker(fakes.Servant)
    try:
        worker.wait_until_ready()
        with pytest.raises(WorkerFailed, match="KeyError: 'no such thing'"):
            worker.ask("fail")
        with pytest.raises(WorkerOutOfMemory, match=r"^out of memory$"):
            worker.ask("run_out")
        assert worker.ask("twice", 21) == 42
        for _ in range(2):  # and it stays dead
            with pytest.raises(WorkerDied, match=r"^died \(signal 9\)$"):
                worker.ask("die")
    finally:
        worker.stop()


def test_silence_ends_the_worker(fakes):
    worker = Worker(fakes.Servant, seconds_to_answer=0.01)
    try:
        with pytest.raises(WorkerDied, match="no answer within"):
            worker.wait_until_ready()
    finally:
        worker.stop()
