"""What RPN and RetinaNet find in feature maps that are read by rows: the best of each area."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import RetinaHead, RPNHead
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from mmdet.models.utils import filter_scores_and_topk
from mmengine.structures import InstanceData
from torch import Tensor, nn

from xcit_dense.engine.weights import NotAsBuilt, expect, expect_convolution
from xcit_dense.errors import UserError
from xcit_dense.large.maps import Convolved, FeatureMap, Reader

Maps = Callable[[], list[FeatureMap]]
"""Makes the levels that heads look at, to be read from the top."""


class Strip(NamedTuple):
    """Areas side by side, in pixels, each of which has ``test_cfg``'s limits for itself."""

    top: int
    bottom: int
    borders: list[int]  # columns; two neighbouring ones make an area


class _Best(NamedTuple):
    """The boxes that score highest in an area of a level, the best first."""

    scores: Tensor
    labels: Tensor
    deltas: Tensor
    indices: Tensor  # of their anchors


class DenseHead:
    """An RPNHead or a RetinaHead of mmdet that looks at rows of maps.

    Args:
        head: in eval mode, with its ``test_cfg``.
        sample: a small map of what it looks at, to see whether it can.

    Raises:
        UserError: it keeps all boxes.
        NotAsBuilt: somebody has changed it.
    """

    def __init__(self, head: nn.Module, sample: FeatureMap) -> None:
        expect(head, type(head))
        if type(head.prior_generator) is not AnchorGenerator:
            raise NotAsBuilt(f"{type(head.prior_generator).__name__} is not AnchorGenerator")
        self._head, self._is_rpn = head, type(head) is RPNHead
        self._limit = head.test_cfg.get("nms_pre", -1)
        if self._limit <= 0:
            raise UserError(
                f"test_cfg has nms_pre={self._limit}, which keeps all boxes: in parts of a large "
                "image it must be positive, as 1000"
            )
        _READINGS[type(head)](head, sample)

    def find(self, maps: Maps, strip: Strip, meta: dict[str, Any]) -> list[InstanceData]:
        """What mmdet's ``predict_by_feat`` finds in each area of a strip.

        Args:
            maps: the levels.
            strip: the areas; a box belongs to that in which the place of its anchor is.
            meta: ``img_shape``, height and width of the image.
        """
        head, generator = self._head, self._head.prior_generator
        found: list[list[tuple[Tensor, ...]]] = [[] for _ in strip.borders[1:]]
        for level in range(generator.num_levels):
            feature_map = maps()[level]
            for area, best in zip(
                found, self._best_of_level(level, feature_map, strip), strict=True
            ):
                priors = generator.sparse_priors(
                    best.indices.cpu(),  # where the generator keeps its anchors
                    feature_map.size,
                    level,
                    best.deltas.dtype,
                    best.deltas.device,
                )
                labels = torch.full_like(best.labels, level) if self._is_rpn else best.labels
                area.append((best.scores, labels, best.deltas, priors))
        results = []
        for area in found:
            scores, labels, deltas, priors = map(torch.cat, zip(*area, strict=True))
            boxes = head.bbox_coder.decode(priors, deltas, max_shape=meta["img_shape"])
            result = InstanceData(bboxes=boxes, scores=scores)
            result.set_field(labels, "level_ids" if self._is_rpn else "labels")
            results.append(
                head._bbox_post_process(
                    results=result, cfg=head.test_cfg, rescale=False, img_meta=meta
                )
            )
        return results

    def _best_of_level(self, level: int, feature_map: FeatureMap, strip: Strip) -> list[_Best]:
        generator, size = self._head.prior_generator, feature_map.size
        across, down = generator.strides[level]
        top, bottom = (min(-(-row // down), size[0]) for row in strip[:2])
        borders = [min(-(-column // across), size[1]) for column in strip.borders]
        anchors = generator.num_base_priors[level]
        of_row = torch.arange(size[1] * anchors, device=self._parameter.device)
        none = torch.zeros_like(of_row[:0])
        nothing = self._parameter.new_zeros(0)
        deltas = self._parameter.new_zeros(0, self._head.bbox_coder.encode_size)
        best = [_Best(nothing, none, deltas, none)] * (len(borders) - 1)
        reading = _READINGS[type(self._head)](self._head, feature_map)
        for first in range(top, bottom, reading.rows_at_once):
            last = min(first + reading.rows_at_once, bottom)
            rows = [each[0].permute(1, 2, 0) for each in reading.read(first, last)]
            row = torch.arange(first, last, device=of_row.device)[:, None]
            indices = (row * len(of_row) + of_row).view(last - first, -1, anchors)
            for area, (left, right) in enumerate(pairwise(borders)):
                part = [each[:, left:right] for each in (*rows, indices)]
                best[area] = self._better(best[area], *part)
        return best

    def _better(self, best: _Best, logits: Tensor, deltas: Tensor, indices: Tensor) -> _Best:
        """The best of what is known and of some more rows, which come behind equal ones."""
        head = self._head
        threshold = -torch.inf if self._is_rpn else head.test_cfg.get("score_thr", 0)
        if len(best.scores) == self._limit:
            threshold = max(threshold, best.scores[-1].item())
        logits = logits.reshape(-1, head.cls_out_channels)
        if getattr(head.loss_cls, "custom_cls_channels", False) and not self._is_rpn:
            scores = head.loss_cls.get_activation(logits)
        elif head.use_sigmoid_cls:
            scores = logits.sigmoid()
        else:
            scores = logits.softmax(-1)[:, :-1]
        more = dict(deltas=deltas.reshape(-1, best.deltas.shape[1]), indices=indices.reshape(-1))
        scores, labels, _, more = filter_scores_and_topk(scores, threshold, self._limit, more)
        found = _Best(scores, labels, **more)
        merged = _Best(*map(torch.cat, zip(best, found, strict=True)))
        order = merged.scores.sort(descending=True, stable=True).indices[: self._limit]
        return _Best(*(each[order] for each in merged))

    @property
    def _parameter(self) -> Tensor:
        return next(self._head.parameters())


class _RPNReading:
    """Reads what ``RPNHead.forward_single`` says of a map."""

    def __init__(self, head: nn.Module, source: FeatureMap) -> None:
        convolutions = [head.rpn_conv]
        if head.num_convs > 1:
            expect(head.rpn_conv, nn.Sequential)
            convolutions = head.rpn_conv
        for convolution in convolutions:
            source = Convolved(convolution, source)
        for convolution in (head.rpn_cls, head.rpn_reg):
            expect_convolution(convolution, kernel_size=(1, 1), stride=(1, 1), padding=(0, 0))
        self._head, self._hidden = head, Reader(source)
        self.rows_at_once = source.rows_at_once

    def read(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Scores (1, A * classes, rows, width) and deltas (1, A * 4, rows, width)."""
        hidden = F.relu(self._hidden.read(first, last))
        return self._head.rpn_cls(hidden), self._head.rpn_reg(hidden)


class _RetinaReading:
    """Reads what ``RetinaHead.forward_single`` says of a map."""

    def __init__(self, head: nn.Module, source: FeatureMap) -> None:
        scores = deltas = source
        for convolution in (*head.cls_convs, head.retina_cls):
            scores = Convolved(convolution, scores)
        for convolution in (*head.reg_convs, head.retina_reg):
            deltas = Convolved(convolution, deltas)
        self._readers = Reader(scores), Reader(deltas)
        self.rows_at_once = scores.rows_at_once

    def read(self, first: int, last: int) -> tuple[Tensor, ...]:
        """See :class:`_RPNReading`."""
        return tuple(reader.read(first, last) for reader in self._readers)


_READINGS = {RPNHead: _RPNReading, RetinaHead: _RetinaReading}
