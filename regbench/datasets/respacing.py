"""Pairs on coarser or finer grids: the same images at another voxel size.

The new grid keeps the first voxel centre and the directions of the axes, and has as many voxels as fit. So
new voxels fall onto old ones where the sizes are multiples of each other, and label maps are then
subsampled without ties. Images are smoothed before they get coarser (`regbench.warp.band_limited`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from regbench.displacement import Displacement
from regbench.pair import Pair
from regbench.volume import Grid, Image
from regbench.warp import band_limited, resample, sample_displacement


def respaced_grid(grid: Grid, spacing_mm: float) -> Grid:
    """The grid with voxels of `spacing_mm` along every axis, within the voxel centres of `grid`."""
    extent = (np.array(grid.shape) - 1) * grid.spacing_mm
    shape = tuple(int(n) for n in np.floor(extent / spacing_mm + 1e-4) + 1)
    affine = np.array(grid.affine)
    affine[:-1, :-1] *= spacing_mm / grid.spacing_mm
    return Grid(shape, affine)


def respaced_pair(pair: Pair, spacing_mm: float) -> Pair:
    """The pair with both images, labels, masks and what is excluded (nearest voxel) at `spacing_mm`; points stay."""
    changes: dict[str, object] = {}
    for side in ("fixed", "moving"):
        image: Image = getattr(pair, side)
        grid = respaced_grid(image.grid, spacing_mm)
        changes[side] = resample(band_limited(image, grid.spacing_mm), grid)
        for part in (f"{side}_labels", f"{side}_mask", f"{side}_excluded"):
            labels = getattr(pair, part)
            changes[part] = None if labels is None else resample(labels, grid)
    if pair.truth is not None:
        grid = respaced_grid(pair.fixed.grid, spacing_mm)
        changes["truth"] = Displacement(sample_displacement(pair.truth, grid.world_points()), grid)
    return replace(pair, **changes)  # type: ignore[arg-type]
