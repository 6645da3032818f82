"""Mutual information from joint histograms with cubic B-spline windows (Parzen windows), in nats.

Every intensity counts in the four bins around it; the outermost bins are margins, which no window leaves. The matrices
of windows exist for a few thousand voxels at a time: those of a whole image would take 32 times its memory. MONAI's
mutual information, which holds them, takes 17 times as long and 50 times the memory (96x112x96, one core).
The gradient by an intensity is the slope of its windows times a table of bins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from regbench.methods.objectives.arithmetic import full_precision, pairwise

# From a joint histogram to the objective and the table of its derivatives by the counts of the bins.
Criterion = Callable[[Tensor], tuple[Tensor, Tensor]]

# Windows of so many voxels stay inside the cache of a core; a GPU wants more work at a time.
_VOXELS_CPU, _VOXELS_GPU = 1 << 14, 1 << 18
# A single window has more; only the histogram of no voxel has less.
_LEAST_ENTROPY = 1e-3


@full_precision
def mutual_information(fixed: Tensor, moved: Tensor, mask: Tensor | None = None, bins: int = 32) -> Tensor:
    """Minus the mutual information of two images in nats; 0 where one is constant."""
    return _of_histogram(fixed, moved, mask, bins, _information)


@full_precision
def normalised_mutual_information(fixed: Tensor, moved: Tensor, mask: Tensor | None = None, bins: int = 32) -> Tensor:
    """2 - (H(fixed) + H(moved)) / H(fixed, moved), in [0, 1]; 1 where one is constant."""
    return _of_histogram(fixed, moved, mask, bins, _normalised_information)


def _information(joint: Tensor) -> tuple[Tensor, Tensor]:
    logs = _log(joint)
    of_fixed, of_moved = _log(joint.sum(1, keepdim=True)), _log(joint.sum(0, keepdim=True))
    table = of_fixed + of_moved - logs
    return (joint * table).sum(), table


def _normalised_information(joint: Tensor) -> tuple[Tensor, Tensor]:
    logs = _log(joint)
    of_both = _log(joint.sum(1, keepdim=True)) + _log(joint.sum(0, keepdim=True))
    # Entropies are negative here, and so is their ratio's every part.
    marginal, together = (joint * of_both).sum(), (joint * logs).sum().clamp_max(-_LEAST_ENTROPY)
    ratio = marginal / together
    return 2.0 - ratio, (ratio * logs - of_both) / together


def _log(counts: Tensor) -> Tensor:
    """Logarithms, with 0 for empty bins: no window reaches them."""
    return torch.where(counts > 0, counts, 1.0).log()


def _of_histogram(fixed: Tensor, moved: Tensor, mask: Tensor | None, bins: int, criterion: Criterion) -> Tensor:
    def of_item(
        f: Tensor, m: Tensor, weights: Tensor | None, needed: Sequence[bool]
    ) -> tuple[Tensor, Sequence[Tensor | None]]:
        if weights is None:
            total = f.new_full((), f.numel())
        else:
            weights = weights.expand_as(f)
            total = weights.sum().clamp_min(torch.finfo(f.dtype).tiny)
        scaled = [_Scaled(image, weights, bins) for image in (f, m)]
        value, table = criterion(_joint(scaled, weights, bins) / total)
        return value.to(f.dtype), _gradients(scaled, weights, (table / total).to(f.dtype), needed)

    return pairwise(of_item, fixed, moved, mask)


class _Scaled:
    """An image whose intensities are places among the bins, a few voxels at a time."""

    def __init__(self, image: Tensor, weights: Tensor | None, bins: int) -> None:
        self.image, self.values, self.bins = image, image.reshape(-1), bins
        self.low, high = _extremes(image, weights)
        width = high - self.low
        self.step = torch.where(width > 0, (bins - 3) / width.clamp_min(torch.finfo(image.dtype).tiny), 0.0)

    def places(self, part: slice) -> tuple[Tensor, Tensor]:
        """The first of the four bins (N,) of each voxel, and how far between the middle two it lies, in [0, 1]."""
        place = ((self.values[part] - self.low) * self.step).clamp_(0, self.bins - 3)
        first = place.floor().clamp_max_(self.bins - 4)
        return first.long(), place - first


def _extremes(image: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """The least and the greatest intensity where weights are not 0; the least of all twice where there are none."""
    if weights is None:
        return image.amin(), image.amax()
    least = image.amin()
    high = torch.where(weights > 0, image, least).amax()
    return torch.where(weights > 0, image, high).amin(), high


def _windows(first: Tensor, weights: Tensor, bins: int) -> Tensor:
    """A matrix (N, bins) that holds four weights (4, N) of each voxel from its first bin on."""
    n = first.shape[0]
    matrix = weights.new_zeros(n * bins)
    start = first + torch.arange(n, device=first.device) * bins
    places = start + torch.arange(4, device=first.device).view(4, 1)
    return matrix.scatter_(0, places.view(-1), weights.view(-1)).view(n, bins)


def _weights(t: Tensor) -> Tensor:
    """The four cubic B-splines (4, N) over a place."""
    s = 1.0 - t
    return torch.stack([s**3, 4 - 6 * t * t + 3 * t**3, 4 - 6 * s * s + 3 * s**3, t**3]) / 6


def _slopes(t: Tensor) -> Tensor:
    """The derivatives of `_weights`."""
    s = 1.0 - t
    return torch.stack([-s * s, 3 * t * t - 4 * t, 4 * s - 3 * s * s, t * t]) / 2


def _parts(image: Tensor) -> list[slice]:
    size = _VOXELS_CPU if image.device.type == "cpu" else _VOXELS_GPU
    return [slice(start, start + size) for start in range(0, image.numel(), size)]


def _joint(scaled: Sequence[_Scaled], weights: Tensor | None, bins: int) -> Tensor:
    """The joint histogram (bins of fixed, bins of moved), float64."""
    fixed, moved = scaled
    joint = torch.zeros((bins, bins), dtype=torch.float64, device=fixed.image.device)
    flat = None if weights is None else weights.reshape(-1)
    for part in _parts(fixed.image):
        (f_first, f_place), (m_first, m_place) = fixed.places(part), moved.places(part)
        f_weights = _weights(f_place) if flat is None else _weights(f_place) * flat[part]
        joint += _windows(f_first, f_weights, bins).T @ _windows(m_first, _weights(m_place), bins)
    return joint


def _gradients(
    scaled: Sequence[_Scaled], weights: Tensor | None, table: Tensor, needed: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients by the intensities of both images, of their shapes."""
    gradients: list[Tensor | None] = []
    flat = None if weights is None else weights.reshape(-1)
    for this, other, of_bins, need in (
        (scaled[0], scaled[1], table.T, needed[0]),
        (scaled[1], scaled[0], table, needed[1]),
    ):
        if not need:
            gradients.append(None)
            continue
        gradient = torch.empty_like(this.values)
        for part in _parts(this.image):
            first, place = other.places(part)
            felt = _windows(first, _weights(place), this.bins) @ of_bins
            first, place = this.places(part)
            near = felt.gather(1, first[:, None] + torch.arange(4, device=first.device))
            torch.mul((near * _slopes(place).T).sum(1), this.step, out=gradient[part])
        gradients.append((gradient if flat is None else gradient * flat).view(this.image.shape))
    return gradients
