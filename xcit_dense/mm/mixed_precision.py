"""Mixed precision with a chosen data type, on CPUs as well as on accelerators."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
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
class MixedPrecisionOptimWrapper(OptimWrapper):
    """Trains under ``torch.autocast``; weights and gradients stay in float32.

    mmengine's ``AmpOptimWrapper`` refuses CPUs and scales the loss in bfloat16 too, which has the
    range of float32 and needs no scaling.

    Args:
        dtype: ``bfloat16`` (``bf16``) or ``float16`` (``fp16``). None: bfloat16, but float16 on
            CUDA devices that lack it.
        loss_scale: of float16. ``'dynamic'``, a number that stays, or arguments of
            ``torch.amp.GradScaler``.
        kwargs: arguments of ``OptimWrapper``.

    Raises:
        UserError: an unknown dtype or loss scale.
    """

    def __init__(
        self,
        dtype: str | None = None,
        loss_scale: str | float | dict[str, Any] = "dynamic",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.device_type = self.param_groups[0]["params"][0].device.type
        self.dtype = DTYPES[checked_dtype(dtype)] if dtype else default_dtype(self.device_type)
        options = {"enabled": self.dtype == torch.float16}
        self.fixed_scale = None
        if isinstance(loss_scale, dict):
            options |= loss_scale
        elif isinstance(loss_scale, (int, float)) and loss_scale > 0:
            options["init_scale"] = self.fixed_scale = float(loss_scale)
        elif loss_scale != "dynamic":
            raise UserError(
                f"loss_scale={loss_scale!r}: wanted 'dynamic', a number > 0 or a dict of arguments "
                "of torch.amp.GradScaler"
            )
        self.loss_scaler = torch.amp.GradScaler(self.device_type, **options)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The context of a forward pass: autocast, and no exchange while accumulating."""
        with super().optim_context(model), torch.autocast(self.device_type, self.dtype):
            yield

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        """Add the gradients of the scaled loss."""
        super().backward(self.loss_scaler.scale(loss), **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Clip the unscaled gradients if asked to, and step unless they overflowed."""
        if self.clip_grad_kwargs:
            self.loss_scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update(self.fixed_scale)

    def state_dict(self) -> dict[str, Any]:
        """The state of the optimizer, and of the scaler where there is one."""
        state = super().state_dict()
        if self.loss_scaler.is_enabled():
            state["loss_scaler"] = self.loss_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state, also one of a run in another precision."""
        scaler_state = state_dict.pop("loss_scaler", None)
        if scaler_state and self.loss_scaler.is_enabled():
            self.loss_scaler.load_state_dict(scaler_state)
        super().load_state_dict(state_dict)


def checked_dtype(name: str) -> str:
    """The full name of a data type of mixed precision.

    Raises:
        UserError: there is none of that name.
    """
    if name not in DTYPES:
        raise UserError(f"mixed precision in {name!r}: wanted one of {', '.join(DTYPES)}")
    return str(DTYPES[name]).removeprefix("torch.")


def default_dtype(device_type: str) -> torch.dtype:
    """bfloat16, which has the range of float32; float16 on CUDA devices that lack it."""
    lacks_bfloat16 = device_type == "cuda" and not torch.cuda.is_bf16_supported(False)
    return torch.float16 if lacks_bfloat16 else torch.bfloat16
