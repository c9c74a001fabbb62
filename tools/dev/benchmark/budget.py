"""How long the next size will take, and how often a long run is repeated."""

import math
from collections.abc import Sequence

_LONG_RUN = 10.0
_SECONDS_FOR_LONG_RUNS = 60.0
_FEWEST_REPEATS = 2


def predicted_seconds(history: Sequence[tuple[int, float]], pixels: int) -> float | None:
    """Predict the time of one run from those at smaller sizes.

    Time grows with the number of pixels at least in proportion; faster, if it did so between the
    last two sizes.

    Args:
        history: pixels and seconds of the sizes so far, from the smallest to the largest.
        pixels: of the size to predict.

    Returns:
        Seconds; None without a history.
    """
    if not history:
        return None
    last_pixels, last_seconds = history[-1]
    exponent = 1.0
    if len(history) > 1:
        earlier_pixels, earlier_seconds = history[-2]
        if earlier_pixels < last_pixels:
            growth = math.log(last_seconds / earlier_seconds)
            exponent = max(1.0, growth / math.log(last_pixels / earlier_pixels))
    return last_seconds * (pixels / last_pixels) ** exponent


def repeats_for(seconds: float, repeats: int) -> int:
    """Timed runs: as many as wanted; fewer, but two, of runs longer than ten seconds."""
    if seconds <= _LONG_RUN:
        return repeats
    return min(repeats, max(_FEWEST_REPEATS, int(_SECONDS_FOR_LONG_RUNS / seconds)))
