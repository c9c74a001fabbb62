"""Fourier features of places along an axis, the basis of XCiT's position encoding."""

import math

import torch
from torch import Tensor

MAX_WAVELENGTH = 10_000.0


def fourier_position_codes(
    length: int, num_frequencies: int = 32, device: torch.device | str | None = None
) -> Tensor:
    """Describe each place of an axis by sines and cosines.

    Places are counted from 1 and scaled so that the last one is at 2 pi: the code is relative to
    the image's size and exists for any size (XCiT paper, section 3.3; the frequencies are those
    of "Attention is all you need", section 3.5).

    Args:
        length: places on the axis.
        num_frequencies: features, an even number: half sines, half cosines.
        device: where the codes are made.

    Returns:
        (length, num_frequencies) in float32, sines and cosines interleaved.
    """
    pairs = torch.arange(num_frequencies // 2, device=device, dtype=torch.float32)
    wavelengths = MAX_WAVELENGTH ** (2 * pairs / num_frequencies)
    places = torch.arange(1, length + 1, device=device, dtype=torch.float32)
    angles = (places / (length + 1e-6) * (2 * math.pi))[:, None] / wavelengths
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
