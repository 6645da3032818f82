"""How much a metric may change: the tolerances of the metric table, those that are given, and margins.

A tolerance is a number in the unit of the metric, or a percentage of the value of the base: `dice=0.005`,
`register_s=20%`. Times and memory are compared as ratios, so that theirs are percentages only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from regbench.analysis.verdicts import MARGINS
from regbench.errors import ConfigError
from regbench.metrics.table import METRICS
from regbench.parameters import nearest

# Two runs on one idle machine differ by a few percent; a machine that others use as well, by more.
COST_TOLERANCES = {"register_s": 0.3, "rss_peak_mib": 0.2, "gpu_peak_mib": 0.1}


@dataclass(frozen=True)
class Tolerance:
    """An amount in the unit of a metric, or where `is_relative` the share of the base value."""

    amount: float
    is_relative: bool = False

    def around(self, base: float) -> float:
        """Returns the tolerance around a base value, in the unit of the metric."""
        return self.amount * abs(base) if self.is_relative else self.amount

    def __str__(self) -> str:
        return f"{100 * self.amount:g} %" if self.is_relative else f"{self.amount:g}"


def parse_tolerances(texts: Iterable[str], option: str = "--tol") -> dict[str, Tolerance]:
    """Returns tolerances by metric from METRIC=X or METRIC=X%; ConfigError for anything else."""
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        name, value = name.strip(), value.strip()
        is_relative = value.endswith("%")
        try:
            number = float(value.removesuffix("%")) / (100 if is_relative else 1)
        except ValueError:
            raise ConfigError(
                f"{option} {text}: expected METRIC=NUMBER, such as dice=0.005 or register_s=20%"
            ) from None
        found[name] = Tolerance(number, is_relative)
    return checked(found, option)


def checked(tolerances: Mapping[str, Tolerance | float], option: str = "--tol") -> dict[str, Tolerance]:
    """Returns tolerances of metrics that are known, none of them negative; ConfigError otherwise."""
    found = {}
    for name, given in tolerances.items():
        tolerance = given if isinstance(given, Tolerance) else Tolerance(float(given))
        known = [*(name for name, metric in METRICS.items() if metric.function is not None), *COST_TOLERANCES]
        if name not in known:
            raise ConfigError(
                f"{option}: no metric '{name}' is compared{nearest(name, known)}; known: {', '.join(known)}"
            )
        if not 0 <= tolerance.amount < float("inf"):
            raise ConfigError(f"{option} {name}={given}: give zero or a positive number")
        if name in COST_TOLERANCES and not tolerance.is_relative:
            raise ConfigError(f"{option} {name}={given}: times and memory are compared as ratios; give a percentage")
        found[name] = tolerance
    return found


def tolerance_of(metric: str, given: Mapping[str, Tolerance]) -> Tolerance:
    """Returns the tolerance of a metric: the one that is given, or that of the metric table."""
    if metric in COST_TOLERANCES:
        return given.get(metric, Tolerance(COST_TOLERANCES[metric], is_relative=True))
    return given.get(metric, Tolerance(METRICS[metric].tolerance))


def default_margins() -> dict[str, Tolerance]:
    """Returns the margins of practical equivalence by accuracy metric."""
    return {name: Tolerance(margin) for name, margin in MARGINS.items()}


def worsening(metric: str, base: float, new: float) -> float:
    """Returns by how much new is worse than base, in the unit of the metric; negative if it is better."""
    facts = METRICS[metric]
    if facts.direction == "higher":
        return base - new
    if facts.direction == "lower":
        return new - base
    target = facts.target or 0.0
    return abs(new - target) - abs(base - target)


def is_quality(metric: str) -> bool:
    """Returns whether a metric is a function of an alignment, and so no property of a machine."""
    return metric in METRICS and METRICS[metric].function is not None
