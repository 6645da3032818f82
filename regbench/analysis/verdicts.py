"""Verdicts on paired differences, and the words for them.

A difference that is surely there may still be too small to matter. A verdict therefore compares the interval of
a difference with a margin of practical equivalence: the whole interval beyond the margin is ahead or behind, the
whole interval within the margin is level, anything else is undecided.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from regbench.analysis.groups import higher_is_better
from regbench.analysis.statistics import TOO_FEW_SUBJECTS, Interval
from regbench.metrics.table import METRICS

Verdict = Literal["ahead", "behind", "level", "undecided", "too few"]

# Half a Dice point is about what two runs of one method with other settings differ by; for distances a tenth of
# a millimetre, a tenth of the finest usual voxel.
MARGINS = {"dice": 0.005, "tre_mm": 0.1, "epe_mm": 0.1}


def verdict(difference: Interval, metric: str) -> Verdict:
    """Returns where a paired difference (method minus reference) of this metric puts the method."""
    if difference.low is None or difference.high is None:
        return "too few"
    low, high = difference.low, difference.high
    if not higher_is_better(metric):
        low, high = -high, -low
    margin = MARGINS.get(metric, 0.0)
    if low >= margin > 0 or low > margin:
        return "ahead"
    if high <= -margin < 0 or high < -margin:
        return "behind"
    return "level" if -margin <= low and high <= margin else "undecided"


def amount(difference: Interval, metric: str, *, signed: bool = True) -> str:
    """Returns a difference with its interval and unit, like '+4.1 [+3.0, +5.2] Dice points'.

    Without the sign the size is given, for sentences whose words say which way it goes.
    """
    scale, digits, unit = (100, 1, "Dice points") if metric == "dice" else (1, 2, _unit_and_name(metric))
    mean, low, high = (None if v is None else v * scale for v in (difference.mean, difference.low, difference.high))
    assert mean is not None
    if not signed and mean < 0:
        mean, low, high = -mean, None if high is None else -high, None if low is None else -low
    sign = "+" if signed else ""
    text = _number(mean, digits, sign)
    if low is not None and high is not None:
        text += f" [{_number(low, digits, sign)}, {_number(high, digits, sign)}]"
    return f"{text} {unit}".strip()


def as_gain(difference: Interval, metric: str) -> Interval:
    """Returns a difference with its sign such that positive is better."""
    if higher_is_better(metric) or difference.low is None or difference.high is None:
        return difference if higher_is_better(metric) else replace(difference, mean=-difference.mean)
    return replace(difference, mean=-difference.mean, low=-difference.high, high=-difference.low)


def too_few(difference: Interval) -> str:
    """Returns what is too little for an interval, like '3 pairs are too few'."""
    if difference.method == TOO_FEW_SUBJECTS:
        return "these subjects are too few"
    return "1 pair is too few" if difference.n == 1 else f"{difference.n} pairs are too few"


def _unit_and_name(metric: str) -> str:
    unit = METRICS[metric].unit if metric in METRICS else "1"
    name = metric.removesuffix(f"_{unit}").upper()
    return name if unit == "1" else f"{unit} {name}"


def _number(value: float, digits: int, sign: str) -> str:
    # A rounded zero has no sign, and a typographic minus cannot be taken for a dash between two numbers.
    rounded = round(value, digits) or 0.0
    return f"{rounded:{sign}.{digits}f}".replace("-", "\N{MINUS SIGN}")
