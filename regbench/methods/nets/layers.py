"""Convolutions for networks that are trained on CPUs: the same results, around two weaknesses of torch 2.13 there.

- A float32 convolution goes to oneDNN only if there are two images or more, or channels times the first two axes exceed
  20480. One 3-D image below that takes five to nine times as long, forwards and backwards, and memory for 27 copies of
  it. Here the two halves of its first axis, each with the rows that it needs of the other, are two images.
- In bfloat16, gradients of weights are now and then not finite where an axis is shorter than the kernel (oneDNN reads
  memory that nobody has written). Such images, which cost nothing, are convolved in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_ONEDNN_ABOVE = 20480
_FEWEST_ROWS = 4
# Voxels along the shortest axis; kernels have up to five.
_TINY = 4


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` with padding of zeros."""

    def forward(self, input: Tensor) -> Tensor:
        """The convolved images (B, C, *shape)."""
        return convolved(input, self.weight, self.bias, self.stride[0])


class Conv3d(nn.Conv3d):
    """`nn.Conv3d` with padding of zeros."""

    def forward(self, input: Tensor) -> Tensor:
        """The convolved images (B, C, *shape)."""
        return convolved(input, self.weight, self.bias, self.stride[0])


def layer(ndim: int, n_in: int, n_out: int, kernel: int = 3, *, stride: int = 1) -> Conv2d | Conv3d:
    """A convolution padded with zeros by half its kernel, which is odd, on every side."""
    if ndim == 2:
        return Conv2d(n_in, n_out, kernel, stride=stride, padding=kernel // 2)
    return Conv3d(n_in, n_out, kernel, stride=stride, padding=kernel // 2)


def convolved(images: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1) -> Tensor:
    """Images (B, C, *shape) convolved with a kernel (C', C, k, ...), k odd, padded with zeros by half of it."""
    convolve = functional.conv3d if images.dim() == 5 else functional.conv2d
    padding = weight.shape[2] // 2
    if _is_unsafe(images):
        with torch.autocast("cpu", enabled=False):
            return convolve(images.float(), weight, bias, stride=stride, padding=padding)
    if weight.shape[2] <= 3 and _is_slow(images):
        return _by_halves(images, weight, bias, stride)
    return convolve(images, weight, bias, stride=stride, padding=padding)


def _is_unsafe(images: Tensor) -> bool:
    if images.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return False
    return min(images.shape[2:]) <= _TINY


def _is_slow(images: Tensor) -> bool:
    """Whether torch would not use oneDNN, and halves are worth the trouble."""
    if images.dim() != 5 or images.device.type != "cpu" or images.dtype != torch.float32:
        return False
    n_images, n_channels, n_rows, n_columns = images.shape[:4]
    is_small = n_images == 1 and n_rows >= _FEWEST_ROWS and n_channels * n_rows * n_columns <= _ONEDNN_ABOVE
    return is_small and not torch.is_autocast_enabled("cpu")


def _by_halves(images: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """One 3-D image convolved as a batch of the two halves of its first axis."""
    kernel, n_rows = weight.shape[2], images.shape[2]
    padding = kernel // 2
    n_out = (n_rows + 2 * padding - kernel) // stride + 1
    half = (n_out + 1) // 2
    start, length = half * stride, (half - 1) * stride + kernel
    padded = functional.pad(images, [0, 0, 0, 0, padding, start + length - padding - n_rows])
    halves = torch.cat([padded[:, :, :length], padded[:, :, start : start + length]])
    found = functional.conv3d(halves, weight, bias, stride=stride, padding=(0, padding, padding))
    return torch.cat([found[:1], found[1:, :, : n_out - half]], dim=2)
