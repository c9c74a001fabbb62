"""Walking the dicts of a config."""

from collections.abc import Iterator
from typing import Any

PACKAGES = ("mmdet", "mmseg")
"""Whose models are trained here."""


def bare_name(kind: str | type) -> str:
    """The name of a registered class, without scope: ``ResNet`` for ``mmdet.ResNet``."""
    name = kind if isinstance(kind, str) else kind.__name__
    return name.rpartition(".")[2]


def type_name(node: dict) -> str:
    """The class that a dict of a config names, without scope; empty where it names none."""
    return bare_name(node.get("type", ""))


def dicts_in(node: Any, path: str = "") -> Iterator[tuple[str, dict]]:
    """Every dict at and below a place of a config, with its path, the outermost first."""
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            yield from dicts_in(value, f"{path}.{key}")
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from dicts_in(value, f"{path}.{index}")


def model_scope(cfg: dict) -> str | None:
    """The package that the model of a config is from: as its class says, or the default scope."""
    kind = (cfg.get("model") or {}).get("type", "")
    name = kind if isinstance(kind, str) else f"{kind.__module__}."
    package = name.partition(".")[0] if "." in name else None
    return package if package in PACKAGES else cfg.get("default_scope") or package


def module_prefix(model: dict, path: str) -> str:
    """What names of parameters begin with, of the part of a model that stands at ``path``.

    ``model.detector`` has ``detector.``; but mmdet's semi-supervised models make a student and a
    teacher of their detector, and train the student.
    """
    inner = "model.student" if "semi_train_cfg" in model and path == "model.detector" else path
    return f"{inner}.".removeprefix("model.")


def unsynchronize(node: Any) -> None:
    """Make every MMSyncBN a BN, in place: it wants several processes when it is built."""
    for _, inner in dicts_in(node):
        if type_name(inner) == "MMSyncBN":
            inner["type"] = "BN"


def innermost_dataset(dataset: dict) -> dict:
    """The data set inside wrappers such as ``RepeatDataset``: the one with files and a pipeline.

    Of several, in a ``ConcatDataset``, it is the first.
    """
    while "dataset" in dataset or dataset.get("datasets"):
        dataset = dataset["dataset"] if "dataset" in dataset else dataset["datasets"][0]
    return dataset
