"""An affine map from two images, always invertible and without reflection.

A small network gives a coarse field of velocities with a confidence at each place; the linear velocity that fits it
best (weighted least squares) is integrated exactly, by the matrix exponential, whose determinant is positive. The
place of what was seen counts this way, whatever the shape of the images. Coordinates are centred on the image, in
units of half its longest axis, so the map is the same at every resolution.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from regbench.methods.nets.fields import activate, checkpointed, reduced
from regbench.methods.nets.layers import layer
from regbench.methods.nets.spatial import identity_grid
from regbench.methods.nets.unet import fold

_CHANNELS = (8, 16, 24, 32)
# Of the mean weight; it decides only along axes in which the coarse field has a single voxel.
_RIDGE = 1e-4


class AffineHead(nn.Module):
    """The affine map (B, ndim, ndim + 1) of the fixed to the moving image, in centred units (see the module)."""

    multiple = 4

    def __init__(self, ndim: int, checkpointing: bool = False) -> None:
        super().__init__()
        self.ndim, self.checkpointing = ndim, checkpointing
        self.stem = layer(ndim, 2 * 2**ndim, _CHANNELS[0])
        pairs = itertools.pairwise(_CHANNELS)
        self.down = nn.ModuleList(layer(ndim, a, b, stride=2) for a, b in pairs)
        self.last = layer(ndim, _CHANNELS[-1], _CHANNELS[-1])
        self.velocity = layer(ndim, _CHANNELS[-1], ndim + 1)
        nn.init.normal_(self.velocity.weight, std=1e-5)
        if self.velocity.bias is not None:
            nn.init.zeros_(self.velocity.bias)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """The map from images (B, 1, *shape)."""
        coarse = checkpointed(self.checkpointing, self._coarse_field, fixed, moving).float()
        with torch.autocast(coarse.device.type, enabled=False):
            return self._exponential(coarse, tuple(fixed.shape[2:]))

    def _coarse_field(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Velocity and confidence (B, ndim + 1, *coarse shape)."""
        # An affine map needs no details, and this costs an eighth.
        features = activate(self.stem(fold(reduced(torch.cat([fixed, moving], dim=1)))))
        for down in self.down:
            features = activate(down(features))
        found: Tensor = self.velocity(activate(self.last(features)))
        return found

    def _exponential(self, coarse: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The flow of the linear velocity nearest to a coarse field on images of this shape."""
        steps = [n / m for n, m in zip(shape, coarse.shape[2:], strict=True)]
        voxels = identity_grid(tuple(coarse.shape[2:]), coarse)[0].flatten(1)
        scale = torch.tensor(steps, device=coarse.device).view(-1, 1)
        places = _centred((voxels + 0.5) * scale - 0.5, shape)
        places = torch.cat([places, torch.ones_like(places[:1])])
        velocity, confidence = coarse[:, :-1].flatten(2), coarse[:, -1].flatten(1).softmax(1)
        weighted = places * confidence[:, None]
        normal = weighted @ places.T + _RIDGE * torch.eye(self.ndim + 1, device=coarse.device)
        linear = torch.linalg.solve(normal, weighted @ velocity.mT).mT
        generator = torch.cat([linear, torch.zeros_like(linear[:, :1])], dim=1)
        flow: Tensor = torch.linalg.matrix_exp(generator)[:, : self.ndim]
        return flow


def affine_after(affine: Tensor, displacement: Tensor) -> Tensor:
    """The displacement (B, ndim, *shape) in voxels of first moving by a displacement, then by an affine map.

    The map is exact everywhere, outside the image as well.
    """
    shape = tuple(displacement.shape[2:])
    places = _centred((identity_grid(shape, displacement) + displacement).flatten(2), shape)
    mapped = affine[:, :, :-1] @ places + affine[:, :, -1:]
    return displacement + ((mapped - places) * _unit(shape)).view_as(displacement)


def _unit(shape: tuple[int, ...]) -> float:
    """The unit of centred coordinates in voxels."""
    return max(shape) / 2


def _centred(voxels: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Voxel coordinates (..., ndim, points) in centred units."""
    centre = torch.tensor([(n - 1) / 2 for n in shape], device=voxels.device, dtype=voxels.dtype)
    return (voxels - centre.view(-1, 1)) / _unit(shape)
