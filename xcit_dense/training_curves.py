"""Training curves from the scalar log that mmengine leaves in a work folder.

mmengine appends one JSON object a line to ``<work_dir>/<timestamp>/vis_data/scalars.json``: for
training the loss, its terms and the iteration; for evaluation the metrics, and a ``step`` that
counts epochs or iterations depending on the loop. Evaluations are therefore placed at the last
training iteration before them in the file.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOTAL_LOSS = "loss"

_NOT_METRICS = {"step", "iter", "epoch", "time", "data_time", "memory", "lr", "base_lr"}
_LINES_OF_LEGEND = 24


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

    Raises:
        FileNotFoundError: if there is none.
    """
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


def last_evaluation(log: TrainingLog) -> dict[str, float]:
    """Returns the metrics of the last evaluation by name; empty if there was none."""
    return dict(log.evaluations[-1].values) if log.evaluations else {}


def metrics_table(metrics: dict[str, float]) -> str:
    """Returns metrics as lines of text, a name and a value each, aligned in columns."""
    if not metrics:
        return "no evaluation yet"
    longest = max(map(len, metrics))
    return "\n".join(f"{name:<{longest}}  {value:>10.4f}" for name, value in metrics.items())


def smoothed(values: Iterable[float], window: int) -> list[float]:
    """Returns exponential means over about ``window`` values, unbiased from the first one on.

    Values that are not finite leave a gap and do not enter the mean.

    Raises:
        ValueError: if the window is less than 1.
    """
    if window < 1:
        raise ValueError(f"a window has at least 1 value, not {window}")
    memory = 1 - 1 / window
    total = weight = 0.0
    means = []
    for value in values:
        if math.isfinite(value):
            total, weight = memory * total + value, memory * weight + 1
        means.append(total / weight if math.isfinite(value) else math.nan)
    return means


def draw_curves(log: TrainingLog, target: Path | str, title: str = "") -> None:
    """Draws loss terms (left) and evaluation metrics (right) against the training iteration.

    The file appears only when it is complete.

    Args:
        log: what to draw; a panel without data says so.
        target: the picture to write; its suffix chooses the format, for instance ``.png``.
        title: heading of the picture.

    Raises:
        ImportError: if matplotlib is missing.
        ValueError: if the suffix is not a format that matplotlib writes.
    """
    # Only drawing needs matplotlib, and no window: hence neither at import time nor pyplot.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    left, right = figure.subplots(1, 2, sharex=True)
    _draw_losses(left, log.losses)
    _draw_metrics(right, log.evaluations)
    _save_whole(Path(target), lambda path: figure.savefig(path, dpi=120))


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


def _series(records: tuple[Record, ...]) -> dict[str, list[float]]:
    """Returns a list of values for each name, as long as the records, with NaN for gaps."""
    names = dict.fromkeys(name for record in records for name in record.values)
    return {name: [record.values.get(name, math.nan) for record in records] for name in names}


def _draw_losses(axes: Axes, records: tuple[Record, ...]) -> None:
    iterations = [record.iteration for record in records]
    window = max(1, len(records) // 20)
    for name, values in _series(records).items():
        if name == TOTAL_LOSS:
            axes.plot(iterations, values, color="black", alpha=0.2, linewidth=0.8)
            style = {"color": "black", "linewidth": 2.5, "zorder": 3}
        else:
            style = {"linewidth": 1.2}
        axes.plot(iterations, smoothed(values, window), label=name, **style)
    axes.set_ylim(bottom=0)
    _finish(axes, "training loss" + (f" (mean of ~{window})" if window > 1 else ""))


def _draw_metrics(axes: Axes, records: tuple[Record, ...]) -> None:
    iterations = [record.iteration for record in records]
    for name, values in _series(records).items():
        # COCO's evaluation writes -1 where there is nothing to judge, as for sizes that are absent.
        known = [math.nan if value == -1 else value for value in values]
        if not all(map(math.isnan, known)):
            width = 2.5 if name.endswith(("_mAP", "mIoU")) else 1.2
            axes.plot(iterations, known, label=name, marker="o", markersize=3, linewidth=width)
    _finish(axes, "evaluation")


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("iteration")
    axes.grid(alpha=0.3)
    curves = len(axes.get_legend_handles_labels()[0])
    if curves:
        axes.legend(fontsize="small", ncols=math.ceil(curves / _LINES_OF_LEGEND))
    else:
        axes.text(0.5, 0.5, "nothing logged yet", transform=axes.transAxes, ha="center")


def _save_whole(target: Path, save: Callable[[Path], None]) -> None:
    """Saves under a temporary name beside the target and renames it when it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.stem}.partial-{os.getpid()}{target.suffix}")
    try:
        save(partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
