"""What the backbone gives, against what its readers expect."""

from dataclasses import dataclass, field

import torch
from mmengine.config import Config
from torch import Tensor

from xcit_dense.openmmlab.config_tree import type_name
from xcit_dense.openmmlab.doctor.finding import Finding
from xcit_dense.openmmlab.doctor.trial_model import TrialModel
from xcit_dense.openmmlab.swap.measured_backbone import Level, MeasuredBackbone
from xcit_dense.openmmlab.swap.model_swap import find_readers
from xcit_dense.openmmlab.swap.reader import Reader
from xcit_dense.openmmlab.swap.swap_error import SwapError


@dataclass
class LevelTable:
    """The levels of a model.

    Attributes:
        backbone: those that the backbone gives.
        neck: those that the neck makes of them; the same ones where there is no neck.
        readers: for each level of the backbone, who reads it, as ``model.neck (in_channels 384)``.
        findings: what does not fit.
    """

    backbone: list[Level]
    neck: list[Level]
    readers: list[list[str]]
    findings: list[Finding] = field(default_factory=list)


def measure_levels(trial: TrialModel, cfg: Config) -> LevelTable:
    """Run backbone and neck, and compare with what the config says of them."""
    model = trial.model
    model.train(False)
    channels = trial.config["backbone"].get("in_channels", 3)
    with torch.no_grad():
        maps = _as_tuple(model.backbone(torch.zeros(1, channels, *trial.image_size)))
        backbone = _levels(maps, trial.image_size)
        readers, findings = _readers(trial, backbone)
        table = LevelTable(backbone, backbone, _readers_by_level(readers, len(maps)), findings)
        if getattr(model, "neck", None) is not None and not findings:
            table.neck = _levels(_as_tuple(model.neck(maps)), trial.image_size)
    return table


def _as_tuple(maps: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Necks such as the one of YOLO's return lists, some backbones a single map."""
    return (maps,) if isinstance(maps, Tensor) else tuple(maps)


def _levels(maps: tuple[Tensor, ...], image_size: tuple[int, int]) -> list[Level]:
    return [
        Level(round(max(image_size) / max(tensor.shape[2:])), tensor.shape[1]) for tensor in maps
    ]


def _readers(trial: TrialModel, levels: list[Level]) -> tuple[list[Reader], list[Finding]]:
    backbone = MeasuredBackbone(type_name(trial.config["backbone"]), tuple(levels), ())
    try:
        readers = find_readers(trial.config, trial.path, backbone)
        for reader in readers:
            reader.check_widths(backbone)
    except SwapError as error:
        return [], [Finding(str(error), "make the two agree; see the table of levels")]
    return readers, []


def _readers_by_level(readers: list[Reader], count: int) -> list[list[str]]:
    by_level = [[] for _ in range(count)]
    for reader in readers:
        for position, level in enumerate(reader.levels):
            width = reader.widths[position]
            by_level[level].append(f"{reader.path} ({reader.width_key} {width})")
    return by_level
