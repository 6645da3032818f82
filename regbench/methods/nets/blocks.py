"""Building blocks of released networks in two and three dimensions, under the names that their state dicts have."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

_CONVOLUTIONS: dict[int, type[nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.ConvTranspose2d | nn.ConvTranspose3d]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}

Activation = Callable[[], nn.Module]


def convolution(
    ndim: int, n_in: int, n_out: int, kernel: int = 3, *, stride: int = 1, bias: bool = True
) -> nn.Conv2d | nn.Conv3d:
    """A convolution padded with zeros by half its kernel on every side."""
    return _CONVOLUTIONS[ndim](n_in, n_out, kernel, stride=stride, padding=kernel // 2, bias=bias)


def activated(ndim: int, n_in: int, n_out: int, activation: Activation, stride: int = 1) -> nn.Sequential:
    """A convolution of kernel 3 (`.0`) and its activation (`.1`)."""
    return nn.Sequential(convolution(ndim, n_in, n_out, stride=stride), activation())


def doubling(ndim: int, n_in: int, n_out: int, activation: Activation) -> nn.Sequential:
    """A transposed convolution (`.0`) that doubles every axis, and its activation (`.1`); no voxel sees a neighbour."""
    return nn.Sequential(_TRANSPOSED[ndim](n_in, n_out, 2, stride=2), activation())


def head(ndim: int, n_in: int, kernel: int = 3) -> nn.Sequential:
    """A convolution to one channel per axis without bias (`.0`)."""
    return nn.Sequential(convolution(ndim, n_in, ndim, kernel, bias=False))


def unit_to_voxels(displacement: Tensor) -> Tensor:
    """A displacement (B, ndim, *shape), channel i along axis i, from units of [-1, 1] per axis to voxels, float32.

    Overwrites it where it is float32 already.
    """
    shape = displacement.shape[2:]
    factors = torch.tensor([(n - 1) / 2 for n in shape], device=displacement.device)
    return displacement.float().mul_(factors.view(1, -1, *[1] * len(shape)))


def halved(rows: slice) -> slice:
    """The rows of the grid of half the resolution that lie in these, whose ends are even."""
    return slice(rows.start // 2, rows.stop // 2)
