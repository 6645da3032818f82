"""What shifts have in common: a strength, the sides that they go onto, and random draws that repeat themselves.

Conventions:

- A shift at its neutral strength returns the very pair that it was given.
- A draw depends on the seed, the name of the shift, the name of the pair and the side, and on nothing else: a stronger
  shift is the same one, only stronger, and the two sides of a pair are changed independently.
- The floor of an image is 0, or its darkest value if that is negative, as in CT. Its brightness is how far the 99th
  percentile lies above the floor. What was cut out of an image (the head around a brain) is what has exactly its
  darkest value, if at least a tenth of the voxels do; artefacts of a scanner do not reach there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from regbench.errors import ConfigError
from regbench.pair import Pair
from regbench.volume import Grid, Image

Side = Literal["both", "fixed", "moving"]

_LEAST_CUT_OUT = 0.1
_PERCENTILE = 99.0


def sides_of(on: Side) -> tuple[str, ...]:
    """The sides of a pair that are meant: 'fixed', 'moving' or both of them."""
    return ("fixed", "moving") if on == "both" else (on,)


def draws(seed: int, shift: str, pair: str, part: str) -> np.random.Generator:
    """The random numbers of one shift on one part of one pair."""
    digest = hashlib.sha256(f"{seed}/{shift}/{pair}/{part}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest[:16], dtype=np.uint32))


@dataclass(frozen=True)
class StrengthShift:
    """A shift with a strength between `least` and `most`; ConfigError outside of them.

    `name` is that of its row in the table, `neutral` the strength that changes nothing; `is_switch` says that there is
    no strength in between.
    """

    strength: float = 1.0
    on: Side = "both"

    name: ClassVar[str]
    neutral: ClassVar[float] = 0.0
    least: ClassVar[float] = 0.0
    most: ClassVar[float] = 1.0
    is_switch: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.least <= self.strength <= self.most:
            raise ConfigError(
                f"conditions.{self.name}: strength is {self.strength:g}; "
                f"it must lie between {self.least:g} and {self.most:g}"
            )
        if self.is_switch and self.strength != int(self.strength):
            raise ConfigError(f"conditions.{self.name}: strength is {self.strength:g}; it must be a whole number")

    def apply(self, pair: Pair, seed: int) -> Pair:
        """The changed pair; the same pair and seed give the same bytes."""
        if self.strength == self.neutral:
            return pair
        return self.changed_pair(pair, seed)

    def changed_pair(self, pair: Pair, seed: int) -> Pair:
        """The pair with the change, whose strength is not the neutral one."""
        raise NotImplementedError


@dataclass(frozen=True)
class IntensityShift(StrengthShift):
    """A shift of intensities alone: labels, masks, landmarks, truth and grids stay the objects that they were."""

    def changed_pair(self, pair: Pair, seed: int) -> Pair:
        """The pair with new intensities on the chosen sides."""
        changes = {}
        for side in sides_of(self.on):
            image: Image = getattr(pair, side)
            rng = draws(seed, self.name, pair.name, side)
            changes[side] = Image(self.intensities(image, rng), image.grid)
        return replace(pair, **changes)  # type: ignore[arg-type]

    def intensities(self, image: Image, rng: np.random.Generator) -> np.ndarray:
        """The new intensities of one image, of its shape."""
        raise NotImplementedError


# -- what is known of an image ------------------------------------------------------------------------


def floor_of(image: Image) -> float:
    """The intensity of no signal: 0, or the darkest value where that is negative."""
    return min(0.0, float(image.array.min()))


def cut_out(image: Image) -> np.ndarray:
    """The voxels that were cut out of an image, bool of its shape; none where little has exactly the darkest value."""
    darkest: np.ndarray = image.array == image.array.min()
    if np.count_nonzero(darkest) < _LEAST_CUT_OUT * darkest.size or darkest.all():
        return np.zeros(darkest.shape, bool)
    return darkest


def brightness_of(image: Image) -> float:
    """The 99th percentile above the floor over what was not cut out; 0 for an image without contrast."""
    return float(np.percentile(image.array[~cut_out(image)], _PERCENTILE)) - floor_of(image)


def head_of(image: Image) -> np.ndarray:
    """The body in an image, bool, without holes: what was not cut out, or else what is above a tenth of brightness."""
    from scipy.ndimage import binary_fill_holes

    gone = cut_out(image)
    inside = ~gone if gone.any() else image.array > floor_of(image) + 0.1 * brightness_of(image)
    return np.asarray(binary_fill_holes(inside), bool)


def smooth_field(grid: Grid, length_mm: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth random field of mean 0 and standard deviation 1 over a grid, float64 of its shape.

    A Gaussian of standard deviation `length_mm` around each of a lattice of random values. Sums are not left to a
    linear algebra library, whose rounding may depend on the number of threads.
    """
    weights = [_weights(n, float(s), length_mm) for n, s in zip(grid.shape, grid.spacing_mm, strict=True)]
    field = rng.standard_normal([w.shape[1] for w in weights])
    for weight in weights:
        # Each step turns the first axis into one of voxels and puts it last.
        field = np.einsum("a...,ia->...i", field, weight, optimize=False)
    field -= field.mean()
    return np.asarray(field / max(float(field.std()), 1e-12))


def _weights(n: int, spacing_mm: float, length_mm: float) -> np.ndarray:
    """The weight of each lattice point at each voxel of an axis, (n, points); points reach beyond the ends."""
    extent = (n - 1) * spacing_mm
    points = np.arange(-2 * length_mm, extent + 2 * length_mm + 1e-9, length_mm)
    apart = np.arange(n)[:, np.newaxis] * spacing_mm - points
    return np.exp(-0.5 * (apart / length_mm) ** 2)


def on_sides(pair: Pair, sides: Iterable[str], change: Callable[[Pair, str], Pair]) -> Pair:
    """The pair after a change of one side after the other."""
    for side in sides:
        pair = change(pair, side)
    return pair


def parts_of(pair: Pair, side: str, *names: str) -> dict[str, Any]:
    """The parts of one side that the pair has, by attribute: `parts_of(pair, 'fixed', 'labels', 'mask')`."""
    found = {f"{side}_{name}": getattr(pair, f"{side}_{name}") for name in names}
    return {name: part for name, part in found.items() if part is not None}
