"""Numbers and clauses of a recommendation in words; gains are positive where better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from regbench.analysis.groups import UNSHIFTED
from regbench.analysis.recommend.constraints import Facts
from regbench.analysis.recommend.scores import Block, Scores

MINUS = "\N{MINUS SIGN}"


def number(value: float, digits: int = 1, *, signed: bool = False) -> str:
    """Returns a number with a typographic minus; a rounded zero has no sign."""
    rounded = round(value, digits) or 0.0
    return f"{rounded:{'+' if signed else ''}.{digits}f}".replace("-", MINUS)


def digits_of(unit: str) -> int:
    return 2 if unit == "mm" else 1


def gain(mean: float, low: float | None, high: float | None, unit: str) -> str:
    """Returns a gain with its interval and unit, like '+4.1 [+3.0, +5.2] Dice points'."""
    digits = digits_of(unit)
    text = number(mean, digits, signed=True)
    if low is not None and high is not None and math.isfinite(low) and math.isfinite(high):
        text += f" [{number(low, digits, signed=True)}, {number(high, digits, signed=True)}]"
    return f"{text} {unit}"


def finding(lead: tuple[float, float], margin: float) -> str:
    """Returns what the interval of a lead (mean, half width) says, like 'ahead by more than the margin'."""
    mean, width = lead
    low, high = mean - width, mean + width
    if not math.isfinite(width):
        return "too few pairs or subjects"
    if low > margin:
        return "ahead by more than the margin"
    if high < -margin:
        return "behind by more than the margin"
    if -margin <= low and high <= margin:
        return "equal within the margin"
    if low > 0:
        return "ahead"
    if high < 0:
        return "behind"
    if low >= -margin:
        return "not behind by more than the margin"
    return "not ahead by more than the margin" if high <= margin else "open"


def block_words(block: Block) -> str:
    """Returns which conditions a block is over."""
    conditions = list(dict.fromkeys(c for stratum in block.strata for c in stratum.conditions))
    if conditions == [UNSHIFTED]:
        return "no shift"
    if len(conditions) == 1:
        return conditions[0]
    kinds = list(dict.fromkeys(condition.split()[0] for condition in conditions))
    return (
        f"{len(conditions)} conditions ({listed(kinds, 4)})"
        if block.name == "same"
        else f"{len(conditions)} shifts ({listed(kinds, 4)})"
    )


def listed(names: Sequence[str], most: int | None = None) -> str:
    """Returns names as 'a, b and c'; beyond `most` the rest is counted."""
    names = list(names)
    if most is not None and len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def seconds(value: float) -> str:
    return f"{value:.3g} s" if value < 120 else f"{value / 60:.3g} minutes"


def needs_of(scores: Scores, method: str, facts: Facts) -> str:
    """Returns what has to be there before a method can be used: nothing, weights, a training, labels."""
    label = scores.labels[method]
    if label.paradigm == "classical":
        return "nothing to train"
    many = f" on {facts.n_training} subjects" if facts.n_training else ""
    if facts.is_own:
        labels = " and their label maps" if label.supervision == "labels" else ""
        return f"a training of your own: in the evidence it was trained{many} like the test subjects{labels}"
    if facts.card is not None and label.supervision == "synthetic":
        return "nothing to train: its weights come from made-up images"
    if facts.card is not None and facts.card.trained_on:
        return "its weights, which were trained elsewhere"
    return "a training; what it was trained on is not on record"


def failures(scores: Scores, methods: Sequence[str]) -> list[str]:
    """Returns a sentence per method that failed, and how many failures may have stayed unseen."""
    told = []
    for method in methods:
        failed, cases = scores.failed.get(method, 0), scores.cases.get(method, 0)
        if failed:
            told.append(
                f"{method} failed on {failed} of {cases} cases; they count as not registered where identity was run."
            )
    return told


def unseen_failures(cases: int) -> float:
    """Returns the share of failures that a method without any in so many cases may still have, at 95 %."""
    return 1 - 0.05 ** (1 / cases)


def settings_words(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in settings.items() if value is not None)
