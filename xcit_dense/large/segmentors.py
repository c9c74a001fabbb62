"""Segmentors on images of any size, band by band, as if the image fitted into memory."""

from collections.abc import Callable, Iterator
from os import PathLike

import torch
from mmseg.models import EncoderDecoder
from mmseg.models.decode_heads import FCNHead, FPNHead, UPerHead
from mmseg.models.necks import FPN
from mmseg.models.utils import Upsample
from torch import Tensor, nn

from xcit_dense.engine import Engine, Source
from xcit_dense.engine.weights import expect
from xcit_dense.large.maps import (
    Convolved,
    FeatureMap,
    OfLevel,
    OfTensor,
    Reader,
    Summed,
    resized,
)
from xcit_dense.large.necks import through_fpn
from xcit_dense.large.parts import Padded, expect_known
from xcit_dense.large.pooling import pooled_maps
from xcit_dense.mm.backbone import XCiT

Inputs = Callable[[], list[FeatureMap]]
"""Makes the maps that a head chooses from, to be read from the top."""

Windows = list[int | None]
"""The side of what is seen around each place, in places of each of these maps."""


class SegmentorStream:
    """A segmentor of mmseg that predicts on images of any size, in bands of rows.

    It gives what the segmentor gives for the whole image with ``test_cfg=dict(mode="whole")``.

    Args:
        model: an EncoderDecoder in eval mode of XCiT, no neck or mmseg's FPN, and an UPerHead,
            FPNHead or FCNHead.
        window: side of what attention and the pooling pyramid of UPerHead see around each place, in
            pixels; None for the whole image.
        store_folder: where the tokens lie in files; None keeps them in memory.

    Attributes:
        engine: what runs the backbone.

    Raises:
        UserError: there are other parts than those.
        NotAsBuilt: somebody has changed a part, or it has norms that look at whole maps.
    """

    def __init__(
        self,
        model: nn.Module,
        window: int | None = None,
        store_folder: str | PathLike | None = None,
    ) -> None:
        expect_known(model, EncoderDecoder)
        expect_known(model.backbone, XCiT)
        expect_known(model.decode_head, *_HEADS)
        self._head, self._neck = model.decode_head, model.neck if model.with_neck else None
        if self._neck is not None:
            expect_known(self._neck, FPN)
        if self._head.dropout is not None:
            expect(self._head.dropout, nn.Dropout2d, training=False)
        self._padding = getattr(model.data_preprocessor, "test_cfg", None) or {}
        self._padding_value = getattr(model.data_preprocessor, "pad_val", 0)
        self._windows = [window and max(1, window // stride) for stride in model.backbone.strides]
        if self._neck is not None:
            kept = slice(self._neck.start_level, self._neck.backbone_end_level)
            self._windows = self._windows[kept]
        trunk, pyramid = model.backbone.trunk, model.backbone.pyramid
        self.engine = Engine(trunk, pyramid, None, window, store_folder)
        sample = torch.zeros(1, trunk.embed_dims, 1, 1, device=self.engine.device)
        # what cannot be run is to be noticed now, and not hours later
        self._build(lambda: [OfTensor(sample.to(self.engine.dtype))] * len(pyramid.levels))

    def padded(self, source: Source) -> Padded:
        """An image as the engine gets it."""
        least, divisor = self._padding.get("size"), self._padding.get("size_divisor")
        return Padded(source, least or (0, 0), divisor or 1, self._padding_value)

    @torch.no_grad()
    def logits(self, source: Source) -> Iterator[tuple[int, Tensor]]:
        """The logits of an image: the first row, and (classes, rows, width), from top to bottom.

        Args:
            source: pixels as the data preprocessor normalises them.
        """
        padded = self.padded(source)
        features = self.engine.features(padded)
        found = self._build(lambda: [OfLevel(each) for each in features.by_level], features.seen)
        found = resized(found, (padded.height, padded.width), self._head.align_corners)
        reader = Reader(found)
        for first in range(0, source.height, found.rows_at_once):
            last = min(first + found.rows_at_once, source.height)
            yield first, reader.read(first, last)[0, ..., : source.width]

    @torch.no_grad()
    def labels(self, source: Source) -> Iterator[tuple[int, Tensor]]:
        """The classes of an image: the first row, and int64 (rows, width), from top to bottom.

        Args:
            source: pixels as the data preprocessor normalises them.
        """
        for first, logits in self.logits(source):
            if len(logits) == 1:
                yield first, (logits[0].sigmoid() > self._head.threshold).long()
            else:
                yield first, logits.argmax(dim=0)

    def _build(self, levels: Inputs, seen: Tensor | None = None) -> FeatureMap:
        """The logits in the size of the head."""

        def inputs() -> list[FeatureMap]:
            return levels() if self._neck is None else through_fpn(self._neck, levels())

        head = self._head
        expect(head, type(head))
        return Convolved(head.conv_seg, *_HEADS[type(head)](head, inputs, self._windows, seen))


def _uper_head(
    head: nn.Module, inputs: Inputs, windows: Windows, seen: Tensor | None
) -> list[FeatureMap]:
    align = head.align_corners
    chosen, window = _select(head, inputs), windows[head.in_index[-1]]
    coarsest = chosen[-1] if window else _select(head, inputs)[-1]  # which is read to its end
    pooled = pooled_maps(head.psp_modules, coarsest, align, window, seen)
    laterals = [Convolved(*pair) for pair in zip(head.lateral_convs, chosen, strict=False)]
    laterals.append(Convolved(head.bottleneck, chosen[-1], *pooled))
    for index in range(len(laterals) - 1, 0, -1):
        upper = resized(laterals[index], laterals[index - 1].size, align)
        laterals[index - 1] = Summed(laterals[index - 1], upper)
    outs = [Convolved(*pair) for pair in zip(head.fpn_convs, laterals, strict=False)]
    outs = [resized(out, laterals[0].size, align) for out in (*outs, laterals[-1])]
    return [Convolved(head.fpn_bottleneck, *outs)]


def _fpn_head(head: nn.Module, inputs: Inputs, *_: object) -> list[FeatureMap]:
    outs = []
    for layers, out in zip(head.scale_heads, _select(head, inputs), strict=True):
        expect(layers, nn.Sequential)
        for layer in layers:
            if isinstance(layer, Upsample):
                expect(layer, Upsample, size=None, mode="bilinear")
                size = [int(side * layer.scale_factor) for side in out.size]
                out = resized(out, size, layer.align_corners)
            else:
                out = Convolved(layer, out)
        outs.append(resized(out, outs[0].size if outs else out.size, head.align_corners))
    return [Summed(*outs)]


def _fcn_head(head: nn.Module, inputs: Inputs, *_: object) -> list[FeatureMap]:
    parts = found = _select(head, inputs)
    if head.num_convs:
        expect(head.convs, nn.Sequential)
        for convolution in head.convs:
            found = [Convolved(convolution, *found)]
    return [Convolved(head.conv_cat, *parts, *found)] if head.concat_input else found


def _select(head: nn.Module, inputs: Inputs) -> list[FeatureMap]:
    """The maps whose concatenation goes in; where the head takes several, each of them."""
    maps, index = inputs(), head.in_index
    chosen = [maps[each] for each in ([index] if isinstance(index, int) else index)]
    if head.input_transform == "resize_concat":
        return [resized(each, chosen[0].size, head.align_corners) for each in chosen]
    return chosen


_HEADS = {UPerHead: _uper_head, FPNHead: _fpn_head, FCNHead: _fcn_head}
