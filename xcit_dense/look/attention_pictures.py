"""Pictures of attention: maps of places over the image, and matrices of channels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from xcit_dense.look.attention import BlockAttention
from xcit_dense.look.figures import save_figure

_INCHES = 2.0
_THINNEST = 3.0  # a picture's place, height to width or width to height
_CAPTION = (
    "maps: places that drive the attention of a head more than the average place are red, those "
    "that do less, or hold it back, are blue\n"
    "matrices: attention of each query channel (row) to the key channels (columns)"
)


@dataclass(frozen=True)
class Backdrop:
    """The image under the maps.

    Attributes:
        image: (H, W, 3) in red, green, blue, in [0, 1].
        rows: how many rows of the image the grid of patches covers; more than H where the model's
            input was padded.
        columns: likewise.
    """

    image: np.ndarray
    rows: float
    columns: float


def draw_attention(
    backdrop: Backdrop,
    blocks: Sequence[BlockAttention],
    class_maps: Sequence[Tensor],
    target: Path,
) -> None:
    """Draw a grid: for each block a row of maps and one of attention matrices, a column a head.

    Args:
        backdrop: the image.
        blocks: cross-covariance attention.
        class_maps: class attention of one block each, (heads, rows, columns).
        target: the picture to write, whole or not at all; its suffix chooses the format.

    Raises:
        UserError: the file cannot be written.
    """
    height, width = backdrop.image.shape[:2]
    tall = min(_THINNEST, max(1 / _THINNEST, height / width))
    heads = max(len(maps) for maps in [*class_maps, *(block.maps for block in blocks)])
    heights = [tall, 1.0] * len(blocks) + [tall] * len(class_maps)
    figure = Figure(((heads + 1) * _INCHES, sum(heights) * 1.15 * _INCHES), layout="constrained")
    rows = iter(figure.subplots(len(heights), heads + 1, squeeze=False, height_ratios=heights))
    figure.supxlabel(_CAPTION if blocks else "", fontsize="small")
    for block in blocks:
        _draw_maps(next(rows), f"block {block.block}", backdrop, block.maps.numpy(), signed=True)
        _draw_matrices(next(rows), block.attention.numpy())
    for number, maps in enumerate(class_maps):
        title = f"class attention {number}\n(bright: taken in)"
        _draw_maps(next(rows), title, backdrop, maps.numpy(), signed=False)
    for axes in figure.axes:
        axes.set_axis_off()
    save_figure(figure, target)


def _draw_maps(
    row: Iterable[Axes], title: str, backdrop: Backdrop, maps: np.ndarray, signed: bool
) -> None:
    """Draw the image, and for each head a map over it, the more opaque the larger its value."""
    height, width = backdrop.image.shape[:2]
    whole, *places = row
    whole.imshow(backdrop.image)
    whole.set_title(title, fontsize="medium")
    faint = 0.4 + 0.5 * backdrop.image.mean(axis=2)
    for head, (axes, values) in enumerate(zip(places, maps, strict=False)):
        values = values - values.mean() if signed else values
        # the few values beyond have the colour of this one
        largest = max(np.percentile(np.abs(values), 99), np.finfo(np.float32).tiny)
        axes.imshow(faint, cmap="gray", vmin=0, vmax=1)
        axes.imshow(
            values,
            cmap="RdBu_r" if signed else "inferno",
            vmin=-largest if signed else 0,
            vmax=largest,
            alpha=np.clip(np.abs(values) / largest, 0, 1) ** 0.7,
            extent=(0, backdrop.columns, backdrop.rows, 0),
            interpolation="nearest",
        )
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_title(f"head {head}", fontsize="small")


def _draw_matrices(row: Iterable[Axes], matrices: np.ndarray) -> None:
    label, *places = row
    label.text(0.5, 0.5, "attention\nbetween channels", ha="center", va="center")
    for axes, matrix in zip(places, matrices, strict=False):
        axes.imshow(matrix, cmap="magma", vmin=0, interpolation="nearest")
        axes.set_title(f"0 (black) to {matrix.max():.2g}", fontsize="small")
