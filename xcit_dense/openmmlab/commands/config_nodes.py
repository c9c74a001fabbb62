"""Walking through a config."""

from collections.abc import Iterator
from typing import Any


def mappings(node: Any) -> Iterator[dict]:
    """Every mapping in a part of a config, the outermost first."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from mappings(child)
