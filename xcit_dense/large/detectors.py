"""Detectors on images of any size, band by band, as if the image fitted into memory."""

import copy
from collections.abc import Callable
from itertools import pairwise
from os import PathLike
from typing import Any

import torch
from mmcv.ops import RoIAlign, batched_nms
from mmdet.models.dense_heads import RetinaHead, RPNHead
from mmdet.models.detectors import CascadeRCNN, FasterRCNN, MaskRCNN, RetinaNet
from mmdet.models.necks import FPN
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import (
    BBoxHead,
    ConvFCBBoxHead,
    Shared2FCBBoxHead,
    Shared4Conv1FCBBoxHead,
)
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.models.test_time_augs import merge_aug_masks
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch import Tensor, nn

from xcit_dense.engine import Engine, NotAsBuilt, Source
from xcit_dense.engine.weights import expect
from xcit_dense.errors import UserError
from xcit_dense.large.dense_heads import DenseHead, Maps, Strip
from xcit_dense.large.maps import FeatureMap, OfLevel, OfTensor
from xcit_dense.large.necks import through_fpn
from xcit_dense.large.parts import Padded, expect_known
from xcit_dense.large.rois import sweep
from xcit_dense.mm.backbone import XCiT
from xcit_dense.predict.postprocessing import predict_in_boxes
from xcit_dense.predict.results import RunLengths

_BBOX_HEADS = (BBoxHead, ConvFCBBoxHead, Shared2FCBBoxHead, Shared4Conv1FCBBoxHead)


