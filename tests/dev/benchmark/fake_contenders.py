"""Contenders that behave, fail or die, for processes to import."""

import os
import signal

from torch import nn


class Fake(nn.Module):
    """One convolution, as four levels; what happens at 64 pixels and more depends."""

    def __init__(self, arch, patch_size, large=lambda: None):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.large = large

    def forward(self, image):
        if image.shape[-1] >= 64:
            self.large()
        return [self.convolution(image)] * 4


def fail():
    raise RuntimeError("out of memory\nand more lines")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def unbuildable(arch, patch_size):
    raise ImportError("its library is missing")
