"""Markdown tables that can be read as they are, in a terminal."""

from collections.abc import Sequence

_LABELS = 2  # columns of words, aligned to the left
_LONGEST_CELL = 20


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table with aligned columns: two of labels, then numbers, aligned to the right.

    A cell of text in a column of numbers may be longer than its column and shifts its own row
    only.

    Args:
        titles: of the columns.
        rows: cells, as many as titles.
    """
    widths = []
    for index, (title, *cells) in enumerate(zip(titles, *rows, strict=True)):
        longest = max(map(len, cells), default=0)
        if index >= _LABELS:
            longest = max((len(cell) for cell in cells if len(cell) <= _LONGEST_CELL), default=0)
        widths.append(max(len(title), longest, 3))
    rule = [
        "-" * width if i < _LABELS else "-" * (width - 1) + ":" for i, width in enumerate(widths)
    ]
    return "\n".join(
        [_line(titles, widths), _line(rule, widths), *(_line(r, widths) for r in rows)]
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cell.replace("|", "/") for cell in cells]  # what a message may contain
    padded = [
        cell.ljust(width) if index < _LABELS or len(cell) > width else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "| " + " | ".join(padded) + " |"