class DetectorStream:
    """A detector of mmdet that predicts on images of any size, in bands of rows.

    It gives what the detector gives for the whole image, not resized. With a window, the limits of
    ``test_cfg`` (``nms_pre``, ``max_per_img``) hold for each area of the window's size, and boxes
    of different areas that overlap as those of one may not are suppressed in the end.

    Args:
        model: a FasterRCNN, MaskRCNN, CascadeRCNN or RetinaNet in eval mode, with XCiT and FPN.
        window: side of what attention sees around each place, in pixels; None for the whole image.
        store_folder: where the tokens lie in files; None keeps them in memory.

    Attributes:
        engine: what runs the backbone.

    Raises:
        UserError: there are other parts than those, or no limits.
        NotAsBuilt: somebody has changed a part, or it has norms that look at whole maps.
    """

    def __init__(
        self,
        model: nn.Module,
        window: int | None = None,
        store_folder: str | PathLike | None = None,
    ) -> None:
        expect_known(model, FasterRCNN, MaskRCNN, CascadeRCNN, RetinaNet)
        expect_known(model.backbone, XCiT)
        expect_known(model.neck, FPN)
        self._roi_head = getattr(model, "roi_head", None)
        if self._roi_head is None:
            dense = model.bbox_head
            expect_known(dense, RetinaHead)
        else:
            dense = model.rpn_head
            expect_known(dense, RPNHead)
            _expect_known_roi_head(self._roi_head)
        self._neck, self._window = model.neck, window
        self._divisor = getattr(model.data_preprocessor, "pad_size_divisor", 1)
        self._padding = getattr(model.data_preprocessor, "pad_value", 0)
        self._final_cfg = (dense if self._roi_head is None else self._roi_head).test_cfg
        trunk, pyramid = model.backbone.trunk, model.backbone.pyramid
        self.engine = Engine(trunk, pyramid, None, window, store_folder)
        sample = torch.zeros(1, trunk.embed_dims, 1, 1).to(self.engine.device, self.engine.dtype)
        self._dense = DenseHead(
            dense, self._through_neck([OfTensor(sample)] * len(pyramid.levels))[0]
        )

    def padded(self, source: Source) -> Padded:
        """An image as the engine gets it."""
        return Padded(source, (0, 0), self._divisor, self._padding)

    @torch.no_grad()
    def instances(self, source: Source, tell: Callable[[int], object] = int) -> InstanceData:
        """The objects in an image, those of the highest scores first.

        Args:
            source: pixels as the data preprocessor normalises them.
            tell: is called with numbers of rows of pixels whose objects were found.

        Returns:
            ``bboxes`` (n, 4) in pixels, ``scores``, ``labels`` and, of models that have them,
            ``masks``, a list of run lengths.
        """
        size = source.height, source.width
        padded = self.padded(source)
        levels = self.engine.features(padded).by_level
        meta = dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))

        def maps() -> list[FeatureMap]:
            return self._through_neck([OfLevel(level) for level in levels])

        rows, columns = (self._borders(side) for side in (padded.height, padded.width))
        found = []
        for top, bottom in pairwise(rows):
            areas = self._dense.find(maps, Strip(top, bottom, columns), meta)
            if self._roi_head is not None:
                areas = _refine(self._roi_head, maps, areas, meta)
            found += areas
            tell(bottom - top)
        instances = self._united(found)
        if self._roi_head is not None and self._roi_head.with_mask:
            instances.masks = _masks(self._roi_head, maps, instances, meta)
        return instances

    def _through_neck(self, levels: list[FeatureMap]) -> list[FeatureMap]:
        return through_fpn(self._neck, levels)

    def _borders(self, length: int) -> list[int]:
        """Where areas of about the window's size begin and end; the image is one without."""
        count = max(1, round(length / self._window)) if self._window else 1
        return [length * index // count for index in range(count + 1)]

    def _united(self, areas: list[InstanceData]) -> InstanceData:
        """All areas' objects, those at a border once."""
        if len(areas) == 1:
            return areas[0]
        found = InstanceData.cat(areas)
        threshold = self._final_cfg.nms.get("iou_threshold", 0.5)
        _, kept = batched_nms(
            found.bboxes, found.scores, found.labels, dict(type="nms", iou_threshold=threshold)
        )
        return found[kept]


def _expect_known_roi_head(head: nn.Module) -> None:
    expect_known(head, StandardRoIHead, CascadeRoIHead)
    expect(head, type(head), with_shared_head=False)
    for bbox_head in _each(head.bbox_head):
        expect_known(bbox_head, *_BBOX_HEADS)
    extractors = _each(head.bbox_roi_extractor)
    if head.with_mask:
        of_masks = _each(head.mask_roi_extractor)
        extractors += of_masks
        if len({(str(each), each.finest_scale) for each in of_masks}) > 1:
            raise NotAsBuilt("stages that look at different features for masks")
        for mask_head in _each(head.mask_head):
            expect_known(mask_head, FCNMaskHead)
        if head.test_cfg.mask_thr_binary < 0:
            raise UserError(
                f"test_cfg has mask_thr_binary={head.test_cfg.mask_thr_binary}: masks of large "
                "images are no arrays of probabilities; it must be between 0 and 1"
            )
    for extractor in extractors:
        expect_known(extractor, SingleRoIExtractor)
        for layer in extractor.roi_layers:
            expect(layer, RoIAlign, aligned=True, pool_mode="avg")


def _each(modules: nn.Module) -> list[nn.Module]:
    """The modules of all stages, where there are several."""
    return list(modules) if isinstance(modules, nn.ModuleList) else [modules]


def _refine(
    head: nn.Module, maps: Maps, proposals: list[InstanceData], meta: dict[str, Any]
) -> list[InstanceData]:
    """What the head's ``predict_bbox`` makes of the proposals of each area."""

    def forward(x: Maps, rois: Tensor, stage: int = 0) -> dict[str, Tensor]:
        bbox_head = _each(head.bbox_head)[stage]
        order, outputs = [], []
        for indices, features in sweep(_each(head.bbox_roi_extractor)[stage], x, rois):
            order.append(indices)
            outputs.append(bbox_head(features))
        back = torch.cat(order).argsort()
        scores, deltas = (torch.cat(parts)[back] for parts in zip(*outputs, strict=True))
        return dict(cls_score=scores, bbox_pred=deltas)

    head_on_parts = copy.copy(head)  # with the same modules
    head_on_parts._bbox_forward = forward
    return head_on_parts.predict_bbox(maps, [meta] * len(proposals), proposals, head.test_cfg)


def _masks(
    head: nn.Module, maps: Maps, found: InstanceData, meta: dict[str, Any]
) -> list[RunLengths]:
    """The masks of all objects; several stages are averaged as by ``predict_mask``."""
    mask_heads = _each(head.mask_head)
    is_cascade = isinstance(head, CascadeRoIHead)
    masks: list[RunLengths] = [{}] * len(found)
    for indices, features in sweep(
        _each(head.mask_roi_extractor)[0], maps, bbox2roi([found.bboxes])
    ):
        logits = [mask_head(features) for mask_head in mask_heads]
        if is_cascade:
            logits = [merge_aug_masks([each.sigmoid() for each in logits], meta)]
        encoded = predict_in_boxes(
            mask_heads[-1],
            logits[0],
            found.bboxes[indices],
            found.labels[indices],
            meta,
            head.test_cfg,
            rescale=True,
            activate_map=is_cascade,
        )
        for index, mask in zip(indices.tolist(), encoded, strict=True):
            masks[index] = mask
    return masks
