"""Label maps of made-up anatomy, and images painted from them with contrasts of no scanner.

Conventions: tensors are (classes or channels, *shape) in voxels of one grid; lengths are in mm of that grid. All
randomness comes from the torch generator that is passed. Membership is soft, from 0 to 1, so that voxels on a border
hold a part of either side, as in a scan.

Idea: Hoffmann et al., "SynthMorph", IEEE Transactions on Medical Imaging 41 (2022) 543-558. The nested, folded shells
with cavities inside, which stand for a brain, are our own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Width of soft borders, in voxels: sigma 0.42 of a logistic curve.
_BORDER_VOXELS = 0.25
_TOP_SHARE = 0.995
# The percentile is taken over some of the voxels only: it is read to a percent, and in a quarter of the time.
_STRIDE = 5


@dataclass(frozen=True)
class Canvas:
    """A grid to draw on: shape, voxel size in mm, and the source of randomness."""

    shape: tuple[int, ...]
    spacing_mm: float
    generator: torch.Generator

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def uniform(self, low: float, high: float, *size: int) -> Tensor:
        """Numbers drawn evenly between two bounds, one if no size is given."""
        return low + (high - low) * torch.rand(size, generator=self.generator)

    def one(self, low: float, high: float) -> float:
        """One number drawn evenly between two bounds."""
        return float(self.uniform(low, high))

    def whole(self, low: int, high: int) -> int:
        """A whole number, `low` and `high` included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def happens(self, probability: float) -> bool:
        return self.one(0, 1) < probability

    def normal(self, *size: int) -> Tensor:
        return torch.randn(size, generator=self.generator)

    def noise(self, channels: int, length_mm: float | Sequence[float]) -> Tensor:
        """Smooth noise (channels, *shape) of standard deviation 1, as if white noise had been blurred by `length_mm`.

        It is a cubic B-spline with random coefficients at random places; one length for each axis may be given.
        """
        lengths = [length_mm] * self.ndim if isinstance(length_mm, int | float) else list(length_mm)
        bases = [self._spline_basis(n, max(sigma, 1e-3)) for n, sigma in zip(self.shape, lengths, strict=True)]
        field = self.normal(channels, *[basis.shape[1] for basis in bases])
        for basis in bases:  # each pass turns the first axis of coefficients into the last axis of voxels
            field = torch.tensordot(field, basis, dims=([1], [1]))
        return field

    def _spline_basis(self, n: int, sigma_mm: float) -> Tensor:
        """Weights (n voxels, coefficients) whose squares have mean sum 1."""
        # A cubic B-spline with knots h apart has the width of a Gaussian of sigma h / sqrt(3).
        knots = max(math.sqrt(3) * sigma_mm / self.spacing_mm, 1.0)
        place = torch.arange(n) / knots + self.one(0, 1) + 1.0
        count = int(place[-1]) + 3
        distance = (place[:, None] - torch.arange(count)).abs()
        inner = 2 / 3 - distance.square() * (1 - distance / 2)
        outer = (2 - distance).clamp_min(0).pow(3) / 6
        return torch.where(distance < 1, inner, outer) / math.sqrt(151 / 315)

    def places_mm(self) -> Tensor:
        """Coordinates (ndim, *shape) in mm, 0 in the middle of the grid."""
        axes = [(torch.arange(n) - (n - 1) / 2) * self.spacing_mm for n in self.shape]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"))

    def soft(self, depth_mm: Tensor) -> Tensor:
        """Membership of what lies at positive depth."""
        return torch.sigmoid(depth_mm / (_BORDER_VOXELS * self.spacing_mm))

    def choice(self, scores: Tensor) -> Tensor:
        """Memberships of the classes with the highest of the scores (classes, *shape) of standard deviation 1."""
        return torch.softmax(scores * 12.0, dim=0)


# -- label maps -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Anatomy:
    """Memberships (classes, *shape) with the background first, and a label map (*shape) that tells more apart.

    Labels part some classes further, along borders that no image shows. `tissues` groups classes that look alike.
    """

    classes: Tensor
    labels: Tensor
    tissues: tuple[int, ...]


def draw_shapes(canvas: Canvas, most_labels: int) -> Anatomy:
    """Shapes of no meaning, of one size, in a blob or all over the grid."""
    n = canvas.whole(min(5, most_labels), most_labels)
    length = canvas.one(7, 20)
    scores = canvas.noise(n, length) + 0.4 * canvas.noise(n, length / 2)
    if canvas.happens(0.5):
        classes = canvas.choice(scores)
    else:
        inside = canvas.soft(_blob_depth(canvas, canvas.one(0.7, 1.05)))
        classes = torch.cat([(1 - inside)[None], inside * canvas.choice(scores[1:])])
    return Anatomy(classes, highest(classes), tuple(range(n)))


