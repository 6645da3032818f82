"""What a relation of information and Dice allows to say, in sentences, and not more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from regbench.analysis.correlation import FEWEST_DATASETS, Estimate
from regbench.analysis.information_factors import Factor, Slope
from regbench.analysis.statistics import Interval

if TYPE_CHECKING:
    from regbench.analysis.information import Relation

_MINUS = "\N{MINUS SIGN}"
# Differences of correlations below this are not worth a word.
_ALIKE = 0.1
_MOST_METHODS = 6


def conclusions(relation: Relation) -> list[str]:
    """Returns the sentences that the numbers of a relation allow, the limits first."""
    if not relation.points:
        told = list(_factor_sentences(relation))
        return told or [
            "No pair has both Dice and information: run with `metrics: full` (or add mi_nats to the list), or give the "
            "folder that `regbench mi-analysis DATASET -o DIR` has written."
        ]
    return [
        _scope_sentence(relation),
        *_anatomy_sentences(relation),
        *_within_sentences(relation),
        *_paper_sentence(relation),
        *_label_sentences(relation),
        *_factor_sentences(relation),
    ]


def correlation(estimate: Estimate) -> str:
    """Returns a correlation with its interval, like '0.71 [0.40, 0.87]'; a hyphen where it is not defined."""
    if estimate.r != estimate.r:
        return "-"
    if estimate.low is None or estimate.high is None:
        return _number(estimate.r)
    return f"{_number(estimate.r)} [{_number(estimate.low)}, {_number(estimate.high)}]"


def _number(value: float, digits: int = 2) -> str:
    return f"{round(value, digits) or 0.0:.{digits}f}".replace("-", _MINUS)


def _listed(names: list[str]) -> str:
    shown = names[:_MOST_METHODS]
    more = [f"{len(names) - len(shown)} more"] if len(names) > len(shown) else []
    *first, last = [*shown, *more]
    return f"{', '.join(first)} and {last}" if first else last


def _clear(estimate: Estimate) -> int:
    """Returns 1 or -1 where the interval leaves only one sign, else 0."""
    if estimate.low is None or estimate.high is None:
        return 0
    return 1 if estimate.low > 0 else -1 if estimate.high < 0 else 0


# -- what kind of evidence it is ----------------------------------------------------------------------


def _scope_sentence(relation: Relation) -> str:
    n, own = len(relation.datasets), relation.n_independent
    if n > own:
        return (
            f"Between-dataset only: {n} data sets, of which no more than {own} can be of subjects of their own (others "
            "have the very same pairs, as label sets of the same images have): do not conclude."
        )
    if n == 1:
        return (
            f"One data set ({relation.datasets[0]}): only a correlation within it can be told; what holds between data "
            "sets, as in the paper, is not tested."
        )
    if n < FEWEST_DATASETS:
        return (
            f"Between-dataset only: {n} data sets, do not conclude. A pooled correlation of {n} data sets mostly says "
            f"how {n} means lie, and so few lie near some line whatever is true."
        )
    return (
        f"{n} data sets: a correlation between them rests on {n} points that differ in much else (labels, sizes, "
        "scanners); it says that they go together, not why."
    )


def _anatomy_sentences(relation: Relation) -> Iterator[str]:
    """Yields what Dice does before any registration."""
    if relation.identity is None:
        yield (
            "Without `identity` among the methods it stays open whether Dice follows the information before any "
            "registration already."
        )
        return
    scope = "pooled" if len(relation.datasets) > 1 else "within"
    base = relation.find(relation.identity, scope)  # type: ignore[arg-type]
    if base is None or base.estimate.r != base.estimate.r:
        return
    others = [m.name for m in relation.methods if m.name != relation.identity]
    found = {m: one.estimate for m in others if (one := relation.find(m, scope))}  # type: ignore[arg-type]
    not_more = [m for m, e in found.items() if e.r <= base.estimate.r + _ALIKE]
    text = f"Before any registration Dice has r = {correlation(base.estimate)} with the information already"
    if found and len(not_more) == len(found):
        yield f"{text}, and no method has much more: anatomy and labels alone can make Dice follow information."
    elif _clear(base.estimate) > 0:
        yield f"{text}: a part of what methods show is anatomy and labels, not registration."
    elif _clear(base.estimate) < 0:
        yield f"{text}: it falls where the information rises, so that pairs of more information began further apart."
    else:
        yield f"{text}, which is no clear correlation."
    gains = {m: one.estimate for m in others if (one := relation.find(m, scope, outcome="gain"))}  # type: ignore[arg-type]
    rising = [m for m, e in gains.items() if _clear(e) > 0]
    falling = [m for m, e in gains.items() if _clear(e) < 0]
    if rising:
        yield f"What registration adds to Dice grows with the information for {_listed(rising)}."
    if falling:
        yield f"What registration adds to Dice shrinks with the information for {_listed(falling)}."
    if gains and not rising and not falling:
        yield "Whether what registration adds to Dice depends on the information stays open for every method."


def _within_sentences(relation: Relation) -> Iterator[str]:
    """Yields where the pooled correlation and that within data sets say different things."""
    if len(relation.datasets) < 2:
        yield from _single_sentences(relation)
        return
    apart: list[str] = []
    reversed_: list[str] = []
    both: list[str] = []
    falling: list[str] = []
    for method in relation.methods:
        pooled, within = relation.find(method.name, "pooled"), relation.find(method.name, "within")
        if pooled is not None and _clear(pooled.estimate) < 0:
            falling.append(method.name)
        if pooled is None or within is None or _clear(pooled.estimate) <= 0:
            continue
        if _clear(within.estimate) < 0:
            reversed_.append(method.name)
        elif _clear(within.estimate) == 0:
            apart.append(method.name)
        else:
            both.append(method.name)
    if reversed_:
        yield (
            f"Pooled and within data sets say the opposite for {_listed(reversed_)}: between data sets Dice rises with "
            "the information, within a data set it falls. The pooled correlation must not be read as an effect."
        )
    if apart:
        yield (
            f"For {_listed(apart)} the pooled correlation is between data sets: within a data set there is none to be "
            f"seen (such as {correlation(_estimate(relation, apart[0], 'within'))} for {apart[0]})."
        )
    if both:
        strong = relation.n_independent >= FEWEST_DATASETS
        yield (
            f"For {_listed(both)} Dice follows the information within data sets as well"
            + ("." if strong else "; with so few data sets this is no law.")
        )
    if falling:
        yield (
            f"Pooled, Dice falls where the information rises for {_listed(falling)}: the opposite of what the paper "
            "finds."
        )
    if not (reversed_ or apart or both or falling):
        yield "No method shows a clear pooled correlation of Dice with the information."


def _single_sentences(relation: Relation) -> Iterator[str]:
    """Yields what holds within the only data set."""
    told = {
        m.name: one.estimate
        for m in relation.methods
        if m.paradigm != "none" and (one := relation.find(m.name, "within"))
    }
    positive, negative = ([m for m, e in told.items() if _clear(e) == sign] for sign in (1, -1))
    if positive:
        yield f"Within the data set, pairs of more information have a higher Dice by {_listed(positive)}."
    if negative:
        yield f"Within the data set, pairs of more information have a lower Dice by {_listed(negative)}."
    if told and not positive and not negative:
        yield "Within the data set no method shows that pairs of more information have a higher Dice."


def _estimate(relation: Relation, method: str, scope: str) -> Estimate:
    found = relation.find(method, scope)  # type: ignore[arg-type]
    assert found is not None
    return found.estimate


def _paper_sentence(relation: Relation) -> Iterator[str]:
    classical = [m.name for m in relation.methods if m.paradigm == "classical"]
    chosen = next((m for m in classical if m.startswith("ants")), classical[0] if classical else None)
    linear = relation.find(chosen, "pooled") if chosen else None
    logarithm = relation.find(chosen, "pooled", "log") if chosen else None
    if linear is None or logarithm is None or linear.estimate.r != linear.estimate.r:
        return
    yield (
        "The paper (arXiv 2408.05839) reports r = 0.886, and 0.933 with the logarithm, pooled over four data sets "
        f"registered with ANTs. Here, pooled for {chosen}: {correlation(linear.estimate)}, and with the logarithm "
        f"{correlation(logarithm.estimate)}, over {linear.estimate.n} pairs of {len(relation.datasets)} "
        f"data set{'' if len(relation.datasets) == 1 else 's'}."
    )


def _label_sentences(relation: Relation) -> Iterator[str]:
    told = {}
    for method in relation.methods:
        found = relation.find(method.name, "within", unit="labels")
        if found is not None and found.estimate.r == found.estimate.r:
            told[method.name] = found.estimate
    if not told:
        return
    clear = [m for m, e in told.items() if _clear(e) > 0]
    if relation.identity in clear:
        yield (
            f"Labels of more information have a higher Dice, but before any registration too "
            f"(r = {correlation(told[str(relation.identity)])}): large labels have both."
        )
    elif clear:
        yield f"Labels of more information have a higher Dice by {_listed(clear)}."
    else:
        yield "Labels of more information do not clearly have a higher Dice."


# -- factors ------------------------------------------------------------------------------------------


def _factor_sentences(relation: Relation) -> Iterator[str]:
    several = len({factor.dataset for factor in relation.factors}) > 1
    for factor in relation.factors:
        yield factor_sentence(factor, several=several)
    overall = _overall(relation.factors)
    if overall:
        yield overall


def factor_sentence(factor: Factor, *, several: bool = False) -> str:
    """Returns what one factor shows, for all methods; `several` names the data set."""
    slopes = [one for one in factor.slopes if one.measure == "mi_nats" and one.outcome == "dice"]
    slopes = slopes or [one for one in factor.slopes if one.outcome == "dice"]
    measure = slopes[0].measure
    low, high = factor.extent(measure)
    # Who never registers tells of the labels only; images alone cannot change its Dice.
    moving = [one for one in slopes if factor.changes != "images" or abs(one.strongest.mean) > 1e-9]
    where = f"{factor.name} on {factor.dataset}" if several else factor.name
    unit = "nats" if measure.endswith("nats") else ""
    start = factor.levels[0].information.get(measure, float("nan"))
    extent = f"{_number(low)} to {_number(high)} {unit}".rstrip() + f" (unchanged data {_number(start)})"
    changed = {"images": "images change, labels stay", "labels": "labels change, images stay"}.get(factor.changes, "")
    head = f"{where}{f' ({changed})' if changed else ''}: "
    if all(one.follows == "information stays" for one in slopes):
        changed_by = [f"{one.method} by {_points(one.strongest)}" for one in moving if _is_clear(one.strongest)]
        effect = "and no method's Dice clearly does"
        if changed_by:
            effect = f"while Dice changes for {_listed(changed_by)}: that is not information"
        return f"{head}the information hardly changes, {extent}, {effect}."
    parts = [f"information {extent}"]
    for verdict, told in _TOLD.items():
        which = [one for one in moving if one.follows == verdict]
        if which:
            parts.append(f"{told} {_listed([_with_slope(one) for one in which])}")
    return f"{head}{'; '.join(parts)} (Dice points per 0.1 of information)."


_TOLD = {
    "follows": "Dice follows it for",
    "goes against": "Dice goes against it (rises where information falls) for",
    "does not follow": "Dice does not follow it for",
    "undecided": "undecided for",
    "too few": "too few pairs to tell for",
}


def _with_slope(slope: Slope) -> str:
    """Returns a method with what its Dice changes per 0.1 of information."""
    text = f"{_number(10 * slope.slope, 1)}"
    if slope.low is not None and slope.high is not None:
        text += f" [{_number(10 * slope.low, 1)}, {_number(10 * slope.high, 1)}]"
    return f"{slope.method} ({text})"


def _is_clear(value: Interval) -> bool:
    return value.low is not None and value.high is not None and (value.low > 0 or value.high < 0)


def _points(value: Interval) -> str:
    text = f"{_number(100 * value.mean, 1)}"
    if value.low is not None and value.high is not None:
        text += f" [{_number(100 * value.low, 1)}, {_number(100 * value.high, 1)}]"
    return f"{text} points"


def _overall(factors: tuple[Factor, ...]) -> str:
    """Returns whether one slope fits all factors of each method, as far as there are several."""
    told: dict[str, dict[str, Slope]] = {}
    for factor in factors:
        for one in factor.slopes:
            if (one.measure, one.outcome) == ("mi_nats", "dice") and one.follows in ("follows", "goes against"):
                told.setdefault(one.method, {})[f"{factor.dataset}: {factor.name}"] = one
    disagree = []
    for method, by_factor in told.items():
        highest = max((one.low for one in by_factor.values() if one.low is not None), default=0.0)
        lowest = min((one.high for one in by_factor.values() if one.high is not None), default=0.0)
        if len(by_factor) > 1 and highest > lowest:
            disagree.append(method)
    if not disagree:
        return ""
    opposite = any(len({one.follows for one in told[method].values()}) > 1 for method in disagree)
    return (
        f"For {_listed(disagree)} no single slope fits all changes"
        + (", not even a single sign" if opposite else "")
        + ": the same loss of information costs a different amount of Dice by what was changed, so information alone "
        "does not decide Dice."
    )
