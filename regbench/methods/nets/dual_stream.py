"""A dual-stream pyramid: features of each image apart, compared by local correlation, fields composed.

One encoder sees each image alone, so features of a place mean the same in both. From coarse to fine, the moving
features are warped by the field so far, a correlation volume compares each fixed voxel with the neighbours of its
partner, and convolutions read a residual field from it, which is composed with the field so far. Composition of
velocities' flows keeps the result free of folds.

Ideas: Sun et al., "PWC-Net", CVPR (2018); Kang et al., "Dual-stream Pyramid Registration Network", MedIA 75 (2022).
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from regbench.methods.nets.fields import activate, checkpointed, displaced_by, enlarged, field_head, reduced
from regbench.methods.nets.layers import layer
from regbench.methods.nets.spatial import compose, warp
from regbench.methods.nets.unet import fold


class DualStreamPyramid(nn.Module):
    """The displacement in voxels by shared features of `channels`, half resolution first, and search `radius`."""

    def __init__(
        self,
        ndim: int,
        channels: tuple[int, ...] = (16, 24, 32, 32),
        *,
        squarings: int = 6,
        transformation: str = "velocity",
        checkpointing: bool = False,
        radius: int = 1,
    ) -> None:
        super().__init__()
        self.multiple = 2 ** len(channels)
        self.squarings, self.transformation, self.checkpointing = squarings, transformation, checkpointing
        widths = itertools.pairwise((2**ndim, *channels))
        self.encoder = nn.ModuleList(TwoLayers(ndim, n_in, n_out) for n_in, n_out in widths)
        self.estimators = nn.ModuleList(_Estimator(ndim, n, radius) for n in channels)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Displacement (B, ndim, *shape) in voxels of the input grid, from images (B, 1, *shape)."""
        displacement: Tensor | None = None
        for features, estimator in zip(*self._coarse_to_fine(fixed, moving), strict=True):
            fixed_here, moving_here = features.chunk(2)
            if displacement is not None:
                displacement = enlarged(displacement, tuple(features.shape[2:]))
            inputs = (estimator, fixed_here, moving_here, displacement)
            displacement = checkpointed(self.checkpointing, self._refined, *inputs)
        assert displacement is not None
        return enlarged(displacement, tuple(fixed.shape[2:]))

    def _coarse_to_fine(self, fixed: Tensor, moving: Tensor) -> tuple[list[Tensor], list[nn.Module]]:
        """Features of both images, one batch behind the other, and the estimators of their levels."""
        features, levels = fold(torch.cat([fixed, moving])), []
        for index, layers in enumerate(self.encoder):
            features = reduced(features) if index else features
            features = checkpointed(self.checkpointing, layers, features)
            levels.append(features)
        return levels[::-1], list(self.estimators)[::-1]

    def _refined(self, estimator: nn.Module, fixed: Tensor, moving: Tensor, found: Tensor | None) -> Tensor:
        """The displacement after one level, from features of both images and the displacement before it."""
        moved = moving.float() if found is None else warp(moving.float(), found)
        residual = displaced_by(estimator(fixed.float(), moved), self.transformation, self.squarings)
        return residual if found is None else compose(residual, found)


class TwoLayers(nn.Module):
    """Two convolutions of three voxels, each rectified."""

    def __init__(self, ndim: int, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first, self.second = layer(ndim, n_in, n_out), layer(ndim, n_out, n_out)

    def forward(self, features: Tensor) -> Tensor:
        return activate(self.second(activate(self.first(features))))


class _Estimator(nn.Module):
    """The residual field of one level from the features of the fixed image and those of the warped moving image."""

    def __init__(self, ndim: int, n: int, radius: int) -> None:
        super().__init__()
        self.radius = radius
        self.layers = TwoLayers(ndim, (2 * radius + 1) ** ndim + n, n)
        self.field = field_head(ndim, n)

    def forward(self, fixed: Tensor, moved: Tensor) -> Tensor:
        similar = local_correlation(of_unit_length(fixed), of_unit_length(moved), self.radius)
        field: Tensor = self.field(self.layers(torch.cat([similar, fixed], dim=1)))
        return field


def of_unit_length(features: Tensor) -> Tensor:
    """Features of unit length at every voxel; shorter ones where there is next to nothing."""
    return features * torch.rsqrt(features.square().sum(1, keepdim=True) + 1e-4)


def local_correlation(fixed: Tensor, moving: Tensor, radius: int) -> Tensor:
    """Products of the features (B, C, *shape) of each fixed voxel with those of the moving voxels around it.

    Channels of the result (B, (2 radius + 1)^ndim, *shape) are offsets, the last axis fastest; outside is zero.
    """
    correlation: Tensor = _LocalCorrelation.apply(fixed, moving, radius)
    return correlation


class _LocalCorrelation(torch.autograd.Function):
    """Keeps nothing but the features for the gradients, which autograd would make a copy of for every offset."""

    @staticmethod
    def forward(context: Any, fixed: Tensor, moving: Tensor, radius: int) -> Tensor:
        context.save_for_backward(fixed, moving)
        context.radius = radius
        padded = functional.pad(moving, [radius] * (2 * (fixed.dim() - 2)))
        n_offsets = (2 * radius + 1) ** (fixed.dim() - 2)
        out = fixed.new_empty((fixed.shape[0], n_offsets, *fixed.shape[2:]))
        for index, part in enumerate(_offsets(fixed, radius)):
            torch.sum(fixed * padded[part], dim=1, out=out[:, index])
        return out

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        fixed, moving = context.saved_tensors
        radius, n_axes = context.radius, fixed.dim() - 2
        padded = functional.pad(moving, [radius] * (2 * n_axes))
        of_fixed, of_padded = torch.zeros_like(fixed), torch.zeros_like(padded)
        for index, part in enumerate(_offsets(fixed, radius)):
            here = gradient[:, index : index + 1]
            of_fixed.addcmul_(here, padded[part])
            of_padded[part].addcmul_(here, fixed)
        inside = (slice(None), slice(None), *(slice(radius, radius + n) for n in fixed.shape[2:]))
        return of_fixed, of_padded[inside], None


def _offsets(features: Tensor, radius: int) -> list[tuple[slice, ...]]:
    """The part of the padded features that lies at each offset."""
    steps = itertools.product(range(2 * radius + 1), repeat=features.dim() - 2)
    return [
        (slice(None), slice(None), *(slice(step, step + n) for step, n in zip(offset, features.shape[2:], strict=True)))
        for offset in steps
    ]
