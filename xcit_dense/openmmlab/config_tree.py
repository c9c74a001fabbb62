"""Walking the dicts of a config."""

from collections.abc import Iterator
from typing import Any


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


def innermost_dataset(dataset: dict) -> dict:
    """The data set inside wrappers such as ``RepeatDataset``: the one with files and a pipeline.

    Of several, in a ``ConcatDataset``, it is the first.
    """
    while "dataset" in dataset or dataset.get("datasets"):
        dataset = dataset["dataset"] if "dataset" in dataset else dataset["datasets"][0]
    return dataset
