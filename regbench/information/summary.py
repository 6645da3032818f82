"""A survey in numbers over subjects and in sentences: means with their spread, labels by information, and what to
make of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite, isnan

import numpy as np

from regbench.information.merging import SIDES_MERGED
from regbench.information.record import Survey

QUANTITIES = (
    ("mi_nats", "I(intensity; label), labelled voxels, nats"),
    ("label_entropy_nats", "H(label), nats"),
    ("mi_ratio", "I / H"),
    ("mi_all_nats", "I over all voxels, background as a label, nats"),
    ("mi_all_ratio", "I / H over all voxels"),
    ("mi_jena_nats", "mi_jena_nats: plain, all voxels, 64 bins of equal width"),
    ("background_share", "background share"),
    ("voxels", "labelled voxels"),
    ("n_labels", "labels"),
    ("border_visible_share", "visible share of all borders"),
    ("border_between_visible_share", "visible share of borders between labels"),
)
JENA_NOTE = (
    'mi_jena_nats is the plain estimate that "Magic or Mirage?" (arXiv 2408.05839) describes; its bins, base of the '
    "logarithm and treatment of background were never published, so that it cannot be compared with figures from there."
)
_LITTLE = 0.05
_FEW_SUBJECTS = 6
_CROPPING = 0.1


@dataclass(frozen=True)
class Spread:
    """A quantity over n subjects: mean, standard deviation between subjects (NaN for one), lowest and highest."""

    n: int
    mean: float
    sd: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        known = np.array([value for value in values if not isnan(value)], dtype=float)
        if not known.size:
            return cls(0, *(4 * (float("nan"),)))
        sd = float(known.std(ddof=1)) if known.size > 1 else float("nan")
        return cls(known.size, float(known.mean()), sd, float(known.min()), float(known.max()))


@dataclass(frozen=True)
class LabelSummary:
    """A label over the subjects that have it: means of its voxels, information, share of its entropy, and border."""

    label: str
    name: str
    n: int
    voxels: float
    mi_nats: float
    mi_ratio: float
    border_visible_share: float


def spreads(survey: Survey) -> list[tuple[str, str, Spread]]:
    """Every quantity with its name for people, over subjects."""
    return [(key, text, Spread.of([getattr(one, key) for one in survey.measured])) for key, text in QUANTITIES]


def label_summaries(survey: Survey) -> list[LabelSummary]:
    """Every label, from the most to the least information for its size (share of its entropy)."""
    names, found = survey.label_names, []
    for label in dict.fromkeys(value for one in survey.measured for value in one.per_label):
        those = [one.per_label[label] for one in survey.measured if label in one.per_label]
        means = [
            Spread.of([getattr(one, key) for one in those]).mean
            for key in ("voxels", "mi_nats", "mi_ratio", "border_visible_share")
        ]
        found.append(LabelSummary(label, names.get(label, ""), len(those), *means))
    return sorted(found, key=lambda one: (-one.mi_ratio if isfinite(one.mi_ratio) else 1.0, int(one.label)))


def sensitivities(survey: Survey) -> dict[str, dict[str, float]]:
    """Information in nats by kind of choice and choice, mean over the subjects that have it."""
    found: dict[str, dict[str, list[float]]] = {}
    for one in survey.measured:
        for kind, values in one.sensitivity.items():
            for name, value in values.items():
                found.setdefault(kind, {}).setdefault(name, []).append(value)
    return {kind: {name: Spread.of(v).mean for name, v in values.items()} for kind, values in found.items()}


def notes(survey: Survey) -> list[str]:
    """What the numbers of a label set mean, one sentence or two each; empty without a measured subject."""
    if not survey.measured:
        return []
    return [*_scope(survey), *_contents(survey), *_background(survey), *_estimates(survey)]


def general_notes(surveys: Sequence[Survey]) -> list[str]:
    """What holds for all label sets: what counts as a visible border, and what the plain estimate is."""
    if not any(survey.measured for survey in surveys):
        return []
    chance = Spread.of([one.border_inside_share for survey in surveys for one in survey.measured]).mean
    border = (
        "A border is visible where the step across it is larger than 3 standard deviations of the same step inside the "
        "labels"
        + (f"; by this rule {_percent(chance)} of the steps inside would be borders." if isfinite(chance) else ".")
    )
    return [border, JENA_NOTE]


def _scope(survey: Survey) -> Iterator[str]:
    n = len(survey.measured)
    if not survey.complete:
        yield "Not all subjects were measured; these are means of those that were."
    if n == 1:
        yield "One subject: nothing is known of how subjects differ."
    elif n < _FEW_SUBJECTS:
        yield f"{n} subjects: the standard deviation between subjects is a rough guess."
    constant = [one.subject for one in survey.measured if one.constant_image]
    if constant:
        yield f"The image of {_shown(constant)} is constant: it tells nothing of any label."
    shapes = {len(one.shape) for one in survey.measured}
    if shapes == {2}:
        yield "Images are slices: borders are lines, and labels that meet above or below a slice share none here."
    thick = [one.subject for one in survey.measured if max(one.spacing_mm) > 2 * min(one.spacing_mm)]
    if thick:
        yield (
            f"Voxels of {_shown(thick)} are more than twice as long one way as another: borders across the long side "
            "rest on means over that distance, so that fine ones count as not visible."
        )


def _contents(survey: Survey) -> Iterator[str]:
    single = [one.subject for one in survey.measured if one.n_labels == 1]
    if single and survey.settings.mask == "fg":
        yield (
            f"There is only one label in {_shown(single)}: nothing can be told apart among labelled voxels (I = 0, "
            "I / H not defined); --mask all measures it against the background."
        )
    partial = [one for one in label_summaries(survey) if one.n < len(survey.measured)]
    if partial:
        several = f"{len(partial)} labels are" if len(partial) > 1 else "1 label is"
        yield (
            f"{several} missing in some subjects ({_shown([one.name or one.label for one in partial])}); their numbers "
            "are means of the subjects that have them."
        )
    summaries = [one for one in label_summaries(survey) if isfinite(one.mi_ratio)]
    little = [one for one in summaries if one.mi_ratio < _LITTLE]
    if little and len(summaries) > 1:
        yield (
            f"{len(little)} of {len(summaries)} labels are told by intensity to less than {_percent(_LITTLE)} of their "
            "entropy: where they lie must come from the neighbourhood or from what a network has learned."
        )
    yield from _sides(survey)


def _sides(survey: Survey) -> Iterator[str]:
    found = sensitivities(survey)
    merging, ratios = found.get("merging", {}), found.get("merging_ratio", {})
    if SIDES_MERGED not in merging or not merging["as they are"] > 0:
        return
    lost = max(1 - merging[SIDES_MERGED] / merging["as they are"], 0.0)
    told = f"Left and right as one label: information falls by {_percent(lost)}"
    if lost < _LITTLE:
        yield (
            f"{told}, since intensity hardly tells sides apart, and I / H is {ratios[SIDES_MERGED]:.2f} instead of "
            f"{ratios['as they are']:.2f}: the ratio depends on how finely labels are drawn."
        )
    else:
        yield f"{told}. Anatomy seldom makes one side brighter: look for a bias field or a coil that does."


def _background(survey: Survey) -> Iterator[str]:
    background = Spread.of([one.background_share for one in survey.measured]).mean
    inside = Spread.of([one.mi_nats for one in survey.measured]).mean
    everything = Spread.of([one.mi_all_nats for one in survey.measured]).mean
    if abs(everything - inside) > _CROPPING * max(abs(inside), 1e-9) and background > 0:
        yield (
            f"Background fills {_percent(background)} of the image: information over all voxels ({everything:.2f} nats "
            f"against {inside:.2f}) measures how the image is cropped as much as what is in it."
        )


def _estimates(survey: Survey) -> Iterator[str]:
    bias = Spread.of([one.bias_nats for one in survey.measured]).mean
    shuffled = Spread.of([one.shuffled_nats for one in survey.measured]).mean
    inside = Spread.of([one.mi_nats for one in survey.measured]).mean
    yield (
        f"Counting alone makes {_nats(shuffled)} nats (shuffled labels) of which the correction took away "
        f"{_nats(bias)}"
        + (
            ": little beside what was found."
            if shuffled < 0.05 * abs(inside)
            else ", which is much beside what was found: there are few voxels for so many bins and labels."
        )
    )
    bins = sensitivities(survey).get("bins", {})
    known = [value for value in bins.values() if isfinite(value)]
    if len(known) > 1 and max(known) > 0:
        first, last = min(bins, key=int), max(bins, key=int)
        yield f"From {first} to {last} bins, information changes by {100 * (bins[last] / bins[first] - 1):+.1f} %."


def _percent(share: float) -> str:
    shown = f"{100 * share:.0f}" if share >= 0.095 else f"{100 * share:.1f}".removesuffix(".0")
    return f"{shown} %"


def _nats(value: float) -> str:
    return f"{value:.4f}" if abs(value) >= 0.00005 else "less than 0.0001"


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} others" if len(names) > 3 else "")
