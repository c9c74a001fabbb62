"""Making a trained model faster in ways that training could not follow."""

import torch
from torch import nn

from xcit_dense.engine.products import scaled
from xcit_dense.engine.weights import Layer, NotAsBuilt, fold
from xcit_dense.network import Block, ConvolutionalPatchEmbedding, Pyramid, Trunk, Upsample
from xcit_dense.network.calling import is_untouched


@torch.no_grad()
def optimize_for_inference(model: nn.Module) -> nn.Module:
    """Simplify every XCiT in a model, in place, without changing what it computes.

    Batch norms go into the convolutions before them and layer scales into the last weights of
    their branches, once and for all. The gain is largest for small images. The model is put in
    eval mode; the XCiT in it can not be trained any more, and its state dict fits no other model.

    Args:
        model: an ``XCiT``, or anything that has one inside, such as a detector.

    Returns:
        The same model.

    Raises:
        ValueError: there is no XCiT in the model.
    """
    parts = [module for module in model.modules() if isinstance(module, Trunk | Pyramid)]
    if not parts:
        raise ValueError(f"{type(model).__name__} has no XCiT inside: nothing to optimize")
    model.eval()
    for part in parts:
        part.requires_grad_(False)
        for module in list(part.modules()):
            if isinstance(module, ConvolutionalPatchEmbedding):
                for stage in module.stages:
                    _fold_norm(stage)
            elif isinstance(module, Upsample) and len(module) > 1:
                _fold_norm(module)
            elif isinstance(module, Block):
                _fold_layer_scales(module)
    return model


def _fold_norm(layers: nn.Sequential) -> None:
    """Put the norm at index 1 into the convolution at index 0, if it is a batch norm."""
    try:
        layer = fold(layers[0], layers[1])
    except NotAsBuilt:  # a norm that is no factor and summand stays
        return
    _set(layers[0], layer)
    layers[1] = nn.Identity()


def _fold_layer_scales(block: Block) -> None:
    """Put the layer scales into the last weights of their branches."""
    for name, last in (
        ("attention_layer_scale", block.attention.projection),
        ("interaction_layer_scale", block.interaction.conv2),
        ("ffn_layer_scale", block.ffn.fc2),
    ):
        scale = getattr(block, name)
        if scale is not None and is_untouched(last, type(last)):
            _set(last, scaled(Layer(last.weight, last.bias), scale))
            setattr(block, name, None)


def _set(module: nn.Module, layer: Layer) -> None:
    for name, tensor in layer._asdict().items():
        parameter = None if tensor is None else nn.Parameter(tensor, requires_grad=False)
        setattr(module, name, parameter)
