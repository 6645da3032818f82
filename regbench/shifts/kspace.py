"""Conditions of the scan that arise in k-space: motion between its parts, and ghosts. Labels, truth and grids stay.

Both are those of torchio (extra `shifts`), whose arithmetic is given drawn numbers instead of its own generator.
torchio cuts k-space along the last axis and turns images about the origin of the world, so the drawn axis is put last
and the image around the origin; slices become volumes with a first axis of one voxel.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np

from regbench.errors import ConfigError
from regbench.shifts.sides import IntensityShift, cut_out, floor_of
from regbench.volume import Image


@dataclass(frozen=True)
class _TorchioShift(IntensityShift):
    """A transform of torchio, built from drawn numbers; what was cut out of the image stays as it was."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if find_spec("torchio") is None:
            raise ConfigError(
                f"conditions.{self.name}: needs torchio, which is not installed: pip install 'regbench[shifts]'"
            )

    def intensities(self, image: Image, rng: np.random.Generator) -> np.ndarray:
        import torch
        import torchio

        axis = int(rng.integers(image.grid.ndim))
        array = np.moveaxis(image.array, axis, -1)
        spacing = [*np.delete(image.grid.spacing_mm, axis), image.grid.spacing_mm[axis]]
        if image.grid.ndim == 2:
            array, spacing = array[np.newaxis], [1.0, *spacing]
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = -0.5 * np.array(spacing) * (np.array(array.shape) - 1)
        tensor = torch.from_numpy(array[np.newaxis].copy())
        transform = self.transform(torchio, rng, image.grid.ndim)
        changed = transform(torchio.ScalarImage(tensor=tensor, affine=affine)).data[0].numpy()
        changed = np.moveaxis(changed[0] if image.grid.ndim == 2 else changed, -1, axis)
        # A magnitude is never below no signal.
        return np.where(cut_out(image), image.array, np.maximum(changed, floor_of(image)))

    def transform(self, torchio: Any, rng: np.random.Generator, ndim: int) -> Any:
        """The transform, with everything that is drawn."""
        raise NotImplementedError


@dataclass(frozen=True)
class Motion(_TorchioShift):
    """The patient moves while k-space is filled: `moves` times, by up to `strength` degrees and mm about each axis.

    The middle of k-space is that of the unmoved patient, so anatomy stays where the labels say it is. For that it has
    to lie well within one quiet part, so the moves must be even in number.
    """

    strength: float = 5.0
    moves: int = 4

    name: ClassVar[str] = "motion"
    most: ClassVar[float] = 45.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.moves not in range(2, 21, 2):
            raise ConfigError(f"conditions.motion: moves is {self.moves}; it must be an even number from 2 to 20")

    def transform(self, torchio: Any, rng: np.random.Generator, ndim: int) -> Any:
        # Evenly spread with some chance, so that no part of k-space is empty.
        times = (np.arange(1, self.moves + 1) + rng.uniform(-0.3, 0.3, self.moves)) / (self.moves + 1)
        degrees, shifts_mm = self.strength * rng.uniform(-1, 1, (2, self.moves, 3))
        if ndim == 2:
            degrees[:, 1:], shifts_mm[:, 0] = 0.0, 0.0
        return torchio.Motion(degrees=degrees, translation=shifts_mm, times=times, image_interpolation="linear")


@dataclass(frozen=True)
class Ghosting(_TorchioShift):
    """`ghosts` fainter copies of the body along one axis, as of a pulse: `strength` of every such line of k-space lost.

    The middle of k-space (`kept`, a share of it) stays.
    """

    strength: float = 0.5
    ghosts: int = 4
    kept: float = 0.02

    name: ClassVar[str] = "ghosting"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ghosts < 2 or not 0 <= self.kept < 1:
            raise ConfigError("conditions.ghosting: ghosts must be at least 2, and kept at least 0 and below 1")

    def transform(self, torchio: Any, rng: np.random.Generator, ndim: int) -> Any:
        return torchio.Ghosting(num_ghosts=self.ghosts, axis=2, intensity=self.strength, restore=self.kept)
