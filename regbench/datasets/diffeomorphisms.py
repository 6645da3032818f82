"""Random smooth invertible maps of space, with inverses and compositions that are known.

A map is the flow of a stationary velocity field v (mm, RAS) for unit time: phi = exp(v), and its inverse
is exp(-v). The velocity is a sum of Gaussian-smoothed white noise at several scales, tapered to zero at the
border of its grid, so that the map is the identity there. Flows are computed by scaling and squaring
(Arsigny et al., MICCAI 2006) on a coarse grid that resolves the finest scale, and read linearly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from regbench.displacement import Displacement
from regbench.errors import DatasetError
from regbench.volume import Grid
from regbench.warp import sample_displacement

_SQUARINGS = 7
_EXACT_MM = 1e-3
_FULL_STEPS, _MOST_STEPS = 10, 80


@dataclass(frozen=True)
class VelocityScales:
    """Smoothing lengths and strengths of a random velocity field, both in mm (strength: rms per component)."""

    lengths_mm: tuple[float, ...] = (34.0, 17.0, 9.0)
    strengths_mm: tuple[float, ...] = (2.2, 1.8, 1.0)


def random_velocity(grid: Grid, scales: VelocityScales, rng: np.random.Generator) -> Displacement:
    """A random smooth velocity in mm on `grid`, zero at its border, one rms per scale and component."""
    total = np.zeros((*grid.shape, grid.ndim))
    for length, strength in zip(scales.lengths_mm, scales.strengths_mm, strict=True):
        sigma = length / grid.spacing_mm
        for component in range(grid.ndim):
            noise = ndimage.gaussian_filter(rng.standard_normal(grid.shape), sigma, mode="wrap")
            total[..., component] += strength * noise / noise.std()
    return Displacement(total * _border_taper(grid)[..., None], grid)


def flow(velocity: Displacement, sign: float = 1.0) -> Displacement:
    """exp(sign * velocity) by scaling and squaring, as a displacement in mm on the velocity's grid."""
    points = velocity.grid.world_points()
    step = Displacement(velocity.vectors_mm * (sign / 2**_SQUARINGS), velocity.grid)
    for _ in range(_SQUARINGS):
        ahead = sample_displacement(step, points + step.vectors_mm)
        step = Displacement(step.vectors_mm + ahead, velocity.grid)
    return step


def correspondence(
    to_template_fixed: Displacement,
    to_template_moving: Displacement,
    from_template_moving: Displacement,
    grid: Grid,
) -> Displacement:
    """The displacement on `grid` that sends each fixed point to the moving point of the same template point.

    Solves phi_moving(y) = phi_fixed(x) for y. The start y = phi_moving^-1(phi_fixed(x)), read from the
    inverse flow, is exact to interpolation; Newton steps with the inverse flow as the approximate
    inverse take that error out until every residual is below 1e-3 mm. Raises DatasetError if they do not.
    """
    points = grid.world_points().reshape(-1, grid.ndim)
    target = points + sample_displacement(to_template_fixed, points)
    start = target + sample_displacement(from_template_moving, target)
    moving = start.copy()
    active = np.arange(len(points))
    for iteration in range(_MOST_STEPS):
        reached = moving[active] + sample_displacement(to_template_moving, moving[active])
        wrong = np.abs(reached - target[active]).max(axis=1) > _EXACT_MM
        active, reached = active[wrong], reached[wrong]
        if active.size == 0:
            return Displacement.from_targets(moving.reshape(*grid.shape, grid.ndim), grid)
        # Where the inverse flow is a poor inverse, full steps may swing; later steps are shorter.
        length = 1.0 if iteration < _FULL_STEPS else 0.5
        moving[active] += length * (start[active] - reached - sample_displacement(from_template_moving, reached))
    raise DatasetError(
        f"the true displacement is not exact at {active.size} of {len(points)} points; use a smaller deformation"
    )


def _border_taper(grid: Grid) -> np.ndarray:
    """Weights from 0 on the border to 1 further inside than a tenth of each axis, (*shape)."""
    weight = np.ones(grid.shape)
    for axis, n in enumerate(grid.shape):
        distance = np.minimum(np.arange(n), np.arange(n)[::-1]) / max(0.1 * (n - 1), 1.0)
        ramp = np.sin(0.5 * np.pi * np.clip(distance, 0, 1)) ** 2
        weight *= ramp.reshape([n if a == axis else 1 for a in range(grid.ndim)])
    return weight
