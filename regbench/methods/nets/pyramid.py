"""A LapIRN-like pyramid: networks from coarse to fine images, each adds to the field of the coarser one.

Level k sees the fixed image and the moving image, which the coarser levels have warped, at half the resolution of
level k + 1, and the field so far; it finds what is to be added to that field. Its features lie at half the resolution
of its images (space-to-depth), and pass to the next level, too. With velocities, the sum is a velocity, so the result
stays free of folds.

Idea: Mok and Chung, "Large Deformation Diffeomorphic Image Registration with Laplacian Pyramid
Networks", MICCAI (2020).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from regbench.methods.nets.fields import activate, checkpointed, displaced_by, enlarged, field_head, reduced
from regbench.methods.nets.layers import layer
from regbench.methods.nets.spatial import warp
from regbench.methods.nets.unet import fold


class LaplacianPyramid(nn.Module):
    """The displacement in voxels by `levels` networks, each of `channels[0]` channels and `blocks` residual blocks."""

    def __init__(
        self,
        ndim: int,
        channels: tuple[int, ...] = (16,),
        *,
        squarings: int = 6,
        transformation: str = "velocity",
        checkpointing: bool = False,
        levels: int = 3,
        blocks: int = 5,
    ) -> None:
        super().__init__()
        self.multiple = 2**levels
        self.squarings, self.transformation, self.checkpointing = squarings, transformation, checkpointing
        self.levels = nn.ModuleList(
            _Level(ndim, channels[0], blocks, is_first=k == 0, checkpointing=checkpointing) for k in range(levels)
        )

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Displacement (B, ndim, *shape) in voxels of the input grid, from images (B, 1, *shape)."""
        field = displacement = embedding = None
        for k, level in enumerate(self.levels):
            times = len(self.levels) - 1 - k
            fixed_here, moving_here = reduced(fixed, times), reduced(moving, times)
            if displacement is not None:
                moving_here = warp(moving_here, enlarged(displacement, tuple(fixed_here.shape[2:])))
            field, embedding = level(fixed_here, moving_here, field, embedding)
            displacement = checkpointed(self.checkpointing, displaced_by, field, self.transformation, self.squarings)
        assert displacement is not None
        return enlarged(displacement, tuple(fixed.shape[2:]))


class _Level(nn.Module):
    """One network of the pyramid."""

    def __init__(self, ndim: int, n: int, blocks: int, *, is_first: bool, checkpointing: bool) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.first = layer(ndim, 2 * 2**ndim + (0 if is_first else ndim), n)
        self.second = layer(ndim, n, n)
        self.down = layer(ndim, n, n, stride=2)
        self.blocks = nn.ModuleList(_Residual(ndim, n) for _ in range(blocks))
        self.joined = layer(ndim, 2 * n, n)
        self.field = field_head(ndim, n)

    def forward(
        self, fixed: Tensor, moving: Tensor, field: Tensor | None, embedding: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The field so far with what this level adds, and its embedding, at half the resolution of the images."""
        inputs = fold(torch.cat([fixed, moving], dim=1))
        shape = tuple(inputs.shape[2:])
        before = None if field is None else enlarged(field, shape)
        inputs = inputs if before is None else torch.cat([inputs, before], dim=1)
        skip = checkpointed(self.checkpointing, self._entered, inputs)
        features = checkpointed(self.checkpointing, self._deepened, skip, embedding)
        embedding = functional.interpolate(features, size=shape, mode="nearest")
        added = checkpointed(self.checkpointing, self._added, skip, embedding)
        return added if before is None else before + added, embedding

    def _entered(self, inputs: Tensor) -> Tensor:
        return activate(self.second(activate(self.first(inputs))))

    def _deepened(self, skip: Tensor, embedding: Tensor | None) -> Tensor:
        """Features at half the resolution of `skip`, to which the embedding of the coarser level is added."""
        features = self.down(skip)
        features = features if embedding is None else features + embedding
        for block in self.blocks:
            features = block(features)
        return activate(features)

    def _added(self, skip: Tensor, embedding: Tensor) -> Tensor:
        added: Tensor = self.field(activate(self.joined(torch.cat([skip, embedding], dim=1)))).float()
        return added


class _Residual(nn.Module):
    def __init__(self, ndim: int, n: int) -> None:
        super().__init__()
        self.first, self.second = layer(ndim, n, n), layer(ndim, n, n)

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.second(activate(self.first(activate(features))))
        return features + found
