"""The point-cloud network for lungs as released, on the keypoints of both images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import ConfigError, MethodDeclined
from regbench.methods.released import ReleasedNetwork, vectors_mm
from regbench.pair import BlindPair
from regbench.volume import Grid, Landmarks

if TYPE_CHECKING:
    from torch import Tensor, nn

_FEWEST_POINTS = 41


@dataclass(frozen=True)
class PointCloudLung(ReleasedNetwork):
    """Registration of the keypoints of two lungs by a graph network; the intensities are not looked at.

    `model`: trained on DIR-Lab COPD and adapted to Learn2Reg LungCT, or trained on DIR-Lab 4DCT and adapted to COPD
    (folds 1 and 2). `weights`: a file of your own in the released format. `device: cuda` runs it on a GPU; `precision`
    must be fp32.
    """

    model: Literal["copd-to-l2r", "4dct-to-copd-1", "4dct-to-copd-2"] = "copd-to-l2r"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision != "fp32":
            raise ConfigError(f"precision {self.precision}: the matching of point-cloud-lung needs fp32")

    @property
    def released_as(self) -> str:
        return f"point-cloud-lung-{self.model}"

    def make_network(self) -> nn.Module:
        from regbench.methods.nets.point_cloud import FeatureNet

        return FeatureNet()

    def register(self, pair: BlindPair) -> Displacement:
        """The displacement on the fixed grid in mm; MethodDeclined where a side has no keypoints, or too few."""
        from regbench.methods.nets import point_cloud as nets

        fixed_points, moving_points = _keypoints(pair)
        if not self._loaded:
            self.prepare()
        import torch

        network, grid = self._loaded[0], pair.fixed.grid
        with torch.inference_mode():
            fixed, moving = (self._units(points, grid) for points in (fixed_points, moving_points))
            features = network(fixed, nets.NEIGHBOURS), network(moving, nets.MOVING_NEIGHBOURS)
            displacements = nets.matched(fixed, moving, *features)
            field = nets.dense_field(fixed, displacements, (grid.shape[0], grid.shape[1], grid.shape[2]))
            voxels = _voxels(field, grid)
        return Displacement(vectors_mm(voxels, grid), grid)

    def _units(self, points: Landmarks, grid: Grid) -> Tensor:
        """Points (n, 3) in units of -1 to 1 along each axis of a grid, last axis first."""
        import torch

        units = 2 * grid.to_voxel(points.points_mm) / (np.array(grid.shape) - 1) - 1
        return torch.from_numpy(units[:, ::-1].astype(np.float32)).to(self.device)


def _keypoints(pair: BlindPair) -> tuple[Landmarks, Landmarks]:
    if pair.ndim != 3:
        raise MethodDeclined(f"point-cloud-lung is for 3-D images; this pair is {pair.ndim}-D")
    for side, points in (("fixed", pair.fixed_keypoints), ("moving", pair.moving_keypoints)):
        if points is None:
            raise MethodDeclined(f"the {side} image has no keypoints, which is all that this network looks at")
        if len(points) < _FEWEST_POINTS:
            raise MethodDeclined(f"the {side} image has {len(points)} keypoints; at least {_FEWEST_POINTS} are needed")
    assert pair.fixed_keypoints is not None and pair.moving_keypoints is not None
    return pair.fixed_keypoints, pair.moving_keypoints


def _voxels(field: Tensor, grid: Grid) -> Tensor:
    """A field (3, *shape) in units of -1 to 1, last axis first, as (1, 3, *shape) in voxels."""
    from regbench.methods.nets.blocks import unit_to_voxels

    return unit_to_voxels(field.flip(0)[None])
