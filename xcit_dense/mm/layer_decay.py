"""Layer-wise learning-rate decay: the nearer to the image, the smaller the learning rate."""

from collections import Counter
from typing import Any, NamedTuple

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from xcit_dense.mm.backbone import XCiT

# options that mmdet's and mmseg's constructors of this kind have to be told
READ_FROM_THE_BACKBONE = ("num_layers", "decay_type")
# what mmengine leaves in a group beside the settings that come of it
ALREADY_APPLIED = ("params", "lr_mult", "decay_mult")


class Layer(NamedTuple):
    """A layer to which a parameter belongs.

    Attributes:
        name: as the log shows it.
        layers_above: layers between it and the pyramid, itself included; 0 for all above the trunk.
    """

    name: str
    layers_above: int


ABOVE_THE_TRUNK = Layer("pyramid, neck and heads", 0)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Scale the learning rate of a layer by ``decay_rate`` once for every layer above it.

    The lowest layer is the stem with the position encoding, then every block of the trunk is one,
    and the highest, with the full learning rate, is all the rest: pyramid, neck and heads. Blocks
    are counted in the model, whatever its architecture and its last tapped block.

    All else is mmengine's: ``custom_keys`` (whose ``lr_mult`` is multiplied with the scale of the
    layer), ``norm_decay_mult``, ``bias_decay_mult``, ``bypass_duplicate`` and so on work as in its
    default constructor. Parameters with the same settings share a group.

    Source: ELECTRA (arXiv 2003.10555), appendix; for vision transformers BEiT (arXiv 2106.08254).

    Args:
        optim_wrapper_cfg: the optimizer wrapper, with an ``optimizer`` that says ``lr``.
        paramwise_cfg: ``decay_rate`` in (0, 1], and the options of mmengine's default constructor.

    Raises:
        ValueError: ``decay_rate`` is missing or out of range, the optimizer has no learning rate,
            or an option is one that this constructor would ignore.
    """

    def __init__(
        self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None
    ) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        self.decay_rate = self.paramwise_cfg.get("decay_rate")
        if not isinstance(self.decay_rate, (int, float)) or not 0 < self.decay_rate <= 1:
            raise ValueError(
                f"paramwise_cfg.decay_rate={self.decay_rate!r}: must be a number in (0, 1]; with 1 "
                "all layers learn at the same rate"
            )
        if self.base_lr is None:
            raise ValueError("optimizer.lr is missing: layer-wise decay needs a rate to scale")
        for option in READ_FROM_THE_BACKBONE:
            if option in self.paramwise_cfg:
                raise ValueError(
                    f"paramwise_cfg.{option}: remove it, the layers are those of the backbone"
                )

    def add_params(
        self,
        params: list[dict[str, Any]],
        module: nn.Module,
        prefix: str = "",
        is_dcn_module: bool | None = None,
    ) -> None:
        """Append the parameter groups of ``module``, and merge those of the whole model.

        Raises:
            ValueError: the whole model has no XCiT.
        """
        super().add_params(params, module, prefix, is_dcn_module)
        is_whole_model = prefix == ""  # mmengine comes back here for every module inside
        if is_whole_model:
            params[:] = self._merge(params, _layers_of(module))
            _log_layers(params)

    def _merge(
        self, one_per_parameter: list[dict[str, Any]], layers: dict[int, Layer]
    ) -> list[dict[str, Any]]:
        """Scale the groups, each of one parameter, and merge those of equal settings.

        The highest layer comes first: mmengine's log shows the learning rate of the first group.
        """
        merged: dict[tuple[int, str], dict[str, Any]] = {}
        for group in one_per_parameter:
            (parameter,) = group["params"]
            layer = layers.get(id(parameter), ABOVE_THE_TRUNK)
            scale = self.decay_rate**layer.layers_above
            settings = {key: value for key, value in group.items() if key not in ALREADY_APPLIED}
            settings |= {
                "lr": group.get("lr", self.base_lr) * scale,
                "lr_scale": scale,
                "layer": layer.name,
            }
            if self.base_wd is not None:
                settings.setdefault("weight_decay", self.base_wd)
            key = layer.layers_above, repr(sorted(settings.items()))
            merged.setdefault(key, {**settings, "params": []})["params"].append(parameter)
        return [merged[key] for key in sorted(merged, key=lambda key: key[0])]


def _layers_of(model: nn.Module) -> dict[int, Layer]:
    """The layer of every parameter of the trunk, by the identity of the parameter.

    Raises:
        ValueError: the model has no XCiT.
    """
    trunks = [module.trunk for module in model.modules() if isinstance(module, XCiT)]
    if not trunks:
        raise ValueError(
            f"{type(model).__name__} has no backbone of type XCiT, whose blocks would be the "
            "layers; without layer-wise decay: remove constructor and decay_rate from "
            "optim_wrapper"
        )
    layers = {}
    for trunk in trunks:
        depth = len(trunk.blocks)
        stem = Layer("stem and position encoding", depth + 1)
        for module in (trunk.patch_embedding, trunk.position_encoding):
            layers |= dict.fromkeys(map(id, module.parameters()), stem)
        for index, block in enumerate(trunk.blocks):
            layer = Layer(f"block {index + 1} of {depth}", depth - index)
            layers |= dict.fromkeys(map(id, block.parameters()), layer)
    return layers


def _log_layers(groups: list[dict[str, Any]]) -> None:
    tensors = Counter()
    for group in groups:
        tensors[group["layer"], group["lr_scale"]] += len(group["params"])
    lines = [f"{'layer':<26}  {'lr scale':>9}  tensors"]
    lines += [f"{layer:<26}  {scale:>9.3g}  {n:>7}" for (layer, scale), n in tensors.items()]
    print_log(
        "Layer-wise learning rates, as factors of those in paramwise_options above:\n"
        + "\n".join(lines),
        logger="current",
    )
