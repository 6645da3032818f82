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

from regbench.methods.nets.fields import activate, checkpointed, displaced_by, field_head
from regbench.methods.nets.layers import layer
from regbench.methods.nets.spatial import resize_displacement


class RegistrationUNet(nn.Module):
    """A U-Net that gives the displacement in voxels from fixed and moving images of one shape.

    `channels[0]` is the width at half resolution, each further entry one level coarser. Every axis must be
    even.
    """

    multiple = 2

    def __init__(
        self,
        ndim: int,
        channels: tuple[int, ...] = (32, 32, 48, 64),
        squarings: int = 6,
        transformation: str = "velocity",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.ndim, self.squarings, self.transformation = ndim, squarings, transformation
        self.checkpointing = checkpointing
        self.stem = layer(ndim, 2 * 2**ndim, channels[0])
        self.first = layer(ndim, channels[0], channels[0])
        pairs = list(itertools.pairwise(channels))
        self.down = nn.ModuleList(layer(ndim, a, b, stride=2) for a, b in pairs)
        self.mid = nn.ModuleList(self._middle(b) for _, b in pairs)
        self.up = nn.ModuleList(layer(ndim, a + b, a) for a, b in reversed(pairs))
        self.head = layer(ndim, channels[0], channels[0])
        # The name is from when all of them were velocities; weight files have it.
        self.velocity = field_head(ndim, channels[0])

    def _middle(self, n_channels: int) -> nn.Module:
        """The second layer of a level below half resolution."""
        return layer(self.ndim, n_channels, n_channels)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Displacement (B, ndim, *shape) in voxels of the input grid, from images (B, 1, *shape)."""
        features = checkpointed(self.checkpointing, self._entered, fixed, moving)
        skips = [features]
        for level in range(len(self.down)):
            features = checkpointed(self.checkpointing, self._lowered, level, features)
            skips.append(features)
        skips.pop()
        for level in range(len(self.up)):
            features = checkpointed(self.checkpointing, self._raised, level, features, skips.pop())
        field = checkpointed(self.checkpointing, self._field, features)
        displacement = checkpointed(self.checkpointing, displaced_by, field, self.transformation, self.squarings)
        return resize_displacement(displacement, tuple(fixed.shape[2:]))

    def _entered(self, fixed: Tensor, moving: Tensor) -> Tensor:
        return activate(self.first(activate(self.stem(fold(torch.cat([fixed, moving], dim=1))))))

    def _lowered(self, level: int, features: Tensor) -> Tensor:
        return activate(self.mid[level](activate(self.down[level](features))))

    def _raised(self, level: int, features: Tensor, skip: Tensor) -> Tensor:
        features = functional.interpolate(features, size=skip.shape[2:], mode="nearest")
        return activate(self.up[level](torch.cat([features, skip], dim=1)))

    def _field(self, features: Tensor) -> Tensor:
        field: Tensor = self.velocity(activate(self.head(features))).float()
        return field


def fold(images: Tensor) -> Tensor:
    """Space to depth by two along every axis: (B, C, *shape) -> (B, C * 2^ndim, *shape / 2)."""
    ndim = images.dim() - 2
    batch, channels = images.shape[:2]
    half = [n // 2 for n in images.shape[2:]]
    split = images.reshape(batch, channels, *[m for n in half for m in (n, 2)])
    within = [3 + 2 * a for a in range(ndim)]
    outer = [2 + 2 * a for a in range(ndim)]
    return split.permute(0, 1, *within, *outer).reshape(batch, channels * 2**ndim, *half)
