"""Contenders that behave, run out of memory or die, for workers to import."""

import os
import signal

import torch
from torch import nn


class Steady(nn.Module):
    """One convolution, as four levels."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, image):
        return [self.convolution(image)] * 4


class Greedy(Steady):
    """Wants two gibibytes from 64 pixels on."""

    def forward(self, image):
        if image.shape[-1] >= 64:
            torch.ones(2**31, dtype=torch.uint8)
        return super().forward(image)


class Mortal(Steady):
    """Is killed from 64 pixels on."""

    def forward(self, image):
        if image.shape[-1] >= 64:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(image)


def steady(arch, patch_size):
    return Steady()


def greedy(arch, patch_size):
    return Greedy()


def mortal(arch, patch_size):
    return Mortal()


def unbuildable(arch, patch_size):
    raise ImportError("its library is missing")


class Servant:
    """For the worker's protocol."""

    def twice(self, number):
        return 2 * number

    def fail(self):
        raise KeyError("no such thing")

    def run_out(self):
        raise MemoryError

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)
