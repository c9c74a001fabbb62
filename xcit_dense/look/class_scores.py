"""How well each class does in an evaluation, as a table."""

import csv
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from xcit_dense.atomic_files import write_atomically


@dataclass
class ClassScores:
    """What an evaluation found of ``C`` classes.

    Attributes:
        columns: (C,) each, by name: the ``class``, how much there is of it, its scores.
        size: the column that says how much there is: of objects, or a share of the pixels.
        main: the column that classes are ranked by; NaN for those of which there is nothing.
        easier: another one, at least as large, to draw beside it.
        confusion: int (C + 1, C + 1), objects or pixels. Rows are what is there, columns what it is
            taken for; the last row is what is found where nothing is, the last column what is
            missed.
        condition: what counts in ``confusion``, in words.
        recalls, precisions: (R,) and (R, C) of detectors, at IoU ``iou``.
        worst: the worst images, the worst first, of :class:`MissedObjects` or :class:`WrongPixels`.
    """

    columns: dict[str, np.ndarray]
    size: str
    main: str
    easier: str
    confusion: np.ndarray
    condition: str = ""
    recalls: np.ndarray | None = None
    precisions: np.ndarray | None = None
    iou: float = 0.5
    worst: list[Any] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Of the classes."""
        return self.columns["class"].tolist()

    @property
    def mean(self) -> float:
        """Of the main column over the classes that are there: COCO's mAP, or mIoU; NaN of none."""
        values = self.columns[self.main]
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")

    def worst_first(self) -> list[int]:
        """The classes that are there, by the main column."""
        values = self.columns[self.main]
        return [i for i in np.argsort(values, kind="stable").tolist() if np.isfinite(values[i])]

    def mixed_up(self, most: int) -> list[tuple[int, int]]:
        """Pairs of a class and another one that it is taken for, by count times part."""
        counts = self.confusion[:-1, :-1] * (1 - np.eye(len(self.names), dtype=int))
        there = np.maximum(1.0, self.confusion[:-1].sum(axis=1, keepdims=True))
        weights = counts * (counts / there)
        largest = np.argsort(-weights, axis=None, kind="stable")[:most].tolist()
        pairs = [divmod(place, len(self.names)) for place in largest]
        return [pair for pair in pairs if counts[pair]]

    def text(self, most: int) -> str:
        """The worst classes as a table, a line each, and what is mixed up."""
        ranked = self.worst_first()
        rows = [[*self.columns], *(self._row(index) for index in ranked[:most])]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
            for row in rows
        ]
        if len(ranked) > most:
            lines.append(f"... and {len(ranked) - most} more that do better")
        if pairs := self.mixed_up(3):
            told = [
                f"{self.names[row]} as {self.names[column]} ({self._part(row, column):.0%})"
                for row, column in pairs
            ]
            lines.append(f"mixed up most: {', '.join(told)}")
        return "\n".join(lines)

    def _row(self, index: int) -> list[str]:
        values = [column[index] for column in self.columns.values()]
        return ["-" if x != x else f"{x:.3f}" if isinstance(x, float) else str(x) for x in values]

    def _part(self, row: int, column: int) -> float:
        return self.confusion[row, column] / self.confusion[row].sum()

    def write_table(self, path: Path) -> None:
        """Write all classes as comma-separated values, the worst first, absent ones at the end.

        Raises:
            OSError: the file cannot be written.
        """
        ranked = self.worst_first()
        text = StringIO()
        table = csv.writer(text)
        table.writerow(self.columns)
        for index in [*ranked, *sorted({*range(len(self.names))} - {*ranked})]:
            row = [column[index] for column in self.columns.values()]
            table.writerow("" if x != x else f"{x:.4f}" if isinstance(x, float) else x for x in row)
        write_atomically(path, lambda file: file.write(text.getvalue().encode()))
