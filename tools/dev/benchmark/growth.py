"""How time and memory grow with the number of pixels."""

import math
from collections.abc import Sequence

SMALLEST_PIXELS = 512 * 512


def growth_exponent(points: Sequence[tuple[float, float]]) -> float | None:
    """The power of x that y follows: the least-squares slope in logarithms.

    1 is linear, 2 is quadratic.

    Args:
        points: pairs of x and y, all above 0.

    Returns:
        The slope; None with fewer than two different x.
    """
    logs = [(math.log(x), math.log(y)) for x, y in points]
    if len({x for x, _ in logs}) < 2:
        return None
    mean_x = sum(x for x, _ in logs) / len(logs)
    mean_y = sum(y for _, y in logs) / len(logs)
    covariance = sum((x - mean_x) * (y - mean_y) for x, y in logs)
    return covariance / sum((x - mean_x) ** 2 for x, _ in logs)
