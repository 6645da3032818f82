"""False alarms of `rank` and `compare` stay within twice alpha; a part of benchmarks/type_one_error.py, run small."""

from __future__ import annotations

import math
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    folder = str(Path(__file__).parent.parent / "benchmarks")
    sys.path.insert(0, folder)
    try:
        return import_module("type_one_error")
    finally:
        sys.path.remove(folder)


CASES = [
    ("disjoint", 24, 0.5),
    ("consecutive", 8, 0.9),
    ("consecutive", 20, 0.5),
    ("all ordered", 6, 0.5),
    ("all ordered", 10, 0.0),
    ("all ordered", 10, 0.9),
]
N = 250


@pytest.mark.parametrize(("design", "n_subjects", "share"), CASES)
def test_false_alarms_are_within_twice_alpha(
    simulation: ModuleType, design: str, n_subjects: int, share: float
) -> None:
    found = simulation.rates(simulation.pairs_of(design, n_subjects), share, N, seed=1)
    for rates in (found.rank, found.compare):
        for alpha, rate in zip(simulation.ALPHAS, rates, strict=True):
            # Two and a half standard errors of a simulation whose true rate is twice alpha.
            assert rate <= 2 * alpha + 2.5 * math.sqrt(2 * alpha * (1 - 2 * alpha) / N)


def test_the_simulation_sees_a_test_that_takes_pairs_for_independent(simulation: ModuleType) -> None:
    found = simulation.rates(simulation.pairs_of("all ordered", 10), 0.9, 60, seed=1)
    assert found.naive[0] > 0.4


def test_too_few_pairs_are_not_tested(simulation: ModuleType) -> None:
    found = simulation.rates(simulation.pairs_of("disjoint", 8), 0.5, 5, seed=1)
    assert found.rank is None and found.compare is None


def test_values_have_the_variance_and_the_sharing_that_they_should(simulation: ModuleType) -> None:
    import numpy as np

    pairs = simulation.pairs_of("consecutive", 30)
    values = np.stack([simulation.simulated(pairs, 0.9, np.random.default_rng(i)) for i in range(300)])
    assert values.var() == pytest.approx(1.0, abs=0.05)
    neighbours = np.mean(values[..., 1:] * values[..., :-1])
    assert neighbours == pytest.approx(0.45, abs=0.05)
