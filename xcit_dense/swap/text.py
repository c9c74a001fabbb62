"""The text of a config that inherits from another one, and holds only what differs.

In mmengine's new style, which imports what it inherits from, where the other one is in that:
https://mmengine.readthedocs.io/en/latest/advanced_tutorials/config.html
"""

import json
import keyword
import math
import os
import textwrap
from pathlib import Path
from typing import Any

from mmengine.config import Config

from xcit_dense.mm.config import configs_of, find_config
from xcit_dense.swap.levels import SwapError, located
from xcit_dense.swap.plan import Swap

LINE_LENGTH = 100
_DELETE = "_delete_"
_WRAPPER = textwrap.TextWrapper(LINE_LENGTH - 2, break_long_words=False, break_on_hyphens=False)
_FIRST = ("custom_imports", "model", "optim_wrapper", "param_scheduler")


def config_text(name: str, old: Config, swap: Swap, out: Path, title: str) -> str:
    """A config that holds only what the swap changed, with the notes as comments.

    Args:
        name: the old config, as :func:`xcit_dense.mm.config.find_config` takes it.
        old: the old config.
        swap: the new one.
        out: the file that the text is for.
        title: first line.

    Raises:
        SwapError: a value that changes, or stands in a list with one, can not be written; or the
            old config is in the new style, and ``out`` can not import it.
    """
    changes = difference(old.to_dict(), swap.config.to_dict())
    changes = {key: changes[key] for key in _FIRST if key in changes} | changes
    comments = [title, *(f"- {note}" for note in swap.notes)]
    lines = [f"# {line}" for comment in comments for line in _WRAPPER.wrap(comment)]
    path = find_config(name)
    if Config._is_lazy_import(str(path)):
        lines += _new_style_lines(changes, old.to_dict(), _module_of(path, out))
    else:
        lines.append(_base_line(name, out))
        lines += [_statement(f"{key} = ", value) for key, value in changes.items()]
    return "\n".join(lines) + "\n"


def difference(old: dict, new: dict) -> dict:
    """What to merge into a config, by mmengine's rules, to make another one of it.

    Dicts merge key by key, everything else is replaced, where Python writes it in another way.
    What loses a key is replaced as a whole, with ``_delete_=True``.
    """
    changed = {}
    for key, value in new.items():
        if key not in old:
            changed[key] = value
        elif not isinstance(value, dict):
            if repr(old[key]) != repr(value):
                changed[key] = value
        elif not isinstance(old[key], dict) or old[key].keys() - value.keys():
            changed[key] = {_DELETE: True, **value}
        elif inner := difference(old[key], value):
            changed[key] = inner
    return changed


def _new_style_lines(changes: dict[str, Any], old: dict[str, Any], module: str) -> list[str]:
    """What changes in the old config, as the lines of one that imports it as ``module``."""
    lines = ["from mmengine.config import read_base", "from xcit_dense import XCiT", ""]
    lines += ["with read_base():", f"    from {module} import *", ""]
    for name, value in changes.items():
        if name == "custom_imports":  # mmengine does not look at them; the type is imported
            continue
        if isinstance(value, dict) and isinstance(old.get(name), dict):
            line = _statement(f"{name}.merge(", value, ")")
        elif isinstance(value, dict):
            line = _statement(f"{name} = ", {k: v for k, v in value.items() if k != _DELETE})
        else:
            line = _statement(f"{name} = ", value)
        lines.append(line.replace('type="XCiT"', "type=XCiT"))
    return lines


def _module_of(path: Path, inheriting: Path) -> str:
    # links are followed, as the system does where mmengine goes up with ".."
    target = os.path.join(os.path.realpath(path.parent), path.stem)
    parts = os.path.relpath(target, os.path.realpath(inheriting.parent)).split(os.sep)
    ups = parts.count(os.pardir)
    for part in parts[ups:]:
        if not part.isidentifier() or keyword.iskeyword(part):
            reason = f"{part!r} is no name that Python can import, as the new style wants it"
            raise SwapError(str(path), f"{reason}: rename it, or write OUT elsewhere")
    return "." * (ups + 1) + ".".join(parts[ups:])


def _base_line(name: str, out: Path) -> str:
    """The line that names the base: one of the user's from ``out``, one of a package's in that.

    mmengine evaluates the expression, so that a package may be installed anywhere.
    """
    package, is_of_package, _ = name.partition("::")
    path, folder = os.path.abspath(find_config(name)), os.path.dirname(os.path.abspath(out))
    if is_of_package:
        found = f'__import__("{package}").__path__[0]'
        inner = path.removeprefix(os.path.abspath(configs_of(package).parents[1]))
        line = f'_base_ = {found} + "{inner}"'
        return line if len(line) <= LINE_LENGTH else f'_base_ = (\n    {found}\n    + "{inner}"\n)'
    if folder == os.path.realpath(folder):  # behind a link mmengine reads ".." in two ways
        path = os.path.relpath(path, folder)
    return f"_base_ = {json.dumps(Path(path).as_posix(), ensure_ascii=False)}"


def _statement(opening: str, value: Any, closing: str = "") -> str:
    with located(opening.split()[0].split(".")[0]):
        return f"{opening}{_source(value, LINE_LENGTH - len(opening) - len(closing))}{closing}"


def _source(value: Any, room: float, indent: int = 0) -> str:
    """Source of a value, on one line if it has at most ``room`` characters, else on several."""
    if isinstance(value, dict):
        opening, closing = "dict(", ")"
        entries = [(f"{key}=", entry) for key, entry in value.items()]
        if not all(str(key).isidentifier() and not keyword.iskeyword(str(key)) for key in value):
            opening, closing = "{", "}"
            entries = [(f"{_literal(key)}: ", entry) for key, entry in value.items()]
    elif type(value) in (list, tuple):
        if value[2:] and set(map(type, value)) == {int} and value == [value[0]] * len(value):
            return f"[{value[0]}] * {len(value)}"
        opening, closing = "[]" if type(value) is list else "()"
        entries = [("", entry) for entry in value]
    else:
        return _literal(value)
    inner = ", ".join(name + _source(entry, math.inf) for name, entry in entries)
    comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
    line = f"{opening}{inner}{comma}{closing}"
    if not entries or len(line) <= room:
        return line
    margin = " " * (indent + 4)
    room = LINE_LENGTH - len(margin) - 1  # for the comma
    lines = [name + _source(entry, room - len(name), indent + 4) for name, entry in entries]
    inner = "".join(f"{margin}{line},\n" for line in lines)
    return f"{opening}\n{inner}{' ' * indent}{closing}"


def _literal(value: Any) -> str:
    if type(value) not in (bool, int, float, complex, str, bytes, range, type(None)):
        raise TypeError(f"{value!r:.60} has no literal, so it can not be written into a config")
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    text = repr(value)
    if text[0] == "'" and '"' not in text and "\\" not in text:
        return f'"{text[1:-1]}"'  # double quotes where that needs no escapes
    return text
