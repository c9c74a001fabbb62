"""Putting XCiT in the place of the backbone of any mmdet or mmseg config.

What is known of mm's classes by name, such as which head reads which levels, is in
:mod:`xcit_dense.mm.rules`.
"""

from xcit_dense.swap.error import SwapError
from xcit_dense.swap.levels import Level, MeasuredBackbone, levels_of, maps_in
from xcit_dense.swap.plan import Swap, plan_swap, swap_backbone
from xcit_dense.swap.readers import find_readers

__all__ = [
    "Level",
    "MeasuredBackbone",
    "Swap",
    "SwapError",
    "find_readers",
    "levels_of",
    "maps_in",
    "plan_swap",
    "swap_backbone",
]
