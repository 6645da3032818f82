"""Conditions of where anatomy lies and how its voxels are stored; labels, landmarks and truth follow exactly.

Rotations and translations change the header and interpolate nothing: the content of the array is where the affine says
it is, as everywhere in regbench. A method that looks at arrays alone notices nothing, and is wrong by the whole motion.
With `on: both`, both images are moved alike, which leaves what is between them and takes both to another place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from regbench.pair import Pair
from regbench.shifts.carrying import moved, reoriented
from regbench.shifts.sides import Side, StrengthShift, draws, on_sides, sides_of
from regbench.volume import Grid


@dataclass(frozen=True)
class _Placement(StrengthShift):
    """A motion by one world affine, drawn for the pair, about the middle of the (first) side that is moved."""

    on: Side = "moving"

    def changed_pair(self, pair: Pair, seed: int) -> Pair:
        sides = sides_of(self.on)
        grid: Grid = getattr(pair, sides[0]).grid
        matrix = self.matrix(grid, draws(seed, self.name, pair.name, "position"))
        return on_sides(pair, sides, lambda p, side: moved(p, side, matrix))

    def matrix(self, grid: Grid, rng: np.random.Generator) -> np.ndarray:
        """The world affine (ndim+1, ndim+1) that content is moved by."""
        raise NotImplementedError


@dataclass(frozen=True)
class Rotation(_Placement):
    """A rotation by exactly `strength` degrees about a drawn axis through the middle of the image (2-D: its sense)."""

    strength: float = 15.0

    name: ClassVar[str] = "rotation_degrees"
    most: ClassVar[float] = 180.0

    def matrix(self, grid: Grid, rng: np.random.Generator) -> np.ndarray:
        axis = rng.standard_normal(3)
        axis /= np.linalg.norm(axis)
        angle = np.deg2rad(self.strength)
        if grid.ndim == 2:
            axis = np.array([0.0, 0.0, 1.0 if axis[0] > 0 else -1.0])
        # Rodrigues' formula.
        cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
        return _about(turn[: grid.ndim, : grid.ndim], _middle(grid))


@dataclass(frozen=True)
class Translation(_Placement):
    """A translation by exactly `strength` mm in a drawn direction."""

    strength: float = 20.0

    name: ClassVar[str] = "translation_mm"
    most: ClassVar[float] = 500.0

    def matrix(self, grid: Grid, rng: np.random.Generator) -> np.ndarray:
        direction = rng.standard_normal(3)[: grid.ndim]
        matrix = np.eye(grid.ndim + 1)
        matrix[:-1, -1] = self.strength * direction / np.linalg.norm(direction)
        return matrix


@dataclass(frozen=True)
class Mirror(_Placement):
    """Left and right exchanged: anatomy mirrored in the world, with the array turned so that the grid keeps its sense.

    On both sides, pairs are as hard as before, of people whose organs lie the other way round. On one side the truth is
    a reflection, which no diffeomorphism follows: data whose left and right were confused. Labels stay with their
    voxels. The strength is a switch: 0 or 1.
    """

    strength: float = 1.0
    on: Side = "both"

    name: ClassVar[str] = "mirror"
    is_switch: ClassVar[bool] = True

    def changed_pair(self, pair: Pair, seed: int) -> Pair:
        mirrored = super().changed_pair(pair, seed)
        return on_sides(mirrored, sides_of(self.on), _turned_back)

    def matrix(self, grid: Grid, rng: np.random.Generator) -> np.ndarray:
        reflection = np.eye(grid.ndim)
        reflection[0, 0] = -1
        return _about(reflection, _middle(grid))


def _turned_back(pair: Pair, side: str) -> Pair:
    """The pair with the axis of one side that lies nearest to left-right stored backwards."""
    grid: Grid = getattr(pair, side).grid
    axis = next(a for a, letter in enumerate(grid.orientation) if letter in "LR")
    return reoriented(pair, side, range(grid.ndim), [axis])


@dataclass(frozen=True)
class Orientation(StrengthShift):
    """Voxels stored in another order, with a header that says so; nothing in the world changes.

    1: the first axis backwards; 2: all axes backwards; 3: all axes backwards and in reversed order, as if sagittal
    slices had become axial ones.
    """

    strength: float = 3.0

    name: ClassVar[str] = "orientation"
    most: ClassVar[float] = 3.0
    is_switch: ClassVar[bool] = True

    def changed_pair(self, pair: Pair, seed: int) -> Pair:
        axes = list(range(pair.fixed.grid.ndim))
        backwards = axes[:1] if self.strength == 1 else axes
        order = axes[::-1] if self.strength == 3 else axes
        return on_sides(pair, sides_of(self.on), lambda p, side: reoriented(p, side, order, backwards))


def _middle(grid: Grid) -> np.ndarray:
    return grid.to_world((np.array(grid.shape) - 1) / 2)


def _about(linear: np.ndarray, centre_mm: np.ndarray) -> np.ndarray:
    """The world affine with this linear part that leaves a point where it is."""
    matrix = np.eye(len(centre_mm) + 1)
    matrix[:-1, :-1] = linear
    matrix[:-1, -1] = centre_mm - linear @ centre_mm
    return matrix
