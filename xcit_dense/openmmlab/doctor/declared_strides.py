"""Strides that heads declare, against those that the maps have."""

from collections.abc import Iterator

from xcit_dense.openmmlab.config_tree import dicts_in
from xcit_dense.openmmlab.doctor.finding import Finding
from xcit_dense.openmmlab.doctor.levels import LevelTable
from xcit_dense.openmmlab.doctor.trial_model import TrialModel

_KEYS = ("featmap_strides", "feature_strides")
_MAKERS_OF_PLACES = ("_generator",)


def stride_findings(trial: TrialModel, levels: LevelTable) -> list[Finding]:
    """Declared strides that no maps have.

    Anchors, points and pooled regions would be at the wrong places: nothing fails, and nothing is
    learnt.
    """
    measured = [level.stride for level in levels.neck]
    return [
        Finding(
            f"{where} = {declared}, but the maps have strides {measured}",
            "declare the strides of the maps, or let the backbone give others (out_strides)",
        )
        for where, declared in _declared(trial)
        if not _is_part_of(declared, measured)
    ]


def _declared(trial: TrialModel) -> Iterator[tuple[str, list[int]]]:
    for path, node in dicts_in(trial.config, trial.path):
        if ".backbone" in path or ".neck" in path:
            continue
        keys = [key for key in _KEYS if key in node]
        if path.endswith(_MAKERS_OF_PLACES) and "strides" in node:
            keys.append("strides")
        for key in keys:
            strides = _plain(node[key])
            if strides and all(stride & (stride - 1) == 0 for stride in strides):
                yield f"{path}.{key}", strides


def _plain(strides: object) -> list[int]:
    """One number a level; none if they are not written so."""
    if not isinstance(strides, (list, tuple)):
        return []
    numbers = [stride[0] if isinstance(stride, (list, tuple)) else stride for stride in strides]
    return numbers if all(isinstance(number, int) for number in numbers) else []


def _is_part_of(declared: list[int], measured: list[int]) -> bool:
    """Whether the declared ones are measured ones, in a row and in the same order.

    Some heads (YOLO's) count from coarse to fine.
    """
    count = len(declared)
    rows = [measured[start : start + count] for start in range(len(measured) - count + 1)]
    return declared in rows or declared[::-1] in rows
