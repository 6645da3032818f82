"""PDD-Net: features of learned samples, compared over a dense set of displacements, and made smooth as probabilities.

Heinrich, MICCAI 2019; written from the description of the released weights for abdominal CT, whose state dict it loads.
Everything is in units of -1 to 1 along each axis, last axis first, until the end: displacements that come out are in
voxels, channel i along axis i. Two passes, the second on the moving image as the first has warped it.

Control points and displacements both lie on lattices, so the positions at which features are compared are a lattice,
too, and are interpolated one axis after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from regbench.methods.nets.blocks import unit_to_voxels
from regbench.slabs import row_slabs

_HU_PER_UNIT = 500.0
_CHANNELS = 24
_STEPS = 11
# Weight and offset of the data cost; weights of data and of the neighbours in the second round, and the offset of
# both; sharpness of the probabilities.
_DATA, _OFFSET, _DATA_AGAIN, _NEIGHBOURS, _OFFSET_AGAIN, _SHARPNESS = 1.1337, 0.0761, 1.0533, -0.7469, 0.0728, 1.1337
_FIT_STEPS = 49
_FIT_RATE = 0.02
_FIT_SMOOTHNESS = 1.5
_VALUES_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Pass:
    """A lattice of control points (per axis), and the largest displacement that is tried."""

    points: int
    reach: float


PASSES = (Pass(29, 0.25), Pass(39, 0.15))


class PddNet(nn.Module):
    """The network; each pass is a coarse-to-fine step of the registration."""

    def __init__(self, passes: Sequence[Pass] = PASSES) -> None:
        super().__init__()
        self._passes = tuple(passes)
        self.offsets = nn.Parameter(torch.zeros(2, 2 * _CHANNELS, 3))
        self.layer0, self.batch0 = nn.Conv3d(1, 4, 5, stride=2, padding=2, bias=False), nn.BatchNorm3d(4)
        self.layer1, self.batch1 = nn.Conv3d(8 * _CHANNELS, 4 * _CHANNELS, 1, bias=False), nn.BatchNorm3d(4 * _CHANNELS)
        self.layer2 = nn.Conv3d(4 * _CHANNELS, 4 * _CHANNELS, 3, padding=1, bias=False)
        self.batch2 = nn.BatchNorm3d(4 * _CHANNELS)
        self.layer3 = nn.Conv3d(4 * _CHANNELS, _CHANNELS, 1)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Displacement (1, 3, *shape) in voxels from images (1, 1, *shape) in Hounsfield units."""
        # The fit at the end of each pass needs gradients, which inference mode has none of.
        with torch.inference_mode(mode=False), torch.no_grad():
            fixed, moving = fixed / _HU_PER_UNIT, moving / _HU_PER_UNIT
            shape = tuple(fixed.shape[2:])
            fixed_features, warped, total = self.features(fixed), moving, None
            for step in self._passes:
                found = _dense(_displacements(fixed_features, self.features(warped), step), shape)
                total = found if total is None else _warped(total, found).add_(found)
                warped = _warped(moving, total) if step is not self._passes[-1] else moving
            assert total is not None
            return unit_to_voxels(total.flip(1))

    def features(self, image: Tensor) -> Tensor:
        """Features (1, 24, *shape / 3) of an image (1, 1, *shape) in units."""
        small = functional.avg_pool3d(image, 3, stride=2, padding=1)
        small = torch.relu_(self.batch0(self.layer0(small)))
        shape = [n // 3 for n in image.shape[2:]]
        # The samples lie around the centres of voxels that fill the image to its border.
        axes = [(2 * torch.arange(n, device=image.device) + 1) / n - 1 for n in shape]
        centres = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flip(-1)
        sampled = small.new_empty((4, self.offsets.shape[1], *shape))
        for index, (one, other) in enumerate(zip(*self.offsets, strict=True)):
            sampled[:, index] = _read(small, centres + one) - _read(small, centres + other)
        features = torch.relu_(self.batch1(self.layer1(sampled.flatten(0, 1)[None])))
        features = torch.relu_(self.batch2(self.layer2(features)))
        described: Tensor = self.layer3(features)
        return described


def _read(image: Tensor, places: Tensor) -> Tensor:
    """Values (C, *shape) of an image (1, C, ...) at places (*shape, 3); 0 outside."""
    return functional.grid_sample(image, places[None], align_corners=True)[0]


def _warped(image: Tensor, displacement: Tensor) -> Tensor:
    """An image (1, C, *shape) read at the displaced (1, 3, *shape) places; 0 outside."""
    shape = displacement.shape[2:]
    axes = [torch.linspace(-1, 1, n, device=image.device) for n in shape]
    identity = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flip(-1)
    return functional.grid_sample(image, identity[None] + displacement.movedim(1, -1), align_corners=True)


def _dense(displacements: Tensor, shape: tuple[int, ...]) -> Tensor:
    return functional.interpolate(displacements, size=shape, mode="trilinear", align_corners=True)


def _displacements(fixed: Tensor, moving: Tensor, step: Pass) -> Tensor:
    """Displacements (1, 3, n, n, n) of the control points of a pass, from the features of both images."""
    cost = compared(fixed[0], moving[0], step)
    shifts = _shifts(step, cost.device)
    regular = spread_over_points(least_nearby(cost.clone()), step.points)
    regular.mul_(_NEIGHBOURS).add_(cost, alpha=_DATA_AGAIN).add_(_OFFSET_AGAIN)
    del cost
    regular = spread_over_points(least_nearby(regular), step.points)
    probability = softmax_(regular.mul_(-_SHARPNESS))
    expected = (probability @ shifts).T.reshape(1, 3, *[step.points] * 3)
    return fitted(expected, probability, step.reach)


def _shifts(step: Pass, device: torch.device) -> Tensor:
    """The displacements that are tried, (11^3, 3)."""
    axis = torch.linspace(-step.reach, step.reach, _STEPS, device=device)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).flip(-1).reshape(-1, 3)


