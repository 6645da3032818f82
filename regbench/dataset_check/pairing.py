"""Whether every label map belongs to its image: what an image tells of labels, and whether another tells more.

The labels of a scan share mutual information with the intensities of that scan (`regbench.metrics.information`,
labelled voxels). Where two files were swapped, the labels share more with the image of another scan. That alone
proves nothing, because an image of high contrast tells more of everybody's labels; so the two scans have to gain
together by an exchange: I(L1, X2) + I(L2, X1) against I(L1, X1) + I(L2, X2). This is an error, the other a warning.
Where the background of images was cut out, only what is left of an image is asked, since the outline of another brain
tells where labels are, too, and an image that lacks more of the labelled voxels than their own cannot be theirs. Labels
that lie outside of their own image, and inside of another, are an error as well, if both scans gain by an exchange.

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
# What is exactly the darkest value was cut out if it is this share of an image.
_LEAST_CUT_OUT = 0.1
# Labels of which more than this lies outside of their image are looked for in others.
_OUTSIDE_SHARE = 0.05


@dataclass(frozen=True)
class Suspect:
    """A label map that another image fits better than its own: `how` in words; `gains` if both gain by an exchange."""

    name: str
    better: str
    how: str
    better_nats: float
    gains: bool = True


def check_pairing(scans: Sequence[Surveyed], seed: int = 0) -> list[Finding]:
    """Errors for label maps that seem to belong to another image; a note if the test says nothing, or passed."""
    usable = [scan for scan in scans if _is_usable(scan)]
    if len(usable) < 2:
        return []
    own = {scan.name: information(scan, scan) for scan in usable}
    outside = [found for scan in usable if (found := _outside(scan, usable)) is not None]
    known = {suspect.name for suspect in outside}
    others = (scan for scan in usable if scan.name not in known)
    suspects = [found for scan in others if (found := _suspect(scan, usable, own, seed)) is not None]
    # Half of the files may be swapped: what the best image tells then says whether the test means anything.
    typical = float(np.median([*own.values(), *(s.better_nats for s in suspects)]))
    is_told = typical >= _LEAST_NATS
    errors = [
        Finding(
            "error",
            "pairing",
            f"the labels of '{s.name}' fit the image of '{s.better}' better than their own ({s.how}), and so the other "
            "way round: files seem to be swapped, look at both",
        )
        for s in (*outside, *(suspects if is_told else ()))
        if s.gains
    ]
    if not is_told:
        words = f"images tell too little of their labels ({typical:.3f} nats) to say whether files were swapped"
        return errors or [Finding("note", "pairing", words)]
    rest = [s.name for s in suspects if not s.gains]
    if rest:
        words = f"label maps that share more information with another image than with their own: {shown(rest)}"
        errors.append(Finding("warning", "pairing", f"{words}; the other image may only have more contrast"))
    fits = f"every label map fits its own image best ({len(usable)} scans, {typical:.2f} nats)"
    return errors or [Finding("note", "pairing", fits)]


def information(labels_of: Surveyed, image_of: Surveyed) -> float:
    """What the image of one scan tells of the labels of another in nats, over labelled voxels of the coarse copies.

    Voxels that were cut out of the image are left out; 0 where too few are left.
    """
    labels, image, body = _compared(labels_of, image_of)
    inside = (labels > 0) & body
    if inside.sum() < _LEAST_VOXELS:
        return 0.0
    return intensity_label_information(image[inside], labels[inside], bins=32).nats


def coverage(labels_of: Surveyed, image_of: Surveyed) -> float:
    """The share of the labelled voxels of one scan that were not cut out of the image of another, from 0 to 1."""
    labels, _, body = _compared(labels_of, image_of)
    return float(body[labels > 0].mean())


def _compared(labels_of: Surveyed, image_of: Surveyed) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of one scan with the image of another on their voxels, and what was not cut out of it (bool)."""
    labels, image = labels_of.coarse_labels, image_of.coarse_image
    assert labels is not None and image is not None
    body = image > image.min()
    if body.mean() > 1 - _LEAST_CUT_OUT:
        body = np.ones(image.shape, bool)
    if image.shape != labels.shape:
        image, body = _stretched(image, labels.shape), _stretched(body, labels.shape)
    return labels, image, body


def _stretched(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The image at the same relative positions on another number of voxels."""
    index = [
        np.clip(((np.arange(n) + 0.5) * m / n).astype(int), 0, m - 1) for n, m in zip(shape, image.shape, strict=True)
    ]
    return image[np.ix_(*index)]


def _outside(scan: Surveyed, scans: Sequence[Surveyed]) -> Suspect | None:
    """The scan whose image covers these labels, where their own does not, if it gains as well by an exchange."""
    mine = coverage(scan, scan)
    if mine > 1 - _OUTSIDE_SHARE:
        return None
    for other in scans:
        if other.name != scan.name and _fits(other, scan) and _fits(scan, other):
            there = coverage(scan, other)
            gain = there + coverage(other, scan) - mine - coverage(other, other)
            if there > mine + _OUTSIDE_SHARE and gain > 2 * _OUTSIDE_SHARE:
                how = f"which covers {100 * there:.0f} % of them against {100 * mine:.0f} %"
                return Suspect(scan.name, other.name, how, information(scan, other))
    return None


def _suspect(scan: Surveyed, scans: Sequence[Surveyed], own: Mapping[str, float], seed: int) -> Suspect | None:
    others = [other for other in scans if other.name != scan.name and _fits(other, scan)]
    few = random.Random(f"{seed} {scan.name}").sample(others, min(_OTHERS, len(others)))
    mine = own[scan.name]
    if not any(_is_more(information(scan, other), mine) for other in few):
        return None
    covered = coverage(scan, scan) - _OUTSIDE_SHARE
    told = {other.name: information(scan, other) for other in others if coverage(scan, other) >= covered}
    better = [other for other in others if _is_more(told.get(other.name, 0.0), mine)]
    if not better:
        return None

    def found(name: str, gains: bool) -> Suspect:
        return Suspect(scan.name, name, f"{told[name]:.2f} against {mine:.2f} nats", told[name], gains)

    for other in sorted(better, key=lambda other: -told[other.name]):
        together = told[other.name] + information(other, scan)
        if _fits(scan, other) and _is_more(together, mine + own[other.name]):
            return found(other.name, True)
    return found(max(told, key=lambda name: told[name]), False)


def _is_more(nats: float, than_nats: float) -> bool:
    return nats > than_nats + max(_MARGIN_NATS, _MARGIN_SHARE * than_nats)


def _fits(other: Surveyed, scan: Surveyed) -> bool:
    assert other.coarse_image is not None and scan.coarse_labels is not None
    # Other visits and phases of a subject fit its labels as well as its own image.
    return other.coarse_image.ndim == scan.coarse_labels.ndim and other.subject != scan.subject


def _is_usable(scan: Surveyed) -> bool:
    labels = scan.coarse_labels
    return labels is not None and scan.coarse_image is not None and bool((labels > 0).sum() >= _LEAST_VOXELS)
