"""Strides that heads declare, against those of the maps that they are given."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from xcit_dense.doctor.finding import Finding
from xcit_dense.doctor.map_sizes import Size
from xcit_dense.doctor.trial_model import TrialModel

_KEYS = ("featmap_strides", "feature_strides")
_MAKERS_OF_PLACES = ("prior_generator", "anchor_generator")
# how a config may call the strides that a head makes its generator of
_KEYS_OF_HEADS = ("strides", "point_strides")
# strides such as 550 / 69 (YOLACT) are those of the one image size that it learns from
_TOLERANCE_OF_FRACTIONS = 0.2


def parts_with_strides(model: nn.Module) -> dict[str, nn.Module]:
    """The parts of a built model that declare strides, told or by default, by name."""
    return {name: part for name, part in model.named_modules() if any(_declared(part))}


def stride_findings(trial: TrialModel, given: dict[str, list[Size]]) -> list[Finding]:
    """Declared strides that the maps do not have.

    Anchors, points and pooled regions would be at the wrong places: nothing fails, and nothing is
    learnt.

    Args:
        trial: the model.
        given: sizes of the maps that its parts were given, by their name.
    """
    parts = parts_with_strides(trial.model)
    findings = [
        Finding(
            f"{_place(trial, name, key)} = {strides}, "
            f"but the maps have strides {[_stride(size, trial.image_size) for size in sizes]}",
            "declare the strides of the maps, or have others made (start_level of the neck, "
            "out_strides of XCiT)",
        )
        for name, sizes in _of_read_levels(parts, given)
        for key, strides in _declared(parts[name])
        if not _fit(strides, sizes, trial.image_size)
    ]
    return list(dict.fromkeys(findings))  # stages of a cascade may share one dict


def _declared(part: nn.Module) -> Iterator[tuple[str, list[float]]]:
    for key, value in vars(part).items():
        strides = getattr(value, "strides", None) if key.endswith(_MAKERS_OF_PLACES) else None
        if numbers := _numbers(value if key in _KEYS else strides):
            yield key, numbers


def _numbers(strides: Any) -> list[float]:
    """One number a level; none if they are not written so, or differ in the two directions."""
    if not isinstance(strides, (list, tuple)):
        return []
    pairs = [stride if isinstance(stride, (list, tuple)) else (stride,) for stride in strides]
    are_numbers = all(
        len(set(pair)) == 1 and isinstance(pair[0], (int, float)) and pair[0] > 0 for pair in pairs
    )
    return [pair[0] for pair in pairs] if are_numbers else []


def _of_read_levels(
    parts: dict[str, nn.Module], given: dict[str, list[Size]]
) -> Iterator[tuple[str, list[Size]]]:
    """Heads of mmseg are given all levels, and choose."""
    for name, sizes in given.items():
        indices = getattr(parts[name], "in_index", None)
        if isinstance(indices, (list, tuple)):
            # an index that no level has fails in the training step
            sizes = [sizes[index] for index in indices if -len(sizes) <= index < len(sizes)]
        yield name, sizes


def _fit(strides: list[float], sizes: list[Size], image_size: Size) -> bool:
    """Whether the maps, or the first of them, are of these strides."""
    return len(strides) <= len(sizes) and all(
        _fits(stride, places, pixels)
        for stride, size in zip(strides, sizes, strict=False)
        for places, pixels in zip(size, image_size, strict=True)
    )


def _fits(stride: float, places: int, pixels: int) -> bool:
    if stride != int(stride):
        return abs(places * stride / pixels - 1) <= _TOLERANCE_OF_FRACTIONS
    whole = pixels // int(stride)
    return places in (whole, whole + (pixels % int(stride) > 0))


def _stride(size: Size, image_size: Size) -> int:
    return round(max(image_size) / max(size))


def _place(trial: TrialModel, name: str, key: str) -> str:
    """Where the config says the strides, or would say them."""
    path, node = _dict_of(trial, name)
    if key in _KEYS:
        return f"{path}.{key}"
    for generator in (key, "anchor_generator"):
        if isinstance(node.get(generator), dict):
            return f"{path}.{generator}.strides"
    said = [key_of_head for key_of_head in _KEYS_OF_HEADS if key_of_head in node]
    return f"{path}.{(said or _KEYS_OF_HEADS)[0]}"


def _dict_of(trial: TrialModel, name: str) -> tuple[str, dict]:
    """Where the dict stands that a part was built from, and it; empty where names are others."""
    path, node = trial.path, trial.config
    for step in name.split("."):
        if step.isdigit() and isinstance(node, dict):
            continue  # one dict stands for all stages of a cascade
        path = f"{path}.{step}"
        if isinstance(node, dict):
            node = node.get(step)
        elif isinstance(node, (list, tuple)) and step.isdigit() and int(step) < len(node):
            node = node[int(step)]
        else:
            node = None
    return path, node if isinstance(node, dict) else {}
