"""Walking the dicts of a config."""

from collections.abc import Iterator
from typing import Any


def type_name(node: dict) -> str:
    """The class that a dict of a config names, without scope: ``ResNet`` for ``mmdet.ResNet``."""
    kind = node.get("type", "")
    return (kind if isinstance(kind, str) else kind.__name__).rpartition(".")[2]


def dicts_in(node: Any, path: str) -> Iterator[tuple[str, dict]]:
    """Every dict at and below a place of a config, with its path, the outermost first."""
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            yield from dicts_in(value, f"{path}.{key}")
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from dicts_in(value, f"{path}.{index}")
