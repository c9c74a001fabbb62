"""Cross-covariance attention (XCA): attention between channels instead of tokens."""

import torch
from torch import Tensor, nn

from xcit_dense.network.calling import (
    convolve_tokens,
    goes_through_onednn,
    is_untouched,
    linear,
)
from xcit_dense.network.gram import SMALLEST_NORM, Moments, Projections, mixing

FORMS = ("auto", "gram", "direct")


class CrossCovarianceAttention(nn.Module):
    """XCA: the channels of each head attend to each other, in time linear in N.

    XCA(Q, K, V) = V softmax(K^T Q * temperature), with every channel of Q and K scaled to unit l2
    norm over the tokens (XCiT paper, section 3.2). A head of width d has a d x d attention matrix,
    whatever the number of tokens.

    Args:
        embed_dims: width C of a token; ``num_heads`` must divide it.
        num_heads: heads the channels are divided into.
        attention_dropout: dropout probability on the attention matrix.
        projection_dropout: dropout probability on the output.
        form: ``direct`` computes as the formula says, ``gram`` from the moments of the tokens
            (:mod:`xcit_dense.network.gram`), with the same result; ``auto`` is ``direct`` here
            and leaves the choice to :mod:`xcit_dense.engine` where that runs the model.

    Raises:
        ValueError: an unknown form.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        attention_dropout: float = 0.0,
        projection_dropout: float = 0.0,
        form: str = "auto",
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"attention={form!r}: must be one of {', '.join(FORMS)}")
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.projection = nn.Linear(embed_dims, embed_dims)
        self.attention_dropout = nn.Dropout(attention_dropout)
        self.projection_dropout = nn.Dropout(projection_dropout)
        self.form = form

    def forward(self, tokens: Tensor) -> Tensor:
        """Map normed tokens (B, N, C) to (B, N, C)."""
        if self.takes_gram_form():
            return self.projection_dropout(self._mix_by_moments(tokens))
        return self.mix(linear(self.qkv, tokens))

    def mix(self, qkv: Tensor) -> Tensor:
        """What follows the first projection: (B, N, 3 * C) to (B, N, C).

        The d x d products are divided by the norms, which is less than scaling all of q and k.
        Only in float16 they come first, as a sum over many tokens may leave its range.
        """
        norms = torch.linalg.vector_norm(qkv.narrow(-1, 0, qkv.shape[-1] // 3 * 2), dim=1)
        norms = norms.clamp_min(SMALLEST_NORM if norms.dtype != torch.float16 else 6e-8)
        query_norm, key_norm = norms.unflatten(-1, (2, self.num_heads, -1)).unbind(1)
        # (B, N, 3 * heads * d) -> three times (B, heads, N, d)
        query, key, value = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if qkv.dtype == torch.float16:
            cosines = (query / query_norm[..., None, :]).mT @ (key / key_norm[..., None, :])
        else:
            cosines = query.mT @ key / query_norm[..., None] / key_norm[..., None, :]
        attention = self.attention_dropout((cosines * self.temperature).softmax(dim=-1))
        attended = (value @ attention.mT).transpose(1, 2).flatten(2)
        return self.projection_dropout(linear(self.projection, attended))

    def takes_gram_form(self) -> bool:
        """Whether the gram form is wanted, and the layers whose weights it reads are unchanged."""
        return (
            self.form == "gram"
            and is_untouched(self.qkv, nn.Linear)
            and is_untouched(self.projection, nn.Linear)
            and is_untouched(self.attention_dropout, nn.Dropout)
        )

    def _mix_by_moments(self, tokens: Tensor) -> Tensor:
        projections = Projections(
            self.qkv.weight, self.qkv.bias, self.projection.weight, self.projection.bias
        )
        dropout_p = self.attention_dropout.p if self.training else 0.0
        weight, bias = mixing(Moments.of(tokens), projections, self.temperature, dropout_p)
        weight, bias = weight.to(tokens.dtype), bias.to(tokens.dtype)
        if goes_through_onednn(tokens):
            images = zip(tokens, weight, bias, strict=True)
            return torch.stack([convolve_tokens(*image) for image in images])
        return torch.baddbmm(bias[:, None], tokens, weight.mT)
