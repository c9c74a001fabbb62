"""From how many tokens on the gram form of attention pays, and with it the engine."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from dev.benchmark.markdown import markdown_table
from torch import Tensor

from xcit_dense.engine import Engine, pays
from xcit_dense.network import Arch, Pyramid, Trunk

_PATCH = 16
_DEPTH = 4  # blocks; more change no ratio


def compare_forms(
    widths: Sequence[tuple[int, int]],
    token_counts: Sequence[int],
    repeats: int = 9,
    note: Callable[[str], None] = lambda line: None,
) -> str:
    """Time models of four blocks in both forms in turn, and say what ``auto`` takes.

    Args:
        widths: channels C and heads.
        token_counts: tokens N of the one image, in 16 columns of patches or more.
        repeats: timed runs of each, of which the median counts.
        note: told what is being measured.

    Returns:
        A Markdown table: how many times faster than the plain model in the direct form the engine
        is in inference, and the plain model in the gram form in training; and what ``auto`` takes.
    """
    rows = []
    for channels, heads in widths:
        for training in (False, True):
            mode = "training" if training else "inference"
            note(f"{channels} channels, {mode}")
            cells = []
            for count in token_counts:
                ratio = _ratio(channels, heads, count, training, repeats)
                taken = "engine" if not training and pays(count, channels) else "direct"
                cells.append(f"{ratio:.2f} ({taken})")
            rows.append([f"{channels}, {mode}", *cells])
    return markdown_table(["channels", *(f"N={count}" for count in token_counts)], rows)


def _ratio(channels: int, heads: int, count: int, training: bool, repeats: int) -> float:
    arch = Arch(channels, _DEPTH, heads, eta=1.0)
    rows = max(1, round(count**0.5 / 8)) * 8 if count >= 256 else 1
    image = torch.randn(1, 3, rows * _PATCH, -(-count // rows) * _PATCH)
    pyramid = Pyramid(channels, _PATCH).train(training)
    direct, gram = (
        Trunk(arch, _PATCH, attention=form).train(training) for form in ("direct", "gram")
    )

    def plain(trunk: Trunk) -> tuple[Tensor, ...]:
        return pyramid(trunk(image), image.shape[-2:])

    def seconds(run: Callable[[], tuple[Tensor, ...]]) -> float:
        start = time.perf_counter()
        with torch.set_grad_enabled(training):
            levels = run()
            if training:
                sum(level.square().mean() for level in levels).backward()
        return time.perf_counter() - start

    contender = (lambda: plain(gram)) if training else (lambda: Engine(gram, pyramid).levels(image))
    runs = (lambda: plain(direct)), contender
    times = [[seconds(run) for run in runs] for _ in range(repeats + 1)][1:]
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    return medians[0] / medians[1]
