"""Whether every label map belongs to its image: what an image tells of labels, and whether another tells more.

The labels of a scan share mutual information with the intensities of that scan (`regbench.metrics.information`,
labelled voxels). Where two files were swapped, the labels share more with the image of another scan. That alone
proves nothing, because an image of high contrast tells more of everybody's labels; so the two scans have to gain
together by an exchange: I(L1, X2) + I(L2, X1) against I(L1, X1) + I(L2, X2). This is an error, the other a warning.

Images are compared on coarse copies, voxel by voxel; those of another shape by relative position. Each label map is
first tried with some other images; one that any of them tells more of is tried with all. Sets in which images tell next
to nothing of their labels (small crops) cannot be tested, which is said.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regbench.dataset_check.findings import Finding, shown
from regbench.dataset_check.survey import Surveyed
from regbench.metrics.information import intensity_label_information

_OTHERS = 24
# An exchange, or another image, has to gain this much, in nats and as a share: what few voxels tell scatters, and
# brains resemble each other.
_MARGIN_NATS, _MARGIN_SHARE = 0.02, 0.15
# Below this no image tells enough of its labels for a test.
_LEAST_NATS = 0.1
_LEAST_VOXELS = 50


@dataclass(frozen=True)
class Suspect:
    """A label map of which another image tells more than its own, in nats; `gains` if both gain by an exchange."""

    name: str
    own_nats: float
    better: str
    better_nats: float
    gains: bool


def check_pairing(scans: Sequence[Surveyed], seed: int = 0) -> list[Finding]:
    """Errors for label maps that seem to belong to another image; a note if the test says nothing, or passed."""
    usable = [scan for scan in scans if _is_usable(scan)]
    if len(usable) < 2:
        return []
    own = {scan.name: information(scan, scan) for scan in usable}
    suspects = [found for scan in usable if (found := _suspect(scan, usable, own, seed)) is not None]
    # Half of the files may be swapped: what the best image tells then says whether the test means anything.
    typical = float(np.median([*own.values(), *(s.better_nats for s in suspects)]))
    if typical < _LEAST_NATS:
        words = f"images tell too little of their labels ({typical:.3f} nats) to say whether files were swapped"
        return [Finding("note", "pairing", words)]
    errors = [
        Finding(
            "error",
            "pairing",
            f"the labels of '{s.name}' fit the image of '{s.better}' better than their own ({s.better_nats:.2f} "
            f"against {s.own_nats:.2f} nats), and so the other way round: files seem to be swapped, look at both",
        )
        for s in suspects
        if s.gains
    ]
    rest = [s.name for s in suspects if not s.gains]
    if rest:
        words = f"{len(rest)} label maps share more information with another image than with their own: {shown(rest)}"
        errors.append(Finding("warning", "pairing", f"{words}; the other image may only have more contrast"))
    fits = f"every label map fits its own image best ({len(usable)} scans, {typical:.2f} nats)"
    return errors or [Finding("note", "pairing", fits)]


def information(labels_of: Surveyed, image_of: Surveyed) -> float:
    """What the image of one scan tells of the labels of another in nats, over labelled voxels of the coarse copies."""
    labels, image = labels_of.coarse_labels, image_of.coarse_image
    assert labels is not None and image is not None
    if image.shape != labels.shape:
        image = _stretched(image, labels.shape)
    inside = labels > 0
    return intensity_label_information(image[inside], labels[inside], bins=32).nats


def _stretched(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The image at the same relative positions on another number of voxels."""
    index = [
        np.clip(((np.arange(n) + 0.5) * m / n).astype(int), 0, m - 1) for n, m in zip(shape, image.shape, strict=True)
    ]
    return image[np.ix_(*index)]


def _suspect(scan: Surveyed, scans: Sequence[Surveyed], own: Mapping[str, float], seed: int) -> Suspect | None:
    others = [other for other in scans if other.name != scan.name and _fits(other, scan)]
    few = random.Random(f"{seed} {scan.name}").sample(others, min(_OTHERS, len(others)))
    mine = own[scan.name]
    if not any(_is_more(information(scan, other), mine) for other in few):
        return None
    told = {other.name: information(scan, other) for other in others}
    better = [other for other in others if _is_more(told[other.name], mine)]
    for other in sorted(better, key=lambda other: -told[other.name]):
        together = told[other.name] + information(other, scan)
        if _fits(scan, other) and _is_more(together, mine + own[other.name]):
            return Suspect(scan.name, mine, other.name, told[other.name], True)
    best = max(told, key=lambda name: told[name])
    return Suspect(scan.name, mine, best, told[best], False)


def _is_more(nats: float, than_nats: float) -> bool:
    return nats > than_nats + max(_MARGIN_NATS, _MARGIN_SHARE * than_nats)


def _fits(other: Surveyed, scan: Surveyed) -> bool:
    assert other.coarse_image is not None and scan.coarse_labels is not None
    # Other visits and phases of a subject fit its labels as well as its own image.
    return other.coarse_image.ndim == scan.coarse_labels.ndim and other.subject != scan.subject


def _is_usable(scan: Surveyed) -> bool:
    labels = scan.coarse_labels
    return labels is not None and scan.coarse_image is not None and bool((labels > 0).sum() >= _LEAST_VOXELS)
