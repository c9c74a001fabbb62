"""Pictures of attention: maps of places over the image, and matrices of channels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xcit_dense.atomic_files import write_atomically
from xcit_dense.look.attention_of_blocks import BlockAttention

PIXELS_OF_A_PICTURE = 700
INCHES = 2.0
# height to width of a picture's place, beyond which pictures get narrower in it
_TALLEST_PLACE = 3.0
# height to width, or width to height, beyond which pictures are stretched to be seen at all
_THINNEST = 6.0
# of the values of a map; the few beyond have the colour of this one
PERCENTILE = 99.5


@dataclass(frozen=True)
class Backdrop:
    """The image under the maps.

    Attributes:
        image: uint8 (H, W, 3) in red, green, blue.
        height_of_grid: how many rows of the image the grid of patches covers; more than H where
            the model's input was padded.
        width_of_grid: likewise the columns.
    """

    image: np.ndarray
    height_of_grid: float
    width_of_grid: float

    @property
    def aspect(self) -> float:
        """Height to width of the image."""
        height, width = self.image.shape[:2]
        return height / width

    @property
    def aspect_drawn(self) -> float:
        """Height to width of its pictures: that of the image, but for extremely thin ones."""
        return min(_THINNEST, max(1 / _THINNEST, self.aspect))


def draw_attention(
    backdrop: Backdrop,
    blocks: Sequence[BlockAttention],
    class_maps: Sequence[np.ndarray],
    target: Path,
) -> None:
    """Draw a grid: for each block a row of maps and one of attention matrices, a column a head.

    The file appears only when it is complete.

    Args:
        backdrop: the image.
        blocks: cross-covariance attention.
        class_maps: class attention of one block each, (heads, rows, columns).
        target: the picture to write; its suffix chooses the format.

    Raises:
        ValueError: the suffix is no format that matplotlib writes.
        OSError: the file cannot be written.
    """
    heads = max(
        [len(block.maps) for block in blocks] + [len(maps) for maps in class_maps], default=0
    )
    rows = 2 * len(blocks) + len(class_maps)
    place = min(_TALLEST_PLACE, max(1 / _TALLEST_PLACE, backdrop.aspect))
    heights = [place, 1.0] * len(blocks) + [place] * len(class_maps)
    # constrained: places keep their width, so that the titles of thin pictures do not collide
    figure = Figure(
        figsize=((heads + 1) * INCHES, sum(heights) * INCHES * 1.15), layout="constrained"
    )
    FigureCanvasAgg(figure)
    if backdrop.aspect != backdrop.aspect_drawn:
        height, width = backdrop.image.shape[:2]
        figure.suptitle(f"not to scale: the image has {width} x {height} pixels", fontsize="medium")
    grid = figure.subplots(rows, heads + 1, squeeze=False, height_ratios=heights)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, block in enumerate(blocks):
        _draw_block(grid[2 * number], grid[2 * number + 1], backdrop, block)
    for number, maps in enumerate(class_maps):
        _draw_class_maps(grid[2 * len(blocks) + number], backdrop, maps, number)
    write_atomically(target, lambda file: figure.savefig(file, dpi=100, format=target.suffix[1:]))


def _draw_block(
    maps_row: Sequence[Axes],
    matrices_row: Sequence[Axes],
    backdrop: Backdrop,
    block: BlockAttention,
) -> None:
    _draw_image(maps_row[0], backdrop)
    maps_row[0].set_title(f"block {block.block}", fontsize="medium")
    for head, axes in enumerate(maps_row[1 : len(block.maps) + 1]):
        _draw_image(axes, backdrop, faint=True)
        _lay_over(axes, backdrop, block.maps[head].float().cpu().numpy(), "RdBu_r", signed=True)
        temperature = block.temperature[head].item()
        axes.set_title(f"head {head}, temperature {temperature:.2f}", fontsize="small")
    matrices = block.attention.float().cpu().numpy()
    matrices_row[0].text(
        0.5, 0.5, "attention,\nquery's channels\nby key's", ha="center", va="center"
    )
    for matrix, axes in zip(matrices, matrices_row[1:], strict=False):
        axes.imshow(matrix, cmap="magma", vmin=0, interpolation="nearest")
        axes.set_title(f"0 to {matrix.max():.2g}", fontsize="small")


def _draw_class_maps(
    row: Sequence[Axes], backdrop: Backdrop, maps: np.ndarray, number: int
) -> None:
    _draw_image(row[0], backdrop)
    row[0].set_title(f"class attention {number}", fontsize="medium")
    for head, axes in enumerate(row[1 : len(maps) + 1]):
        _draw_image(axes, backdrop, faint=True)
        _lay_over(axes, backdrop, maps[head], "inferno", signed=False)
        axes.set_title(f"head {head}, sum {maps[head].sum():.2f}", fontsize="small")


def _draw_image(axes: Axes, backdrop: Backdrop, faint: bool = False) -> None:
    height, width = backdrop.image.shape[:2]
    scale = min(1.0, PIXELS_OF_A_PICTURE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(backdrop.image, size, interpolation=cv2.INTER_AREA)
    if faint:
        small = np.repeat(small.mean(axis=2, keepdims=True) * 0.5 + 110, 3, axis=2).astype(np.uint8)
    axes.imshow(small, extent=(0, width, height, 0), aspect=_aspect_of_pixels(backdrop))


def _lay_over(
    axes: Axes, backdrop: Backdrop, values: np.ndarray, colours: str, signed: bool
) -> None:
    """Lay a map of the grid over the image, the more opaque the larger its value is."""
    strength = np.abs(values)
    largest = max(np.percentile(strength, PERCENTILE), np.finfo(np.float32).tiny)
    axes.imshow(
        values,
        cmap=colours,
        vmin=-largest if signed else 0,
        vmax=largest,
        alpha=np.clip(strength / largest, 0, 1) ** 0.7,
        extent=(0, backdrop.width_of_grid, backdrop.height_of_grid, 0),
        interpolation="nearest",
        aspect=_aspect_of_pixels(backdrop),
    )
    height, width = backdrop.image.shape[:2]
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def _aspect_of_pixels(backdrop: Backdrop) -> float:
    """Height to width that a pixel of the image is drawn with."""
    return backdrop.aspect_drawn / backdrop.aspect
