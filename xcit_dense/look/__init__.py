"""Pictures of what goes on: attention, the images that a model is fed, curves of training."""

import warnings
from argparse import ArgumentTypeError
from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from xcit_dense.atomic_files import write_atomically

_LONGEST_NAME = 24


def picture_path(text: str) -> Path:
    """Read the name of a picture to write, as the type of an argument of a command."""
    path, formats = Path(text), FigureCanvasAgg.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        raise ArgumentTypeError(f"{text}: a picture's name ends in one of .{', .'.join(formats)}")
    return path


def save_figure(figure: Figure, target: Path) -> None:
    """Write a figure, whole or not at all; the suffix of the name chooses the format.

    Raises:
        OSError: the file cannot be written.
    """
    encoded = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # of names: empty boxes
        figure.savefig(encoded, format=target.suffix[1:])
    write_atomically(target, lambda file: file.write(encoded.getvalue()))


def image_places(figure: Figure | SubFigure, count: int, columns: int) -> list[Axes]:
    """Places for ``count`` images in rows of so many columns."""
    places = figure.subplots(-(-count // columns), columns, squeeze=False).flatten().tolist()
    for axes in places:
        axes.set_axis_off()
        axes.set_anchor("N")
    return places[:count]


def short(name: str) -> str:
    """Not longer than there is room, and no formula of matplotlib's."""
    shorter = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}\u2026"
    return shorter.replace("$", r"\$")
