"""How unlike two images are, by name: `make_similarity`.

| name | value | sees |
|---|---|---|
| mse | mean squared difference, 0 for equal images | equal intensities |
| ncc | 1 - correlation over the image, in [0, 2] | a linear relation with positive slope |
| lncc | 1 - mean squared correlation in windows, in [0, 1] | a linear relation in each window, of either sign |
| mind-ssc | mean squared difference of self-similarity descriptors, 0 for equal ones | any locally linear relation |
| mi | -(mutual information) in nats | any relation |
| nmi | 2 - (H(fixed) + H(moved)) / H(fixed, moved), in [0, 1] | any relation, whatever the overlap |
| monai-lncc | as lncc, over Gaussian, triangular or box windows; flat windows count as unlike | as lncc |
| monai-mi | as mi, with Gaussian windows of the histogram; for intensities in [0, 1] | any relation |

mi and nmi do not reach their bounds for equal images, whose histogram is smooth. The last two need MONAI.
This module loads no torch before an objective is used, so that settings can be checked without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from regbench.errors import ConfigError
from regbench.parameters import check_parameters, nearest

if TYPE_CHECKING:
    from torch import Tensor


class Similarity(Protocol):
    """An objective of two images (B, C, *shape), of which the moved one was read at the voxels of the fixed one."""

    def prepare(self, image: Tensor) -> Tensor:
        """What is compared (B, features, *shape): computed once for each image, and warped in its place."""
        ...

    def __call__(self, fixed: Tensor, moved: Tensor, mask: Tensor | None = None) -> Tensor:
        """A scalar, to be minimised, of what `prepare` returned; a mask (B, 1, *shape) weights the voxels."""
        ...


class _OfIntensities:
    """A similarity that compares the images as they are."""

    def prepare(self, image: Tensor) -> Tensor:
        return image


@dataclass(frozen=True)
class Mse(_OfIntensities):
    """Has no settings."""

    def __call__(self, fixed: Tensor, moved: Tensor, mask: Tensor | None = None) -> Tensor:
        from regbench.methods.objectives.correlation import mean_squared_difference

        return mean_squared_difference(fixed, moved, mask)


@dataclass(frozen=True)
class Ncc(_OfIntensities):
    """Has no settings."""

    def __call__(self, fixed: Tensor, moved: Tensor, mask: Tensor | None = None) -> Tensor:
        from regbench.methods.objectives.correlation import correlation

        return correlation(fixed, moved, mask)


@dataclass(frozen=True)
class Lncc(_OfIntensities):
    """Boxes of `window` voxels; those in which the variance of either image is below the share `flat` of that over
    the whole image carry no information and are left out of the mean.
    """

    window: int = 5
    flat: float = 0.01

    def __post_init__(self) -> None:
        _demand(self.window >= 3 and self.window % 2 == 1, "lncc", "window must be an odd number of voxels, 3 at least")
        _demand(0 <= self.flat < 1, "lncc", "flat must be a share of the variance of the image, in [0, 1)")

    def __call__(self, fixed: Tensor, moved: Tensor, mask: Tensor | None = None) -> Tensor:
        from regbench.methods.objectives.correlation import local_correlation

        return local_correlation(fixed, moved, mask, self.window, self.flat)


@dataclass(frozen=True)
class MindSsc:
    """Patches of 2 `radius` + 1 voxels around neighbours `dilation` voxels away."""

    radius: int = 1
    dilation: int = 2

    def __post_init__(self) -> None:
        _demand(self.radius >= 0, "mind-ssc", "radius must be 0 voxels at least")
        _demand(self.dilation >= 1, "mind-ssc", "dilation must be 1 voxel at least")

    def prepare(self, image: Tensor) -> Tensor:
        """The descriptors (B, 12, *shape) of a 3-D image, (B, 4, *shape) of a 2-D one, in (0, 1]."""
        from regbench.methods.objectives.self_similarity import descriptors

        return descriptors(image, self.radius, self.dilation)

    def __call__(self, fixed: Tensor, moved: Tensor, mask: Tensor | None = None) -> Tensor:
        from regbench.methods.objectives.correlation import mean_squared_difference

        return mean_squared_difference(fixed, moved, mask)


@dataclass(frozen=True)
class MutualInformation(_OfIntensities):
    """A joint histogram of `bins` by `bins` between the extremes of each image, with cubic B-spline windows."""

    bins: int = 32

    def __post_init__(self) -> None:
        _demand(self.bins >= 8, "mi", "bins must be 8 at least")

    def __call__(self, fixed: Tensor, moved: Tensor, mask: Tensor | None = None) -> Tensor:
        from regbench.methods.objectives.information import mutual_information

        return mutual_information(fixed, moved, mask, self.bins)


@dataclass(frozen=True)
class NormalisedMutualInformation(_OfIntensities):
    """The histogram of `MutualInformation`."""

    bins: int = 32

    def __post_init__(self) -> None:
        _demand(self.bins >= 8, "nmi", "bins must be 8 at least")

    def __call__(self, fixed: Tensor, moved: Tensor, mask: Tensor | None = None) -> Tensor:
        from regbench.methods.objectives.information import normalised_mutual_information

        return normalised_mutual_information(fixed, moved, mask, self.bins)


@dataclass(frozen=True)
class MonaiLncc(_OfIntensities):
    """MONAI's local correlation over windows of `window` voxels and the form `kernel`."""

    window: int = 9
    kernel: Literal["rectangular", "triangular", "gaussian"] = "gaussian"

    def __post_init__(self) -> None:
        _demand(self.window >= 3 and self.window % 2 == 1, "monai-lncc", "window must be odd, 3 voxels at least")

    def __call__(self, fixed: Tensor, moved: Tensor, mask: Tensor | None = None) -> Tensor:
        from regbench.methods.objectives.library import monai_local_correlation

        _demand(mask is None, "monai-lncc", "masks are not supported; take lncc")
        return monai_local_correlation(fixed, moved, self.window, self.kernel)


