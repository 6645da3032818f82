"""A plain restatement, written for this benchmark, of what the Learn2Reg evaluator computes for one pair.

The steps, the number of passes over the volume and the types are those of the official script (version 2.0), so that
its cost is met, and where two ways of writing a step differ in cost, the cheaper one stands here. Everything is in
voxels of one grid: label maps and the field are float64 in the order in which NIfTI files are read, the field is
`(*shape, 3)`, and landmarks are voxel coordinates (n, 3). A label that the fixed or the moving map lacks is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from regbench.metrics.surface_elements import element_sizes

# One bit per voxel of a 2x2x2 neighbourhood.
_BITS = 2 ** np.arange(7, -1, -1).reshape(2, 2, 2)
_SPACING = (1.0, 1.0, 1.0)
_AREAS = element_sizes(_SPACING)


def warped_labels(moving: np.ndarray, field: np.ndarray) -> np.ndarray:
    """The moving label map at identity + field, nearest voxel, 0 outside."""
    identity = np.meshgrid(*[np.arange(n) for n in field.shape[:-1]], indexing="ij")
    return ndimage.map_coordinates(moving, identity + field.transpose(3, 0, 1, 2), order=0)


def dice(fixed: np.ndarray, moving: np.ndarray, warped: np.ndarray, labels: Sequence[int]) -> dict[str, float]:
    """Dice of each label."""
    scores = {}
    for label in labels:
        scores[str(label)] = float("nan")
        if (fixed == label).sum() and (moving == label).sum():
            one, two = fixed == label, warped == label
            scores[str(label)] = 2 * (one & two).sum() / (one.sum() + two.sum())
    return scores


def hd95(fixed: np.ndarray, moving: np.ndarray, warped: np.ndarray, labels: Sequence[int]) -> dict[str, float]:
    """95 % surface distance of each label in voxels, infinite for one that the warped map lacks."""
    distances = {}
    for label in labels:
        distances[str(label)] = float("nan")
        if (fixed == label).sum() and (moving == label).sum():
            distances[str(label)] = robust_hausdorff(fixed == label, warped == label, 0.95)
    return distances


def robust_hausdorff(one: np.ndarray, two: np.ndarray, share: float) -> float:
    """The larger of both distances within which `share` of a surface lies from the other one, regions as bool."""
    box = _bounding_box(one | two)
    codes = [_corner_codes(region[box]) for region in (one, two)]
    borders = [(code != 0) & (code != 255) for code in codes]
    if not all(border.any() for border in borders):
        return float("inf")
    to_border = [ndimage.distance_transform_edt(~border, sampling=_SPACING) for border in borders]
    return max(_percentile(to_border[1 - k][borders[k]], _AREAS[codes[k]][borders[k]], share) for k in (0, 1))


def sdlogj(field: np.ndarray) -> float:
    """Standard deviation of log clip(J + 3), J by central differences, two voxels from each face left out."""
    return float(np.log((jacobian(field) + 3).clip(1e-9, 1e9)).std())


def jacobian(field: np.ndarray) -> np.ndarray:
    """det(I + dv/di) by a correlation of each component along each axis, two voxels from each face left out."""
    kernels = [np.array([-0.5, 0, 0.5]).reshape([3 if a == axis else 1 for a in range(3)]) for axis in range(3)]
    gradient = np.stack(
        [
            np.stack([ndimage.correlate(field[..., component], kernel, mode="constant") for component in range(3)])
            for kernel in kernels
        ]
    )
    j = (gradient + np.eye(3).reshape(3, 3, 1, 1, 1))[:, :, 2:-2, 2:-2, 2:-2]
    return (
        j[0, 0] * (j[1, 1] * j[2, 2] - j[1, 2] * j[2, 1])
        - j[1, 0] * (j[0, 1] * j[2, 2] - j[0, 2] * j[2, 1])
        + j[2, 0] * (j[0, 1] * j[1, 2] - j[0, 2] * j[1, 1])
    )


def tre(fixed: np.ndarray, moving: np.ndarray, field: np.ndarray, spacing_mm: Sequence[float] = _SPACING) -> float:
    """Mean distance in mm between moved fixed landmarks and moving ones; the field is read by cubic splines."""
    moves = np.stack([ndimage.map_coordinates(field[..., component], fixed.T) for component in range(3)], axis=-1)
    return float(np.linalg.norm((fixed + moves - moving) * spacing_mm, axis=1).mean())


def _bounding_box(region: np.ndarray) -> tuple[slice, ...]:
    box = []
    for axis in range(3):
        found = np.flatnonzero(region.max(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(found[0], found[-1] + 1))
    return tuple(box)


def _corner_codes(region: np.ndarray) -> np.ndarray:
    """The code of the 2x2x2 neighbourhood of each corner of a region."""
    padded = np.zeros([n + 1 for n in region.shape], np.uint8)
    padded[:-1, :-1, :-1] = region
    return ndimage.correlate(padded, _BITS, mode="constant")


def _percentile(distances: np.ndarray, areas: np.ndarray, share: float) -> float:
    ordered = np.array(sorted(zip(distances, areas, strict=True)))
    covered = np.cumsum(ordered[:, 1]) / ordered[:, 1].sum()
    return float(ordered[min(int(np.searchsorted(covered, share)), len(ordered) - 1), 0])
