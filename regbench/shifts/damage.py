"""Conditions of what is in the image: remains of the skull, holes in the brain, and lesions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import ConfigError
from regbench.pair import Pair
from regbench.shifts.sides import (
    IntensityShift,
    Side,
    StrengthShift,
    brightness_of,
    draws,
    floor_of,
    head_of,
    on_sides,
    sides_of,
    smooth_field,
)
from regbench.volume import Grid, Image, Labels
from regbench.warp import sample_displacement, warp


@dataclass(frozen=True)
class _StripError(IntensityShift):
    """A mistake of skull-stripping: patches over the share `strength` of the surface, up to `depth_mm` deep.

    Patches are some `patch_mm` wide. Labels stay: the anatomy is there, whatever the image shows of it.
    """

    strength: float = 0.2
    depth_mm: float = 8.0
    patch_mm: float = 15.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.depth_mm > 0 and self.patch_mm > 0):
            raise ConfigError(f"conditions.{self.name}: depth_mm and patch_mm must be positive")

    def _patches(self, grid: Grid, body: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The voxels of a body within `depth_mm` of what is not, in patches, bool."""
        from scipy.ndimage import distance_transform_edt

        if body.all() or not body.any():
            return np.zeros(body.shape, bool)
        shell = body & (distance_transform_edt(body, sampling=grid.spacing_mm) <= self.depth_mm)
        height = smooth_field(grid, self.patch_mm, rng)
        # More strength lowers the same landscape's waterline.
        return np.asarray(shell & (height >= np.quantile(height[shell], 1 - self.strength)))


@dataclass(frozen=True)
class StripHoles(_StripError):
    """Brain lost in skull-stripping: patches over the share `strength` of its surface are gone, `depth_mm` deep.

    Patches are some `patch_mm` wide. Labels stay: the anatomy is there, whatever the image shows of it.
    """

    name: ClassVar[str] = "strip_holes"

    def intensities(self, image: Image, rng: np.random.Generator) -> np.ndarray:
        return np.where(self._patches(image.grid, head_of(image), rng), image.array.min(), image.array)


@dataclass(frozen=True)
class StripResidue(_StripError):
    """Skull left by skull-stripping: bright patches over the share `strength` of the surface, `depth_mm` thick.

    Patches are some `patch_mm` wide. An image in which nothing was cut out has bright patches around the body instead.
    """

    name: ClassVar[str] = "strip_residue"

    def intensities(self, image: Image, rng: np.random.Generator) -> np.ndarray:
        patches = self._patches(image.grid, ~head_of(image), rng)
        texture = np.clip(0.7 + 0.2 * smooth_field(image.grid, self.patch_mm / 3, rng), 0.2, 1.2)
        return np.where(patches, floor_of(image) + brightness_of(image) * texture, image.array)