def compared(fixed: Tensor, moving: Tensor, step: Pass) -> Tensor:
    """The cost (points^3, 11^3) of each displacement of each control point, from features (C, *shape)."""
    n, device = step.points, fixed.device
    points = torch.linspace(-1, 1, n, device=device)
    places = (points[:, None] + torch.linspace(-step.reach, step.reach, _STEPS, device=device)).flatten()
    here = [linear_weights(points, size) for size in fixed.shape[1:]]
    there = [linear_weights(places, size) for size in moving.shape[1:]]
    cost = fixed.new_empty((n, n, n, _STEPS, _STEPS, _STEPS))
    for row in range(n):
        shifts = slice(row * _STEPS, (row + 1) * _STEPS)
        total = fixed.new_zeros((_STEPS, len(places), len(places)))
        for one, other in zip(fixed, moving, strict=True):
            own = _on_lattice(one, here[0][row : row + 1], *here[1:])
            spread = own.repeat_interleave(_STEPS, 1).repeat_interleave(_STEPS, 2)
            total += _on_lattice(other, there[0][shifts], *there[1:]).sub_(spread).square_()
        # (shift, point and shift, point and shift) -> (points, shifts)
        cost[row] = total.view(_STEPS, n, _STEPS, n, _STEPS).permute(1, 3, 0, 2, 4)
    return cost.view(n**3, _STEPS**3).mul_(_DATA).add_(_OFFSET)


def linear_weights(places: Tensor, n: int) -> Tensor:
    """The matrix (places, n) that reads n values at places from -1 to 1 linearly; beyond it, those of the border."""
    position = ((places + 1) * ((n - 1) / 2)).clamp(0, n - 1)
    return (1 - (position[:, None] - torch.arange(n, device=places.device)).abs()).clamp_(min=0)


def _on_lattice(image: Tensor, *weights: Tensor) -> Tensor:
    """An image with three axes read with one matrix per axis."""
    first, second, third = weights
    rows = (first @ image.flatten(1)).view(len(first), *image.shape[1:])
    return second @ rows @ third.T


def least_nearby(cost: Tensor) -> Tensor:
    """The least cost (points, shifts) of neighbouring displacements, twice averaged over neighbours; in place."""
    averages = _two_averages(_STEPS + 4, cost.device)
    for rows in row_slabs(tuple(cost.shape), _VALUES_AT_ONCE):
        volumes = functional.pad(cost[rows].view(1, -1, _STEPS, _STEPS, _STEPS), [3] * 6, mode="replicate")[0]
        for axis in (1, 2, 3):
            shifted = [volumes.narrow(axis, start, volumes.shape[axis] - 2) for start in range(3)]
            volumes = torch.minimum(torch.minimum(shifted[0], shifted[1]), shifted[2])
        averaged = averages @ (averages @ volumes.flatten(2)).view(len(volumes), _STEPS, *volumes.shape[2:])
        cost[rows] = (averaged @ averages.T).flatten(1)
    return cost


def spread_over_points(cost: Tensor, n_points: int) -> Tensor:
    """The cost (points, shifts) of each displacement, twice averaged over neighbouring points; in place.

    Beyond the outermost points lie copies of them.
    """
    averages = _two_averages(n_points + 4, cost.device)
    averages[:, 2] += averages[:, :2].sum(dim=1)
    averages[:, -3] += averages[:, -2:].sum(dim=1)
    averages = averages[:, 2:-2].contiguous()
    lattice = cost.view(*[n_points] * 3, -1)
    for first in lattice:
        first.copy_(averages @ (averages @ first.flatten(1)).view_as(first))
    for second in lattice.unbind(1):
        second.copy_((averages @ second.flatten(1)).view_as(second))
    return cost


def _two_averages(n: int, device: torch.device) -> Tensor:
    """The matrix (n - 4, n) that averages over three neighbours twice."""
    distance = torch.arange(n - 4, device=device)[:, None] + 2 - torch.arange(n, device=device)
    return (3 - distance.abs()).clamp_(min=0) / 9


def softmax_(values: Tensor) -> Tensor:
    """The softmax of every row, in place."""
    for rows in row_slabs(tuple(values.shape), _VALUES_AT_ONCE):
        values[rows] = values[rows].softmax(dim=1)
    return values


def fitted(start: Tensor, probability: Tensor, reach: float) -> Tensor:
    """Smooth displacements (1, 3, n, n, n) of high probability, by Adam from `start`."""
    volumes = probability.view(-1, 1, _STEPS, _STEPS, _STEPS)
    with torch.enable_grad():
        rough = start.clone().requires_grad_()
        optimiser = torch.optim.Adam([rough], lr=_FIT_RATE)
        for _ in range(_FIT_STEPS):
            optimiser.zero_grad()
            smooth = _smoothed(rough)
            places = smooth[0].flatten(1).T.view(-1, 1, 1, 1, 3) / reach
            likely = functional.grid_sample(volumes, places, align_corners=True).mean()
            steps = [smooth.diff(dim=axis).square().mean() for axis in (2, 3, 4)]
            (_FIT_SMOOTHNESS * sum(steps) - likely).backward()
            optimiser.step()
    return _smoothed(rough.detach())


def _smoothed(displacements: Tensor) -> Tensor:
    for _ in range(2):
        displacements = functional.avg_pool3d(displacements, 3, stride=1, padding=1)
    return displacements