@dataclass(frozen=True)
class MonaiMutualInformation(_OfIntensities):
    """MONAI's mutual information with `bins` Gaussian windows over [0, 1]."""

    bins: int = 32

    def __post_init__(self) -> None:
        _demand(self.bins >= 8, "monai-mi", "bins must be 8 at least")

    def __call__(self, fixed: Tensor, moved: Tensor, mask: Tensor | None = None) -> Tensor:
        from regbench.methods.objectives.library import monai_mutual_information

        _demand(mask is None, "monai-mi", "masks are not supported; take mi")
        return monai_mutual_information(fixed, moved, self.bins)


SIMILARITIES: dict[str, type] = {
    "mse": Mse,
    "ncc": Ncc,
    "lncc": Lncc,
    "mind-ssc": MindSsc,
    "nmi": NormalisedMutualInformation,
    "mi": MutualInformation,
    "monai-lncc": MonaiLncc,
    "monai-mi": MonaiMutualInformation,
}


def check_similarity(name: str, settings: Mapping[str, Any], where: str = "similarity") -> dict[str, Any]:
    """All settings of a similarity, checked; ConfigError in one sentence that begins with `where`. Loads no torch."""
    if name not in SIMILARITIES:
        known = ", ".join(SIMILARITIES)
        raise ConfigError(f"{where}: unknown similarity '{name}'{nearest(name, list(SIMILARITIES))}; known: {known}")
    values = check_parameters(SIMILARITIES[name], settings, f"{where}.{name}")
    SIMILARITIES[name](**values)
    return values


def make_similarity(name: str, **settings: Any) -> Similarity:
    """The similarity of that name (see the table above); ConfigError for a name or a setting that is not known."""
    checked = check_similarity(name, settings)
    similarity: Similarity = SIMILARITIES[name](**checked)
    return similarity


def _demand(fulfilled: bool, name: str, words: str) -> None:
    if not fulfilled:
        raise ConfigError(f"similarity.{name}: {words}")
