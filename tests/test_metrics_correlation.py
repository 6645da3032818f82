"""Correlation of intensities over the fixed foreground, against numpy and in its special cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.metrics.intensity import ncc
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels

GRID = Grid((5, 6, 7), np.diag([-1.0, 2.0, 1.5, 1.0]))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-1e4, 1e4))
def test_correlation_equals_numpy_over_the_foreground(seed: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    fixed, moving = rng.random((2, *GRID.shape))
    region = rng.random(GRID.shape) > 0.5
    pair = Pair("p", Image(fixed + offset, GRID), Image(moving, GRID), fixed_labels=Labels(region.astype(int), GRID))
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
