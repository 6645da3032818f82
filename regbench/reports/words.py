"""Numbers of a summary as text, the same in the terminal and in the HTML report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from regbench.analysis.groups import higher_is_better
from regbench.analysis.statistics import Interval
from regbench.analysis.summary import SummaryRow
from regbench.metrics.table import METRICS

MISSING = "-"
MINUS = "\N{MINUS SIGN}"
_NAMES = {
    "dice": "Dice",
    "tre_mm": "TRE",
    "epe_mm": "EPE",
    "hd95_mm": "HD95",
    "fold_percent": "fold",
    "ndv_percent": "NDV",
    "jaccard": "Jaccard",
    "volume_similarity": "volume sim.",
    "assd_mm": "ASSD",
    "nsd": "NSD",
    "sdlogj": "SDlogJ",
    "sdlogj_l2r": "SDlogJ L2R",
    "jacobian": "mean J",
    "ice_mm": "ICE",
    "ncc": "NCC",
    "lncc": "LNCC",
    "nmi": "NMI",
    "ssim": "SSIM",
    "mi_nats": "MI",
    "mi_ratio": "MI / H",
    "mi_jena_nats": "MI plain",
}

INTERVALS_LINE = (
    "Intervals are 95 % confidence intervals of the mean over pairs: Student's t where pairs share no subject; where "
    "they do, dyadic-robust (covariance between pairs with a common subject) or, with few pairs, widened for "
    "the strongest effect of shared subjects; none for fewer than 6 pairs. "
    "Labels and repeats are averaged within a pair first."
)


def tuning_line(tuning: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns which methods had their settings chosen beforehand, on what and with how many trials."""
    if not tuning:
        return "No method of this run had its settings chosen by `regbench tune`."
    told = [
        f"{method} ({facts['n_trials']} trials by {metric_name(str(facts['objective']))} on {facts['n_pairs']} pairs "
        f"of {', '.join(facts['datasets'])}, none of whose subjects are scored here)"
        for method, facts in tuning.items()
    ]
    return f"Settings chosen beforehand by `regbench tune`: {'; '.join(told)}. All others ran as the config says."


def metric_name(metric: str) -> str:
    """Returns a metric's name as a heading without its unit."""
    return _NAMES.get(metric, metric)


def metric_heading(metric: str) -> str:
    """Returns a metric's name with its unit, like 'HD95 mm'."""
    unit = METRICS[metric].unit if metric in METRICS else ""
    return metric_name(metric) if unit in ("", "1") else f"{metric_name(metric)} {unit}"


def better_is(metric: str) -> str:
    """Returns 'higher is better' or 'lower is better'."""
    return "higher is better" if higher_is_better(metric) else "lower is better"


def number(value: float | None, digits: int, *, signed: bool = False) -> str:
    """Returns a number with a fixed number of digits; a hyphen where there is none."""
    if value is None or math.isnan(value):
        return MISSING
    rounded = round(value, digits) or 0.0
    return f"{rounded:{'+' if signed else ''}.{digits}f}".replace("-", MINUS)


def accuracy_digits(metric: str | None) -> int:
    return 3 if metric == "dice" else 2


def interval(value: Interval | None, digits: int, *, signed: bool = False) -> str:
    """Returns a mean with its interval, like '0.712 [0.690, 0.734]'; the mean alone where there is no interval."""
    if value is None or not value.n:
        return MISSING
    text = number(value.mean, digits, signed=signed)
    if value.low is None or value.high is None:
        return text
    return f"{text} [{number(value.low, digits, signed=signed)}, {number(value.high, digits, signed=signed)}]"


def plus_minus(value: Interval | None, digits: int, *, signed: bool = False) -> str:
    """Returns a mean with half the width of its interval, like '0.712 ±0.022'."""
    if value is None or not value.n:
        return MISSING
    text = number(value.mean, digits, signed=signed)
    return text if value.half_width is None else f"{text} ±{number(value.half_width, digits)}"


def percent(value: float | None) -> str:
    """Returns a percentage that shows a small violation as one: '0' only where it is exactly none."""
    if value is None or math.isnan(value):
        return MISSING
    if value == 0:
        return "0"
    return "<0.001" if value < 0.001 else f"{value:.3f}" if value < 1 else f"{value:.1f}"


def seconds(value: float | None) -> str:
    """Returns a time in s with about three significant digits."""
    if value is None or math.isnan(value):
        return MISSING
    if value < 0.0005:
        return "<0.001"
    return (
        f"{value:.3f}"
        if value < 0.1
        else f"{value:.2f}"
        if value < 10
        else f"{value:.1f}"
        if value < 100
        else f"{value:.0f}"
    )


def failed(row: SummaryRow) -> str:
    """Returns how many cases failed of those that were tried, like '2/24'; or that all were skipped."""
    if row.n_skipped == row.n_cases:
        return "skipped"
    return f"{row.n_failed}/{row.n_cases - row.n_skipped}"


def group_title(row: SummaryRow) -> str:
    """Returns the heading of a group: dataset, condition and the number of pairs that means are over."""
    shifted = "no shift" if row.condition == "none" else row.condition
    return f"{row.dataset} \N{MIDDLE DOT} {shifted} \N{MIDDLE DOT} {row.n_pairs} pair{'' if row.n_pairs == 1 else 's'}"
