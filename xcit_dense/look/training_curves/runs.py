"""The logs of a run: one of each time that it was started, joined."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from xcit_dense.look.training_curves.reading import Record, TrainingLog, read_training_log

LOG_NAME = "scalars.json"
FOLDER_OF_LOG = "vis_data"


def find_scalar_logs(run: Path | str) -> list[Path]:
    """Returns the scalar logs of a run, the oldest first.

    Args:
        run: a work folder, of which all logs count, as resumed runs leave one each; or the
            time-stamped folder of one start, its ``vis_data``, or the log itself.

    Raises:
        FileNotFoundError: if there is none.
    """
    run = Path(run)
    for single in (run, run / LOG_NAME, run / FOLDER_OF_LOG / LOG_NAME):
        if single.is_file():
            return [single]
    # mmengine names the folders by date and time, so that they sort by age.
    pattern = f"*/{FOLDER_OF_LOG}/{LOG_NAME}"
    logs = sorted(run.glob(pattern), key=lambda path: path.parts[-3])
    if not logs:
        raise FileNotFoundError(
            f"no scalar log found: looked for {run / pattern}; is this the work folder "
            "(--work-dir, by default work_dirs/<config>) of a run that has logged something?"
        )
    return logs


def read_run(paths: Sequence[Path]) -> tuple[TrainingLog, list[Path]]:
    """Reads the logs of a run.

    Args:
        paths: one or several, the oldest first.

    Returns:
        What counts of them, joined, and the files that it is from. Starts that logged nothing are
        left out, those before a training that began anew, and, where another one trained, those
        that only evaluated.

    Raises:
        ValueError: if a log is damaged, or there is no whole record in any.
    """
    logs = {path: read_training_log(path) for path in paths}
    logs = {path: log for path, log in logs.items() if log.losses or log.evaluations}
    if not logs:
        raise ValueError(f"{paths[-1]} has no whole record: nothing was logged yet")
    counting = _that_count(logs)
    return joined(logs[path] for path in counting), counting


def _that_count(logs: Mapping[Path, TrainingLog]) -> list[Path]:
    """The logs that trained and were not done again from their beginning, the oldest first."""
    counting: list[Path] = []
    done_again = math.inf
    for path, log in reversed(logs.items()):
        if log.losses and log.losses[0].iteration < done_again:
            done_again = log.losses[0].iteration
            counting.insert(0, path)
    return counting or [*logs][-1:]


def joined(logs: Iterable[TrainingLog]) -> TrainingLog:
    """Joins the logs of a run that was resumed, the oldest first.

    What an older log has from the iteration on at which a newer one begins was done again: the
    newer one counts. So a run that began anew hides all that was before.
    """
    whole = TrainingLog((), ())
    for log in logs:
        whole = _continued(whole, log) if log.losses else log
    return whole


def _continued(older: TrainingLog, newer: TrainingLog) -> TrainingLog:
    first = newer.losses[0].iteration

    def kept(records: Iterable[Record]) -> tuple[Record, ...]:
        return tuple(record for record in records if record.iteration < first)

    losses = kept(older.losses)
    reached = losses[-1].iteration if losses else 0
    evaluations = [
        replace(record, iteration=max(record.iteration, reached)) for record in newer.evaluations
    ]
    return TrainingLog(
        losses + newer.losses,
        kept(older.evaluations) + tuple(evaluations),
        kept(older.others) + newer.others,
    )
