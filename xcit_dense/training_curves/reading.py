"""Reading the scalar log that mmengine leaves in a work folder.

mmengine appends one JSON object a line to ``<work_dir>/<timestamp>/vis_data/scalars.json``: for
training the loss, its terms and the iteration; for evaluation the metrics, and a ``step`` that
counts epochs or iterations depending on the loop. Evaluations are therefore placed at the last
training iteration before them in the file.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable
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
    """

    losses: tuple[Record, ...]
    evaluations: tuple[Record, ...]


def find_scalar_log(work_dir: Path | str) -> Path:
    """Returns the scalar log of the newest run in a work folder.

    Runs that only evaluated do not hide an older one that trained.

    Args:
        work_dir: the folder, or the scalar log itself.

    Raises:
        FileNotFoundError: if there is none.
    """
    if Path(work_dir).is_file():
        return Path(work_dir)
    # mmengine names the folders by date and time, so that they sort by age.
    pattern = "*/vis_data/scalars.json"
    logs = sorted(Path(work_dir).glob(pattern), key=lambda path: path.parts[-3], reverse=True)
    if not logs:
        raise FileNotFoundError(
            f"no scalar log found: looked for {Path(work_dir) / pattern}; is this the work folder "
            "(--work-dir, by default work_dirs/<config>) of a run that has logged something?"
        )
    return next((log for log in logs if f'"{TOTAL_LOSS}":' in _read_text(log)), logs[0])


def read_training_log(path: Path | str) -> TrainingLog:
    """Reads a scalar log.

    A damaged last line, as a killed run leaves it, is skipped with a warning.

    Args:
        path: the file, JSON lines.

    Returns:
        Losses and evaluations.

    Raises:
        ValueError: if another line than the last is damaged.
    """
    losses: list[Record] = []
    evaluations: list[Record] = []
    iteration = 0
    for entry in _read_entries(Path(path)):
        if TOTAL_LOSS in entry:
            iteration = int(entry.get("iter", entry.get("step", iteration)))
            losses.append(Record(iteration, _numbers(entry, _is_loss)))
        elif metrics := _numbers(entry, _is_metric):
            evaluations.append(Record(iteration, metrics))
    return TrainingLog(tuple(losses), tuple(evaluations))


def _read_text(path: Path) -> str:
    # A killed run may have cut a character in two.
    return path.read_text(encoding="utf-8", errors="replace")


def _read_entries(path: Path) -> Iterable[dict[str, Any]]:
    """Yields the objects of a file of JSON lines."""
    lines = [
        (number, line)
        for number, line in enumerate(_read_text(path).splitlines(), start=1)
        if line.strip()
    ]
    for position, (number, line) in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict):
            yield entry
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


def _is_metric(name: str) -> bool:
    return name not in _NOT_METRICS
