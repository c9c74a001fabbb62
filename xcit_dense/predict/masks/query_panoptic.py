"""The panoptic map of MaskFormer and Mask2Former, from one query after the other."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xcit_dense.predict.masks.upsampled_queries import UpsampledQueries


def panoptic_map(head: nn.Module, classes: Tensor, masks: UpsampledQueries) -> Tensor:
    """Label + 1000 * number of the instance for each pixel, int32 (H, W).

    A pixel belongs to the kept query of the largest product of score and probability. Segments that
    lost too much of their query's own mask are left out.
    """
    scores, labels = classes.softmax(-1).max(-1)
    is_kept = (labels != head.num_classes) & (scores > head.test_cfg.get("object_mask_thr", 0.8))
    kept = is_kept.nonzero().flatten()
    if not len(kept):
        return torch.full(masks.shape, head.num_classes, dtype=torch.int32, device=classes.device)

    winners = _Winners.of_nothing(
        masks.shape, torch.promote_types(scores.dtype, masks.logits.dtype), classes.device
    )
    own_areas = [
        winners.challenge(place, masks[query].sigmoid(), scores[query, None, None])
        for place, query in enumerate(kept.tolist())
    ]
    place = winners.place.flatten()
    areas = place.bincount(minlength=len(kept)).tolist()
    segments = _number_segments(head, labels[kept].tolist(), areas, own_areas)
    numbers = torch.tensor(segments, dtype=torch.int32, device=classes.device)
    segment = numbers.index_select(0, place).view(masks.shape)
    if head.test_cfg.get("filter_low_score", False):
        segment[~winners.is_inside] = head.num_classes
    return segment


@dataclass(frozen=True)
class _Winners:
    """The strongest query of each pixel, among those that have challenged.

    Attributes:
        place: of the query among the challengers, int32 (H, W); the first of equal ones.
        strength: its score times its probability, (H, W).
        is_inside: whether the pixel is in the query's own mask, bool (H, W).
    """

    place: Tensor
    strength: Tensor
    is_inside: Tensor

    @classmethod
    def of_nothing(
        cls, size: tuple[int, int], dtype: torch.dtype, device: torch.device
    ) -> "_Winners":
        """Weaker than any query."""
        return cls(
            place=torch.zeros(size, dtype=torch.int32, device=device),
            strength=torch.full(size, -1.0, dtype=dtype, device=device),
            is_inside=torch.zeros(size, dtype=torch.bool, device=device),
        )

    def challenge(self, place: int, probability: Tensor, score: Tensor) -> int:
        """Let a query take the pixels where it is stronger.

        Args:
            place: of the query among the challengers.
            probability: of each pixel to be in its mask, (H, W).
            score: of its class, (1, 1).

        Returns:
            The area of its own mask, in pixels.
        """
        is_inside = probability >= 0.5
        strength = score * probability
        wins = strength > self.strength
        self.place.masked_fill_(wins, place)
        torch.maximum(self.strength, strength, out=self.strength)
        torch.where(wins, is_inside, self.is_inside, out=self.is_inside)
        return int(is_inside.count_nonzero())  # a sum would copy to int64


def _number_segments(
    head: nn.Module, labels: list[int], areas: list[int], own_areas: list[int]
) -> list[int]:
    """What the pixels of each query are numbered by; those left out by the number of classes."""
    from mmdet.evaluation.functional import INSTANCE_OFFSET

    least_share = head.test_cfg.get("iou_thr", 0.8)
    numbers = []
    instance = 0
    for label, area, own_area in zip(labels, areas, own_areas, strict=True):
        number = head.num_classes
        if area > 0 and own_area > 0 and area / own_area >= least_share:
            number = label
            if label < head.num_things_classes:
                instance += 1
                number += instance * INSTANCE_OFFSET
        numbers.append(number)
    return numbers
