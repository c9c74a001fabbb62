"""Parts of a convolution that is computed at some positions only (Wang et al. 2019, GA-RPN).

mmcv puts the product with the weights between the two. It has no gradient: guided anchoring uses
the whole convolution in training. The n positions, `mask_h_idx` and `mask_w_idx`, (n,) int64 each,
are rows and columns of the output.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def masked_im2col_forward(
    im: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Collects the input cells under the kernel at each position; stride 1, dilation 1.

    Args:
        im: (1, C, H, W).
        col: (C * kernel_h * kernel_w, n), overwritten.
        kernel_h, kernel_w, pad_h, pad_w: kernel size and padding with zeros.

    Raises:
        ValueError: for a position outside the output, where mmcv's kernel writes into other
            memory: the mask of a convolution that shrinks the map must be 0 there.
    """
    padded = F.pad(im[0], (pad_w, pad_w, pad_h, pad_h))
    height, width = padded.shape[1] - kernel_h + 1, padded.shape[2] - kernel_w + 1
    if bool(((mask_h_idx >= height) | (mask_w_idx >= width)).any()):
        raise ValueError(
            f"masked_conv2d has an output of {height} x {width} cells, but its mask marks row "
            f"{int(mask_h_idx.max())} and column {int(mask_w_idx.max())}; "
            "pad the convolution, or set the mask to 0 beyond the output."
        )
    taps_y = torch.arange(kernel_h, device=im.device)[:, None, None]
    taps_x = torch.arange(kernel_w, device=im.device)[None, :, None]
    windows = padded[:, mask_h_idx + taps_y, mask_w_idx + taps_x]
    col.copy_(windows.flatten(0, 2))


def masked_col2im_forward(
    col: Tensor, mask_h_idx: Tensor, mask_w_idx: Tensor, im: Tensor, **sizes: int
) -> None:
    """Puts a column of `col` (C, n) at each position of `im` (1, C, H, W); sizes are unused."""
    im[0, :, mask_h_idx, mask_w_idx] = col.to(im.dtype)
