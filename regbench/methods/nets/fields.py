"""What trainable networks share: fields between resolutions, fields that start near zero, checkpointing.

Grids of half the resolution are those of pooling: voxel i lies in the middle of voxels 2 i and 2 i + 1. `nets.spatial`
has the other convention, in which the corner voxels coincide; the U-Net, whose weights are shipped, keeps that one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from regbench.methods.nets.layers import layer
from regbench.methods.nets.spatial import integrate

_SLOPE = 0.2
_Result = TypeVar("_Result")


def activate(features: Tensor) -> Tensor:
    """Leaky rectification."""
    return functional.leaky_relu(features, _SLOPE)


def field_head(ndim: int, n_in: int) -> nn.Module:
    """A convolution to one channel per axis that gives nearly zero until it is trained."""
    head = layer(ndim, n_in, ndim)
    nn.init.normal_(head.weight, std=1e-5)
    if head.bias is not None:
        nn.init.zeros_(head.bias)
    return head


def reduced(images: Tensor, times: int = 1) -> Tensor:
    """Images (B, C, *shape) on a grid of half the resolution, as often as `times`, by means over blocks of voxels."""
    pool = functional.avg_pool3d if images.dim() == 5 else functional.avg_pool2d
    for _ in range(times):
        images = pool(images, 2)
    return images


def enlarged(displacement: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A displacement (B, ndim, *shape) on a finer grid over the same box, in voxels of that grid."""
    old = displacement.shape[2:]
    if tuple(old) == tuple(shape):
        return displacement
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    finer = functional.interpolate(displacement, size=shape, mode=mode, align_corners=False)
    factors = torch.tensor([n / m for n, m in zip(shape, old, strict=True)], device=finer.device, dtype=finer.dtype)
    return finer * factors.view(1, -1, *[1] * len(shape))


def displaced_by(field: Tensor, transformation: str, squarings: int) -> Tensor:
    """The displacement of a field in voxels, which is a stationary velocity or the displacement itself."""
    field = field.float()
    return integrate(field, squarings) if transformation == "velocity" else field


def checkpointed(is_on: bool, function: Callable[..., _Result], *inputs: Any) -> _Result:
    """The result of `function`; if `is_on`, what leads to it is not kept but computed again for the gradients."""
    if not (is_on and torch.is_grad_enabled()):
        return function(*inputs)
    result: _Result = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
    return result
