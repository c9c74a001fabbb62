"""Instance masks as COCO's run lengths, made one by one in the boxes that they lie in.

mmdet pastes the predicted masks of an image into one array of instances x height x width: 2.4 GB
for 100 instances on 6000 x 4000 pixels, before they are encoded or drawn. Here a mask is sampled
and encoded in its box, in bands of columns, so that memory grows with the length of its outline.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from types import ModuleType
from typing import Any, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

PIXELS_IN_A_BAND = 2**20
INSTANCE_OFFSET = 1000  # mmdet numbers the segments of a panoptic map by label + 1000 * instance
_LIBRARIES = ("mmengine", "mmdet", "mmseg")
_THAT_PREDICT = ("predict", "test_step", "add_pred", "postprocess")


class RunLengths(TypedDict):
    """A mask in COCO's compressed form, as pycocotools takes it.

    Attributes:
        size: height and width of the image.
        counts: the run lengths, compressed.
    """

    size: list[int]
    counts: bytes


def coco_masks() -> ModuleType:
    """The module of masks in pycocotools, which comes with mmdet; mmseg does without it."""
    from pycocotools import mask

    return mask


def encode_mask(mask: np.ndarray) -> RunLengths:
    """Encode a mask (H, W) of the whole image; what is not zero belongs to it."""
    return coco_masks().encode(np.asfortranarray(mask.astype(bool, copy=False).view(np.uint8)))


def encode_windows(
    windows: Iterable[tuple[np.ndarray, int, int]], height: int, width: int
) -> RunLengths:
    """Encode a mask that is given piece by piece, without making the image.

    COCO counts zeros and ones in turn, down the columns, the first column first.

    Args:
        windows: pieces of the mask, bool (h, w), each with the row and the column of its top left
            corner in the image; from left to right, no column in two of them.
        height: rows of the image.
        width: columns of the image.

    Returns:
        What pycocotools makes of the whole mask.
    """
    borders = [np.empty(0, np.int64)]  # where ones start and end in turn
    for mask, top, left in windows:
        padded = np.pad(mask.T, ((0, 0), (1, 1)))
        column, row = (padded[:, 1:] != padded[:, :-1]).nonzero()
        borders.append((left + column) * height + top + row)
    joined = np.concatenate(borders)
    # a run that goes on in the next column ends and starts at the same place
    meets = np.flatnonzero(joined[1:] == joined[:-1])
    joined = np.delete(joined, np.concatenate([meets, meets + 1]))
    counts = np.diff(joined, prepend=0, append=height * width)
    if len(counts) > 1 and not counts[-1]:
        counts = counts[:-1]
    uncompressed = {"size": [height, width], "counts": counts.tolist()}
    return coco_masks().frPyObjects(uncompressed, height, width)


def boxes_around(masks: list[RunLengths]) -> np.ndarray:
    """Left, top, right, bottom of each mask, (n, 4); zeros around an empty one."""
    boxes = np.array([coco_masks().toBbox(mask) for mask in masks]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def predicts_as_mm(module: nn.Module) -> bool:
    """Whether all methods of a module that predict are the libraries' own.

    A user's own method may call mm's and then read its results, as arrays and logits.
    """
    kind = type(module)
    methods = (
        getattr(kind, name) for name in dir(kind) if any(part in name for part in _THAT_PREDICT)
    )
    return all(
        getattr(method, "__module__", "").partition(".")[0] in _LIBRARIES for method in methods
    )


def encode_masks_in_boxes(model: nn.Module) -> int:
    """Let the mask heads of a detector predict run lengths instead of arrays, in place.

    Heads that paste masks in boxes as ``FCNMaskHead`` does are changed, those of Mask R-CNN and
    Cascade Mask R-CNN among them; others stay. The masks of a prediction are then a list of
    :class:`RunLengths`, which COCO's evaluation takes as it is. Models that fuse the masks to a
    panoptic map need arrays and stay too.

    Returns:
        How many heads were changed.
    """
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead
    from mmdet.models.seg_heads.panoptic_fusion_heads import BasePanopticFusionHead

    if any(isinstance(module, BasePanopticFusionHead) for module in model.modules()):
        return 0
    heads = [
        module
        for module in model.modules()
        if isinstance(module, FCNMaskHead)
        and type(module)._predict_by_feat_single is FCNMaskHead._predict_by_feat_single
        and predicts_as_mm(module)
    ]
    for head in heads:
        head._predict_by_feat_single = partial(_predict_run_lengths, head)
    return len(heads)


@torch.no_grad()
def _predict_run_lengths(
    head: nn.Module,
    mask_preds: Tensor,
    bboxes: Tensor,
    labels: Tensor,
    img_meta: dict[str, Any],
    rcnn_test_cfg: Any,
    rescale: bool = False,
    activate_map: bool = False,
) -> list[RunLengths]:
    """What ``FCNMaskHead._predict_by_feat_single`` does, with run lengths for its result.

    As there, ``bboxes`` are scaled to the original image in place: their owner relies on it.
    """
    threshold = rcnn_test_cfg.mask_thr_binary
    if threshold < 0:  # mmdet gives probabilities then
        raise ValueError(f"mask_thr_binary={threshold}: run lengths need a threshold of at least 0")
    scale = bboxes.new_tensor(img_meta["scale_factor"])  # (horizontal, vertical)
    height, width = img_meta["ori_shape"][:2]
    if rescale:
        bboxes /= scale.repeat(2)
    else:
        width, height = (
            round(side) for side in (scale * scale.new_tensor([width, height])).tolist()
        )
    masks = bboxes.new_tensor(mask_preds) if activate_map else mask_preds.sigmoid()
    classes = torch.zeros_like(labels) if head.class_agnostic else labels
    masks = masks[torch.arange(len(masks), device=masks.device), classes]
    return [
        encode_windows(_bands(mask, box, height, width, threshold), height, width)
        for mask, box in zip(masks.float(), bboxes.float(), strict=True)
    ]


def _bands(
    mask: Tensor, box: Tensor, height: int, width: int, threshold: float
) -> Iterator[tuple[np.ndarray, int, int]]:
    """The mask in the image, band by band of its box, each with its row and column."""
    left, top, right, bottom = box.tolist()
    rows = _pixels(top, bottom, height)
    columns = _pixels(left, right, width)
    if not rows or not columns:
        return
    across = max(1, PIXELS_IN_A_BAND // len(rows))
    vertical = _normalized(rows, box[1], box[3])
    for first in range(columns.start, columns.stop, across):
        band = range(first, min(first + across, columns.stop))
        horizontal = _normalized(band, box[0], box[2])
        grid = torch.stack(torch.meshgrid(horizontal, vertical, indexing="xy"), dim=-1)
        sampled = F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0]
        yield (sampled >= threshold).cpu().numpy(), rows.start, first


def _pixels(low: float, high: float, size: int) -> range:
    """The pixels that an interval touches, and one on each side, where interpolation reaches."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return range(0)
    first = max(0, int(np.floor(low)) - 1)
    return range(first, max(first, min(size, int(np.ceil(high)) + 1)))


def _normalized(pixels: Sequence[int], low: Tensor, high: Tensor) -> Tensor:
    """Centres of pixels in coordinates that go from -1 to 1 over an interval."""
    centres = torch.arange(pixels[0], pixels[-1] + 1, device=low.device, dtype=torch.float32) + 0.5
    position = (centres - low) / (high - low) * 2 - 1
    return torch.where(position.isinf(), 0, position)  # of an interval without length
