"""Cross-covariance attention (XCA): attention between channels instead of tokens."""

import torch.nn.functional as F
from torch import Tensor


def cross_covariance_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    temperature: Tensor,
    dropout_p: float = 0.0,
) -> Tensor:
    """Let the channels of each head attend to each other, in time linear in N.

    XCA(Q, K, V) = V softmax(K^T Q * temperature), with every channel of Q and K scaled to unit
    l2 norm over the tokens (XCiT paper, section 3.2). A head of width d has a d x d attention
    matrix, whatever the number of tokens.

    Args:
        query: (B, heads, N, d).
        key: (B, heads, N, d).
        value: (B, heads, N, d).
        temperature: learned scale of each head, (heads, 1, 1) or broadcastable to it.
        dropout_p: probability with which an entry of the attention matrix is zeroed.

    Returns:
        (B, heads, N, d).
    """
    query = F.normalize(query, dim=-2)
    key = F.normalize(key, dim=-2)
    attention = (query.transpose(-2, -1) @ key) * temperature  # (B, heads, d, d)
    attention = F.dropout(attention.softmax(dim=-1), dropout_p)
    return value @ attention.transpose(-2, -1)
