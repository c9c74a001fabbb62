"""Whether all forms of XCiT compute the same."""

from collections.abc import Mapping, Sequence

import numpy as np
from dev.benchmark.results import Measurement

EXACT = "xcit_direct"


def note_differences(
    measurements: Sequence[Measurement],
    outputs: Mapping[str, Sequence[np.ndarray] | None],
) -> None:
    """Write down how far each pyramid is from that of ``xcit_direct``, if that is among them.

    Args:
        measurements: of one size; filled in.
        outputs: pyramids by label, made with the same weights from the same image.
    """
    exact = outputs.get(EXACT)
    if exact is None:
        return
    for measurement in measurements:
        pyramid = outputs.get(measurement.contender)
        if pyramid is not None and measurement.contender != EXACT:
            measurement.difference = largest_relative_difference(pyramid, exact)


def largest_relative_difference(
    pyramid: Sequence[np.ndarray], expected: Sequence[np.ndarray]
) -> float:
    """The largest difference of a level, in units of its largest value; the worst level counts."""
    return max(
        float(np.abs(level - want).max() / np.abs(want).max())
        for level, want in zip(pyramid, expected, strict=True)
    )
