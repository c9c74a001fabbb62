"""What the backbone gives, against what its readers expect."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from xcit_dense.doctor.finding import Finding
from xcit_dense.doctor.trial_model import TrialModel
from xcit_dense.mm.config_tree import type_name
from xcit_dense.swap import Level, MeasuredBackbone, Reader, SwapError, find_readers


@dataclass
class LevelTable:
    """The levels of a model.

    Attributes:
        backbone: those that the backbone gives; none if it gives something else than maps.
        neck: those that the neck makes of them; None if there is none, or it was not run.
        readers: for each level of the backbone, who reads it, as ``model.neck (in_channels 384)``.
        findings: what does not fit, and what could not be looked at.
    """

    backbone: list[Level] = field(default_factory=list)
    neck: list[Level] | None = None
    readers: list[list[str]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        """Whether nothing is known to be wrong."""
        return not any(finding.is_wrong for finding in self.findings)


def measure_levels(trial: TrialModel) -> LevelTable:
    """Run the backbone, and compare with what the config says of its maps."""
    backbone = getattr(trial.model, "backbone", None)
    if backbone is None:
        name = type(trial.model).__name__
        return LevelTable(findings=[_not_understood(f"{name} has no backbone=dict(type=...)")])
    levels = _levels(_run(trial, backbone), trial.image_size)
    if levels is None:
        text = f"{type(backbone).__name__} does not give plain maps (B, C, H, W), one a level"
        return LevelTable(findings=[_not_understood(text)])
    readers, findings = _readers(trial, levels)
    return LevelTable(levels, None, _readers_by_level(readers, len(levels)), findings)


def measure_neck(trial: TrialModel) -> list[Level] | None:
    """Run backbone and neck; what these make, None if there is no neck, or it makes no maps."""
    if getattr(trial.model, "neck", None) is None:
        return None
    return _levels(_run(trial, trial.model.extract_feat), trial.image_size)


def _run(trial: TrialModel, part: Callable[[Tensor], Any]) -> Any:
    trial.model.train(False)
    with torch.no_grad():
        return part(torch.zeros(1, trial.image_channels, *trial.image_size))


def _levels(maps: Any, image_size: tuple[int, int]) -> list[Level] | None:
    """Necks such as the one of YOLO's return lists, some backbones a single map."""
    maps = [maps] if isinstance(maps, Tensor) else maps
    are_maps = isinstance(maps, (list, tuple)) and all(
        isinstance(tensor, Tensor) and tensor.ndim == 4 for tensor in maps
    )
    if not are_maps:
        return None
    return [
        Level(round(max(image_size) / max(tensor.shape[2:])), tensor.shape[1]) for tensor in maps
    ]


def _readers(trial: TrialModel, levels: list[Level]) -> tuple[list[Reader], list[Finding]]:
    backbone = MeasuredBackbone(type_name(trial.config["backbone"]), tuple(levels))
    try:
        readers = find_readers(trial.config, trial.path, backbone)
    except SwapError as error:
        return [], [_not_understood(str(error))]
    try:
        for reader in readers:
            reader.check_widths(backbone)
    except SwapError as error:
        return readers, [Finding(str(error), "make the two agree; see the table of levels")]
    return readers, []


def _not_understood(text: str) -> Finding:
    """What a user's own parts are allowed to be: the training step tells whether they fit."""
    return Finding(
        f"widths are not compared: {text}",
        "none is needed where the training step goes well",
        is_wrong=False,
    )


def _readers_by_level(readers: list[Reader], count: int) -> list[list[str]]:
    by_level = [[] for _ in range(count)]
    for reader in readers:
        for position, level in enumerate(reader.levels):
            width = reader.widths[position]
            by_level[level].append(f"{reader.path} ({reader.width_key} {width})")
    return by_level
