"""Curves of losses and metrics, from the scalar logs that mmengine leaves in work folders.

mmengine appends a JSON object a line to ``WORK_DIR/TIMESTAMP/vis_data/scalars.json``: in training
the losses and the iteration, after an evaluation its metrics, without the iteration. So an
evaluation is placed at the last training iteration before it.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xcit_dense.errors import UserError, in_one_line
from xcit_dense.look.figures import save_figure

TOTAL_LOSS = "loss"
# ends of the names of the metrics that papers report
MAIN_METRICS = ("mAP", "mIoU", "PQ")
_NO_METRICS = ("step", "time", "data_time")
_MOST_CURVES = 10  # in a panel where nothing is named; more are told apart by nobody
_LINE_STYLES = ("-", "--", ":", "-.")


@dataclass
class Run:
    """What a run logged: numbers by iteration, by name.

    Attributes:
        logs: the files that it is from, the oldest first.
        training: losses, learning rates, norms of gradients, times.
        metrics: of evaluations.
    """

    logs: list[Path]
    training: dict[str, dict[int, float]] = field(default_factory=dict)
    metrics: dict[str, dict[int, float]] = field(default_factory=dict)

    def last_evaluation(self) -> dict[str, float]:
        """The metrics of the last evaluation, by name."""
        last = max((max(curve) for curve in self.metrics.values()), default=0)
        return {name: curve[last] for name, curve in self.metrics.items() if last in curve}


def read_run(source: Path) -> Run:
    """Read what a run logged, also if it was stopped and resumed.

    Every start leaves a log. What a later one did again replaces what was there, so that a training
    that began anew hides those before it. Logs without training count only where none has any, and
    of these the last.

    Args:
        source: a work folder, a time-stamped folder in it, or a ``scalars.json``.

    Raises:
        FileNotFoundError: there is no log.
        UserError: a log is damaged elsewhere than in its last line, or nothing was logged yet.
    """
    logs = {path: lines for path in _logs_of(source) if (lines := _read_lines(path))}
    if not logs:
        raise UserError(f"{source}: nothing was logged yet")
    trained = {path: lines for path, lines in logs.items() if any(TOTAL_LOSS in x for x in lines)}
    counting = trained or dict([logs.popitem()])
    entries: list[tuple[int, dict[str, Any]]] = []
    for lines in counting.values():
        first = min((line["iter"] for line in lines if TOTAL_LOSS in line), default=0)
        entries = [(at, line) for at, line in entries if at < first]
        iteration = entries[-1][0] if entries else 0
        for line in lines:
            iteration = line["iter"] if TOTAL_LOSS in line else iteration
            entries.append((iteration, line))
    run = Run([*counting])
    for iteration, line in entries:
        curves, left_out = (run.training, ()) if TOTAL_LOSS in line else (run.metrics, _NO_METRICS)
        for name, value in line.items():
            if isinstance(value, int | float) and name not in left_out:
                curves.setdefault(name, {})[iteration] = value
    return run


def _logs_of(source: Path) -> list[Path]:
    """The logs of all starts, by age, as mmengine names their folders by the time."""
    for single in (source, source / "scalars.json", source / "vis_data" / "scalars.json"):
        if single.is_file():
            return [single]
    logs = sorted(source.glob("*/vis_data/scalars.json"))
    if not logs:
        raise FileNotFoundError(
            f"{source}: no */vis_data/scalars.json in it; wanted is a work folder (--work-dir, by "
            "default work_dirs/CONFIG) of a run that has logged something"
        )
    return logs


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a log; a damaged last line, as a killed run leaves it, is left out."""
    entries = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            entry = dict(json.loads(line))
            if "mode" in entry:
                raise ValueError("a log of mm 2, whose iterations begin anew with every epoch")
            if TOTAL_LOSS in entry:
                entry["iter"] = int(entry["iter"])
            entries.append(entry)
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines):
                reason = f"{path}: line {number} is none of a scalars.json of mmengine"
                raise UserError(f"{reason} ({in_one_line(error)}): {line[:80]}") from error
            warnings.warn(f"{path}: skipped the damaged last line ({number})", stacklevel=2)
    return entries


def draw_curves(runs: Mapping[str, Run], target: Path, names: Sequence[str] = ()) -> None:
    """Draw losses and metrics over the iterations.

    Of one run the total loss is drawn with its largest terms, of several the total loss, each run
    in its colour; beside it the metrics that papers report, or the first ten if there are none.

    Args:
        runs: what was logged, by the name of the run.
        target: the picture to write.
        names: what to draw instead, a panel each: whatever was logged.

    Raises:
        UserError: no run has logged something of a name, or the picture cannot be written.
    """
    losses = dict.fromkeys(name for run in runs.values() for name in run.training)
    metrics = dict.fromkeys(name for run in runs.values() for name in run.metrics)
    for name in names:
        if name not in losses | metrics:
            raise UserError(f"{name!r} was not logged; there are {', '.join(losses | metrics)}")
    main = [name for name in metrics if name.endswith(MAIN_METRICS)]
    panels = {name: [name] for name in names} or {
        "training": [TOTAL_LOSS] if len(runs) > 1 else _largest_losses(*runs.values()),
        "evaluation": main or [*metrics][:_MOST_CURVES],
    }
    height = 5 + 0.2 * len(runs) * max(map(len, panels.values()))  # with the longest legend
    figure = Figure(figsize=(6.5 * len(panels), height), layout="constrained")
    every_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, drawn) in zip(every_axes, panels.items(), strict=True):
        _draw_panel(axes, title, drawn, runs)
    save_figure(figure, target)


def _largest_losses(run: Run) -> list[str]:
    """By their first values, which are numbers also where a training went wrong later."""
    first = {
        name: next(iter(curve.values()))
        for name, curve in run.training.items()
        if "loss" in name.rsplit(".", 1)[-1]  # as in decode.loss_ce
    }
    return sorted(first, key=first.get, reverse=True)[:_MOST_CURVES]


def _draw_panel(axes: Axes, title: str, names: Sequence[str], runs: Mapping[str, Run]) -> None:
    several = len(runs) > 1
    for run_number, (run_name, run) in enumerate(runs.items()):
        for number, name in enumerate(names):
            curve = run.training.get(name) or run.metrics.get(name)
            if not curve:
                continue
            axes.plot(
                [*curve],
                [value if value != -1 else None for value in curve.values()],  # COCO's "no result"
                label=f"{run_name}: {name}" if several else name,
                color=f"C{run_number if several else number}",
                linestyle=_LINE_STYLES[number % len(_LINE_STYLES)] if several else "-",
                linewidth=2.5 if name == TOTAL_LOSS or name.endswith(MAIN_METRICS) else 1,
                marker="o" if name in run.metrics else "",
            )
    axes.set(title=title, xlabel="iteration")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False)
