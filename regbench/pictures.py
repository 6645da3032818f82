"""Small pictures of an alignment: its middle slices, kept so that reports need not load volumes.

A file holds, for plane k (2-D: k = 0; 3-D: k = 0, 1, 2, at right angles to axis k), arrays `fixed_k`, `moved_k`
(float32), `fixed_labels_k`, `moved_labels_k` where the pair has labels, `jacobian_k` (float32, NaN on the
border, where there are no central differences), `before_k` (float32: the moving image on the fixed grid without any
registration), `shift_k` (*plane, 2) (float16: the displacement within the plane, in voxels along its two axes),
`spacing_mm_k` (2,) and `orientation_k` (two letters).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.files.atomic import replaced
from regbench.volume import Grid
from regbench.warp import warp_within

# Half precision ends at 65504; nobody draws what lies that far outside.
_FARTHEST_VOXELS = 6e4


def save_pictures(path: Path, alignment: Alignment) -> None:
    """Writes the slices of an alignment to an npz file; StoreError if that is impossible."""
    planes: dict[str, np.ndarray] = {}
    volumes = _volumes(alignment)
    grid = alignment.pair.fixed.grid
    unmoved = Displacement.identity(grid)
    # Rows of the inverse turn mm of the world into voxels along the axes of the fixed grid.
    to_voxels = np.linalg.inv(grid.linear)
    for number, (plane, kept) in enumerate(_planes(grid)):
        for name, volume in volumes.items():
            planes[f"{name}_{number}"] = volume[plane]
        box = tuple(
            slice(i, i + 1) if isinstance(i, int) else slice(0, n) for i, n in zip(plane, grid.shape, strict=True)
        )
        planes[f"before_{number}"] = warp_within(alignment.pair.moving, unmoved, [box])[plane]
        shift = alignment.displacement.vectors_mm[plane] @ to_voxels[kept].T
        planes[f"shift_{number}"] = np.clip(shift, -_FARTHEST_VOXELS, _FARTHEST_VOXELS).astype(np.float16)
        planes[f"spacing_mm_{number}"] = grid.spacing_mm[kept]
        planes[f"orientation_{number}"] = np.array("".join(grid.orientation[axis] for axis in kept))
    with replaced(path) as temporary:
        np.savez_compressed(temporary, **planes)  # type: ignore[arg-type]


def _volumes(alignment: Alignment) -> dict[str, np.ndarray]:
    pair = alignment.pair
    jacobian = np.full(pair.fixed.grid.shape, np.nan, np.float32)
    if alignment.jacobian.size:
        jacobian[(slice(1, -1),) * pair.fixed.grid.ndim] = alignment.jacobian
    volumes = {"fixed": pair.fixed.array, "moved": alignment.moved_image.array, "jacobian": jacobian}
    if pair.fixed_labels is not None:
        volumes["fixed_labels"] = pair.fixed_labels.array
    if alignment.moved_labels is not None:
        volumes["moved_labels"] = alignment.moved_labels.array
    return volumes


def _planes(grid: Grid) -> list[tuple[tuple[slice | int, ...], list[int]]]:
    """Index tuples of the planes through the middle, each with the axes that it keeps."""
    if grid.ndim == 2:
        return [((slice(None), slice(None)), [0, 1])]
    everything: list[slice | int] = [slice(None)] * 3
    planes = []
    for axis in range(3):
        index = list(everything)
        index[axis] = grid.shape[axis] // 2
        planes.append((tuple(index), [a for a in range(3) if a != axis]))
    return planes
