"""Pictures of attention: maps of places over the image, and matrices of channels."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xcit_dense.look import save_figure
from xcit_dense.look.attention import BlockAttention

_INCHES = 2.0
_LONGEST_SIDE = 1000  # of the image, which is drawn many times
_THINNEST = 3.0  # a picture's place, height to width or width to height
_CAPTION = (
    "maps: places that drive the attention of a head more than the average place are red, those "
    "that do less, or hold it back, are blue\n"
    "matrices: attention of each query channel (row) to the key channels (columns)"
)


def draw_attention(
    image: np.ndarray, patch_size: int, blocks: Sequence[BlockAttention], target: Path
) -> None:
    """Draw a grid: for each block a row of maps and one of attention matrices, a column a head.

    Args:
        image: (H, W, 3) in red, green, blue, in [0, 1], at the size at which the model got it. The
            maps begin at its upper left corner and may reach beyond it, where it was padded.
        patch_size: height and width of a place of the maps in the image.
        blocks: one or several.
        target: the picture to write, whole or not at all; its suffix chooses the format.

    Raises:
        OSError: the file cannot be written.
    """
    step = -(-max(image.shape[:2]) // _LONGEST_SIDE)
    tall = min(_THINNEST, max(1 / _THINNEST, image.shape[0] / image.shape[1]))
    columns = 1 + len(blocks[0].maps)
    heights = [tall, 1.0] * len(blocks)
    figure = Figure((columns * _INCHES, sum(heights) * 1.15 * _INCHES), layout="constrained")
    rows = iter(figure.subplots(len(heights), columns, height_ratios=heights))
    figure.supxlabel(_CAPTION, fontsize="small", wrap=True)
    for block in blocks:
        _draw_maps(next(rows), image[::step, ::step], patch_size / step, block)
        _draw_matrices(next(rows), block.attention.numpy())
    for axes in figure.axes:
        axes.set_axis_off()
    save_figure(figure, target)


def _draw_maps(
    row: Iterable[Axes], image: np.ndarray, patch_size: float, block: BlockAttention
) -> None:
    """Draw the image, and for each head a map over it, the more opaque the farther from average."""
    whole, *places = row
    whole.imshow(image)
    whole.set_title(f"block {block.block}", fontsize="medium")
    faint = 0.4 + 0.5 * image.mean(axis=2)
    bottom, right = (side * patch_size for side in block.maps.shape[1:])
    for head, (axes, values) in enumerate(zip(places, block.maps.numpy(), strict=True)):
        values = values - values.mean()
        # the few values beyond have the colour of this one
        largest = max(np.percentile(np.abs(values), 99), np.finfo(np.float32).tiny)
        axes.imshow(faint, cmap="gray", vmin=0, vmax=1)
        axes.imshow(
            values,
            cmap="RdBu_r",
            vmin=-largest,
            vmax=largest,
            alpha=np.clip(np.abs(values) / largest, 0, 1) ** 0.7,
            extent=(0, right, bottom, 0),
            interpolation="nearest",
        )
        axes.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))
        axes.set_title(f"head {head}", fontsize="small")


def _draw_matrices(row: Iterable[Axes], matrices: np.ndarray) -> None:
    label, *places = row
    label.text(0.5, 0.5, "attention\nbetween channels", ha="center", va="center")
    for axes, matrix in zip(places, matrices, strict=True):
        axes.imshow(matrix, cmap="magma", vmin=0, interpolation="nearest")
        axes.set_title(f"0 (black) to {matrix.max():.2g}", fontsize="small")
