"""Inheriting from a config in mmengine's new style, which imports what it needs.

Source: mmengine's lazy import, https://mmengine.readthedocs.io/en/latest/advanced_tutorials/config.html
"""

import ast
import keyword
import os
from pathlib import Path
from typing import Any

from mmengine.config import Config

from xcit_dense.mm.config_tree import bare_name
from xcit_dense.swap.config_difference import DELETE, Name, assignment, merger


def is_new_style(path: Path) -> bool:
    """Whether a config is in the new style."""
    return Config._is_lazy_import(str(path))


def module_of(path: Path, inheriting: Path) -> str:
    """The name by which a config imports another one: ``..folder.resnet``.

    Links are followed, as the system does where mmengine goes up with ``..``.

    Raises:
        ValueError: a file or folder on the way has a name that can not be imported.
    """
    folder = os.path.realpath(inheriting.parent)
    target = os.path.join(os.path.realpath(path.parent), path.stem)
    parts = os.path.relpath(target, folder).split(os.sep)
    ups = parts.count(os.pardir)
    for part in parts[ups:]:
        if not part.isidentifier() or keyword.iskeyword(part):
            remedy = "rename it" if part == path.stem else "write OUT beside CONFIG, or rename it"
            raise ValueError(
                f"{path} is in the new style, whose configs import each other, and {part!r} is no "
                f"name that Python can import: {remedy}"
            )
    return "." * (ups + 1) + ".".join(parts[ups:])


def new_style_text(changes: dict[str, Any], old: dict[str, Any], module: str) -> str:
    """What changes, as a config that imports the old one.

    Args:
        changes: what to merge into the old config.
        old: that.
        module: its name, from :func:`module_of`.
    """
    changes = {name: value for name, value in changes.items() if name != "custom_imports"}
    imports = {"read_base": "mmengine.config"}
    changes = _with_names(changes, imports)
    statements = [_statement(name, value, old.get(name)) for name, value in changes.items()]
    return "\n".join(
        [
            *sorted(f"from {where} import {name}" for name, where in imports.items()),
            "",
            "with read_base():",
            f"    from {module} import *",
            "",
            "".join(statements),
        ]
    )


def inherits_from(path: Path, other: Path) -> bool:
    """Whether a config in the new style inherits from another file, by any number of steps."""
    names = Config._get_base_modules(ast.parse(path.read_text(encoding="utf-8")).body)
    for name in names:
        inner = name.lstrip(".")
        if inner == name:  # of an installed package
            continue
        ups = [os.pardir] * (len(name) - len(inner) - 1)
        base = path.parent.joinpath(*ups, *inner.split(".")).with_suffix(".py")
        if base.exists() and (os.path.samefile(base, other) or inherits_from(base, other)):
            return True
    return False


def _statement(name: str, value: Any, old: Any) -> str:
    if not isinstance(value, dict):
        return assignment(name, value)
    if not isinstance(old, dict):
        return assignment(name, {key: inner for key, inner in value.items() if key != DELETE})
    return merger(name, value)


def _with_names(value: Any, imports: dict[str, str]) -> Any:
    """A copy in which dicts name their classes as the imports do, which are added.

    A class with the name of another one that is imported already stays a string.
    """
    if isinstance(value, (list, tuple)):
        return type(value)(_with_names(each, imports) for each in value)
    if not isinstance(value, dict):
        return value
    copied = {key: _with_names(inner, imports) for key, inner in value.items()}
    where, _, name = _importable(value.get("type")).rpartition(".")
    if where and imports.setdefault(name, where) == where:
        copied["type"] = Name(name)
    return copied


def _importable(kind: Any) -> str:
    """A class with the module to import it from, or nothing."""
    if not isinstance(kind, str):
        return ""
    if bare_name(kind) == "XCiT":
        return "xcit_dense.XCiT"  # what registers it: custom_imports are not looked at
    # mmdet.FPN is a scope and a name; mmdet.models.FPN is what mmengine makes of an import
    return kind if kind.count(".") > 1 else ""
