"""The policy `prior`: what can be said before anything was run, and what to run first.

Published results and the information of the user's own images give a leaning, not a verdict: the data, the labels and
the tuning were others. The answer is therefore always undecided, with the cheapest experiment that would decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from regbench.analysis.recommend import wording
from regbench.analysis.recommend.experiments import prior_minutes, run_words
from regbench.analysis.recommend.outcome import KINDS, Experiment, Kind, Recommendation
from regbench.analysis.recommend.published import FIGURES, REMARKS, as_evidence, expected
from regbench.analysis.recommend.rule import LARGE, compared_with
from regbench.analysis.recommend.situation import Situation

FIRST_PAIRS = 10
_CHANGES = (
    "A run on pairs of your own, as below (`--write-config FILE` writes it); `regbench recommend RUN` then goes by it."
)
# To use until something is known: quick, needs nothing, and invertible; with two modalities one that knows them.
_SAFE, _SAFE_MULTI = "greedy", "ants-quick"


def advise_before(situation: Situation, informations: Sequence[Mapping[str, Any]] = ()) -> Recommendation:
    """Returns what published results and the information of the images let one expect, and what to run."""
    leaning, why = _leaning(situation)
    lean = f"They lean to {leaning}: {why}" if leaning else why
    figures = [figure for figure in FIGURES if _bears(figure.kind, situation)] if situation.modality == "mono" else []
    made = Recommendation(
        policy="prior",
        situation=situation,
        verdict="undecided",
        summary=f"Nothing was run yet, and published results are of other data. {lean}",
        provisional=_SAFE if situation.modality == "mono" else _SAFE_MULTI,
        leaning=leaning,
        evidence=as_evidence(figures) if situation.deploy != "shifted" else (),
        risks=tuple(_risks(situation)),
        changes=(_CHANGES,),
        experiments=tuple(_experiments(situation, informations)),
        notes=(*_expectations(situation), *_information(informations)),
    )
    return replace(made, rule=compared_with(made))


def _bears(kind: Kind, situation: Situation) -> bool:
    """Returns whether a paradigm is open to the user at all."""
    return not (kind == "learned (supervised)" and situation.training_labels == 0)


def _leaning(situation: Situation) -> tuple[str | None, str]:
    if situation.modality == "multi":
        return None, "None of the verified figures is about two modalities, so they lean nowhere."
    if situation.deploy == "shifted":
        return "classical", (
            "tested on other data than they were trained on, networks had a lower median than a classical method on "
            "all 4 test sets of the one study."
        )
    labels = situation.training_labels or 0
    if situation.deploy == "same" and labels >= LARGE:
        return "learned (supervised)", (
            f"with {LARGE} labelled subjects of the same data set, three supervised networks led by 5 to 10 Dice "
            "points, all on one data set (OASIS)."
        )
    if situation.deploy == "unknown":
        return "classical", (
            "without a shift unsupervised networks were ahead or behind by a few Dice points depending on the study, "
            "and under a shift a classical method led on all 4 test sets of the one study."
        )
    few = (
        f" With {labels} labelled subjects, fewer than the {LARGE} of the study, supervision is untested."
        if labels
        else ""
    )
    return None, (
        "Without labels, unsupervised networks were ahead of or behind the best classical method by a few Dice points, "
        f"depending on study and network.{few}"
    )


def _expectations(situation: Situation) -> Iterator[str]:
    if situation.modality == "multi" or situation.deploy == "shifted":
        return
    for kind in KINDS:
        found = expected(kind) if _bears(kind, situation) else None
        if found is None:
            continue
        sets = "data set" if found.n_datasets == 1 else "data sets"
        if found.low is None:
            width = "too few for an interval"
        else:
            low, high = (wording.number(value, 0, signed=True) for value in (found.low, found.high or 0.0))
            width = f"a further data set would lie within [{low}, {high}] at 95 %"
        yield (
            f"{kind[0].upper()}{kind[1:]} against the best classical method: "
            f"{wording.number(found.mean, 1, signed=True)} Dice points, the mean over {found.n_datasets} {sets} "
            f"({found.n_figures} figure{'s' if found.n_figures > 1 else ''}); {width}."
        )


def _risks(situation: Situation) -> Iterator[str]:
    wanted = ("same", "shifted") if situation.deploy == "unknown" else (situation.deploy,)
    for remark in REMARKS:
        if remark.setting in wanted:
            yield f"{remark.text} ({remark.citation})"


def _information(informations: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    ratios = sorted(float(s["mi_ratio"]) for s in informations if isinstance(s.get("mi_ratio"), int | float))
    if not ratios:
        return
    middle = ratios[len(ratios) // 2]
    n = len(ratios)
    yield (
        f"Intensities tell {100 * middle:.0f} % of the label entropy (median of {n} subject{'s' if n > 1 else ''}). "
        "What they do not tell, no image loss sees either, whether an optimiser or a network minimises it; only labels "
        "in training, or anatomy known beforehand, can add it. How this predicts Dice on your data is not known: the "
        "published correlation (r = .886, Jena et al. 2024) is over four data sets."
    )


def _experiments(situation: Situation, informations: Sequence[Mapping[str, Any]]) -> Iterator[Experiment]:
    methods = (
        ["demons", "greedy", "voxelmorph-cohort"] if situation.modality == "mono" else ["ants-quick", "elastix-bspline"]
    )
    if situation.modality == "mono" and (situation.max_seconds is None or situation.max_seconds > 5):
        methods.append("instance-optimise")
    conditions = ("none",) if situation.deploy == "same" or situation.modality == "multi" else ("none", "gamma 2")
    sizes = [math.prod(s["shape"]) for s in informations if s.get("shape")]
    size = max(sizes) / 1e6 if sizes else None
    minutes = prior_minutes(methods, FIRST_PAIRS, len(conditions), size)
    yield Experiment(
        run_words(methods, FIRST_PAIRS, conditions, minutes), tuple(methods), FIRST_PAIRS, conditions, minutes
    )
