"""Where the two forms of attention are equally fast, measured against the model of their cost."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from xcit_dense.benchmark.markdown import markdown_table
from xcit_dense.layers import CrossCovarianceAttention
from xcit_dense.ops import choose_form


def compare_forms(
    widths: Sequence[tuple[int, int]],
    token_counts: Sequence[int],
    repeats: int = 9,
    device: str = "cpu",
    note: Callable[[str], None] = lambda line: None,
) -> str:
    """Time both forms of attention in turn, and say which one ``auto`` takes.

    Args:
        widths: channels C and heads.
        token_counts: tokens N of the one image.
        repeats: timed runs of each, of which the median counts.
        device: where.
        note: told what is being measured.

    Returns:
        A Markdown table: how many times faster the gram form is, and in brackets the form that
        ``auto`` takes, for each number of tokens.
    """
    rows = []
    for embed_dims, num_heads in widths:
        for with_gradient in (False, True):
            mode = "training" if with_gradient else "inference"
            note(f"{embed_dims} channels, {mode}")
            ratios = _ratios(embed_dims, num_heads, token_counts, with_gradient, repeats, device)
            cells = [
                f"{ratio:.2f} ({choose_form(count, embed_dims, num_heads, with_gradient)})"
                for count, ratio in zip(token_counts, ratios, strict=True)
            ]
            rows.append([f"{embed_dims}, {mode}", *cells])
    return markdown_table(["channels", *(f"N={count}" for count in token_counts)], rows)


def _ratios(
    embed_dims: int,
    num_heads: int,
    token_counts: Sequence[int],
    with_gradient: bool,
    repeats: int,
    device: str,
) -> Iterator[float]:
    forms = [
        CrossCovarianceAttention(embed_dims, num_heads, form=form).to(device)
        for form in ("direct", "gram")
    ]
    for count in token_counts:
        tokens = torch.randn(1, count, embed_dims, device=device, requires_grad=with_gradient)
        for form in forms:
            _seconds(form, tokens)
        times = [[_seconds(form, tokens) for form in forms] for _ in range(repeats)]
        direct, gram = (statistics.median(column) for column in zip(*times, strict=True))
        yield direct / gram


def _seconds(attention: CrossCovarianceAttention, tokens: Tensor) -> float:
    start = time.perf_counter()
    with torch.set_grad_enabled(tokens.requires_grad):
        out = attention(tokens)
        if tokens.requires_grad:
            out.sum().backward()
    if tokens.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start
