"""Pairs with a known displacement, drawn from a formula in world coordinates on two grids that share nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from regbench.displacement import Displacement
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels

CENTRE_MM = np.array([12.0, -20.0, 7.0])
SHIFT_MM = np.array([6.0, -4.0, 2.5])
_RADII_MM = np.array([22.0, 27.0, 20.0])
# Middle (as a share of the radii), width in mm and brightness of what lies inside the body.
_PARTS = (
    ((0.35, 0.10, 0.05), 5.0, 0.7),
    ((-0.30, 0.35, -0.10), 6.0, -0.45),
    ((0.05, -0.45, 0.20), 6.5, 0.5),
    ((-0.40, -0.20, 0.25), 4.5, 0.6),
    ((0.20, 0.50, -0.35), 4.5, 0.5),
    ((0.00, 0.00, -0.45), 5.0, -0.4),
)


def scene(points_mm: np.ndarray) -> np.ndarray:
    """The brightness at world points (..., ndim): a soft ellipsoid with bright and dark parts, 0 far away."""
    ndim = points_mm.shape[-1]
    relative = (points_mm - CENTRE_MM[:ndim]) / _RADII_MM[:ndim]
    radius = np.linalg.norm(relative, axis=-1)
    inside = 1 / (1 + np.exp((radius - 1) * 12))
    value = np.full(radius.shape, 0.6)
    for middle, width_mm, brightness in _PARTS:
        off = (relative - np.array(middle[:ndim])) * _RADII_MM[:ndim] / width_mm
        value += brightness * np.exp(-(off**2).sum(-1) / 2)
    return value * inside


def grids(ndim: int) -> tuple[Grid, Grid]:
    """Two oblique, anisotropic grids around the body: other shape, spacing, rotation and handedness."""
    fixed = _grid((27, 29, 25)[:ndim], (2.6, 2.7, 2.4)[:ndim], 0.25, np.zeros(ndim))
    moving = _grid((30, 26, 28)[:ndim], (2.3, 3.0, 2.2)[:ndim], -0.2, np.array([2.0, -1.0, 1.5])[:ndim])
    flip = np.eye(ndim + 1)
    flip[0, 0], flip[0, -1] = -1, moving.shape[0] - 1
    return fixed, Grid(moving.shape, moving.affine @ flip)


def unmoved(ndim: int) -> Pair:
    """A pair with nothing to do: the same body on both grids."""
    return _pair(ndim, np.zeros_like)


def shifted(ndim: int) -> Pair:
    """A pair whose truth is one vector of over 7 mm, whose components are so unlike that none passes for another."""
    return _pair(ndim, lambda points: np.broadcast_to(SHIFT_MM[:ndim], points.shape))


def turned(ndim: int) -> Pair:
    """A pair whose truth is a rotation of 12 degrees about the body's middle, some mm off it."""
    angle = np.deg2rad(12.0)
    turn = np.eye(ndim)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return _pair(ndim, lambda points: (points - CENTRE_MM[:ndim]) @ (turn - np.eye(ndim)).T + 3.0)


def stretched(ndim: int) -> Pair:
    """A pair whose truth is a stretch of 15 % along one axis with some shear."""
    change = np.eye(ndim) * 0.0
    change[0, 0], change[0, 1], change[1, 1] = 0.15, 0.10, -0.08
    return _pair(ndim, lambda points: (points - CENTRE_MM[:ndim]) @ change.T)


def bent(ndim: int) -> Pair:
    """A pair whose truth is a smooth wave of up to 5 mm along every axis, which no linear map can follow."""

    def wave(points: np.ndarray) -> np.ndarray:
        phases = (points - CENTRE_MM[:ndim]) * (2 * np.pi / 70.0)
        return 5.0 * np.stack([np.sin(phases[..., (a + 1) % ndim] + 0.6 * a) for a in range(ndim)], axis=-1)

    return _pair(ndim, wave)


def sheared(ndim: int) -> Pair:
    """The shifted pair on grids whose axes are not at right angles, which ITK images cannot express."""
    shear = np.eye(ndim + 1)
    shear[0, 1] = 0.35
    fixed, moving = (_about_centre(grid, grid.affine @ shear) for grid in grids(ndim))
    return _pair(ndim, lambda points: np.broadcast_to(SHIFT_MM[:ndim], points.shape), (fixed, moving))


def anatomy(ndim: int) -> Pair:
    """A pair of simulated brains in MNI space, of subjects that no method was trained on; the template is needed."""
    from regbench.datasets.mni_cohort import MniCohort

    cohort = MniCohort(ndim=ndim, spacing_mm=4.0 if ndim == 3 else 2.0, pairs="random:1")
    return cohort.load(cohort.pair_refs()[0])


def error_mm(displacement: Displacement, pair: Pair) -> float:
    """The mean distance from the truth over the body, in mm."""
    return vectors_error_mm(displacement.vectors_mm, pair)


def vectors_error_mm(vectors_mm: np.ndarray, pair: Pair) -> float:
    """The mean distance of an array of vectors (*shape, ndim) from the truth over the body, in mm."""
    assert pair.truth is not None and pair.fixed_labels is not None
    body = pair.fixed_labels.array > 0
    return float(np.linalg.norm(vectors_mm[body] - pair.truth.vectors_mm[body], axis=-1).mean())


def _pair(ndim: int, truth: Callable[[np.ndarray], np.ndarray], on: tuple[Grid, Grid] | None = None) -> Pair:
    """fixed(x) = scene(x + u(x)) and moving = scene, so that the truth is u on the fixed grid, exactly."""
    fixed_grid, moving_grid = on or grids(ndim)
    vectors = truth(fixed_grid.world_points())
    fixed = scene(fixed_grid.world_points() + vectors)
    return Pair(
        name=f"phantom-{ndim}d",
        fixed=Image(fixed, fixed_grid),
        moving=Image(scene(moving_grid.world_points()), moving_grid),
        fixed_labels=Labels((fixed > 0.3).astype(np.uint8), fixed_grid),
        truth=Displacement(vectors, fixed_grid),
    )


def _grid(shape: tuple[int, ...], spacing_mm: tuple[float, ...], angle: float, off_mm: np.ndarray) -> Grid:
    ndim = len(shape)
    rotation = np.eye(ndim)
    for a in range(ndim - 1):
        plane = np.eye(ndim)
        plane[a, a] = plane[a + 1, a + 1] = np.cos(angle)
        plane[a, a + 1], plane[a + 1, a] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ plane
    affine = np.eye(ndim + 1)
    affine[:-1, :-1] = rotation * np.array(spacing_mm)
    return _about_centre(Grid(shape, affine), affine, off_mm)


def _about_centre(grid: Grid, affine: np.ndarray, off_mm: np.ndarray | float = 0.0) -> Grid:
    """A grid of this shape and linear part whose middle lies on the body's, or off it."""
    moved = affine.copy()
    moved[:-1, -1] = CENTRE_MM[: grid.ndim] + off_mm - affine[:-1, :-1] @ ((np.array(grid.shape) - 1) / 2)
    return Grid(grid.shape, moved)
