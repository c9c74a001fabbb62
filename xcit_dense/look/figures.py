"""Writing matplotlib's figures to files."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xcit_dense.atomic_files import write_atomically
from xcit_dense.errors import UserError


def check_format(target: Path) -> None:
    """Raise a :exc:`UserError` where a picture cannot have this name."""
    formats = FigureCanvasAgg.get_supported_filetypes()
    if target.suffix[1:].lower() not in formats:
        raise UserError(f"{target}: a picture's name ends in one of .{', .'.join(formats)}")


def save_figure(figure: Figure, target: Path) -> None:
    """Write a figure, whole or not at all; the suffix of the name chooses the format.

    Raises:
        UserError: the format is unknown, or the file cannot be written.
    """
    check_format(target)
    try:
        write_atomically(target, lambda file: figure.savefig(file, format=target.suffix[1:]))
    except OSError as error:
        raise UserError(f"{target}: the picture cannot be written ({error})") from error
