"""`fireants-greedy`, `fireants-syn`: diffeomorphic registration by adaptive optimisation with the package fireants.

The engine keeps its warp in the normalised coordinates of the moving grid and composes updates as if they were those of
the fixed grid, so both images must have the same axes: on grids of opposite handedness its symmetric variant hardly
finds anything. The moving image is therefore read through the linear start onto the fixed grid first, and the field
leads from there through the linear start to the moving image. The engine also brings every level to at least 32 voxels
along each axis; a smaller fixed image gets a border of its darkest value, which is cut off the field again.

Source: Jena et al., FireANTs, arXiv 2404.01249; github.com/rohitrango/FireANTs, used as an installed package only.
"""

from __future__ import annotations

import contextlib
import io
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import ConfigError, MethodDeclined
from regbench.methods.linear import Affine, Moments
from regbench.pair import BlindPair
from regbench.volume import Grid, Image
from regbench.warp import resample

_SMALLEST_AXIS_VOXELS = 32


@dataclass(frozen=True)
class _Fireants(ABC):
    """What both have in common, with the settings for the greedy one that are published with arXiv 2408.05839."""

    initial: Literal["none", "moments", "affine"] = "affine"
    scales: tuple[int, ...] = (4, 2, 1)
    iterations: tuple[int, ...] = (250, 200, 100)
    loss: Literal["cc", "mi", "mse"] = "cc"
    kernel_voxels: int = 7
    learning_rate: float = 0.25
    beta1: float = 0.1
    smoothing_voxels: tuple[float, float] = (1.0, 0.25)
    tolerance: float = 1e-6
    device: str = "cpu"
    seed: int = 0

    _NAME: ClassVar[str] = "fireants"

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ConfigError(f"methods.{self._NAME}: {problem}")

    def _problem(self) -> str:
        """What is wrong with the parameters, or ""."""
        if len(self.scales) != len(self.iterations) or not self.scales:
            return "scales and iterations must have one number per level each"
        if min(self.scales) < 1 or any(a <= b for a, b in zip(self.scales, self.scales[1:], strict=False)):
            return f"scales {list(self.scales)} must become smaller from level to level, down to 1 at the least"
        if min(self.iterations) < 0 or min(self.smoothing_voxels) < 0 or not 0 <= self.beta1 < 1:
            return "iterations and smoothing_voxels must not be negative, beta1 must lie between 0 and 1"
        if self.kernel_voxels < 3 or self.kernel_voxels % 2 == 0:
            return f"kernel_voxels is {self.kernel_voxels}; it must be odd and at least 3"
        return ""

    def prepare(self) -> None:
        """Imports the engine (seconds), so that its start is not timed as registration."""
        # The engine says on import, on standard output, which of its fused operations it lacks.
        with contextlib.redirect_stdout(sys.stderr):
            import fireants.registration.greedy
            import fireants.registration.syn  # noqa: F401
        import torch

        if torch.device(self.device).type == "cuda" and not torch.cuda.is_available():
            raise MethodDeclined(f"{self._NAME}: device {self.device} was asked for, and torch finds no GPU here")

    def register(self, pair: BlindPair) -> Displacement:
        """The warp followed by the linear start, as one displacement on the fixed grid."""
        if pair.fixed.grid.is_sheared or pair.moving.grid.is_sheared:
            raise MethodDeclined(f"{self._NAME} needs grids without shear; resample the image onto one first")
        self.prepare()
        matrix = self._start(pair)
        fixed, inner = with_border(pair.fixed)
        moving = resample(pair.moving, fixed.grid, matrix, outside=float(pair.moving.array.min()))
        warp, back = self._warps(*self._tensors(fixed.array, moving.array))
        inverse = None if back is None else _cut(back, fixed.grid, inner, pair.fixed.grid)
        vectors = _cut(warp, fixed.grid, inner, pair.fixed.grid).vectors_mm
        return Displacement(vectors, pair.fixed.grid, inverse).then(matrix)

    def _start(self, pair: BlindPair) -> np.ndarray:
        """The linear start as a world affine (ndim+1, ndim+1), fixed mm -> moving mm."""
        if self.initial == "none":
            return np.eye(pair.ndim + 1)
        return (Moments() if self.initial == "moments" else Affine(seed=self.seed)).estimate(pair)

    def _tensors(self, fixed: np.ndarray, moving: np.ndarray) -> tuple[Any, Any]:
        """The images in the engine's own type, with values from 0 to 1, for which its losses are made."""
        import SimpleITK as sitk
        from fireants.io.image import BatchedImages
        from fireants.io.image import Image as FireantsImage

        both = (fixed, moving)
        if self.loss == "mse":
            # A difference of intensities means something on one scale only.
            low, high = min(a.min() for a in both), max(a.max() for a in both)
            limits = [(low, high)] * 2
        else:
            limits = [(array.min(), array.max()) for array in both]
        scaled = [(a - low) / max(high - low, 1e-12) for a, (low, high) in zip(both, limits, strict=True)]
        images = [sitk.GetImageFromArray(np.ascontiguousarray(array.T)) for array in scaled]
        batches = [BatchedImages([FireantsImage(image, device=self.device)]) for image in images]
        return batches[0], batches[1]

    def _warps(self, fixed: Any, moving: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Where each fixed voxel goes, in voxels of the fixed grid, (*shape, ndim), and the same for the way back."""
        registration = self._engine()(**self._settings(), fixed_images=fixed, moving_images=moving)
        registration.optimize()
        # Inverting a warp is another optimisation, whose progress bar cannot be switched off.
        with contextlib.redirect_stderr(io.StringIO()):
            warp = _voxels(registration.get_warped_coordinates(fixed, moving))
            if not self._gives_inverse():
                return warp, None
            return warp, _voxels(registration.get_inverse_warped_coordinates(fixed, moving))

    @abstractmethod
    def _engine(self) -> Any:
        """The class of the package."""

    def _gives_inverse(self) -> bool:
        return False

    def _settings(self) -> dict[str, Any]:
        """The settings under the names of the package."""
        return {
            "scales": list(self.scales),
            "iterations": list(self.iterations),
            "loss_type": self.loss,
            # The package writes into this mapping, and its default is shared by all that are made.
            "loss_params": {},
            "cc_kernel_size": self.kernel_voxels,
            "deformation_type": "compositive",
            "optimizer": "Adam",
            "optimizer_lr": self.learning_rate,
            "optimizer_params": {"beta1": self.beta1},
            "smooth_grad_sigma": self.smoothing_voxels[0],
            "smooth_warp_sigma": self.smoothing_voxels[1],
            "tolerance": self.tolerance,
            "progress_bar": False,
        }


@dataclass(frozen=True)
class FireantsGreedy(_Fireants):
    """One warp, by greedy composition. `scales` are shrink factors, coarse to fine, with `iterations` for each.

    `loss` is `cc` (local correlation in a box of `kernel_voxels`), `mi` (global mutual information) or `mse`.
    `learning_rate` and `beta1` are those of Adam; the rate is the longest step in halves of a voxel. `smoothing_voxels`
    holds the sigmas of the Gaussians over each gradient and over the warp. A level ends early when the loss changes by
    less than `tolerance` over ten iterations. `inverse` asks for the other direction, which costs time. The defaults
    are the settings published with arXiv 2408.05839, but for the linear start.
    """

    inverse: bool = False

    _NAME: ClassVar[str] = "fireants-greedy"

    def _engine(self) -> Any:
        from fireants.registration.greedy import GreedyRegistration

        return GreedyRegistration

    def _gives_inverse(self) -> bool:
        return self.inverse


@dataclass(frozen=True)
class FireantsSyn(_Fireants):
    """Two warps that meet half way. Parameters are those of fireants-greedy, without an inverse.

    The last of `scales` must be 1: the package inverts one of the warps on the grid of the last level, and takes the
    warp for its own inverse where that is not the grid of the image.
    """

    iterations: tuple[int, ...] = (200, 100, 50)
    kernel_voxels: int = 5
    learning_rate: float = 0.1
    beta1: float = 0.9
    smoothing_voxels: tuple[float, float] = (0.5, 0.25)

    _NAME: ClassVar[str] = "fireants-syn"

    def _problem(self) -> str:
        if self.scales and self.scales[-1] != 1:
            return f"scales {list(self.scales)} must end with 1"
        return super()._problem()

    def _engine(self) -> Any:
        from fireants.registration.syn import SyNRegistration

        return SyNRegistration


def with_border(image: Image) -> tuple[Image, tuple[slice, ...]]:
    """The image with a border of its darkest value where an axis is too short for the engine, and the part inside."""
    grid = image.grid
    short = [max(0, _SMALLEST_AXIS_VOXELS - n) for n in grid.shape]
    before = [n // 2 for n in short]
    inner = tuple(slice(b, b + n) for b, n in zip(before, grid.shape, strict=True))
    if not any(short):
        return image, inner
    width = [(b, n - b) for b, n in zip(before, short, strict=True)]
    array = np.pad(image.array, width, constant_values=float(image.array.min()))
    affine = np.array(grid.affine)
    affine[:-1, -1] = grid.to_world(-np.array(before, dtype=np.float64))
    return Image(array, Grid(array.shape, affine)), inner


def _voxels(coordinates: Any) -> np.ndarray:
    """Voxel coordinates, (*shape, ndim), of the engine's normalised ones, (1, *reversed shape, ndim) from -1 to 1."""
    found = coordinates.detach().cpu().numpy()[0]
    ndim = found.shape[-1]
    found = found.transpose((*range(ndim - 1, -1, -1), ndim))
    return (found + 1) / 2 * (np.array(found.shape[:-1]) - 1)


def _cut(targets_voxel: np.ndarray, grid: Grid, inner: tuple[slice, ...], inner_grid: Grid) -> Displacement:
    """The displacement on the grid inside the border that sends voxels of `grid` to voxels of `grid`."""
    return Displacement.from_targets(grid.to_world(targets_voxel[inner]), inner_grid)