def draw_head(canvas: Canvas, most_labels: int) -> Anatomy:
    """A blob of folded shells with cavities and grains inside: fluid, cortex, white matter, ventricles, nuclei.

    The tissues are 0 background, 1 fluid, 2 cortex, 3 white matter, and 4 and more for nuclei.
    """
    depth = _blob_depth(canvas, canvas.one(0.7, 1.05))
    shell, white = (_furrowed if canvas.happens(0.6) else _wavy)(canvas, depth)
    deep = depth - canvas.one(22, 40) + canvas.one(2, 6) * canvas.noise(1, 15)[0]
    n_nuclei = canvas.whole(2, min(7, most_labels - 4))
    nuclei = canvas.choice(canvas.noise(n_nuclei + 2, canvas.one(8, 14)))
    cavity = _cavity_depth(canvas, depth)

    layers = [canvas.soft(depth), canvas.soft(shell), canvas.soft(white), *(canvas.soft(deep) * nuclei[2:])]
    classes = _stacked([*layers, canvas.soft(cavity)])
    tissues = (0, 1, 2, 3, *range(4, 4 + n_nuclei), 1)
    return Anatomy(classes, _parcelled(canvas, classes, most_labels), tissues)


def _furrowed(canvas: Canvas, depth: Tensor) -> tuple[Tensor, Tensor]:
    """Depths in mm below the surfaces of cortex and white matter, which follow narrow furrows into the blob.

    Furrows are where smooth noise changes its sign, near the outside; the cortex lines them with one thickness.
    """
    length = canvas.one(2.5, 5.5)
    waves, reach = canvas.noise(2, length)
    # Close to where it is 0, noise of this length grows by about 1 / length per mm.
    beside = 1.2 * length * waves.abs()
    inwards = depth - canvas.one(8, 28) + canvas.one(1, 5) * reach
    surface = torch.minimum(depth, torch.maximum(beside, inwards))
    fluid = canvas.one(0.3, 2.0)
    return surface - fluid, surface - fluid - canvas.one(2.0, 4.0)


def _wavy(canvas: Canvas, depth: Tensor) -> tuple[Tensor, Tensor]:
    """Depths in mm below the surfaces of cortex and white matter, which bend in waves of their own."""
    outer, inner = canvas.noise(2, canvas.one(3, 6))
    fold_mm = canvas.one(3, 11)
    groove = outer.clamp_min(0)
    shell = depth - canvas.one(0.5, 4) - 0.7 * fold_mm * groove
    bends = 0.4 * groove + canvas.one(0.3, 0.8) * inner.clamp_min(0)
    return shell, shell - canvas.one(1.5, 4) - fold_mm * bends


def _blob_depth(canvas: Canvas, size: float) -> Tensor:
    """Depth in mm below the surface of a bumpy ellipsoid near the middle; at size 1 it nearly fills the grid."""
    half_mm = torch.tensor([(n - 1) / 2 * canvas.spacing_mm for n in canvas.shape])
    radii = size * half_mm * canvas.uniform(0.78, 1.0, canvas.ndim)
    centre = 0.08 * half_mm * canvas.normal(canvas.ndim)
    view = (-1, *[1] * canvas.ndim)
    radius = ((canvas.places_mm() - centre.view(view)) / radii.view(view)).square().sum(0).sqrt()
    return (1 - radius) * radii.mean() + canvas.one(1, 6) * canvas.noise(1, canvas.one(14, 30))[0]


def _cavity_depth(canvas: Canvas, depth: Tensor) -> Tensor:
    """Depth in mm inside of elongated cavities in the middle of a blob, mostly two, one on each side."""
    view = (-1, *[1] * canvas.ndim)
    places = canvas.places_mm()
    side = canvas.one(6, 18)
    folded = torch.cat([(places[:1].abs() - side), places[1:] - canvas.one(-10, 10)])
    radii = torch.cat([canvas.uniform(3, 10, 1), canvas.uniform(15, 40, 1), canvas.uniform(6, 20, canvas.ndim - 2)])
    radius = (folded / radii.view(view)).square().sum(0).sqrt()
    found = (1 - radius) * radii.min() + canvas.one(0.5, 2.5) * canvas.noise(1, canvas.one(8, 14))[0]
    return torch.minimum(found, depth - 15)


def _stacked(layers: Sequence[Tensor]) -> Tensor:
    """Memberships (1 + layers, *shape) of a background and layers of which each covers those before it."""
    remaining = torch.ones_like(layers[0])
    classes = []
    for layer in reversed(layers):
        classes.append(remaining * layer)
        remaining = remaining * (1 - layer)
    return torch.stack([remaining, *classes[::-1]])


