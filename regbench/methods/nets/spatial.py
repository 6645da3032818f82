"""Spatial operations for networks: warping, scaling and squaring, resizing of displacement fields.

Conventions of this module: tensors are (batch, channels, *shape) in array-axis order; a displacement has
one channel per array axis, in VOXELS of its own grid, pull-back: `warped(p) = moving(p + d(p))`.
`grid_sample` wants the last axis first and coordinates in [-1, 1]; that change is made here and nowhere else.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from regbench.slabs import row_slabs

# A few MiB, and not so little that threads wait for each other more than they work.
_SLAB_POINTS = 1 << 17


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


def warped_rows(moving: Tensor, displacement: Tensor, rows: slice, padding: str = "border") -> Tensor:
    """Some rows of the first axis of `warp(moving, displacement, padding=padding)`, for a batch of one.

    Each row is a batch entry of its own for torch, which shares out nothing smaller among threads.
    """
    shape = displacement.shape[2:]
    n_rows = rows.stop - rows.start
    positions = displacement.new_empty((n_rows, 1, *shape[1:], len(shape)))
    for axis, n in enumerate(shape):
        step = 2.0 / max(moving.shape[2 + axis] - 1, 1)
        line = torch.arange(n, device=displacement.device, dtype=displacement.dtype)[rows if axis == 0 else slice(None)]
        line = (line * step - 1.0).view(-1, *[1] * (len(shape) - 1 - axis))
        torch.add(line, displacement[0, axis, rows], alpha=step, out=positions[:, 0, ..., len(shape) - 1 - axis])
    found = functional.grid_sample(
        moving.expand(n_rows, *moving.shape[1:]), positions, padding_mode=padding, align_corners=True
    )
    return found.view(n_rows, moving.shape[1], *shape[1:]).transpose(0, 1)[None]


def composed(first: Tensor, second: Tensor, padding: str = "border") -> Tensor:
    """As `compose`, a few rows at a time; overwrites `first`, which must not be `second`."""
    for rows in row_slabs(first.shape[2:], _SLAB_POINTS):
        first[:, :, rows] += warped_rows(second, first, rows, padding)
    return first


def integrated(velocity: Tensor, squarings: int, padding: str = "border") -> Tensor:
    """As `integrate`, with little more than two fields in memory; overwrites `velocity`."""
    here = velocity.div_(2**squarings).contiguous()
    there = torch.empty_like(here)
    for _ in range(squarings):
        for rows in row_slabs(here.shape[2:], _SLAB_POINTS):
            torch.add(here[:, :, rows], warped_rows(here, here, rows, padding), out=there[:, :, rows])
        here, there = there, here
    return here
