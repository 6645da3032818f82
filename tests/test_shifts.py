"""Conditions: what they change, and that they change nothing else."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from regbench.contract import phantom
from regbench.errors import ConfigError
from regbench.pair import Pair
from regbench.shifts.contrast import Gamma, Unchanged
from regbench.shifts.table import SHIFTS, shift_class
from regbench.volume import Image, Labels, Landmarks


def full_pair() -> Pair:
    """A pair in which every part is set, with intensities that begin below zero."""
    pair = phantom.bent(2)
    points = Landmarks(np.array([[1.0, 2.0], [3.0, 4.0]]))
    return replace(
        pair,
        fixed=Image(pair.fixed.array * 1500 - 1000, pair.fixed.grid),
        moving_labels=Labels(pair.moving.array > 0.3, pair.moving.grid),
        fixed_landmarks=points,
        moving_landmarks=points,
        tags={"modality": "none"},
    )


@pytest.mark.parametrize("name", list(SHIFTS))
def test_every_shift_carries_the_rest_of_the_pair_and_repeats_itself(name: str) -> None:
    shift, pair = shift_class(name)(), full_pair()
    before = pair.fixed.array.copy(), pair.moving.array.copy()
    first, again = shift.apply(pair, seed=3), shift.apply(pair, seed=3)
    for part in fields(Pair):
        if part.name not in ("fixed", "moving"):
            assert getattr(first, part.name) is getattr(pair, part.name), part.name
    for side, array in zip(("fixed", "moving"), before, strict=True):
        assert getattr(first, side).grid is getattr(pair, side).grid
        np.testing.assert_array_equal(getattr(first, side).array, getattr(again, side).array)
        np.testing.assert_array_equal(getattr(pair, side).array, array, "the pair that was given was changed")


@pytest.mark.parametrize("name", list(SHIFTS))
def test_rows_are_complete(name: str) -> None:
    assert SHIFTS[name].name == name and SHIFTS[name].summary
    assert (shift_class(name).__doc__ or "").strip()


def test_none_is_the_same_pair() -> None:
    pair = full_pair()
    assert Unchanged().apply(pair, seed=0) is pair


def test_gamma_is_a_power_of_the_scaled_intensities() -> None:
    pair = full_pair()
    image = replace(pair, fixed=Image(np.full(pair.fixed.grid.shape, -1000.0), pair.fixed.grid)).fixed
    array = image.array.copy()
    array[0, :3] = [1000.0, 0.0, -500.0]
    curved = Gamma(strength=2.0).apply(replace(pair, fixed=Image(array, image.grid)), seed=0).fixed.array
    np.testing.assert_allclose(curved[0, :4], [1000.0, -500.0, -875.0, -1000.0])


def test_gamma_keeps_range_and_order() -> None:
    pair = full_pair()
    old, new = pair.fixed.array.ravel(), Gamma(strength=3.0).apply(pair, seed=0).fixed.array.ravel()
    assert (new.min(), new.max()) == (old.min(), old.max())
    assert (np.diff(new[np.argsort(old)]) >= 0).all()
    assert new.mean() < old.mean()


def test_strength_one_changes_no_bit() -> None:
    pair = full_pair()
    shifted = Gamma(strength=1.0).apply(pair, seed=0)
    np.testing.assert_array_equal(shifted.fixed.array, pair.fixed.array)
    np.testing.assert_array_equal(shifted.moving.array, pair.moving.array)


@pytest.mark.parametrize(
    ("on", "changed"), [("both", (True, True)), ("fixed", (True, False)), ("moving", (False, True))]
)
def test_gamma_goes_onto_the_chosen_side(on: str, changed: tuple[bool, bool]) -> None:
    pair = full_pair()
    shifted = Gamma(on=on).apply(pair, seed=0)  # type: ignore[arg-type]
    found = tuple(not np.array_equal(getattr(shifted, s).array, getattr(pair, s).array) for s in ("fixed", "moving"))
    assert found == changed


def test_a_flat_image_stays_flat() -> None:
    pair = full_pair()
    flat = replace(pair, moving=Image(np.full(pair.moving.grid.shape, 4.0), pair.moving.grid))
    assert (Gamma().apply(flat, seed=0).moving.array == 4.0).all()


@pytest.mark.parametrize("strength", [0.0, -1.0, float("nan"), 100.0])
def test_a_strength_without_meaning_is_refused(strength: float) -> None:
    with pytest.raises(ConfigError, match=r"conditions.gamma: strength"):
        Gamma(strength=strength)


def test_an_unknown_shift_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown condition 'gama'; did you mean 'gamma'\?; known: none, gamma"):
        shift_class("gama")
