"""The metric table, the selection of metrics, and which of them a pair can have."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.errors import ConfigError
from regbench.metrics.evaluate import evaluate
from regbench.metrics.table import METRICS, select_metrics
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels

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


def test_costs_have_no_function() -> None:
    assert {n for n, m in METRICS.items() if m.function is None} == {"register_s", "rss_peak_mib"}


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
    identity = Displacement.identity(GRID)
    names = select_metrics("full")
    bare = evaluate(Alignment(Pair("p", IMAGE, IMAGE), identity), names)
    assert list(bare) == ["fold_percent", "ndv_percent", "sdlogj", "ncc"]
    full = Pair("p", IMAGE, IMAGE, fixed_labels=LABELS, moving_labels=LABELS, truth=identity)
    assert list(evaluate(Alignment(full, identity), names)) == [n for n in names if METRICS[n].function]
    one_side = Pair("p", IMAGE, IMAGE, fixed_labels=LABELS)
    assert "dice" not in evaluate(Alignment(one_side, identity), names)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_identity_on_one_image_is_perfect(ndim: int) -> None:
    grid = Grid.from_spacing((7,) * ndim, 1.5)
    image = Image(np.random.default_rng(1).random(grid.shape), grid)
    labels = Labels((image.array * 4).astype(int), grid)
    identity = Displacement.identity(grid)
    pair = Pair("p", image, image, fixed_labels=labels, moving_labels=labels, truth=identity)
    found = evaluate(Alignment(pair, identity), select_metrics("standard"))
    means = {name: value["mean"] if isinstance(value, dict) else value for name, value in found.items()}
    assert means == {
        "dice": 1.0,
        "hd95_mm": 0.0,
        "fold_percent": 0.0,
        "ndv_percent": 0.0,
        "sdlogj": 0.0,
        "epe_mm": 0.0,
        "ncc": pytest.approx(1.0),
    }


def test_the_table_imports_no_numbers() -> None:
    code = "import sys, regbench.metrics.table; print([m for m in ('numpy', 'scipy', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
