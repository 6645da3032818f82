"""Spatial operations for networks: warping, scaling and squaring, resizing of displacement fields.

Conventions of this module: tensors are (batch, channels, *shape) in array-axis order; a displacement has
one channel per array axis, in VOXELS of its own grid, pull-back: `warped(p) = moving(p + d(p))`.
`grid_sample` wants the last axis first and coordinates in [-1, 1]; that change is made here and nowhere else.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def identity_grid(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Voxel indices (1, ndim, *shape) of a grid, with the device and type of `like`."""
    axes = [torch.arange(n, device=like.device, dtype=like.dtype) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def warp(moving: Tensor, displacement: Tensor, mode: str = "bilinear", padding: str = "border") -> Tensor:
    """`moving` (B, C, *shape) read linearly at p + d(p), where d is (B, ndim, *shape) in voxels."""
    shape = displacement.shape[2:]
    position = identity_grid(tuple(shape), displacement) + displacement
    scale = torch.tensor([2.0 / max(n - 1, 1) for n in moving.shape[2:]], device=position.device, dtype=position.dtype)
    normalised = position.movedim(1, -1) * scale - 1.0
    return functional.grid_sample(moving, normalised.flip(-1), mode=mode, padding_mode=padding, align_corners=True)


def compose(first: Tensor, second: Tensor) -> Tensor:
    """The displacement of applying `first`, then `second`: d(p) = first(p) + second(p + first(p))."""
    return first + warp(second, first)


def integrate(velocity: Tensor, squarings: int) -> Tensor:
    """The flow of a stationary velocity (B, ndim, *shape) in voxels for unit time, by scaling and squaring."""
    displacement = velocity / 2**squarings
    for _ in range(squarings):
        displacement = compose(displacement, displacement)
    return displacement


def resize_displacement(displacement: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The same displacement on a grid of another shape whose corner voxels coincide, in voxels of that grid."""
    old = displacement.shape[2:]
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    resized = functional.interpolate(displacement, size=shape, mode=mode, align_corners=True)
    ratio = [(new - 1) / max(n - 1, 1) for new, n in zip(shape, old, strict=True)]
    factors = torch.tensor(ratio, device=resized.device, dtype=resized.dtype)
    return resized * factors.view(1, -1, *[1] * len(shape))
