"""What every method of the table must do; a new row is tested without being named here."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import phantom
import pytest

from regbench.datasets.mni_cohort import MniCohort
from regbench.displacement import Displacement
from regbench.methods.card import Card, Method
from regbench.methods.table import CARDS, build, missing_packages, resolve_parameters
from regbench.pair import Pair

# Settings that keep the tests quick; a method that is not named here is tested with its defaults.
QUICK: dict[str, dict[str, Any]] = {
    "rigid": {"samples": 5000, "shrink": (2, 1)},
    "affine": {"shrink": (2, 1)},
    "demons": {"iterations": (40, 20, 10)},
    "ants-syn": {"preset": "quick", "initial": "moments"},
}
# What a kind of transformation must be able to follow; everything below a kind is asked of it as well.
ABILITIES: dict[str, tuple[Callable[[int], Pair], ...]] = {
    "none": (),
    "rigid": (phantom.shifted,),
    "affine": (phantom.shifted, phantom.turned, phantom.stretched),
    "deformable": (phantom.shifted, phantom.bent),
    "diffeomorphic": (phantom.shifted, phantom.bent),
}
# The share of the identity's error that may remain. A translation is all that `moments` and a shift have in common.
REMAINING = 0.5

INSTALLED = [
    pytest.param(
        card, ndim, id=f"{card.name}-{ndim}d", marks=pytest.mark.skipif(bool(missing_packages(card)), reason="missing")
    )
    for card in CARDS.values()
    for ndim in card.dimensions
]
TASKS = [
    pytest.param(card, ndim, task, id=f"{card.name}-{ndim}d-{task.__name__}")
    for card in CARDS.values()
    if card.paradigm != "learned" and not missing_packages(card)
    for ndim in card.dimensions
    for task in ABILITIES[card.transformation]
]
LEARNED = [
    pytest.param(card, ndim, id=f"{card.name}-{ndim}d")
    for card in CARDS.values()
    if card.paradigm == "learned" and not missing_packages(card)
    for ndim in card.dimensions
]


@cache
def _prepared(name: str) -> Method:
    """A method, shared by all tests, so that state kept between calls would show."""
    method = build(name, resolve_parameters(name, QUICK.get(name, {}), f"methods.{name}"))
    getattr(method, "prepare", lambda: None)()
    return method


@pytest.fixture(scope="module")
def cohort_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Pair]]:
    """A pair of held-out cohort subjects, the anatomy that learned methods were trained for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))

        @cache
        def load(ndim: int) -> Pair:
            cohort = MniCohort(ndim=ndim, spacing_mm=4.0 if ndim == 3 else 2.0, pairs="random:1")
            return cohort.load(cohort.pair_refs()[0])

        yield load


def _needs_weights(card: Card, ndim: int) -> None:
    """Skips a learned method that has no weights of this dimension yet."""
    if card.weights is None:
        return
    from regbench.methods.voxelmorph import weight_file

    if weight_file(card.weights, ndim) is None:
        pytest.skip(f"no weights '{card.weights}' for {ndim}-D images are shipped")


@pytest.mark.parametrize(("card", "ndim"), INSTALLED)
def test_keeps_the_contract(
    card: Card, ndim: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One displacement on the fixed grid, and no trace: not in the input, the state, the output or the disk."""
    _needs_weights(card, ndim)
    method = _prepared(card.name)
    pair, other = phantom.bent(ndim).blind(), phantom.turned(ndim).blind()
    before = pair.fixed.array.copy(), pair.moving.array.copy()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    capfd.readouterr()

    first = method.register(pair)
    method.register(other)
    again = method.register(pair)

    assert isinstance(first, Displacement) and first.vectors_mm.dtype == np.float32
    assert first.grid.matches(pair.fixed.grid)
    np.testing.assert_array_equal(first.vectors_mm, again.vectors_mm, "not the same again, after another pair")
    np.testing.assert_array_equal(pair.fixed.array, before[0], "the fixed image was changed")
    np.testing.assert_array_equal(pair.moving.array, before[1], "the moving image was changed")
    sys.stdout.flush()
    assert capfd.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("card", "ndim", "task"), TASKS)
def test_follows_what_its_kind_can_follow(card: Card, ndim: int, task: Callable[[int], Pair]) -> None:
    """On oblique grids of opposite handedness: a sign, an axis or a unit that is wrong makes things worse."""
    pair = task(ndim)
    start = phantom.error_mm(Displacement.identity(pair.fixed.grid), pair)
    assert start > 1.5
    assert phantom.error_mm(_prepared(card.name).register(pair.blind()), pair) < REMAINING * start


@pytest.mark.parametrize(("card", "ndim"), LEARNED)
def test_learned_methods_follow_the_anatomy_they_know(
    card: Card, ndim: int, cohort_pair: Callable[[int], Pair]
) -> None:
    _needs_weights(card, ndim)
    pair = cohort_pair(ndim)
    start = phantom.error_mm(Displacement.identity(pair.fixed.grid), pair)
    assert phantom.error_mm(_prepared(card.name).register(pair.blind()), pair) < 0.8 * start


@pytest.mark.parametrize("ndim", [2, 3])
def test_identity_moves_nothing(ndim: int) -> None:
    assert _prepared("identity").register(phantom.bent(ndim).blind()).max_mm == 0
