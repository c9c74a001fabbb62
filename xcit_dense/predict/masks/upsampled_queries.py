"""Masks of queries at the size that is wanted, one at a time."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class UpsampledQueries:
    """Logits of the masks of an image, each upsampled when it is asked for.

    Attributes:
        logits: (n, h, w), without padding.
        size: height and width that are wanted; None for those of the logits.
    """

    logits: Tensor
    size: tuple[int, int] | None

    def __getitem__(self, query: int) -> Tensor:
        mask = self.logits[query]
        if self.size is None:
            return mask
        return F.interpolate(
            mask[None, None], size=self.size, mode="bilinear", align_corners=False
        )[0, 0]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of each."""
        return self.size or tuple(self.logits.shape[-2:])
