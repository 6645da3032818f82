"""What the intensity of a voxel tells of its label: mutual information, before any registration.

Conventions:

- I(X; L) = sum p(x, l) log(p(x, l) / (p(x) p(l))) in nats, over voxels, with the intensity X in bins
  (`regbench.metrics.binned_counts`) and the label L as it is. Voxels know nothing of their neighbours, so this is no
  bound on what a registration can reach.
- A histogram of few voxels finds information where there is none. The Miller-Madow correction adds (K - 1) / (2 N) to
  every entropy of K occupied cells and N voxels, and so ((Kx - 1) + (Kl - 1) - (Kxl - 1)) / (2 N) to I. It is an
  expectation: corrected information of independent data scatters about 0 and may be negative.
- The ratio I / H(L) has the same correction above and below, so that it is 1 where the intensity decides the label.
  It is NaN where one label has all voxels, since then H(L) = 0; I is 0 there.
- "Labelled" voxels have a label > 0. With background as a label, I mostly measures how much of it is in the picture,
  so it stands beside the headline value.

Everything but the metrics themselves is for single images too, not only for pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from regbench.alignment import Alignment
from regbench.errors import DatasetError
from regbench.metrics.binned_counts import Binning, Kind, binned_counts
from regbench.volume import Image, Labels

BINS = 64


@dataclass(frozen=True)
class Information:
    """What intensity tells of labels over some voxels: `nats` and `ratio`, NaN where they are not defined.

    The entropies are in nats, corrected as `nats` is; `bins_used`, `labels_used` and `cells_used` are the intensity
    bins, labels and pairs of both that occur.
    """

    nats: float
    ratio: float
    label_entropy_nats: float
    intensity_entropy_nats: float
    voxels: int
    bins_used: int
    labels_used: int
    cells_used: int


@dataclass(frozen=True)
class ImageInformation:
    """The information of an image about its labels: labelled voxels and all voxels in equal-frequency bins with
    correction, and all voxels in equal-width bins without."""

    labelled: Information
    everything: Information
    plain: Information


def mi_nats(alignment: Alignment) -> dict[str, Any]:
    """Mutual information of intensity and label in nats, mean of both images before the registration.

    Labelled voxels, 64 equal-frequency bins, Miller-Madow; beside it both images, the same for all voxels (`all`),
    the entropy of the labels, and `voxels`, the labelled ones of both images together. NaN if a map has no labels.
    """
    sides = alignment.once(pair_information)
    entropies = {f"{side}_label_entropy_nats": found.labelled.label_entropy_nats for side, found in _named(sides)}
    voxels = sum(side.labelled.voxels for side in sides)
    return {**_both(sides, "nats"), **entropies, "voxels": voxels}


def mi_ratio(alignment: Alignment) -> dict[str, Any]:
    """I / H(label), mean of both images before the registration, at most 1; parts as in `mi_nats`.

    NaN if a map has fewer than two labels (for `all`, background is one).
    """
    return _both(alignment.once(pair_information), "ratio")


def mi_jena_nats(alignment: Alignment) -> dict[str, Any]:
    """Plug-in mutual information in nats of all voxels, background included, in 64 bins of equal width.

    The bins span the range of each image; mean of both images before the registration.
    """
    fixed, moving = (side.plain.nats for side in alignment.once(pair_information))
    return {"mean": (fixed + moving) / 2, "fixed": fixed, "moving": moving}


def _named(sides: tuple[ImageInformation, ImageInformation]) -> list[tuple[str, ImageInformation]]:
    return list(zip(("fixed", "moving"), sides, strict=True))


def _both(sides: tuple[ImageInformation, ImageInformation], what: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for suffix, part, mean in (("", "labelled", "mean"), ("_all", "everything", "all")):
        values = {f"{side}{suffix}": getattr(getattr(told, part), what) for side, told in _named(sides)}
        found |= {mean: sum(values.values()) / 2, **values}
    return found


def pair_information(alignment: Alignment) -> tuple[ImageInformation, ImageInformation]:
    """The information of the fixed and of the moving image about their own labels, before any registration."""
    pair = alignment.pair
    assert pair.fixed_labels is not None and pair.moving_labels is not None
    return (
        image_summary(pair.fixed, pair.fixed_labels, alignment.threads, pair.fixed_excluded),
        image_summary(pair.moving, pair.moving_labels, alignment.threads, pair.moving_excluded),
    )


def image_summary(image: Image, labels: Labels, threads: int = 1, excluded: Labels | None = None) -> ImageInformation:
    """The three estimates of one image that the metrics report, from one pass over it without excluded voxels."""
    kinds = (Binning("frequency", BINS, labelled_only=True), Binning("frequency", BINS), Binning("width", BINS))
    arrays = image.array, labels.array
    if excluded is not None:
        arrays = arrays[0][excluded.array == 0], arrays[1][excluded.array == 0]
    labelled, everything, plain = binned_counts(*arrays, kinds, threads)
    return ImageInformation(
        labelled=information_of_counts(labelled),
        everything=information_of_counts(everything),
        plain=information_of_counts(plain, correction=False),
    )


def image_information(
    image: Image,
    labels: Labels,
    region: Literal["foreground", "all"] = "foreground",
    *,
    bins: int = BINS,
    binning: Kind = "frequency",
    correction: bool = True,
) -> Information:
    """What the intensities of an image tell of its labels: over voxels with a label > 0, or over all.

    Raises DatasetError if the shapes of the two differ.
    """
    if image.array.shape != labels.array.shape:
        raise DatasetError(
            f"information: an image of shape {image.array.shape} and labels of shape {labels.array.shape}; "
            "resample one onto the other first"
        )
    kind = Binning(binning, bins, labelled_only=region == "foreground")
    return information_of_counts(binned_counts(image.array, labels.array, [kind])[0], correction)


def intensity_label_information(
    intensities: np.ndarray,
    labels: np.ndarray,
    bins: int = BINS,
    binning: Kind = "frequency",
    correction: bool = True,
) -> Information:
    """What intensities tell of labels, voxel by voxel: arrays of the same size, labels of any kind.

    Intensities are compared as float32, the type of images. Raises DatasetError if the sizes differ or intensities
    are not finite.
    """
    intensities, labels = np.asarray(intensities, dtype=np.float32), np.asarray(labels)
    if intensities.size != labels.size:
        raise DatasetError(f"information: {intensities.size} intensities for {labels.size} labels; give one for each")
    if not np.isfinite(intensities).all():
        raise DatasetError("information: intensities are NaN or infinite; leave these voxels out")
    if labels.dtype.kind not in "iub":
        labels = np.unique(labels, return_inverse=True)[1]
    if labels.size == 0:
        return information_of_counts(np.zeros((bins, 1), np.int64), correction)
    return information_of_counts(binned_counts(intensities, labels, [Binning(binning, bins)])[0], correction)


def information_of_counts(counts: np.ndarray, correction: bool = True) -> Information:
    """What rows tell of columns in a table of voxel counts (bins, labels); everything NaN if it has no voxel."""
    counts = counts[:, counts.any(axis=0)][counts.any(axis=1)].astype(np.float64)
    total = float(counts.sum())
    cells, (n_bins, n_labels) = int(np.count_nonzero(counts)), counts.shape
    if total == 0:
        nan = float("nan")
        return Information(nan, nan, nan, nan, 0, 0, 0, 0)
    in_bin, in_label = counts.sum(axis=1, keepdims=True), counts.sum(axis=0, keepdims=True)
    # One product and one quotient of whole numbers: exactly 1 inside of the logarithm where the two are independent.
    quotient = np.divide(counts * total, in_bin * in_label, out=np.ones_like(counts), where=counts > 0)
    nats = float((counts * np.log(quotient)).sum() / total)
    per_cell = 1 / (2 * total) if correction else 0.0
    entropy = _entropy(in_label / total) + (n_labels - 1) * per_cell
    nats += ((n_bins - 1) + (n_labels - 1) - (cells - 1)) * per_cell
    return Information(
        nats=nats,
        ratio=nats / entropy if n_labels > 1 else float("nan"),
        label_entropy_nats=entropy,
        intensity_entropy_nats=_entropy(in_bin / total) + (n_bins - 1) * per_cell,
        voxels=int(total),
        bins_used=n_bins,
        labels_used=n_labels,
        cells_used=cells,
    )


def _entropy(share: np.ndarray) -> float:
    return float(np.abs((share * np.log(share)).sum()))
