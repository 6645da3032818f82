"""A pyramid that matches self-similarity descriptors, and learns how far to trust the matches.

Both images are described by MIND-SSC, which hardly any contrast changes. From coarse to fine, the descriptors of the
moving image are warped by the field so far and compared with those of the fixed one at every offset of a voxel along
each axis; similarities of neighbours are averaged, and the mean offset under their softmax is the velocity. That much
is block matching, and what the network is before any training. Convolutions of these similarities, and of features
learnt from the descriptors and compared alike, add to the scores of the offsets. The flows are composed, without folds.

Ideas: Heinrich et al., "Towards realtime multimodal fusion ...: self-similarity context", MICCAI (2013); Sun et al.,
"PWC-Net", CVPR (2018); Heinrich, "Closing the gap between deep and conventional registration", MICCAI (2019).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regbench.methods.nets.dual_stream import TwoLayers, local_correlation, of_unit_length
from regbench.methods.nets.fields import activate, checkpointed, displaced_by, enlarged, reduced
from regbench.methods.nets.layers import Conv2d, Conv3d
from regbench.methods.nets.spatial import compose, warp
from regbench.methods.objectives.arithmetic import box_sum, differentiable_box_sum
from regbench.methods.objectives.self_similarity import descriptors, neighbour_pairs

# How often similarities and velocities are averaged over boxes of three voxels.
_AVERAGES = 3
# What similarities (-1 to 1) are multiplied by before the softmax, and before they enter a convolution.
_SHARPNESS, _GAIN = 40.0, 10.0


class MindPyramid(nn.Module):
    """The displacement in voxels; `channels` of the levels from the resolution of the images downwards."""

    def __init__(
        self,
        ndim: int,
        channels: tuple[int, ...] = (8, 16, 24, 32),
        *,
        squarings: int = 4,
        transformation: str = "velocity",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.multiple = 2 ** (len(channels) - 1)
        self.squarings, self.transformation, self.checkpointing = squarings, transformation, checkpointing
        n_described, learnt = len(neighbour_pairs(ndim)), channels[1:]
        self.encoder = nn.ModuleList(
            TwoLayers(ndim, n_described + n_in, n_out) for n_in, n_out in zip((0, *learnt), learnt, strict=False)
        )
        # Features at full resolution would take most of the time.
        self.estimators = nn.ModuleList(_Matcher(ndim, n, m) for n, m in zip(channels, (0, *learnt), strict=True))

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Displacement (B, ndim, *shape) in voxels of the input grid, from images (B, 1, *shape)."""
        displacement: Tensor | None = None
        levels = self._fine_to_coarse(torch.cat([fixed, moving]))
        for (described, features), matcher in zip(levels[::-1], list(self.estimators)[::-1], strict=True):
            if displacement is not None:
                displacement = enlarged(displacement, tuple(described.shape[2:]))
            inputs = (matcher, described, features, displacement)
            displacement = checkpointed(self.checkpointing, self._refined, *inputs)
        assert displacement is not None
        return displacement

    def _fine_to_coarse(self, images: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Descriptors and learnt features of both images, one batch behind the other, at every level."""
        with torch.no_grad():
            described = descriptors(images, radius=1, dilation=1)
            described = described - described.mean(1, keepdim=True)
        levels: list[tuple[Tensor, Tensor | None]] = [(of_unit_length(described), None)]
        features: Tensor | None = None
        for layers in self.encoder:
            described = reduced(described)
            seen = of_unit_length(described)
            below = seen if features is None else torch.cat([reduced(features), seen], dim=1)
            features = checkpointed(self.checkpointing, layers, below)
            levels.append((seen, features))
        return levels

    def _refined(self, matcher: nn.Module, described: Tensor, features: Tensor | None, found: Tensor | None) -> Tensor:
        """The displacement after one level, from what both images are like there and the displacement before it.

        What is compared is read through a displacement without gradients; they would go through ever more warps.
        """
        pairs = []
        for both in (described, features):
            fixed, moving = (None, None) if both is None else both.float().chunk(2)
            if moving is not None and found is not None:
                moving = warp(moving, found.detach())
            pairs.append((fixed, moving))
        residual = displaced_by(matcher(*pairs), self.transformation, self.squarings)
        return residual if found is None else compose(residual, found)


class _Matcher(nn.Module):
    """The residual field of one level from descriptors and learnt features of the fixed and the warped moving image."""

    def __init__(self, ndim: int, n: int, n_features: int) -> None:
        super().__init__()
        self.n_offsets = 3**ndim
        n_seen = self.n_offsets + (self.n_offsets + 2 * n_features if n_features else 0)
        self.layers = TwoLayers(ndim, n_seen, n)
        # Without a bias, which would drift: a shift of all voxels, eight times as large at the coarsest level.
        self.head = (Conv2d if ndim == 2 else Conv3d)(n, self.n_offsets, 3, padding=1, bias=False)
        nn.init.normal_(self.head.weight, std=1e-5)
        self.trust = nn.Parameter(torch.ones(()))

    def forward(self, described: tuple[Tensor, Tensor], features: tuple[Tensor | None, Tensor | None]) -> Tensor:
        """The field (B, ndim, *shape) in voxels."""
        similar = averaged(_compared(*described), _AVERAGES)
        seen = [_GAIN * similar]
        fixed, moved = features
        if fixed is not None and moved is not None:
            seen += [_compared(of_unit_length(fixed), of_unit_length(moved)), fixed, moved]
        learnt = self.head(activate(self.layers(torch.cat(seen, dim=1)))).float()
        scores = _SHARPNESS * self.trust * similar + learnt
        return averaged(_mean_offset(torch.softmax(scores, dim=1)), _AVERAGES)


def _compared(fixed: Tensor, moved: Tensor) -> Tensor:
    """The similarity (B, offsets, *shape) at every offset less their mean."""
    similar = local_correlation(fixed, moved, 1)
    return similar - similar.mean(1, keepdim=True)


def _mean_offset(weights: Tensor) -> Tensor:
    """The offset in voxels (B, ndim, *shape) under weights (B, offsets, *shape) that add up to 1."""
    ndim = weights.dim() - 2
    ways = weights.unflatten(1, (3,) * ndim)
    others = tuple(range(1, ndim))
    sides = ((ways.select(1 + axis, 2), ways.select(1 + axis, 0)) for axis in range(ndim))
    return torch.stack([(forth - back).sum(others) for forth, back in sides], dim=1)


def averaged(images: Tensor, times: int) -> Tensor:
    """Images (B, C, *shape) averaged over boxes of three voxels along each axis, `times` times."""
    shape = images.shape
    images = images.flatten(0, 1)
    share = box_sum(images.new_ones(1, *shape[2:]), 3).reciprocal()
    for _ in range(times):
        images = differentiable_box_sum(images, 3) * share
    return images.view(shape)
