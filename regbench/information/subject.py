"""What one image tells of its labels: information over labelled and over all voxels, label by label, and by its border.

Everything is measured before any registration and for this image alone. Numbers with `nats` are corrected for counting
(Miller-Madow) unless they are called plain. `mi_jena_nats` is the plain estimate of all voxels in 64 bins of equal
width, background included: the paper "Magic or Mirage?" (arXiv 2408.05839) tells neither bins, base nor background, so
that this is one reading of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from regbench.datasets.label_sets import LabelSet
from regbench.errors import DatasetError
from regbench.information.borders import Borders, border_visibility
from regbench.information.histograms import Histograms, merged, occurring
from regbench.information.merging import (
    CLASSES,
    DRAWS,
    SIDES_MERGED,
    TISSUES,
    random_classes,
    sides_merged,
    tissues,
)
from regbench.metrics.binned_counts import Binning, JointCounts
from regbench.metrics.information import BINS, Information, information_of_counts
from regbench.volume import Image, Labels

Mask = Literal["fg", "all"]
NO_LABELS = "has no labels"
SENSITIVITY_BINS = (16, 32, 64, 128, 256)
_SHUFFLES = 5


@dataclass(frozen=True)
class Settings:
    """How it is measured: bins of the main numbers, further ones for comparison, the voxels that labels are told
    apart in ("fg": labelled ones, "all"), whether every face of borders is looked at, and the seed of what is drawn."""

    bins: int = BINS
    compared_bins: tuple[int, ...] = SENSITIVITY_BINS
    mask: Mask = "fg"
    every_face: bool = False
    seed: int = 0

    def as_json(self) -> dict[str, Any]:
        """The settings as plain data."""
        return {**asdict(self), "compared_bins": list(self.all_bins)}

    @property
    def all_bins(self) -> tuple[int, ...]:
        """All numbers of bins, ascending."""
        return tuple(sorted({self.bins, *self.compared_bins}))


@dataclass(frozen=True)
class NamedLabels:
    """A label set by the name under which it was asked for."""

    name: str
    labels: LabelSet


@dataclass(frozen=True)
class LabelInformation:
    """What the intensity tells of one label against the rest, and how much of its border is visible (shares)."""

    voxels: int
    mi_nats: float
    entropy_nats: float
    mi_ratio: float
    border: float
    border_visible_share: float


@dataclass(frozen=True)
class SubjectInformation:
    """What the image of a subject tells of its labels in one label set; NaN where it is not defined.

    `voxels` are the labelled ones. `bias_nats` is what the correction took away from `mi_nats`, `shuffled_nats` what
    shuffled labels seem to tell without it (mean of some draws): both estimate the same. `sensitivity` has the
    information under other numbers of bins, binnings, masks and mergings of the labels. `problem` says why nothing
    was measured.
    """

    subject: str
    label_set: str
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    voxels: int = 0
    background_share: float = float("nan")
    n_labels: int = 0
    mi_nats: float = float("nan")
    label_entropy_nats: float = float("nan")
    mi_ratio: float = float("nan")
    bias_nats: float = float("nan")
    shuffled_nats: float = float("nan")
    mi_all_nats: float = float("nan")
    label_entropy_all_nats: float = float("nan")
    mi_all_ratio: float = float("nan")
    mi_jena_nats: float = float("nan")
    border_visible_share: float = float("nan")
    border_between_visible_share: float = float("nan")
    border_inside_share: float = float("nan")
    per_label: Mapping[str, LabelInformation] = field(default_factory=dict)
    sensitivity: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    label_names: Mapping[str, str] = field(default_factory=dict)
    constant_image: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Scan:
    """The image of a subject, its labels (None without any), and what takes no part in scores (not 0)."""

    subject: str
    image: Image
    labels: Labels | None
    excluded: Labels | None = None


def measure(scan: Scan, sets: Sequence[NamedLabels], settings: Settings) -> Iterator[SubjectInformation]:
    """What an image tells of its labels in each label set, all histograms from one pass over the voxels.

    Raises DatasetError if the labels are on another grid than the image.
    """
    labels = scan.labels
    if labels is None:
        raise DatasetError(f"'{scan.subject}' {NO_LABELS}")
    for what, other in (("labels", labels), ("excluded voxels", scan.excluded)):
        if other is not None and other.array.shape != scan.image.array.shape:
            raise DatasetError(
                f"'{scan.subject}': the image has {scan.image.grid.describe()} and its {what} have "
                f"{other.grid.describe()}; resample them onto the image (nearest neighbour) first"
            )
    binnings = [_Binnings.of(named.labels, settings) for named in sets]
    histograms = Histograms(scan.image, labels, [one for each in binnings for one in each.all], scan.excluded)
    for named, each in zip(sets, binnings, strict=True):
        told = _Told(named.labels, each, histograms, settings)
        yield told.of(named.name, scan, named.labels.apply(labels))


@dataclass(frozen=True)
class _Binnings:
    """The binnings that a label set is measured in: by number of bins over labelled voxels and over all, and of equal
    width and clipped at the main number of bins; `jena` is that of the plain estimate."""

    labelled: Mapping[int, Binning]
    everything: Mapping[int, Binning]
    width: Binning
    clipped: Binning
    jena: Binning

    @classmethod
    def of(cls, labels: LabelSet, settings: Settings) -> _Binnings:
        among = tuple(sorted(old for group in labels.groups.values() for old in group)) if labels.groups else None
        labelled, everything = Binning("frequency", settings.bins, True, among), Binning("frequency", settings.bins)
        clipped = replace(labelled if settings.mask == "fg" else everything, kind="clipped", exact=False)
        return cls(
            labelled={bins: replace(labelled, bins=bins, exact=bins == settings.bins) for bins in settings.all_bins},
            everything={
                bins: replace(everything, bins=bins, exact=bins == settings.bins) for bins in settings.all_bins
            },
            width=Binning("width", settings.bins, exact=False),
            clipped=clipped,
            jena=Binning("width", BINS),
        )

    @property
    def all(self) -> list[Binning]:
        return [*self.labelled.values(), *self.everything.values(), self.width, self.clipped, self.jena]


@dataclass(frozen=True)
class _Told:
    """What histograms tell of one label set."""

    labels: LabelSet
    binnings: _Binnings
    histograms: Histograms
    settings: Settings

    def counts(self, binning: Binning) -> JointCounts:
        """The histogram of this label set in a binning."""
        return occurring(merged(self.histograms.of(binning), self.labels.groups))

    def of(self, name: str, scan: Scan, labels: Labels) -> SubjectInformation:
        """Everything, for a scan and its map of this label set."""
        image = scan.image
        bins = self.settings.bins
        inside, everything = self.counts(self.binnings.labelled[bins]), self.counts(self.binnings.everything[bins])
        found, overall = information_of_counts(inside.counts), information_of_counts(everything.counts)
        borders = border_visibility(image, labels, inside.labels, self.settings.every_face, scan.excluded)
        present = set(inside.labels.tolist())
        return SubjectInformation(
            subject=scan.subject,
            label_set=name,
            shape=image.grid.shape,
            spacing_mm=tuple(float(s) for s in image.grid.spacing_mm),
            voxels=found.voxels,
            background_share=1 - found.voxels / overall.voxels,
            n_labels=len(present),
            mi_nats=found.nats,
            label_entropy_nats=found.label_entropy_nats,
            mi_ratio=found.ratio,
            bias_nats=information_of_counts(inside.counts, correction=False).nats - found.nats,
            shuffled_nats=shuffled_nats(inside.counts, self.settings.seed),
            mi_all_nats=overall.nats,
            label_entropy_all_nats=overall.label_entropy_nats,
            mi_all_ratio=overall.ratio,
            mi_jena_nats=information_of_counts(self.counts(self.binnings.jena).counts, correction=False).nats,
            border_visible_share=borders.visible_share,
            border_between_visible_share=borders.between_share,
            border_inside_share=borders.inside_share,
            per_label=_per_label(inside if self.settings.mask == "fg" else everything, borders),
            sensitivity=self._sensitivity(labels.names),
            label_names={str(value): str(text) for value, text in labels.names.items() if value in present},
            constant_image=float(image.array.min()) == float(image.array.max()),
        )

    def _sensitivity(self, names: Mapping[int, str]) -> dict[str, dict[str, float]]:
        """Information in nats under other bins, binnings and masks, and about merged labels."""
        foreground, bins = self.settings.mask == "fg", self.settings.bins
        by_bins = self.binnings.labelled if foreground else self.binnings.everything
        main, width = self.counts(by_bins[bins]), self.counts(self.binnings.width)
        by_binning = {
            "equal frequency": main.counts,
            # Over the range of the whole image, as images are usually normalised.
            "equal width, min-max": width.counts[:, width.labels > 0] if foreground else width.counts,
            "equal width, clipped": self.counts(self.binnings.clipped).counts,
        }
        masks = {"labelled voxels": self.binnings.labelled, "all voxels": self.binnings.everything}
        mergings = dict(_mergings(main, names, self.settings.seed))
        return {
            "bins": {str(n): information_of_counts(self.counts(binning).counts).nats for n, binning in by_bins.items()},
            "binning": {name: information_of_counts(counts).nats for name, counts in by_binning.items()},
            "mask": {name: information_of_counts(self.counts(one[bins]).counts).nats for name, one in masks.items()},
            "merging": {name: found.nats for name, found in mergings.items()},
            "merging_ratio": {name: found.ratio for name, found in mergings.items()},
        }


def shuffled_nats(counts: np.ndarray, seed: int) -> float:
    """The plain information in nats that intensities tell of shuffled labels, mean of some draws: what counting finds
    where there is nothing.

    To shuffle labels is to draw, label after label, so many voxels without replacement; voxels of one bin are alike.
    """
    total, in_label = int(counts.sum()), counts.sum(axis=0)
    if total == 0:
        return float("nan")
    rng = np.random.default_rng(seed)
    # numpy draws from up to a billion voxels; more of them have no bias to speak of.
    in_bin = counts.sum(axis=1)
    if total >= 1_000_000_000:
        return 0.0
    drawn = [_shuffled(in_bin, in_label, rng) for _ in range(_SHUFFLES)]
    return float(np.mean([information_of_counts(table, correction=False).nats for table in drawn]))


def _shuffled(in_bin: np.ndarray, in_label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    left, columns = in_bin.copy(), []
    for voxels in in_label:
        columns.append(rng.multivariate_hypergeometric(left, int(voxels), method="marginals"))
        left = left - columns[-1]
    return np.stack(columns, axis=1)


def _per_label(found: JointCounts, borders: Borders) -> dict[str, LabelInformation]:
    """Every label > 0 against the rest of the voxels."""
    total = found.counts.sum(axis=1)
    told = {}
    for value, column in zip(found.labels.tolist(), found.counts.T, strict=True):
        if value == 0:
            continue
        one = information_of_counts(np.stack([column, total - column], axis=1))
        area, visible = borders.per_label.get(value, (0.0, 0.0))
        told[str(value)] = LabelInformation(
            voxels=int(column.sum()),
            mi_nats=one.nats,
            entropy_nats=one.label_entropy_nats,
            mi_ratio=one.ratio,
            border=area,
            border_visible_share=visible / area if area else float("nan"),
        )
    return told


def _mergings(found: JointCounts, names: Mapping[int, str], seed: int) -> Iterator[tuple[str, Information]]:
    """The information about coarser labels; of random ones the mean over some draws."""
    present = [value for value in found.labels.tolist() if value > 0]
    background = {} if 0 not in found.labels else {0: (0,)}

    def told(groups: Mapping[int, Sequence[int]]) -> Information:
        return information_of_counts(merged(found, {**background, **groups}).counts)

    yield "as they are", information_of_counts(found.counts)
    for name, groups in ((SIDES_MERGED, sides_merged(names, present)), (TISSUES, tissues(names, present))):
        if groups:
            yield name, told(groups)
    for classes in CLASSES:
        if classes < len(present):
            drawn = [told(random_classes(present, classes, seed, draw)) for draw in range(DRAWS)]
            yield (
                f"random to {classes}",
                replace(
                    drawn[0],
                    nats=float(np.mean([one.nats for one in drawn])),
                    ratio=float(np.mean([one.ratio for one in drawn])),
                ),
            )