def _parcelled(canvas: Canvas, classes: Tensor, most_labels: int) -> Tensor:
    """Labels (*shape) of classes, of which the shells and the white matter are cut into parcels."""
    hard = highest(classes)
    n_classes = len(classes)
    n_parcels = max(1, min(5, (most_labels - n_classes + 1) // 2 + 1))
    parcel = highest(canvas.noise(n_parcels, 22))
    cut = (hard == 2) | (hard == 3)
    beyond = n_classes + (hard - 2) * (n_parcels - 1) + parcel - 1
    return torch.where(cut & (parcel > 0), beyond, hard)


def highest(scores: Tensor) -> Tensor:
    """The index of the highest of the scores (n, *shape) at every voxel; many times faster than argmax along axis 0."""
    best, index = scores[0].clone(), torch.zeros(scores.shape[1:], dtype=torch.int64)
    for i in range(1, len(scores)):
        index.masked_fill_(scores[i] > best, i)
        torch.maximum(best, scores[i], out=best)
    return index


# -- images ---------------------------------------------------------------------------------------------


def draw_means(canvas: Canvas, tissues: Sequence[int], in_groups: bool) -> Tensor:
    """The intensity (classes,) of every class, 0 to 1; `in_groups`: tissues from 4 on look like one of the others."""
    values = canvas.uniform(0.02, 1.0, max(tissues) + 1)
    if in_groups:
        # Cortex and white matter are told apart by nearly every scanner.
        gap = values[3] - values[2]
        values[3] = values[2] + torch.copysign(
            gap.abs().clamp_min(0.2), gap if 0.2 < values[2] < 0.8 else 0.5 - values[2]
        )
        for tissue in range(4, len(values)):
            if canvas.happens(0.7):
                values[tissue] = values[canvas.whole(2, 3)] + 0.05 * canvas.normal(1)[0]
    if canvas.happens(0.3):
        values[1] = 0.02
    values[0] = 0.0
    return values[list(tissues)].clamp(0, 1)


def acquire(canvas: Canvas, clean: Tensor, foreground: Tensor, noise: float = 1.0) -> Tensor:
    """A scan (*shape) of the clean image (*shape): texture, bias field, blur, gamma, noise, background, scaled.

    `foreground` is its membership; the background is zero, as after skull stripping, or mostly so. `noise` is a factor
    on texture and noise.
    """
    length = canvas.one(2, 12)
    image = clean + noise * canvas.one(0, 0.08) * canvas.noise(1, length)[0]
    if canvas.happens(0.15):
        image = image + (1 - foreground) * canvas.one(0.1, 0.9) * torch.sigmoid(
            2 * canvas.noise(1, canvas.one(6, 20))[0]
        )
        foreground = torch.ones_like(foreground)
    image = image * torch.exp(canvas.one(0, 0.4) * canvas.noise(1, canvas.one(20, 40))[0])
    image = _blurred(canvas, image)
    image = image.clamp_min(0).clamp_max(2) ** math.exp(canvas.one(-0.5, 0.5))
    level = noise * canvas.one(0, 0.07)
    image = torch.hypot(image + level * canvas.normal(*canvas.shape), level * canvas.normal(*canvas.shape))
    return scaled(torch.where(foreground > canvas.one(0.2, 0.5), image, 0.0))


def _blurred(canvas: Canvas, image: Tensor) -> Tensor:
    """The image after a blur of up to 0.8 voxels, now and then of up to 1.6 along one axis."""
    times = [1] * canvas.ndim
    if canvas.happens(0.2):
        times[canvas.whole(0, canvas.ndim - 1)] = canvas.whole(2, 4)
    weight = 0.5 * canvas.one(0.0, 0.8) ** 2
    for axis, n in enumerate(times):
        for _ in range(n):
            image = _mixed(image, axis, weight)
    return image


def _mixed(image: Tensor, axis: int, weight: float) -> Tensor:
    """Each voxel with `weight` of either neighbour along an axis, which blurs by sqrt(2 weight) voxels."""
    found = image.clone()
    n = image.shape[axis]
    difference = weight * (image.narrow(axis, 1, n - 1) - image.narrow(axis, 0, n - 1))
    found.narrow(axis, 0, n - 1).add_(difference)
    found.narrow(axis, 1, n - 1).sub_(difference)
    return found


def scaled(image: Tensor) -> Tensor:
    """Intensities as networks are given them: the 99.5th percentile of what is not 0 becomes 1, with 1.5 at most."""
    some = image.flatten()[::_STRIDE]
    foreground = some[some > 0]
    if foreground.numel() == 0:
        return image
    top = foreground.kthvalue(max(1, round(_TOP_SHARE * foreground.numel()))).values
    return (image / top.clamp_min(1e-6)).clamp(0, 1.5)