@dataclass(frozen=True)
class Lesion(StrengthShift):
    """A lesion of about `strength` mm across, somewhere in the body, dark or bright, that is not scored.

    Its place and shape are drawn for each image. It is excluded from scores and, where the truth is known, so is the
    same place in the other image. Labels and masks stay as they are: masks would tell methods where the lesion is.
    """

    strength: float = 20.0
    on: Side = "moving"
    look: Literal["drawn", "dark", "bright"] = "drawn"

    name: ClassVar[str] = "lesion_mm"
    most: ClassVar[float] = 100.0

    def changed_pair(self, pair: Pair, seed: int) -> Pair:
        return on_sides(pair, sides_of(self.on), lambda p, side: self._struck(p, side, seed))

    def _struck(self, pair: Pair, side: str, seed: int) -> Pair:
        image: Image = getattr(pair, side)
        weight = self._weight(image, draws(seed, self.name, pair.name, side))
        # Drawn apart from the shape, whose numbers depend on the strength.
        bright = draws(seed, self.name, pair.name, f"{side} look").uniform() < 0.5
        if self.look != "drawn":
            bright = self.look == "bright"
        level = floor_of(image) + brightness_of(image) * (1.0 if bright else 0.12)
        changes: dict[str, Any] = {side: Image((1 - weight) * image.array + weight * level, image.grid)}
        here, there = weight > 0, "moving" if side == "fixed" else "fixed"
        regions = {side: here, there: _counterpart(pair, side, here)}
        for of, region in regions.items():
            if region is not None:
                before: Labels | None = getattr(pair, f"{of}_excluded")
                whole = region if before is None else region | (before.array > 0)
                changes[f"{of}_excluded"] = Labels(whole, getattr(pair, of).grid)
        return dataclasses.replace(pair, **changes)

    def _weight(self, image: Image, rng: np.random.Generator) -> np.ndarray:
        """How much of each voxel is lesion, in [0, 1], float64: a ball with an uneven border, one voxel soft."""
        from scipy.ndimage import distance_transform_edt

        grid, body = image.grid, head_of(image)
        weight = np.zeros(grid.shape)
        if not body.any():
            return weight
        radius_mm = self.strength / 2
        # What is beyond the border of the image is no body.
        padded = np.pad(body, 1)
        inner = tuple(slice(1, -1) for _ in grid.shape)
        depth = distance_transform_edt(padded, sampling=grid.spacing_mm)[inner]
        places = np.argwhere(depth >= 0.5 * depth.max())
        centre = places[int(rng.uniform() * len(places))]
        reach = np.ceil(1.8 * radius_mm / grid.spacing_mm).astype(int) + 2
        first = np.maximum(centre - reach, 0)
        box = tuple(slice(f, min(c + r + 1, n)) for f, c, r, n in zip(first, centre, reach, grid.shape, strict=True))
        affine = grid.affine.copy()
        affine[:-1, -1] = grid.to_world(first)
        part = Grid(weight[box].shape, affine)
        away = np.linalg.norm(part.world_points() - grid.to_world(centre), axis=-1)
        border = radius_mm * (1 + 0.2 * np.clip(smooth_field(part, max(radius_mm / 2, 1e-3), rng), -3, 3))
        weight[box] = np.clip((border - away) / grid.spacing_mm.mean() + 0.5, 0, 1) * body[box]
        return weight


def _counterpart(pair: Pair, side: str, region: np.ndarray) -> np.ndarray | None:
    """Where a region of one side lies on the other, bool on the grid of the other; None where no truth tells."""
    truth = pair.truth
    if truth is None:
        return None
    if side == "moving":
        return warp(Labels(region, pair.moving.grid), truth).array > 0
    return _led(region, truth, pair.moving.grid)


def _led(region: np.ndarray, truth: Displacement, moving: Grid) -> np.ndarray:
    """The moving voxels most of which a truth reaches from a region of its grid, told by points within fixed voxels."""
    balance = np.zeros(moving.shape, np.int64)
    if not region.any():
        return balance > 0
    voxels = np.argwhere(region)
    first = np.maximum(voxels.min(axis=0) - 2, 0)
    last = np.minimum(voxels.max(axis=0) + 2, np.array(region.shape) - 1)
    around = np.stack(np.meshgrid(*map(np.arange, first, last + 1), indexing="ij"), axis=-1).reshape(-1, moving.ndim)
    votes = np.where(region[tuple(around.T)], 1, -1)
    steps = 2 * int(np.ceil(truth.grid.spacing_mm.max() / moving.spacing_mm.min()))
    offsets = (np.arange(steps) + 0.5) / steps - 0.5
    for offset in np.stack(np.meshgrid(*[offsets] * moving.ndim, indexing="ij"), axis=-1).reshape(-1, moving.ndim):
        points = truth.grid.to_world(around + offset)
        reached = np.floor(moving.to_voxel(points + sample_displacement(truth, points)) + 0.5).astype(np.intp)
        inside = ((reached >= 0) & (reached < np.array(moving.shape))).all(axis=-1)
        np.add.at(balance, tuple(reached[inside].T), votes[inside])
    return balance > 0
