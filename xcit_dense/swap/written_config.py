"""The text of a config that inherits from another one."""

import textwrap
from pathlib import Path

from mmengine.config import Config

from xcit_dense.swap.config_difference import (
    LINE_LENGTH,
    as_literals,
    as_source,
    difference,
)
from xcit_dense.swap.config_source import ConfigSource
from xcit_dense.swap.new_style import is_new_style, module_of, new_style_text
from xcit_dense.swap.swap import Swap

_FIRST = ("custom_imports", "model", "optim_wrapper", "param_scheduler")


def config_text(source: ConfigSource, old: Config, swap: Swap, out: Path, title: str) -> str:
    """A config that holds only what the swap changed, with the notes as comments.

    It is in the style of the old one.

    Args:
        source: where the old config is.
        old: the old config.
        swap: the new one.
        out: the file that the text is for.
        title: first line.

    Raises:
        ValueError: the old config is in the new style, and ``out`` can not import it.
        SwapError: a value that changes, or stands in a list with one, can not be written.
    """
    changes = difference(old.to_dict(), swap.config.to_dict())
    changes = {name: as_literals(value, name) for name, value in changes.items()}
    ordered = {key: changes[key] for key in _FIRST if key in changes} | changes
    comments = [title, *(f"- {note}" for note in swap.notes)]
    lines = [line for comment in comments for line in _commented(comment)]
    if is_new_style(source.path):
        body = new_style_text(ordered, old.to_dict(), module_of(source.path, out))
    else:
        body = f"{_base_line(source.base_expression(out))}\n{as_source(ordered)}"
    return "\n".join([*lines, body])


def _base_line(expression: str) -> str:
    line = f"_base_ = {expression}"
    if len(line) <= LINE_LENGTH or " + " not in expression:
        return line
    folder, inner = expression.split(" + ", 1)
    return f"_base_ = (\n    {folder}\n    + {inner}\n)"


def _commented(text: str) -> list[str]:
    return textwrap.wrap(
        text,
        LINE_LENGTH,
        initial_indent="# ",
        subsequent_indent="#   " if text.startswith("- ") else "# ",
        break_long_words=False,
        break_on_hyphens=False,
    )
