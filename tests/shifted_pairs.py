"""Pairs in which every part is set, with a truth from a formula, and all shifts at a strength that changes them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from regbench.contract import phantom
from regbench.displacement import Displacement
from regbench.pair import Pair
from regbench.shifts.table import SHIFTS, shift_class
from regbench.volume import Grid, Image, Labels, Landmarks

SHIFTED = [name for name in SHIFTS if name != "none"]
GEOMETRY = [name for name in SHIFTED if SHIFTS[name].changes in ("position", "storage", "extent")]
# Shifts in which nothing is drawn.
DETERMINED = {"gamma", "inversion", "t2_like", "intensity_scale", "clipping", "zscore", "blur_mm"}
DETERMINED |= {"mirror", "orientation"}
# Shifts of labels: the images stay, and a draw is for a subject or for all, whatever the pair.
OF_LABELS = {name for name in SHIFTED if SHIFTS[name].changes == "labels"}


def wave(points_mm: np.ndarray) -> np.ndarray:
    """The true displacement in mm at world points (..., ndim): smooth, up to 4 mm along each axis."""
    ndim = points_mm.shape[-1]
    phases = (points_mm - phantom.CENTRE_MM[:ndim]) * (2 * np.pi / 60.0)
    return 4.0 * np.stack([np.sin(phases[..., (a + 1) % ndim] + 0.6 * a) for a in range(ndim)], axis=-1)


def parcels(points_mm: np.ndarray) -> np.ndarray:
    """Labels at world points: four sectors of the body."""
    relative = points_mm - phantom.CENTRE_MM[: points_mm.shape[-1]]
    labels = 1 + (relative[..., 0] > 2).astype(int) + 2 * (relative[..., 1] > -1)
    return np.where(phantom.scene(points_mm) > 0.3, labels, 0)


def stripped(points_mm: np.ndarray) -> np.ndarray:
    """Brightness at world points, exactly 0 around the body, of the size of a scan's."""
    value = phantom.scene(points_mm)
    return np.where(value > 0.05, 800 * value, 0.0)


@cache
def whole_pair(ndim: int, name: str = "p1", floor: float = 0.0) -> Pair:
    """A pair on two oblique, anisotropic grids with labels, masks, landmarks, keypoints and truth."""
    fixed, moving = phantom.grids(ndim)
    there = fixed.world_points() + wave(fixed.world_points())
    middle = tuple(slice(n // 3, 2 * n // 3, 3) for n in fixed.shape)
    points = fixed.world_points()[middle].reshape(-1, ndim)
    landmarks = Landmarks(points), Landmarks(points + wave(points))
    names = {1: "one", 2: "two"}
    return Pair(
        name=name,
        fixed=Image(stripped(there) + floor, fixed),
        moving=Image(stripped(moving.world_points()) + floor, moving),
        fixed_id="a",
        moving_id="b",
        fixed_labels=Labels(parcels(there), fixed, names),
        moving_labels=Labels(parcels(moving.world_points()), moving, names),
        fixed_mask=Labels(phantom.scene(there) > 0.2, fixed),
        moving_mask=Labels(phantom.scene(moving.world_points()) > 0.2, moving),
        fixed_landmarks=landmarks[0],
        moving_landmarks=landmarks[1],
        fixed_keypoints=landmarks[0],
        moving_keypoints=landmarks[1],
        truth=Displacement(wave(fixed.world_points()), fixed, inverse=_rough_inverse(moving)),
        tags={"modality": "none"},
    )


def _rough_inverse(moving: Grid) -> Displacement:
    points = moving.world_points()
    found = -wave(points)
    for _ in range(20):
        found = -wave(points + found)
    return Displacement(found, moving)


def shift(name: str, **parameters: Any) -> Any:
    """A shift at its default strength, or with parameters."""
    return shift_class(name)(**parameters)


def arrays(pair: Pair) -> dict[str, np.ndarray]:
    """Every array of a pair by the name of its part."""
    found: dict[str, np.ndarray] = {}
    for side in ("fixed", "moving"):
        image: Image = getattr(pair, side)
        found |= {side: image.array, f"{side} grid": image.grid.affine}
        for part in ("labels", "mask"):
            found[f"{side} {part}"] = getattr(pair, f"{side}_{part}").array
        for part in ("landmarks", "keypoints"):
            found[f"{side} {part}"] = getattr(pair, f"{side}_{part}").points_mm
    assert pair.truth is not None
    return found | {"truth": pair.truth.vectors_mm}
