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

from matplotlib.figure import Figure

from xcit_dense.errors import UserError
from xcit_dense.look import save_figure

MAIN_METRICS = ("mAP", "mIoU", "PQ")  # ends of the names of those that papers report
_NO_METRICS = ("step", "time", "data_time")
_LONGEST_LABEL = 45
_MOST_CURVES = 10  # in a panel where nothing is named; more are told apart by nobody


@dataclass
class Run:
    """What a run logged: numbers by iteration, by name.

    Attributes:
        training: losses, learning rates, norms of gradients, times.
        metrics: of evaluations.
    """

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
        UserError: nothing was logged yet, or a log is none of mmengine's.
    """
    # sorted by age: mmengine names their folders by the time
    patterns = ("vis_data/scalars.json", "*/vis_data/scalars.json")
    paths = sorted(path for pattern in patterns for path in source.glob(pattern))
    if source.is_file():
        paths = [source]
    if not paths:
        raise FileNotFoundError(
            f"{source}: no */vis_data/scalars.json in it; wanted is a work folder (--work-dir, by "
            "default work_dirs/CONFIG) of a run that has logged something"
        )
    logs = [lines for path in paths if (lines := _read_lines(path))]
    if not logs:
        raise UserError(f"{source}: nothing was logged yet")
    entries: list[tuple[int, dict[str, Any]]] = []
    for lines in [lines for lines in logs if any("iter" in line for line in lines)] or logs:
        first = min((line["iter"] for line in lines if "iter" in line), default=0)
        entries = [(at, line) for at, line in entries if at < first]
        iteration = entries[-1][0] if entries else 0
        for line in lines:
            iteration = line.get("iter", iteration)
            entries.append((iteration, line))
    run = Run()
    for iteration, line in entries:
        curves, left_out = (run.training, ()) if "iter" in line else (run.metrics, _NO_METRICS)
        for name, value in line.items():
            if isinstance(value, int | float) and name not in left_out:
                curves.setdefault(name, {})[iteration] = value
    return run


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a log; a damaged line, as a killed run leaves its last one, is left out."""
    entries = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(dict(json.loads(line)))
        except (ValueError, TypeError):
            warnings.warn(f"{path}: skipped line {number}, which is damaged", stacklevel=2)
    if any("mode" in entry for entry in entries):
        raise UserError(f"{path} is of mm 2, whose iterations begin anew with every epoch")
    return entries


def draw_curves(runs: Mapping[str, Run], target: Path, names: Sequence[str] = ()) -> None:
    """Draw losses and metrics over the iterations.

    Of one run a panel has the total loss with its largest terms, another the metrics that papers
    report, or the first ten if there are none. Of several the total loss and each of the metrics
    have a panel, in which each run has its colour.

    Args:
        runs: what was logged, by the name of the run.
        target: the picture to write.
        names: what to draw instead, a panel each: whatever was logged.

    Raises:
        UserError: no run has logged something of a name.
        OSError: the picture cannot be written.
    """
    metrics = list(dict.fromkeys(name for run in runs.values() for name in run.metrics))
    known = {*metrics, *(name for run in runs.values() for name in run.training)}
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"{unknown} were not logged; there are {', '.join(sorted(known))}")
    main = [name for name in metrics if name.endswith(MAIN_METRICS)] or metrics[:_MOST_CURVES]
    if names or len(runs) > 1:
        panels = {name: [name] for name in names or ["loss", *main]}
    else:
        panels = {"training": _largest_losses(*runs.values()), "evaluation": main}
    figure = Figure(figsize=(6.5 * len(panels), 6), layout="constrained")
    every_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, drawn) in zip(every_axes, panels.items(), strict=True):
        axes.set(title=title, xlabel="iteration")
        axes.grid(alpha=0.3)
        for run_number, (run_name, run) in enumerate(runs.items()):
            for number, name in enumerate(drawn):
                if curve := run.training.get(name) or run.metrics.get(name):
                    axes.plot(
                        [*curve],
                        [None if value == -1 else value for value in curve.values()],  # COCO's none
                        label=_label(run_name) if len(runs) > 1 else name,
                        color=f"C{run_number + number}",  # there are several of one of them only
                        marker="o" if name in run.metrics else "",
                    )
        if axes.lines:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False)
    save_figure(figure, target)


def _label(name: str) -> str:
    """The end of a path, which tells runs apart; a wide legend would leave no room for curves."""
    return name if len(name) <= _LONGEST_LABEL else f"...{name[-_LONGEST_LABEL:]}"


def _largest_losses(run: Run) -> list[str]:
    """By their first values, which are numbers also where a training went wrong later."""
    first = {
        name: next(iter(curve.values()))
        for name, curve in run.training.items()
        if "loss" in name.rsplit(".", 1)[-1]  # as in decode.loss_ce
    }
    return sorted(first, key=first.get, reverse=True)[:_MOST_CURVES]
