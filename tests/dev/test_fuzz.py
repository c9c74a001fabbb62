"""Generated hostile and damaged input does no harm: what ``tools/fuzz.py`` tries, for a minute."""

import random

import pytest
from dev.fuzz.cases import CANARY, Case, run_cases
from dev.fuzz.command import KINDS


@pytest.mark.parametrize(
    ("kind", "count"),
    [("checkpoints", 150), ("annotations", 100), ("images", 100), ("command_lines", 12)],
)
def test_generated_input_does_no_harm(kind, count):
    outcomes = list(run_cases(KINDS[kind](random.Random(1), count)))
    assert [outcome for outcome in outcomes if outcome.is_fault] == []
    assert {outcome.end for outcome in outcomes} == {"fine", "refused"}


def crash(folder):
    import ctypes

    ctypes.string_at(0)


@pytest.mark.parametrize(
    ("run", "end"),
    [
        (lambda folder: (folder / CANARY).touch(), "code was run"),
        (lambda folder: (folder.parent / "precious").unlink(), "a file was changed"),
        (lambda folder: bytearray(3 * 2**30), "traceback"),
        (crash, "crash"),
    ],
)
def test_harm_is_seen(run, end):
    (outcome,) = run_cases(iter([Case("harm", run)]))
    assert outcome.is_fault and outcome.end == end
