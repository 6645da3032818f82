"""The metric table, the selection of metrics, and which of them a pair can have."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
from full_pair import registration

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.errors import ConfigError, MetricDeclined
from regbench.metrics.evaluate import evaluate
from regbench.metrics.table import METRICS, select_metrics
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels, Landmarks

GRID = Grid.from_spacing((6, 6, 6))
IMAGE = Image(np.random.default_rng(0).random(GRID.shape), GRID)
LABELS = Labels((IMAGE.array > 0.5).astype(int), GRID)


@pytest.mark.parametrize("name", list(METRICS))
def test_rows_are_complete_and_their_functions_exist(name: str) -> None:
    metric = METRICS[name]
    assert metric.name == name
    assert metric.definition
    assert metric.source
    assert metric.unit
    assert (metric.target is not None) == (metric.direction == "target")
    assert metric.tolerance > 0
    if metric.function is not None:
        module, _, function = metric.function.partition(":")
        assert callable(getattr(import_module(module), function))


COSTS = {
    "load_s",
    "setup_s",
    "register_s",
    "cpu_s",
    "rss_peak_mib",
    "gpu_peak_mib",
    "model_parameters",
    "model_mib",
}


def test_what_the_runner_measures_has_no_function_and_should_be_low() -> None:
    found = {name for name, metric in METRICS.items() if metric.function is None and metric.quantile_of is None}
    assert found == COSTS
    assert {METRICS[name].direction for name in COSTS} == {"lower"}
    assert {METRICS[name].tolerance for name in COSTS} == {np.inf}


@pytest.mark.parametrize(("name", "source", "share"), [("dice30", "dice", 0.3), ("tre30", "tre_mm", 0.7)])
def test_quantiles_over_pairs_are_taken_on_the_bad_side(name: str, source: str, share: float) -> None:
    metric, of = METRICS[name], METRICS[source]
    assert metric.quantile_of == (source, share)
    assert metric.function is None
    assert (metric.unit, metric.direction) == (of.unit, of.direction)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_direction_tells_good_from_bad(ndim: int) -> None:
    """The truth beats a rough field in every metric of the result; information of a pair is the same for both."""
    pair, rough = registration(ndim)
    assert pair.truth is not None
    exact = dataclasses.replace(
        pair,
        moving=pair.fixed,
        moving_labels=pair.fixed_labels,
        fixed_landmarks=pair.moving_landmarks,
        truth=Displacement.identity(pair.fixed.grid),
    )
    identity = Displacement.identity(pair.fixed.grid)
    good = evaluate(Alignment(exact, dataclasses.replace(identity, inverse=identity)), list(METRICS))
    bad = evaluate(Alignment(exact, rough), list(METRICS))
    assert list(good) == [name for name, metric in METRICS.items() if metric.function]
    for name in good:
        metric = METRICS[name]
        high, low = (value["mean"] if isinstance(value, dict) else value for value in (good[name], bad[name]))
        if name.startswith("mi_"):
            assert (metric.direction, high) == ("higher", low)
        elif metric.target is not None:
            assert abs(high - metric.target) < abs(low - metric.target)
        else:
            assert (high > low) if metric.direction == "higher" else (high < low), name


def test_sets_and_lists_select_metrics() -> None:
    assert select_metrics("full") == list(METRICS)
    assert select_metrics("standard") == [n for n, m in METRICS.items() if m.standard]
    assert select_metrics(["ncc", "dice"]) == ["ncc", "dice"]
    assert select_metrics("dice") == ["dice"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (["dise"], "unknown metric 'dise'; did you mean 'dice'"),
        ("standart", "did you mean 'standard'"),
        ([], "empty"),
        (["dice", "ncc", "dice"], "'dice' is listed twice"),
    ],
)
def test_wrong_selections_are_refused(spec: str | list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        select_metrics(spec)


def test_metrics_that_a_pair_has_no_data_for_are_left_out() -> None:
    """Each need alone lets through what needs it, and what needs nothing."""
    names = select_metrics("full")
    identity = Displacement.identity(GRID)
    both_ways = dataclasses.replace(identity, inverse=identity)
    points = Landmarks(np.zeros((1, 3)))
    for need, parts, displacement in (
        (None, {}, identity),
        (None, {"fixed_labels": LABELS}, identity),
        (None, {"moving_landmarks": points}, identity),
        ("labels", {"fixed_labels": LABELS, "moving_labels": LABELS}, identity),
        ("landmarks", {"fixed_landmarks": points, "moving_landmarks": points}, identity),
        ("truth", {"truth": identity}, identity),
        ("inverse", {}, both_ways),
    ):
        found = evaluate(Alignment(Pair("p", IMAGE, IMAGE, **parts), displacement), names)
        expected = [n for n, m in METRICS.items() if m.function and m.needs in ((), (need,))]
        assert list(found) == expected
    assert {need for metric in METRICS.values() for need in metric.needs} == {"labels", "landmarks", "truth", "inverse"}


def test_a_metric_that_declines_has_its_reason_beside_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    def declines(alignment: Alignment) -> float:
        raise MetricDeclined("surfaces need axes at right angles")

    module, _, function = (METRICS["ncc"].function or "").partition(":")
    monkeypatch.setattr(import_module(module), function, declines)
    found = evaluate(Alignment(Pair("p", IMAGE, IMAGE), Displacement.identity(GRID)), ["ncc", "fold_percent"])
    assert found["ncc"] == {"mean": pytest.approx(np.nan, nan_ok=True), "reason": "surfaces need axes at right angles"}
    assert "fold_percent" in found


def test_the_table_imports_no_numbers() -> None:
    code = "import sys, regbench.metrics.table; print([m for m in ('numpy', 'scipy', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
