"""Putting XCiT in the place of the backbone of any mmdet or mmseg config."""

from xcit_dense.swap.swap import Swap, plan_swap, swap_backbone
from xcit_dense.swap.swap_error import SwapError

__all__ = ["Swap", "SwapError", "plan_swap", "swap_backbone"]
