"""Layer-wise learning-rate decay: the nearer to the image, the smaller the learning rate."""

from collections import Counter
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from xcit_dense.errors import UserError
from xcit_dense.mm.backbone import XCiT


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Scale the learning rate of a layer by ``decay_rate`` once for every layer above it.

    The lowest layer is the stem with the position encoding, then every block of the trunk is one,
    and the highest, with the full learning rate, is all the rest: pyramid, neck and heads. All else
    is mmengine's; an ``lr_mult`` of ``custom_keys`` multiplies with the scale of the layer.

    Source: ELECTRA (arXiv 2003.10555), appendix; for vision transformers BEiT (arXiv 2106.08254).

    Args:
        optim_wrapper_cfg: the optimizer wrapper, with an ``optimizer`` that says ``lr``.
        paramwise_cfg: ``decay_rate`` in (0, 1], and the options of mmengine's default constructor.

    Raises:
        UserError: ``decay_rate`` is missing or out of range.
    """

    def __init__(
        self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None
    ) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        self.decay_rate = self.paramwise_cfg.get("decay_rate")
        if not isinstance(self.decay_rate, (int, float)) or not 0 < self.decay_rate <= 1:
            raise UserError(
                f"paramwise_cfg.decay_rate={self.decay_rate!r}: must be a number in (0, 1]; with 1 "
                "all layers learn at the same rate"
            )

    def add_params(
        self,
        params: list[dict[str, Any]],
        module: nn.Module,
        prefix: str = "",
        is_dcn_module: bool | None = None,
    ) -> None:
        """Append the parameter groups of ``module``, and scale those of the whole model.

        Raises:
            UserError: the whole model has no XCiT.
        """
        super().add_params(params, module, prefix, is_dcn_module)
        if prefix:  # mmengine comes here for every module inside, and last for the whole model
            return
        layers_above = _layers_above(module)
        for group in params:  # mmengine makes one for each parameter
            (parameter,) = group["params"]
            group["lr_scale"] = self.decay_rate ** layers_above.get(id(parameter), 0)
            group["lr"] = group.get("lr", self.base_lr) * group["lr_scale"]
        # the heads first: mmengine's log shows the learning rate of the first group
        params.sort(key=lambda group: -group["lr_scale"])
        scales = Counter(group["lr_scale"] for group in params)
        print_log(
            "Layer-wise factors of the learning rates in paramwise_options above, from the heads "
            "down to the stem:\n"
            + "\n".join(f"  {scale:.3g}: {number} tensors" for scale, number in scales.items()),
            logger="current",
        )


def _layers_above(model: nn.Module) -> dict[int, int]:
    """How many layers each parameter of a trunk has above it, itself included, by its identity.

    Raises:
        UserError: the model has no XCiT.
    """
    trunks = [module.trunk for module in model.modules() if isinstance(module, XCiT)]
    if not trunks:
        raise UserError(
            f"{type(model).__name__} has no backbone of type XCiT, whose blocks would be the "
            "layers: remove constructor and decay_rate from optim_wrapper"
        )
    above = {}
    for trunk in trunks:
        layers = [nn.ModuleList([trunk.patch_embedding, trunk.position_encoding]), *trunk.blocks]
        for index, layer in enumerate(layers):
            above |= dict.fromkeys(map(id, layer.parameters()), len(layers) - index)
    return above
