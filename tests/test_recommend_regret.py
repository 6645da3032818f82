"""A small part of `benchmarks/recommend_regret.py`: verdicts on made worlds are hardly ever wrong, and worth having."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

regret = pytest.importorskip("recommend_regret")

WORLDS = 4
SIZES = (6, 20, 42)


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str, int], object]:
    return regret.simulate(WORLDS, seed=1, sizes=SIZES)


def test_wrong_verdicts_are_rare_at_every_size(found: dict) -> None:
    for n in SIZES:
        one = regret.merged(found, 2, n)
        assert one.worlds == WORLDS * len(regret.FAMILIES) * len(regret.DESIGNS)
        assert one.wrong <= 0.05 * one.worlds


def test_more_pairs_mean_fewer_abstentions(found: dict) -> None:
    undecided = [1 - regret.merged(found, 2, n).decided / regret.merged(found, 2, n).worlds for n in SIZES]
    assert undecided[0] > undecided[1] > undecided[2]
    assert undecided[2] < 0.7


def test_what_it_says_to_use_loses_less_than_every_simple_rule(found: dict) -> None:
    everything = regret.merged(found, None)
    for rule in ("always classical", "always learned", "highest mean", "the paper's rule", "naive paired t-test"):
        for convention in regret.CONVENTIONS:
            assert everything.regret(convention) < everything.regret(rule)


def test_the_truth_of_a_world_is_what_it_says() -> None:
    world = regret.draw("limits", "disjoint", 6, np.random.default_rng(0))
    regrets = world.regrets()
    assert min(regrets.values()) == 0
    assert world.out.isdisjoint(regrets)
    assert {row["method"] for row in world.rows} == {"identity", *regret.NAMES}
