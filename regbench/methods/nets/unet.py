"""A VoxelMorph-style registration network: U-Net, stationary velocity at half resolution, integration.

The two images are folded by space-to-depth (every 2^ndim block of voxels becomes channels of one voxel), so
no detail is lost and every convolution works on at most half resolution, which is what makes training on
CPUs possible. The last convolution starts near zero: an untrained network is nearly the identity.

Idea: Balakrishnan et al., IEEE TMI 38 (2019); diffeomorphic variant Dalca et al., MedIA 57 (2019).
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from regbench.methods.nets.spatial import integrate, resize_displacement

_SLOPE = 0.2


class RegistrationUNet(nn.Module):
    """A U-Net that gives the displacement in voxels from fixed and moving images of one shape.

    `channels[0]` is the width at half resolution, each further entry one level coarser. Every axis must be
    even.
    """

    def __init__(self, ndim: int, channels: tuple[int, ...] = (32, 32, 48, 64), squarings: int = 6) -> None:
        super().__init__()
        self.ndim, self.squarings = ndim, squarings
        conv = nn.Conv3d if ndim == 3 else nn.Conv2d
        folded = 2 * 2**ndim
        self.stem = conv(folded, channels[0], 3, padding=1)
        self.first = conv(channels[0], channels[0], 3, padding=1)
        pairs = list(itertools.pairwise(channels))
        self.down = nn.ModuleList(conv(a, b, 3, stride=2, padding=1) for a, b in pairs)
        self.mid = nn.ModuleList(conv(b, b, 3, padding=1) for _, b in pairs)
        self.up = nn.ModuleList(conv(a + b, a, 3, padding=1) for a, b in reversed(pairs))
        self.head = conv(channels[0], channels[0], 3, padding=1)
        self.velocity = conv(channels[0], ndim, 3, padding=1)
        nn.init.normal_(self.velocity.weight, std=1e-5)
        if self.velocity.bias is not None:
            nn.init.zeros_(self.velocity.bias)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Displacement (B, ndim, *shape) in voxels of the input grid, from images (B, 1, *shape)."""
        features = _activate(self.stem(fold(torch.cat([fixed, moving], dim=1))))
        features = _activate(self.first(features))
        skips = [features]
        for down, mid in zip(self.down, self.mid, strict=True):
            features = _activate(mid(_activate(down(features))))
            skips.append(features)
        skips.pop()
        for up in self.up:
            skip = skips.pop()
            features = functional.interpolate(features, size=skip.shape[2:], mode="nearest")
            features = _activate(up(torch.cat([features, skip], dim=1)))
        velocity = self.velocity(_activate(self.head(features))).float()
        return resize_displacement(integrate(velocity, self.squarings), tuple(fixed.shape[2:]))


def fold(images: Tensor) -> Tensor:
    """Space to depth by two along every axis: (B, C, *shape) -> (B, C * 2^ndim, *shape / 2)."""
    ndim = images.dim() - 2
    batch, channels = images.shape[:2]
    half = [n // 2 for n in images.shape[2:]]
    split = images.reshape(batch, channels, *[m for n in half for m in (n, 2)])
    within = [3 + 2 * a for a in range(ndim)]
    outer = [2 + 2 * a for a in range(ndim)]
    return split.permute(0, 1, *within, *outer).reshape(batch, channels * 2**ndim, *half)


def _activate(features: Tensor) -> Tensor:
    return functional.leaky_relu(features, _SLOPE)
