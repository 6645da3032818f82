"""All asked-for metrics of one alignment.

A metric that the pair has no data for (labels, truth, landmarks, the inverse field) is left out, so that a missing
key says "not measurable here" and NaN says "measured, but not defined". Where a metric declines, its reason stands
beside the NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from regbench.alignment import Alignment
from regbench.errors import MetricDeclined
from regbench.metrics.table import METRICS, Need

Value = float | dict[str, Any]


def evaluate(alignment: Alignment, names: Sequence[str]) -> dict[str, Value]:
    """Per metric name a float, or a dict with `mean`, `per_label` where there are labels, and extras.

    Values may be NaN, and distances per label may be infinite. Costs (rows without a function) and metrics
    whose needs the pair lacks are left out.
    """
    results: dict[str, Value] = {}
    alignment.announce(names)
    for name in names:
        metric = METRICS[name]
        if metric.function is not None and all(has(alignment, need) for need in metric.needs):
            try:
                results[name] = _function(metric.function)(alignment)
            except MetricDeclined as declined:
                results[name] = {"mean": float("nan"), "reason": str(declined)}
    return results


def has(alignment: Alignment, need: Need) -> bool:
    """Whether there is what a metric needs: on both sides of the pair, or in the displacement."""
    pair = alignment.pair
    if need == "inverse":
        return alignment.displacement.inverse is not None
    if need == "truth":
        return pair.truth is not None
    if need == "labels":
        return pair.fixed_labels is not None and pair.moving_labels is not None
    return pair.fixed_landmarks is not None and pair.moving_landmarks is not None


def _function(target: str) -> Callable[[Alignment], Value]:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)
