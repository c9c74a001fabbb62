"""Putting XCiT in the place of the backbone of any mmdet or mmseg config.

What is known of mm's classes by name, such as which head reads which levels, is in
:mod:`xcit_dense.swap.rules`.
"""

from xcit_dense.swap.levels import SwapError
from xcit_dense.swap.plan import Swap, plan_swap, swap_backbone

__all__ = ["Swap", "SwapError", "plan_swap", "swap_backbone"]
