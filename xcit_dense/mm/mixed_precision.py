"""Mixed precision with a chosen data type, on CPUs as well as on accelerators."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from xcit_dense.errors import UserError

DTYPES = {
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}


@OPTIM_WRAPPERS.register_module()
class MixedPrecisionOptimWrapper(AmpOptimWrapper):
    """Trains under ``torch.autocast``; weights and gradients stay in float32.

    mmengine's ``AmpOptimWrapper``, but for CPUs too, and without a scale of the loss in bfloat16,
    which has the range of float32.

    Args:
        dtype: ``bfloat16`` (``bf16``) or ``float16`` (``fp16``). None: bfloat16, but float16 on
            CUDA devices that lack it.
        loss_scale: of float16. ``'dynamic'``, a number that stays, or arguments of
            ``torch.amp.GradScaler``.
        kwargs: arguments of ``OptimWrapper``.

    Raises:
        UserError: an unknown dtype.
    """

    def __init__(
        self,
        dtype: str | None = None,
        loss_scale: str | float | dict[str, Any] = "dynamic",
        **kwargs: Any,
    ) -> None:
        OptimWrapper.__init__(self, **kwargs)  # the parent's demands a GPU
        self.device_type = self.param_groups[0]["params"][0].device.type
        if dtype is not None and dtype not in DTYPES:
            raise UserError(f"mixed precision in {dtype!r}: wanted one of {', '.join(DTYPES)}")
        self.cast_dtype = DTYPES[dtype] if dtype else default_dtype(self.device_type)
        options = {"enabled": self.cast_dtype == torch.float16}
        self._scale_update_param = None
        if isinstance(loss_scale, dict):
            options |= loss_scale
        elif loss_scale != "dynamic":
            options["init_scale"] = self._scale_update_param = float(loss_scale)
        self.loss_scaler = torch.amp.GradScaler(self.device_type, **options)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The context of a forward pass: autocast, and no exchange while accumulating."""
        autocast = torch.autocast(self.device_type, self.cast_dtype)
        with OptimWrapper.optim_context(self, model), autocast:
            yield

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state, also one of a run in another precision."""
        if not state_dict.get("loss_scaler"):  # as bfloat16 leaves it
            state_dict.pop("loss_scaler", None)
        super().load_state_dict(state_dict)


def default_dtype(device_type: str) -> torch.dtype:
    """bfloat16, which has the range of float32; float16 on CUDA devices that lack it."""
    lacks_bfloat16 = device_type == "cuda" and not torch.cuda.is_bf16_supported(False)
    return torch.float16 if lacks_bfloat16 else torch.bfloat16
