"""Losses of registration training, on tensors (B, C, *shape); fields in voxels (see `nets.spatial`)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_FLAT_VARIANCE = 1e-3


def box_mean(images: Tensor, window: int) -> Tensor:
    """Means over cubes of `window` voxels by one pass per axis, zero outside the image."""
    ndim = images.dim() - 2
    pool = functional.avg_pool3d if ndim == 3 else functional.avg_pool2d
    for axis in range(ndim):
        size = [window if a == axis else 1 for a in range(ndim)]
        images = pool(images, size, stride=1, padding=[n // 2 for n in size])
    return images


def lncc_loss(fixed: Tensor, moved: Tensor, window: int = 5) -> Tensor:
    """1 minus the mean squared local correlation in cubes of `window` voxels, in [0, 1].

    Windows in which either image is flat carry no information and are left out of the mean.
    """
    stacked = torch.cat([fixed, moved, fixed * fixed, moved * moved, fixed * moved], dim=1)
    mean_f, mean_m, mean_ff, mean_mm, mean_fm = box_mean(stacked, window).chunk(5, dim=1)
    var_f = (mean_ff - mean_f * mean_f).clamp_min(0)
    var_m = (mean_mm - mean_m * mean_m).clamp_min(0)
    covariance = mean_fm - mean_f * mean_m
    informative = ((var_f > _FLAT_VARIANCE) & (var_m > _FLAT_VARIANCE)).to(fixed.dtype)
    squared = covariance * covariance / (var_f * var_m + 1e-6)
    return 1.0 - (squared * informative).sum() / informative.sum().clamp_min(1)


def mse_loss(fixed: Tensor, moved: Tensor) -> Tensor:
    """The mean squared difference."""
    return functional.mse_loss(moved, fixed)


def diffusion_loss(displacement: Tensor) -> Tensor:
    """The mean squared forward difference of a displacement over all axes and components."""
    ndim = displacement.dim() - 2
    terms = [displacement.diff(dim=2 + axis).square().mean() for axis in range(ndim)]
    return torch.stack(terms).mean()


def soft_dice_loss(fixed: Tensor, moved: Tensor) -> Tensor:
    """1 minus the mean soft Dice of one-hot maps (B, labels, *shape); labels absent from both are left out."""
    axes = tuple(range(2, fixed.dim()))
    overlap = (fixed * moved).sum(axes)
    total = fixed.sum(axes) + moved.sum(axes)
    present = (fixed.sum(axes) > 0).to(fixed.dtype)
    dice = 2 * overlap / total.clamp_min(1e-6)
    return 1.0 - (dice * present).sum() / present.sum().clamp_min(1)
