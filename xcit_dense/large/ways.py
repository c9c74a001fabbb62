"""Which way an image of any size is predicted on: streamed if the model can be, else in tiles."""

from typing import Any, NamedTuple

import numpy as np

from xcit_dense.engine import NotAsBuilt
from xcit_dense.errors import UserError
from xcit_dense.large.streaming import make_stream
from xcit_dense.mm.config import dicts_in, type_name
from xcit_dense.predict.predictor import Predictor

MODES = ("auto", "stream", "tiles")


class Way(NamedTuple):
    """How images of any size are predicted on.

    Attributes:
        mode: ``stream`` or ``tiles``.
        side: of what is seen around each place, or of the tiles, in pixels; None for the whole.
        overlap: pixels that neighbouring tiles share.
        reason: why.
    """

    mode: str
    side: int | None
    overlap: int
    reason: str

    @property
    def told(self) -> str:
        """What is done, in words."""
        if self.mode == "tiles":
            return f"tiles of {self.side} pixels that share {self.overlap}"
        if self.side is None:
            return "stream, attention sees the whole image"
        return f"stream, attention sees {self.side} pixels around each place"

    def __str__(self) -> str:
        return f"{self.told}: {self.reason}"


def choose_way(
    predictor: Predictor,
    mode: str = "auto",
    context: int | str | None = None,
    tile: int | None = None,
    overlap: int | None = None,
) -> Way:
    """Choose by what is wanted, and by what the model can.

    Args:
        predictor: of the model.
        mode: one of ``MODES``; ``auto`` streams where the model can, else there are tiles.
        context: pixels that are seen around each place, or ``whole``; if not said, what the model
            was trained at.
        tile: side of tiles; if not said, that of the context.
        overlap: what they share; a quarter if not said.

    Raises:
        UserError: the model cannot be streamed, tiles do not proceed, or a size has to be said.
    """
    if mode not in MODES:
        raise UserError(f"mode {mode!r}: has to be one of {', '.join(MODES)}")
    reason = "as asked for"
    if mode != "tiles":
        side = None if context == "whole" else context or _trained_size(predictor, "--context")
        told = "as asked for" if context else "what the model was trained at"
        try:
            make_stream(predictor, side)
            return Way("stream", side, 0, told)
        except (NotAsBuilt, UserError) as error:
            if mode == "stream":
                raise UserError(f"--mode stream: {error}") from error
            reason = str(error)
    if tile is None:
        tile = context if isinstance(context, int) else _trained_size(predictor, "--tile")
    overlap = tile // 4 if overlap is None else overlap
    if not 0 <= overlap < tile:
        raise UserError(f"--tile {tile} --overlap {overlap}: an overlap is 0 to tile - 1")
    return Way("tiles", tile, overlap, reason)


def trained_size(cfg: dict[str, Any], is_segmentor: bool) -> int | None:
    """The longest side, in pixels, of what a model sees in training; None where no config says it.

    Of segmentors it is that of ``data_preprocessor.size`` or of the crop of the train pipeline, of
    detectors that of the scales of ``Resize`` in the train pipeline, or in the test pipeline.
    """
    if is_segmentor:
        size = (cfg["model"].get("data_preprocessor") or {}).get("size")
        found = [size] if size else _settings(cfg.get("train_dataloader"), "Crop", "crop_size")
    else:
        loaders = cfg.get("train_dataloader"), cfg.get("test_dataloader")
        of_each = (_settings(loader, "Resize", "scale", "scales") for loader in loaders)
        found = next(filter(None, of_each), [])
    return max((int(np.max(size)) for size in found), default=None)


def _settings(loader: dict[str, Any] | None, kind: str, *names: str) -> list[Any]:
    """What steps of a kind, in all pipelines of a data loader, have for some settings."""
    steps = [step for _, step in dicts_in(loader) if kind in type_name(step)]
    return [step[name] for step in steps for name in names if step.get(name)]


def _trained_size(predictor: Predictor, option: str) -> int:
    size = trained_size(predictor.cfg, predictor.is_segmentor)
    if size is None:
        raise UserError(
            f"config {predictor.cfg.filename} does not say at what size the model was trained: say "
            f"it by {option}, such as {option} 512"
        )
    return size
