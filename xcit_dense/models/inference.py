"""Making a trained model faster in ways that training could not follow."""

import torch
from torch import nn

from xcit_dense.layers import Block, ConvolutionalPatchEmbedding, folded_weights, is_foldable
from xcit_dense.models.pyramid import Pyramid
from xcit_dense.models.trunk import Trunk


@torch.no_grad()
def optimize_for_inference(model: nn.Module) -> nn.Module:
    """Simplify every XCiT in a model, in place, without changing what it computes.

    Batch norms go into the convolutions before them, layer scales into the last weights of their
    branches, and on a CPU the weights of the feed-forward networks are also kept in the order that
    oneDNN wants (8 C^2 numbers a block): once and for all instead of in every forward pass. The
    gain is largest for small images. The model is put in eval mode; the XCiT in it can not be
    trained any more, its weights must not be changed, and its state dict fits no other model.

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
                for stage in module:
                    if isinstance(stage, nn.Sequential):
                        _fold_norm(stage)
            elif isinstance(module, Block):
                _fold_layer_scales(module)
                module.ffn.prepare()
        if isinstance(part, Pyramid):
            for level in part.levels.values():
                if isinstance(level, nn.Sequential) and len(level) > 1:
                    _fold_norm(level)
    return model


def _fold_norm(layers: nn.Sequential) -> None:
    """Put the norm at index 1 into the convolution at index 0, if it is a batch norm."""
    convolution, norm = layers[0], layers[1]
    if is_foldable(norm):
        weight, bias = folded_weights(convolution, norm)
        convolution.weight = nn.Parameter(weight, requires_grad=False)
        convolution.bias = nn.Parameter(bias, requires_grad=False)
        layers[1] = nn.Identity()


def _fold_layer_scales(block: Block) -> None:
    """Put the layer scales into the last weights of their branches."""
    for name, last in (
        ("attention_layer_scale", block.attention.projection),
        ("interaction_layer_scale", block.interaction.conv2),
        ("ffn_layer_scale", block.ffn.fc2),
    ):
        scale = getattr(block, name)
        if scale is not None:
            shape = [-1] + [1] * (last.weight.ndim - 1)
            last.weight.mul_(scale.view(shape))
            last.bias.mul_(scale)
            setattr(block, name, None)
