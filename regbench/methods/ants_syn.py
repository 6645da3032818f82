"""`ants-syn` and its relatives: symmetric normalisation of ANTs, through the argument list of `antsRegistration`.

The list is written out in full, because the named recipes of antspyx change between versions and drop
options that they do not know. The linear start is regbench's own (`moments` or `affine`) and is handed to
ANTs as a transform file, because ANTs' linear stages are not repeatable on more than one thread; SyN
itself is. ANTs composes nothing here that regbench does not see: the warp lies on the fixed grid in LPS mm,
and the linear start is applied after it, x -> A(x + w(x)). The inverse warp, which SyN makes anyway, lies on the
fixed grid as well and comes after the inverse of the linear start.

ANTs takes images by their address and trusts the caller: with `--float 1` they must be float, with `--float 0`
double, or it reads other memory without a word.

Source: Avants et al., Medical Image Analysis 12 (2008) 26-41.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import ConfigError, MethodError
from regbench.files.itk import affine_to_sitk, ras_signs
from regbench.methods.demands import demand_content, demand_right_angles, demand_voxels
from regbench.methods.linear import Affine, Moments
from regbench.pair import BlindPair
from regbench.volume import Grid, Image, Labels

if TYPE_CHECKING:
    import ants

_METRICS = {"cc": "CC", "mattes": "Mattes"}
# What the Gaussian filters need.
_SMALLEST_AXIS_VOXELS = 4
_QUIET = ("--interpolation", "Linear", "--verbose", "0")


@dataclass(frozen=True)
class AntsSyn:
    """SyN. `shrink`, `iterations`, `smoothing_voxels` have one number per level, coarse to fine, and end at shrink 1.

    The last level may have 0 iterations: then the field of the level before is only interpolated. The metric is
    `cc` (local correlation in boxes of `radius_voxels`) or `mattes` (mutual information with `bins`).
    `step` is the gradient step, `update_variance_voxels` and `total_variance_voxels` are the Gaussian
    regularisation of each update and of the field. `winsorize` cuts intensities at two quantiles. The start is
    regbench's own `moments` or `affine`, `centre-of-mass` as ANTs does it, or `none`.
    """

    initial: Literal["none", "centre-of-mass", "moments", "affine"] = "affine"
    metric: Literal["cc", "mattes"] = "cc"
    radius_voxels: int = 2
    bins: int = 32
    shrink: tuple[int, ...] = (8, 4, 2, 1)
    iterations: tuple[int, ...] = (60, 40, 20, 5)
    smoothing_voxels: tuple[float, ...] = (2.0, 1.0, 0.0, 0.0)
    step: float = 0.2
    update_variance_voxels: float = 3.0
    total_variance_voxels: float = 0.0
    winsorize: tuple[float, float] = (0.005, 0.995)
    match_histograms: bool = False
    precision: Literal["float", "double"] = "float"
    seed: int = 0

    def __post_init__(self) -> None:
        levels = {len(self.shrink), len(self.iterations), len(self.smoothing_voxels)}
        if len(levels) != 1 or not self.shrink or self.shrink[-1] != 1:
            raise ConfigError(
                f"methods.ants-syn: shrink {list(self.shrink)}, iterations {list(self.iterations)} and "
                f"smoothing_voxels {list(self.smoothing_voxels)} must have one number for each level, and shrink must "
                "end at 1 (with 0 iterations if need be), because the field is returned on the last level"
            )

    def prepare(self) -> None:
        """Imports ants and SimpleITK (seconds), so that their start is not timed as registration."""
        import ants  # noqa: F401
        import SimpleITK  # noqa: F401

    def register(self, pair: BlindPair) -> Displacement:
        """The warp after the linear start, as one displacement on the fixed grid."""
        import ants

        demand_right_angles(pair, "ANTs")
        demand_voxels(pair, _SMALLEST_AXIS_VOXELS, "ANTs")
        demand_content(pair)
        matrix = self._start(pair)
        # ANTs is given the addresses of these images, so they must live until it returns.
        images = _ants_image(pair.fixed, self.precision), _ants_image(pair.moving, self.precision)
        masks = _ants_mask(pair.fixed_mask), _ants_mask(pair.moving_mask)
        with tempfile.TemporaryDirectory(prefix="regbench-ants-") as name:
            folder = Path(name)
            _write_start(matrix, folder / "start.mat")
            try:
                ants.registration([*self._stage(images, masks, folder), *self._levels(), *_QUIET], None)
                warp, inverse = (
                    ants.image_read(str(folder / name)).numpy() * ras_signs(pair.ndim)
                    for name in ("o_1Warp.nii.gz", "o_1InverseWarp.nii.gz")
                )
            except (RuntimeError, ValueError, OSError) as error:
                raise MethodError(f"{pair.name}: antsRegistration failed: {error}") from error
        grid = pair.fixed.grid
        return Displacement(warp, grid, inverse=Displacement(inverse, grid)).then(matrix)

    def _start(self, pair: BlindPair) -> np.ndarray:
        """The linear start as a world affine (ndim+1, ndim+1), fixed mm -> moving mm."""
        if self.initial == "none":
            return np.eye(pair.ndim + 1)
        if self.initial == "centre-of-mass":
            return _between_centres(pair)
        return (Moments() if self.initial == "moments" else Affine(seed=self.seed)).estimate(pair)

    def _stage(self, images: tuple[Any, Any], masks: tuple[Any, Any], folder: Path) -> list[str]:
        """The arguments of antsRegistration that name its input, its output and its one stage."""
        from ants.internal import get_pointer_string

        fixed, moving = (get_pointer_string(image) for image in images)
        outside = [get_pointer_string(mask) if mask is not None else "NA" for mask in masks]
        size = self.radius_voxels if self.metric == "cc" else self.bins
        return [
            *("--dimensionality", str(images[0].dimension)),
            *("--float", str(int(self.precision == "float"))),
            *("--random-seed", str(self.seed % 2**31 + 1)),
            *("--output", f"[{folder}/o_]"),
            *("--initial-moving-transform", str(folder / "start.mat")),
            *("--masks", f"[{','.join(outside)}]"),
            *("--transform", f"SyN[{self.step},{self.update_variance_voxels},{self.total_variance_voxels}]"),
            *("--metric", f"{_METRICS[self.metric]}[{fixed},{moving},1,{size}]"),
        ]

    def _levels(self) -> list[str]:
        """The arguments of antsRegistration for levels and intensities."""
        low, high = self.winsorize
        return [
            *("--convergence", f"[{_by_level(self.iterations)},1e-6,10]"),
            *("--shrink-factors", _by_level(self.shrink)),
            *("--smoothing-sigmas", _by_level(self.smoothing_voxels) + "vox"),
            *("--winsorize-image-intensities", f"[{low},{high}]"),
            *("--use-histogram-matching", str(int(self.match_histograms))),
        ]


@dataclass(frozen=True)
class AntsQuick(AntsSyn):
    """Mutual information on three levels, none at full resolution."""

    metric: Literal["cc", "mattes"] = "mattes"
    shrink: tuple[int, ...] = (4, 2, 1)
    iterations: tuple[int, ...] = (40, 20, 0)
    smoothing_voxels: tuple[float, ...] = (2.0, 1.0, 0.0)


@dataclass(frozen=True)
class AntsSynCc(AntsSyn):
    """What antspyx 0.6 passes on for antsRegistrationSyN[so]."""

    initial: Literal["none", "centre-of-mass", "moments", "affine"] = "none"
    iterations: tuple[int, ...] = (100, 70, 50, 20)
    smoothing_voxels: tuple[float, ...] = (3.0, 2.0, 1.0, 0.0)
    winsorize: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class JenaAntsSyn(AntsSynCc):
    """What the script antsRegistrationSyN.sh passed on for `-t so` when the paper was written."""

    initial: Literal["none", "centre-of-mass", "moments", "affine"] = "centre-of-mass"
    radius_voxels: int = 4
    step: float = 0.1
    winsorize: tuple[float, float] = (0.005, 0.995)
    precision: Literal["float", "double"] = "double"


def _between_centres(pair: BlindPair) -> np.ndarray:
    """The translation from the fixed to the moving centre of mass of intensities, as ANTs takes it."""
    centres = []
    for image in (pair.fixed, pair.moving):
        total = float(image.array.sum(dtype=np.float64))
        if total == 0:
            raise MethodError(f"{pair.name}: an image without intensity has no centre of mass")
        sums = []
        for axis in range(pair.ndim):
            others = tuple(other for other in range(pair.ndim) if other != axis)
            profile = image.array.sum(axis=others, dtype=np.float64)
            sums.append(float(profile @ np.arange(len(profile))) / total)
        centres.append(image.grid.to_world(np.array(sums)))
    matrix = np.eye(pair.ndim + 1)
    matrix[:-1, -1] = centres[1] - centres[0]
    return matrix


def _by_level(numbers: Sequence[float]) -> str:
    return "x".join(f"{n:g}" for n in numbers)


def _write_start(matrix: np.ndarray, path: Path) -> None:
    import SimpleITK as sitk

    sitk.WriteTransform(affine_to_sitk(matrix), str(path))


def _ants_image(image: Image, precision: str) -> ants.ANTsImage:
    """The image of antspyx in a precision, with the same geometry."""
    import ants

    return ants.from_numpy(np.array(image.array, dtype=np.float32), **_geometry(image.grid)).clone(precision)


def _ants_mask(mask: Labels | None) -> ants.ANTsImage | None:
    """The mask as antspyx expects it, or None where there is none or it is empty."""
    if mask is None or not mask.array.any():
        return None
    import ants

    return ants.from_numpy((mask.array > 0).astype(np.uint8), **_geometry(mask.grid))


def _geometry(grid: Grid) -> dict[str, Any]:
    """Origin, spacing and direction in LPS, as antspyx takes them."""
    signs = ras_signs(grid.ndim)
    return {
        "origin": (grid.origin_mm * signs).tolist(),
        "spacing": grid.spacing_mm.tolist(),
        "direction": grid.linear / grid.spacing_mm * signs[:, None],
    }
