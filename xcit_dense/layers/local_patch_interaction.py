"""Local patch interaction: the part of the block in which neighbouring tokens talk."""

from collections.abc import Callable

from torch import Tensor, nn

from xcit_dense.ops import map_to_tokens, tokens_to_map


class LocalPatchInteraction(nn.Module):
    """LPI: depthwise 3x3 convolution, GELU, norm, depthwise 3x3 convolution.

    Source: XCiT paper, section 3.3.

    Args:
        embed_dims: width C of a token.
        norm_layer: makes the norm of a map from its number of channels.
    """

    def __init__(
        self, embed_dims: int, norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(embed_dims, embed_dims, 3, padding=1, groups=embed_dims)
        self.activation = nn.GELU()
        self.norm = norm_layer(embed_dims)
        self.conv2 = nn.Conv2d(embed_dims, embed_dims, 3, padding=1, groups=embed_dims)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Map tokens (B, height * width, C) to (B, height * width, C)."""
        feature_map = tokens_to_map(tokens, height, width)
        feature_map = self.norm(self.activation(self.conv1(feature_map)))
        return map_to_tokens(self.conv2(feature_map))
