"""Masks whose upsampling waits until they are compared with a threshold, and happens one by one.

To a head of mmdet they look like the tensor that it upsamples, crops and compares; so its own code
runs unchanged, without ever holding all masks at the size of the image.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from xcit_dense.predict.masks.run_lengths import RunLengths, encode_mask

_READS_THE_SHAPE = {Tensor.shape.__get__, Tensor.size, Tensor.dim}
_COMPARES = {Tensor.gt, Tensor.__gt__}


class DeferInterpolation(TorchFunctionMode):
    """While it is entered, ``F.interpolate`` gives :class:`DeferredMasks` for one image's masks."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Let a stack of masks (1, n, h, w) wait; do anything else."""
        if func is F.interpolate and args and args[0].dim() == 4 and args[0].shape[0] == 1:
            args = (DeferredMasks.of(args[0]), *args[1:])
        return func(*args, **(kwargs or {}))


class DeferredMasks(Tensor):
    """A tensor without values, (1, n, h, w) or (n, h, w), and the steps that lead to each mask.

    Raises:
        NotImplementedError: something is done with it that is not known to treat every mask alone.
    """

    _low_resolution: Tensor  # (1, n, h, w)
    _steps: tuple[Callable[[Tensor], Tensor], ...]

    @classmethod
    def of(cls, masks: Tensor) -> "DeferredMasks":
        """Masks to which nothing has been done yet; deferred ones stay what they are."""
        if isinstance(masks, cls):
            return masks
        deferred = torch.empty(masks.shape, dtype=masks.dtype, device="meta").as_subclass(cls)
        deferred._low_resolution = masks
        deferred._steps = ()
        return deferred

    @classmethod
    def __torch_function__(
        cls, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Do what reads shapes, let wait what treats every mask alone, encode at a comparison."""
        kwargs = kwargs or {}
        if func in _READS_THE_SHAPE:
            return super().__torch_function__(func, types, args, kwargs)
        masks, *rest = args
        if func in _COMPARES and _is_threshold_of(masks, *rest):
            return masks._encode(*rest)
        if not _treats_every_mask_alone(func, masks, rest, kwargs):
            raise NotImplementedError(
                f"{getattr(func, '__qualname__', func)} on masks that are encoded one by one: "
                "known are interpolate, pad, sigmoid, a crop [..., :height, :width], squeeze(0) "
                "and > number; leave out encode_masks for this model"
            )
        result = super().__torch_function__(func, types, args, kwargs)
        if func is F.interpolate and _is_rounded_together(result.shape):
            return func(torch.cat(list(masks._one_by_one()), dim=1), *rest, **kwargs)
        result._low_resolution = masks._low_resolution
        result._steps = (*masks._steps, lambda mask: func(mask, *rest, **kwargs))
        return result

    def _one_by_one(self) -> Iterator[Tensor]:
        """Each mask, with 1 for n."""
        for mask in self._low_resolution.split(1, dim=1):
            for step in self._steps:
                mask = step(mask)
            yield mask

    def _encode(self, threshold: float) -> list[RunLengths]:
        return [encode_mask((mask[0] > threshold).cpu().numpy()) for mask in self._one_by_one()]


def _is_threshold_of(masks: Any, threshold: Any) -> bool:
    return (
        isinstance(masks, DeferredMasks) and masks.dim() == 3 and isinstance(threshold, int | float)
    )


def _treats_every_mask_alone(func: Callable, masks: Any, rest: list, kwargs: dict) -> bool:
    """Whether ``func(masks, *rest, **kwargs)`` changes places only, and each mask by itself."""
    if not isinstance(masks, DeferredMasks):
        return False
    if func in {Tensor.sigmoid, torch.sigmoid}:
        return True
    if masks.dim() != 4:
        return False
    if func is Tensor.__getitem__:
        return _is_crop(rest[0])
    if func is Tensor.squeeze:
        return rest == [0]
    if func is F.pad:
        return len(kwargs["pad"] if "pad" in kwargs else rest[0]) <= 4
    return func is F.interpolate


def _is_crop(key: Any) -> bool:
    """Whether it is ``[:, :, rows, columns]`` or ``[..., rows, columns]``, with slices."""
    if not isinstance(key, tuple) or not all(isinstance(part, slice) for part in key[-2:]):
        return False
    before = key[:-2]
    if len(before) == 1:
        return before[0] is ...
    return len(before) == 2 and all(isinstance(p, slice) and p == slice(None) for p in before)


def _is_rounded_together(shape: torch.Size) -> bool:
    """Whether torch interpolates masks as vectors across them, and rounds them otherwise alone.

    It does so with few pixels, and with 3 masks in one thread; both are small.

    Source: ``_use_vectorized_kernel_cond_2d`` and its use in torch's UpSampleKernel.cpp.
    """
    _, count, height, width = shape
    return height + width <= 128 or count == 3
