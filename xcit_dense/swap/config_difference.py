"""Writing a config as what it changes in another one."""

import keyword
import math
import sys
from typing import Any

import numpy as np
from torch import Tensor

from xcit_dense.swap.swap_error import SwapError

LINE_LENGTH = 100
DELETE = "_delete_"
_WRITTEN_BY_REPR = (bool, int, float, complex, str, bytes, range, type(None))


class Name(str):
    """A string that is written as a name, without quotes."""


def difference(old: dict, new: dict) -> dict:
    """What to merge into a config, by mmengine's rules, to make another one of it.

    Dicts merge key by key, everything else is replaced. What loses a key is replaced as a whole,
    with ``_delete_=True``.
    """
    changed = {}
    for key, value in new.items():
        if key not in old:
            changed[key] = value
        elif not isinstance(value, dict):
            if not _is_equal(old[key], value):
                changed[key] = value
        elif not isinstance(old[key], dict) or old[key].keys() - value.keys():
            changed[key] = {DELETE: True, **value}
        elif inner := difference(old[key], value):
            changed[key] = inner
    return changed


def as_literals(value: Any, path: str) -> Any:
    """What a config may hold, of what Python can write: numbers of numpy become Python's.

    Args:
        value: dicts, sequences, numbers, texts, and classes as ``type``.
        path: where it stands, for errors.

    Raises:
        SwapError: there is something else.
    """
    if isinstance(value, dict):
        return {
            as_literals(key, path): _class_name(inner, f"{path}.{key}")
            if key == "type" and isinstance(inner, type)
            else as_literals(inner, f"{path}.{key}")
            for key, inner in value.items()
        }
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(as_literals(each, f"{path}.{at}") for at, each in enumerate(value))
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in _WRITTEN_BY_REPR:
        return value
    reason = f"{type(value).__name__} has no literal, so it can not be written into a config"
    raise SwapError(path, reason)


def _class_name(kind: type, path: str) -> str:
    """The name by which a registry imports a class."""
    if getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is not kind:
        raise SwapError(path, f"{kind.__name__} is a class that can not be imported: register it")
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_equal(old: Any, new: Any) -> bool:
    if type(old) is not type(new):
        return False
    if isinstance(old, dict):
        return old.keys() == new.keys() and all(_is_equal(old[key], new[key]) for key in old)
    if isinstance(old, (list, tuple)):
        return len(old) == len(new) and all(map(_is_equal, old, new))
    if isinstance(old, (np.ndarray, Tensor)):
        return old.shape == new.shape and bool((old == new).all())
    return old is new or bool(old == new)


def as_source(values: dict[str, Any]) -> str:
    """Python source that assigns every value to its name."""
    return "".join(assignment(name, value) for name, value in values.items())


def assignment(name: str, value: Any) -> str:
    """Python source that assigns a value to a name."""
    return f"{name} = {_source(value, 0, len(name) + 3)}\n"


def merger(name: str, value: dict) -> str:
    """Python source that merges a dict into the one that has a name, in a new-style config."""
    return f"{name}.merge({_source(value, 0, len(name) + 8)})\n"


def _source(value: Any, indent: int, before: int) -> str:
    """Source of a value, on one line if it fits behind ``before`` characters, else on several."""
    on_one_line = _one_line(value)
    if indent + before + len(on_one_line) + 1 <= LINE_LENGTH:
        return on_one_line
    if isinstance(value, dict) and value:
        plain = _all_identifiers(value)
        entries = [
            _entry(f"{key}=" if plain else f"{_string(key)}: ", inner, indent + 4)
            for key, inner in value.items()
        ]
        opening, closing = ("dict(", ")") if plain else ("{", "}")
    elif isinstance(value, (list, tuple)) and value:
        entries = [_entry("", inner, indent + 4) for inner in value]
        opening, closing = ("[", "]") if isinstance(value, list) else ("(", ")")
    else:
        return on_one_line
    return f"{opening}\n{''.join(entries)}{' ' * indent}{closing}"


def _entry(name: str, value: Any, indent: int) -> str:
    return f"{' ' * indent}{name}{_source(value, indent, len(name))},\n"


def _one_line(value: Any) -> str:
    if isinstance(value, dict):
        if _all_identifiers(value):
            inner = ", ".join(f"{key}={_one_line(inner)}" for key, inner in value.items())
            return f"dict({inner})"
        inner = ", ".join(f"{_string(key)}: {_one_line(inner)}" for key, inner in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list):
        if len(value) > 2 and type(value[0]) is int and value == value[:1] * len(value):
            return f"[{value[0]}] * {len(value)}"
        return f"[{', '.join(map(_one_line, value))}]"
    if isinstance(value, tuple):
        inner = ", ".join(map(_one_line, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, Name):
        return str(value)
    return _string(value) if isinstance(value, str) else repr(value)


def _all_identifiers(value: dict) -> bool:
    return all(
        isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key) for key in value
    )


def _string(value: Any) -> str:
    """With double quotes where that needs no escapes."""
    text = repr(value)
    if isinstance(value, str) and text[0] == "'" and '"' not in text and "\\" not in text:
        return f'"{text[1:-1]}"'
    return text
