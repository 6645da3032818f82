"""`greedy`: fast diffeomorphic registration with the engine of ITK-SNAP, in memory through its Python package.

The engine follows the world coordinates of both images. The linear start is regbench's own; the engine sees it
as a matrix, and its warp w lies on the fixed grid in LPS mm and comes before that matrix: x -> A(x + w(x)).

Three settings are not left to the engine's defaults: the seed, because seed 0 means a different result in every
run; the precision of the warp, which is rounded to a tenth of a voxel otherwise; and the unit of the smoothing,
which is a matter of voxels: the same number of mm on a coarser grid is too little.

For local correlation, which no linear change of intensities alters, the engine gets intensities from 0 to 1. It sums
squares in single precision; with intensities in the thousands their rounding swamps the variance of the windows, and
2-D slices came out at Dice .42 instead of .49.

Source: Yushkevich et al., Alzheimer's & Dementia 12 (2016) P126-P127; github.com/pyushkevich/greedy.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import ConfigError, MethodError
from regbench.files.itk import displacement_from_sitk, to_sitk
from regbench.methods.demands import demand_content, demand_right_angles, demand_voxels
from regbench.methods.linear import Affine, Moments
from regbench.pair import BlindPair
from regbench.volume import Image, Labels

if TYPE_CHECKING:
    import SimpleITK as sitk

# What the engine's Gaussian filters need on its coarsest level.
_SMALLEST_AXIS_VOXELS = 4


@dataclass(frozen=True)
class Greedy:
    """Greedy. `iterations` has one number per level, coarse to fine; each level has twice the resolution of the last.

    `metric` is `ncc` or `wncc` (local correlation in boxes of `radius_voxels`, the latter weighted by the masks; it
    takes a moving mask only beside a fixed one, since alone it doubles the error), `ssd`, or `mi`. `smoothing` holds
    the sigmas of the Gaussians over each update and over the field, in `smoothing_unit`. `stationary_velocity`
    optimises one velocity field. `inverse` asks for the other direction, which costs time.
    """

    initial: Literal["none", "moments", "affine"] = "affine"
    metric: Literal["ncc", "wncc", "ssd", "mi"] = "ncc"
    radius_voxels: int = 2
    iterations: tuple[int, ...] = (100, 50, 10)
    smoothing: tuple[float, float] = (1.732, 0.7071)
    smoothing_unit: Literal["vox", "mm"] = "vox"
    stationary_velocity: bool = False
    inverse: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.iterations or min(self.iterations) < 0 or max(self.iterations) == 0:
            raise ConfigError("methods.greedy: iterations must have a number for each level, one of them above 0")
        if min(self.smoothing) < 0 or self.radius_voxels < 1:
            raise ConfigError("methods.greedy: smoothing must not be negative, radius_voxels must be at least 1")

    def prepare(self) -> None:
        """Imports the engine, so that its start is not timed as registration."""
        import picsl_greedy  # noqa: F401
        import SimpleITK  # noqa: F401

    def register(self, pair: BlindPair) -> Displacement:
        """The warp after the linear start, as one displacement on the fixed grid."""
        demand_right_angles(pair, "greedy")
        demand_voxels(pair, _SMALLEST_AXIS_VOXELS << (len(self.iterations) - 1), f"greedy on {self._levels()}")
        demand_content(pair)
        matrix = self._start(pair)
        images: dict[str, Any] = {"F": to_sitk(self._seen(pair.fixed)), "M": to_sitk(self._seen(pair.moving))}
        images |= {"W": None, "V": None} if self.inverse else {"W": None}
        for name, mask in (("GM", pair.fixed_mask), ("MM", pair.moving_mask)):
            if mask is not None and mask.array.any():
                images[name] = _mask(mask)
        if self.metric == "wncc" and "GM" not in images:
            images.pop("MM", None)
        warps = self._run(pair, matrix, images)
        found = [displacement_from_sitk(warps[name], pair.fixed.grid) for name in ("W", "V") if name in warps]
        both = Displacement(found[0].vectors_mm, pair.fixed.grid, *found[1:])
        return both.then(matrix)

    def _seen(self, image: Image) -> Image:
        """The image as the engine gets it: from 0 to 1 where the metric is local correlation."""
        if self.metric not in ("ncc", "wncc"):
            return image
        low, high = float(image.array.min()), float(image.array.max())
        return Image((image.array.astype(np.float32) - low) / (high - low), image.grid)

    def _levels(self) -> str:
        return "one level" if len(self.iterations) == 1 else f"{len(self.iterations)} levels (`iterations`)"

    def _start(self, pair: BlindPair) -> np.ndarray:
        """The linear start as a world affine (ndim+1, ndim+1), fixed mm -> moving mm."""
        if self.initial == "none":
            return np.eye(pair.ndim + 1)
        return (Moments() if self.initial == "moments" else Affine(seed=self.seed)).estimate(pair)

    def _run(self, pair: BlindPair, matrix: np.ndarray, images: dict[str, Any]) -> dict[str, sitk.Image]:
        """The warps W (and V, the inverse) of one call of the engine."""
        import picsl_greedy

        engine = picsl_greedy.GreedyFloat3D() if pair.ndim == 3 else picsl_greedy.GreedyFloat2D()
        with tempfile.TemporaryDirectory(prefix="regbench-greedy-") as folder:
            # The engine takes a start from files only: a plain matrix from fixed to moving points in RAS.
            start = Path(folder) / "start.mat"
            np.savetxt(start, matrix, fmt="%.17g")
            command = " ".join(self._command(pair.ndim, images, start))
            chatter = io.StringIO()
            try:
                engine.execute(command, out=chatter, err=chatter, **images)
                return {name: engine[name] for name in ("W", "V") if name in images}
            except (RuntimeError, ValueError, KeyError) as error:
                sys.stderr.write(chatter.getvalue())
                raise MethodError(f"{pair.name}: greedy failed: {error}") from error

    def _threads(self, ndim: int) -> str:
        # The weighted metric of 2-D images never returns on two threads (picsl-greedy 1.4.0.3); on one it does.
        if ndim == 2 and self.metric == "wncc":
            return "1"
        return os.environ.get("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")

    def _command(self, ndim: int, images: dict[str, Any], start: Path) -> list[str]:
        radius = "x".join([str(self.radius_voxels)] * ndim)
        size = {"ncc": [radius], "wncc": [radius]}.get(self.metric, [])
        return [
            *("-d", str(ndim), "-threads", self._threads(ndim), "-seed", str(self.seed % 2**31 + 1)),
            *("-i", "F", "M", "-it", str(start), "-m", {"mi": "MI"}.get(self.metric, self.metric.upper()), *size),
            *(("-gm", "GM") if "GM" in images else ()),
            *(("-mm", "MM") if "MM" in images else ()),
            *("-n", "x".join(map(str, self.iterations))),
            *("-s", *(f"{sigma:g}{self.smoothing_unit}" for sigma in self.smoothing)),
            *(("-sv",) if self.stationary_velocity else ()),
            *("-wp", "0", "-V", "0", "-o", "W"),
            *(("-oinv", "V") if "V" in images else ()),
        ]


@dataclass(frozen=True)
class JenaGreedy(Greedy):
    """The published call of the paper's repository."""

    initial: Literal["none", "moments", "affine"] = "none"
    metric: Literal["ncc", "wncc", "ssd", "mi"] = "wncc"
    iterations: tuple[int, ...] = (100, 100, 40)
    smoothing: tuple[float, float] = (1.5, 0.5)
    smoothing_unit: Literal["vox", "mm"] = "mm"


def _mask(mask: Labels) -> Any:
    return to_sitk(Labels((mask.array > 0).astype(np.uint8), mask.grid))
