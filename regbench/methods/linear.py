"""`moments`, `rigid`, `affine`: world affines, from the images' own centres or by mutual information.

Every class has `estimate(pair)`, the matrix (ndim+1, ndim+1) that maps fixed points to moving points in mm
RAS, and `register(pair)`, the same as a displacement. The matrix serves as a shared pre-alignment, too.

`rigid` and `affine` start from `moments` and maximise Mattes mutual information from coarse to fine with
SimpleITK. They run on one thread whatever the setting of the process, and sample with a fixed seed:
then the same images give the same matrix to the last bit. A number of samples, and not a share of the
voxels, keeps the time nearly independent of the image size.

Sources: Mattes et al., IEEE TMI 22 (2003) 120-128; Otsu, IEEE Trans. SMC 9 (1979) 62-66.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import ConfigError, MethodError
from regbench.files.itk import affine_from_sitk, ras_signs, to_sitk
from regbench.pair import BlindPair
from regbench.volume import Image, Labels

if TYPE_CHECKING:
    import SimpleITK as sitk

    Linear = TypeVar("Linear", bound=sitk.Transform)

_HISTOGRAM_BINS = 256
# What a level keeps of the shortest axis: 12 voxels on the first, 24 on the second, and so on, so that small
# images are shrunk less. Fewer voxels fill a joint histogram too thinly to tell a stretch.
_SMALLEST_AXIS_VOXELS = 12


@dataclass(frozen=True)
class Moments:
    """The translation that puts the centre of the moving foreground onto that of the fixed foreground."""

    def estimate(self, pair: BlindPair) -> np.ndarray:
        """The world affine (ndim+1, ndim+1) in mm, fixed -> moving; a pure translation."""
        matrix = np.eye(pair.ndim + 1)
        fixed, moving = (foreground(pair.fixed, pair.fixed_mask), foreground(pair.moving, pair.moving_mask))
        if not (fixed.any() and moving.any()):
            # One image is flat: with no content to compare, both are taken by their geometric centres.
            fixed, moving = np.ones_like(fixed), np.ones_like(moving)
        matrix[:-1, -1] = centre_mm(moving, pair.moving) - centre_mm(fixed, pair.fixed)
        return matrix

    def register(self, pair: BlindPair) -> Displacement:
        """The translation as a displacement on the fixed grid."""
        return Displacement.from_affine(self.estimate(pair), pair.fixed.grid)


@dataclass(frozen=True)
class _ByInformation(ABC):
    """What `rigid` and `affine` share: levels from coarse to fine, one shrink factor each, and the sampling."""

    shrink: tuple[int, ...] = (8, 4, 2)
    iterations: int = 200
    bins: int = 32
    samples: int = 15000
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.shrink or min(*self.shrink, self.iterations, self.samples) < 1 or self.bins < 5:
            raise ConfigError(
                f"methods.{type(self).__name__.lower()}: shrink {list(self.shrink)}, iterations {self.iterations}, "
                f"samples {self.samples} must be at least 1 and bins {self.bins} at least 5"
            )

    def prepare(self) -> None:
        """Imports SimpleITK, so that its start is not timed as registration."""
        import SimpleITK  # noqa: F401

    @abstractmethod
    def estimate(self, pair: BlindPair) -> np.ndarray:
        """The world affine (ndim+1, ndim+1) in mm, fixed -> moving; MethodError where the images have no overlap."""

    def register(self, pair: BlindPair) -> Displacement:
        """The linear map as a displacement on the fixed grid."""
        return Displacement.from_affine(self.estimate(pair), pair.fixed.grid)


@dataclass(frozen=True)
class Rigid(_ByInformation):
    """Rotation and translation by mutual information."""

    def estimate(self, pair: BlindPair) -> np.ndarray:
        """The world affine (ndim+1, ndim+1) in mm, fixed -> moving, with a rotation as its linear part."""
        return affine_from_sitk(_rigid(pair, self))


@dataclass(frozen=True)
class Affine(_ByInformation):
    """All linear maps by mutual information, from the result of a rigid stage with the same settings."""

    def estimate(self, pair: BlindPair) -> np.ndarray:
        """The world affine (ndim+1, ndim+1) in mm, fixed -> moving."""
        import SimpleITK as sitk

        rigid = _rigid(pair, self)
        affine = sitk.AffineTransform(pair.ndim)
        affine.SetCenter(rigid.GetCenter())
        affine.SetMatrix(rigid.GetMatrix())
        affine.SetTranslation(rigid.GetTranslation())
        return affine_from_sitk(_optimise(pair, affine, self))


def foreground(image: Image, mask: Labels | None = None) -> np.ndarray:
    """The voxels that count as content, bool (*shape,): the mask if there is one, else those above Otsu's threshold.

    Empty for a flat image. A threshold depends on contrast far less than intensities as weights do.
    """
    if mask is not None and mask.array.any():
        return mask.array > 0
    low, high = float(image.array.min()), float(image.array.max())
    if high <= low:
        return np.zeros(image.array.shape, bool)
    counts, edges = np.histogram(image.array, _HISTOGRAM_BINS, (low, high))
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = below[-1] + counts[-1] - below
    sums = np.cumsum(counts * middles)
    difference = sums[:-1] / np.maximum(below, 1) - (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    return image.array > edges[1 + int(np.argmax(below * above * difference**2))]


def centre_mm(inside: np.ndarray, image: Image) -> np.ndarray:
    """The world point in the middle of the voxels `inside` (bool, at least one), (ndim,)."""
    axes = tuple(range(inside.ndim))
    centre = [
        np.average(np.arange(n), weights=inside.sum(axis=axes[:a] + axes[a + 1 :])) for a, n in enumerate(inside.shape)
    ]
    return image.grid.to_world(np.array(centre))


def _rigid(pair: BlindPair, settings: _ByInformation) -> sitk.Euler2DTransform | sitk.Euler3DTransform:
    import SimpleITK as sitk

    transform = sitk.Euler3DTransform() if pair.ndim == 3 else sitk.Euler2DTransform()
    inside = foreground(pair.fixed, pair.fixed_mask)
    signs = ras_signs(pair.ndim)
    # Turning about the middle of the content, not about a corner, keeps rotation and translation apart.
    centre = centre_mm(inside if inside.any() else np.ones_like(inside), pair.fixed)
    transform.SetCenter((centre * signs).tolist())
    transform.SetTranslation((Moments().estimate(pair)[:-1, -1] * signs).tolist())
    return _optimise(pair, transform, settings)


def _optimise(pair: BlindPair, transform: Linear, settings: _ByInformation) -> Linear:
    """The transform after maximising mutual information, starting from what was given."""
    import SimpleITK as sitk

    registration = sitk.ImageRegistrationMethod()
    # On several work units, sums are added in the order in which threads happen to finish.
    registration.SetNumberOfWorkUnits(1)
    registration.SetMetricAsMattesMutualInformation(settings.bins)
    registration.SetInterpolator(sitk.sitkLinear)
    _set_levels(registration, pair, settings)
    _set_masks(registration, pair)
    # Steps begin at 2 and shrink by 0.7 whenever the gradient turns back; down to 1e-3 only, a stretch stays half done.
    registration.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-4, settings.iterations, 0.7, 1e-8)
    registration.SetOptimizerScalesFromPhysicalShift()
    registration.SetInitialTransform(transform, inPlace=True)
    try:
        registration.Execute(to_sitk(pair.fixed), to_sitk(pair.moving))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise MethodError(
            f"{pair.name}: SimpleITK could not match the images by mutual information: {reason}"
        ) from None
    return transform


def _set_levels(registration: sitk.ImageRegistrationMethod, pair: BlindPair, settings: _ByInformation) -> None:
    grid = pair.fixed.grid
    most = [max(1, min(grid.shape) // (_SMALLEST_AXIS_VOXELS << level)) for level in range(len(settings.shrink))]
    shrink = [min(wanted, allowed) for wanted, allowed in zip(settings.shrink, most, strict=True)]
    shares = [float(np.clip(settings.samples * s**grid.ndim / grid.n_voxels, 1e-6, 1.0)) for s in shrink]
    registration.SetShrinkFactorsPerLevel(shrink)
    registration.SetSmoothingSigmasPerLevel([s / 2 for s in shrink])
    registration.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    registration.SetMetricSamplingStrategy(registration.RANDOM)
    # SimpleITK reads a seed of 0 as the time of day.
    registration.SetMetricSamplingPercentagePerLevel(shares, settings.seed % 2**31 + 1)


def _set_masks(registration: sitk.ImageRegistrationMethod, pair: BlindPair) -> None:
    import SimpleITK as sitk

    if pair.fixed_mask is not None and pair.fixed_mask.array.any():
        registration.SetMetricFixedMask(sitk.Cast(to_sitk(pair.fixed_mask) > 0, sitk.sitkUInt8))
    if pair.moving_mask is not None and pair.moving_mask.array.any():
        registration.SetMetricMovingMask(sitk.Cast(to_sitk(pair.moving_mask) > 0, sitk.sitkUInt8))
