"""Reading the scalar logs that mmengine leaves in a work folder.

mmengine appends one JSON object a line to ``<work_dir>/<timestamp>/vis_data/scalars.json``: for
training the loss, its terms and the iteration; for evaluation the metrics, and a ``step`` that
counts epochs or iterations depending on the loop. Evaluations are therefore placed at the last
training iteration before them in the file.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOTAL_LOSS = "loss"

_NOT_METRICS = {"step", "iter", "epoch", "time", "data_time", "memory", "lr", "base_lr"}


@dataclass(frozen=True)
class Record:
    """Values that were logged at one training iteration."""

    iteration: int
    values: dict[str, float]


@dataclass(frozen=True)
class TrainingLog:
    """What one run logged, in the order of the file.

    Attributes:
        losses: the loss terms of each logged training iteration; ``loss`` is their total.
        evaluations: the metrics of each evaluation.
        others: whatever else was logged in training, at the iterations of ``losses``: learning
            rates, accuracies, norms of gradients, times.
    """

    losses: tuple[Record, ...]
    evaluations: tuple[Record, ...]
    others: tuple[Record, ...] = ()


def read_training_log(path: Path | str) -> TrainingLog:
    """Reads a scalar log.

    A damaged last line, as a killed run leaves it, is skipped with a warning.

    Args:
        path: the file, JSON lines.

    Returns:
        What it holds; nothing, if it is empty.

    Raises:
        ValueError: if another line than the last is damaged, an iteration is no number, or the log
            is one of mm 2.
    """
    losses: list[Record] = []
    evaluations: list[Record] = []
    others: list[Record] = []
    iteration = 0
    for number, entry in _read_entries(Path(path)):
        if "mode" in entry:
            raise ValueError(
                f"{path}: line {number} has a 'mode', as logs of mm 2, whose iterations begin anew "
                "with every epoch and cannot be placed; wanted is a scalars.json of mmengine"
            )
        if TOTAL_LOSS in entry:
            iteration = _iteration_of(entry, iteration, f"{path}: line {number}")
            losses.append(Record(iteration, _numbers(entry, _is_loss)))
            others.append(Record(iteration, _numbers(entry, _is_no_loss)))
        elif metrics := _numbers(entry, _is_metric):
            evaluations.append(Record(iteration, metrics))
    return TrainingLog(tuple(losses), tuple(evaluations), tuple(others))


def _iteration_of(entry: dict[str, Any], previous: int, place: str) -> int:
    iteration = entry.get("iter", entry.get("step", previous))
    if not isinstance(iteration, int | float) or not math.isfinite(iteration):
        raise ValueError(f"{place}: the iteration is {json.dumps(iteration)}, expected a number")
    return int(iteration)


def _read_entries(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the objects of a file of JSON lines, with the numbers of their lines."""
    # A killed run may have cut a character in two.
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = [
        (number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()
    ]
    for position, (number, line) in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict):
            yield number, entry
        elif position == len(lines):
            warnings.warn(f"{path}: skipped the damaged last line ({number})", stacklevel=3)
        else:
            raise ValueError(f"{path}: line {number} is not a JSON object: {line[:80]!r}")


def _numbers(entry: dict[str, Any], wanted: Callable[[str], bool]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in entry.items()
        if wanted(name) and isinstance(value, int | float)
    }


def _is_loss(name: str) -> bool:
    """Tells loss terms, ``loss_bbox`` or ``decode.loss_ce``, from learning rates and the like."""
    return "loss" in name.rsplit(".", 1)[-1]


def _is_no_loss(name: str) -> bool:
    return not _is_loss(name)


def _is_metric(name: str) -> bool:
    return name not in _NOT_METRICS
