"""End-point error and intensity correlation over the fixed foreground."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.metrics.intensity import ncc
from regbench.metrics.truth import epe_mm
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels

GRID = Grid((5, 6, 7), np.diag([-1.0, 2.0, 1.5, 1.0]))


def _labels(region: np.ndarray) -> Labels:
    return Labels(region.astype(int), GRID)


def test_the_error_of_a_constant_offset_is_its_length() -> None:
    rng = np.random.default_rng(0)
    image = Image(rng.random(GRID.shape), GRID)
    truth = Displacement(rng.standard_normal((*GRID.shape, 3)), GRID)
    found = Displacement(truth.vectors_mm + np.array([2.0, -3.0, 6.0]), GRID)
    result = epe_mm(Alignment(Pair("p", image, image, truth=truth), found))
    assert result == {"mean": pytest.approx(7, rel=1e-5), "p95": pytest.approx(7, rel=1e-5), "voxels": 210}
    assert epe_mm(Alignment(Pair("p", image, image, truth=truth), truth))["mean"] == 0


def test_errors_outside_of_the_foreground_do_not_count() -> None:
    image = Image(np.ones(GRID.shape), GRID)
    region = np.zeros(GRID.shape, bool)
    region[2, 1:5, 3] = True
    vectors = np.where(region[..., None], 0, 50.0) + np.zeros(3)
    vectors[2, 1, 3] = 3, 0, 4
    pair = Pair("p", image, image, fixed_labels=_labels(region), truth=Displacement.identity(GRID))
    result = epe_mm(Alignment(pair, Displacement(vectors, GRID)))
    assert result["voxels"] == 4
    assert result["mean"] == pytest.approx(5 / 4)
    assert result["p95"] == pytest.approx(np.percentile([0, 0, 0, 5], 95))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-1e4, 1e4))
def test_correlation_equals_numpy_over_the_foreground(seed: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    fixed, moving = rng.random((2, *GRID.shape))
    region = rng.random(GRID.shape) > 0.5
    pair = Pair("p", Image(fixed + offset, GRID), Image(moving, GRID), fixed_labels=_labels(region))
    alignment = Alignment(pair, Displacement.identity(GRID))
    expected = np.corrcoef(pair.fixed.array[region].astype(float), pair.moving.array[region].astype(float))[0, 1]
    assert ncc(alignment) == pytest.approx(expected, abs=1e-9)


def test_correlation_is_signed_and_ignores_linear_changes_of_intensity() -> None:
    fixed = np.random.default_rng(0).random(GRID.shape) + 1
    identity = Displacement.identity(GRID)
    for factor, expected in ((3.0, 1.0), (-0.5, -1.0)):
        pair = Pair("p", Image(fixed, GRID), Image(factor * fixed + 100, GRID))
        assert ncc(Alignment(pair, identity)) == pytest.approx(expected, abs=1e-5)


def test_tissue_lost_outside_of_the_moving_image_counts_as_zero_intensity() -> None:
    fixed = np.random.default_rng(0).random(GRID.shape) + 1
    image = Image(fixed, GRID)
    away = Displacement(np.broadcast_to([-2.0, 0, 0], (*GRID.shape, 3)), GRID)
    moved = np.zeros(GRID.shape)
    moved[:-2] = image.array[2:]
    expected = np.corrcoef(image.array.ravel(), moved.ravel())[0, 1]
    assert ncc(Alignment(Pair("p", image, image), away)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_a_constant_image_has_no_correlation(value: float) -> None:
    rng = np.random.default_rng(0)
    varied, constant = Image(rng.random(GRID.shape) + 1, GRID), Image(np.full(GRID.shape, value), GRID)
    identity = Displacement.identity(GRID)
    assert np.isnan(ncc(Alignment(Pair("p", varied, constant), identity)))
    assert np.isnan(ncc(Alignment(Pair("p", constant, varied), identity)))
