"""Conditions: what they change, and that they change nothing else."""

from __future__ import annotations

from dataclasses import fields, replace
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pytest
from shifted_pairs import DETERMINED, OF_LABELS, SHIFTED, arrays, shift, whole_pair

from regbench.contract import phantom
from regbench.errors import ConfigError
from regbench.pair import Pair
from regbench.shifts.contrast import Gamma, Unchanged
from regbench.shifts.sides import brightness_of, cut_out, head_of, smooth_field
from regbench.shifts.table import LEVELS, SHIFTS, shift_class
from regbench.volume import Grid, Image, Labels, Landmarks

KSPACE = {"motion", "ghosting"}


@pytest.fixture(params=SHIFTED)
def name(request: pytest.FixtureRequest) -> str:
    """The name of each shift that can be built here."""
    if request.param in KSPACE and find_spec("torchio") is None:
        pytest.skip("torchio is not installed: pip install 'regbench[shifts]'")
    return str(request.param)


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


# -- rules for every shift --------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_neutral_strength_changes_no_byte(name: str, ndim: int) -> None:
    pair = whole_pair(ndim)
    before, after = arrays(pair), arrays(shift(name, strength=SHIFTS[name].neutral).apply(pair, seed=1))
    assert {part: array.tobytes() for part, array in after.items()} == {p: a.tobytes() for p, a in before.items()}


@pytest.mark.parametrize("floor", [0.0, -1000.0])
@pytest.mark.parametrize("ndim", [2, 3])
def test_a_shift_changes_something_repeats_itself_and_leaves_its_input(name: str, ndim: int, floor: float) -> None:
    pair = whole_pair(ndim, floor=floor)
    before = {part: array.copy() for part, array in arrays(pair).items()}
    first, again = (shift(name).apply(pair, seed=3) for _ in range(2))
    found, repeated = arrays(first), arrays(again)
    assert {p: a.tobytes() for p, a in found.items()} == {p: a.tobytes() for p, a in repeated.items()}
    assert any(not np.array_equal(found[part], before[part]) for part in before), "nothing was changed"
    for part, array in arrays(pair).items():
        np.testing.assert_array_equal(array, before[part], f"{part} of the pair that was given was changed")
    for side in (first.fixed, first.moving):
        assert side.array.dtype == np.float32 and np.isfinite(side.array).all()


@pytest.mark.parametrize("ndim", [2, 3])
def test_another_pair_or_seed_is_another_draw(name: str, ndim: int) -> None:
    base = arrays(shift(name).apply(whole_pair(ndim), seed=3))
    # One of a few: an axis or a sign may be drawn twice.
    others = {
        "pair": [arrays(shift(name).apply(whole_pair(ndim, name=f"q{i}"), seed=3)) for i in range(5)],
        "seed": [arrays(shift(name).apply(whole_pair(ndim), seed=10 + i)) for i in range(5)],
    }
    for what, found in others.items():
        same = all(np.array_equal(parts[part], base[part]) for parts in found for part in base)
        assert same == (name in DETERMINED or (what == "pair" and name in OF_LABELS)), what


@pytest.mark.parametrize("on", ["both", "fixed", "moving"])
def test_a_shift_goes_onto_the_chosen_side(name: str, on: str) -> None:
    if name == "merge_labels" and on != "both":
        return  # refused: see test_mi_dice_shifts.py
    pair = whole_pair(2)
    shifted = shift(name, on=on).apply(pair, seed=0)
    for side in ("fixed", "moving"):
        part = f"{side}_labels" if name in OF_LABELS else side
        old, new = getattr(pair, part), getattr(shifted, part)
        changed = not np.array_equal(old.array, new.array) or not old.grid.matches(new.grid)
        assert changed == (on in ("both", side)), side


def test_parts_that_a_shift_does_not_touch_are_the_same_objects(name: str) -> None:
    pair = whole_pair(3)
    shifted = shift(name, on="both" if name == "merge_labels" else "moving").apply(pair, seed=0)
    untouched = {"name", "fixed", "fixed_id", "moving_id", "fixed_landmarks", "fixed_keypoints", "tags"}
    if SHIFTS[name].changes == "intensities":
        untouched = {part.name for part in fields(Pair)} - {"moving"}
        assert shifted.moving.grid is pair.moving.grid
    if name in OF_LABELS:
        untouched = {part.name for part in fields(Pair)} - {"fixed_labels", "moving_labels"}
    if name not in ("lesion_mm", "merge_labels"):
        untouched |= {"fixed_labels", "fixed_mask"}
    for part in untouched:
        assert getattr(shifted, part) is getattr(pair, part), part


def test_levels_are_strengths_that_rise_and_are_allowed(name: str) -> None:
    card = SHIFTS[name]
    assert len(card.levels) == (1 if shift_class(name).__dict__.get("is_switch") and name != "orientation" else 3)
    assert list(card.levels) == sorted(card.levels) and card.neutral < card.levels[0]
    assert list(card.named_levels) == list(LEVELS[-len(card.levels) :])
    built = [shift(name, strength=level) for level in card.levels]
    assert all(made.name == name and made.neutral == card.neutral for made in built)


def test_strengths_that_are_stronger_change_more(name: str) -> None:
    pair = whole_pair(3)
    if SHIFTS[name].changes != "intensities":
        return  # what moves or cuts has its own tests
    changes = [
        float(np.abs(shift(name, strength=level, on="moving").apply(pair, 5).moving.array - pair.moving.array).mean())
        for level in SHIFTS[name].levels
    ]
    assert all(weaker < stronger for weaker, stronger in pairwise(changes)), changes


def test_a_strength_beyond_its_bounds_is_refused(name: str) -> None:
    for strength in (-100.0, 1e6, float("nan")):
        with pytest.raises(ConfigError, match=rf"conditions.{name}: strength is"):
            shift(name, strength=strength)


def test_an_image_without_contrast_is_no_error(name: str) -> None:
    pair = whole_pair(2)
    flat = replace(pair, moving=Image(np.full(pair.moving.grid.shape, 4.0), pair.moving.grid))
    assert np.isfinite(shift(name).apply(flat, seed=0).moving.array).all()


@pytest.mark.parametrize("row", list(SHIFTS))
def test_rows_are_complete(row: str) -> None:
    card = SHIFTS[row]
    assert card.name == row and card.summary and card.carried and (card.unit or row == "none")
    assert (shift_class(row).__doc__ or "").strip()
    assert shift_class(row).__dict__.get("__doc__"), "a shift says itself what it does"


# -- single shifts ----------------------------------------------------------------------------------------


def test_noise_is_rician_with_the_told_spread() -> None:
    grid = Grid.from_spacing((60, 60))
    image = Image(np.where(np.arange(60) < 20, 0.0, 100.0) * np.ones((60, 1)), grid)
    pair = Pair("noisy", image, image)
    found = shift("noise", strength=0.05).apply(pair, seed=0)
    inside = found.fixed.array[:, 20:]
    assert inside.std() == pytest.approx(5.0, rel=0.05) and inside.mean() == pytest.approx(100 + 0.125, abs=0.4)
    assert (found.fixed.array[:, :20] == 0).all(), "what was cut out has no noise"
    assert not np.array_equal(found.fixed.array, found.moving.array), "the two sides have noise of their own"
    # Where there is no signal, magnitudes follow Rayleigh's distribution.
    dark = Image(np.r_[np.linspace(0, 1e-3, 3300), np.full(300, 100.0)].reshape(60, 60), grid)
    assert brightness_of(dark) == pytest.approx(100)
    rayleigh = shift("noise", strength=0.05).apply(Pair("dark", dark, dark), seed=0).fixed.array[:55]
    assert rayleigh.mean() == pytest.approx(5 * np.sqrt(np.pi / 2), rel=0.05)


def test_bias_is_smooth_positive_and_of_the_told_spread() -> None:
    pair = whole_pair(3)
    shifted = shift("bias_field", strength=0.3).apply(pair, seed=0)
    body = pair.fixed.array > 100
    log = np.log(shifted.fixed.array[body] / pair.fixed.array[body])
    assert 0.1 < log.std() < 0.5
    field = smooth_field(pair.fixed.grid, 40.0, np.random.default_rng(0))
    assert field.std() == pytest.approx(1) and field.mean() == pytest.approx(0, abs=1e-9)
    steps = [np.abs(np.diff(field, axis=axis)).max() for axis in range(3)]
    assert max(steps) < 4.0 * 2.7 / 40.0, "steps from voxel to voxel are those of the length"


def test_blur_is_the_told_width_on_an_anisotropic_grid() -> None:
    grid = Grid.from_spacing((61, 41), (1.0, 2.0))
    spike = np.zeros(grid.shape)
    spike[30, 20] = 1.0
    blurred = shift("blur_mm", strength=8.0).apply(Pair("s", Image(spike, grid), Image(spike, grid)), 0).fixed.array
    for axis in (0, 1):
        profile = blurred[:, 20] if axis == 0 else blurred[30]
        half = np.interp(
            4.0, np.arange(len(profile) - len(profile) // 2) * grid.spacing_mm[axis], profile[len(profile) // 2 :]
        )
        assert half / profile.max() == pytest.approx(0.5, abs=0.04)


def test_anisotropy_keeps_what_is_straight_and_loses_what_is_fine() -> None:
    grid = Grid.from_spacing((40, 48), 1.0)
    ramp = np.broadcast_to(np.linspace(0, 10, 48), grid.shape)
    # Finer than the slices, and seen by some of their middles: read without a point spread, they would alias.
    stripes = np.where(np.arange(48) % 3, 0.0, 1.0) * np.ones((40, 1))
    thick = shift("anisotropy_mm", strength=4.0, along="A")
    changed = thick.apply(Pair("a", Image(ramp, grid), Image(stripes, grid)), 0)
    np.testing.assert_allclose(changed.fixed.array[:, 6:-6], ramp[:, 6:-6], atol=1e-4)
    assert changed.moving.array[:, 6:-6].std() < 0.05 * stripes.std()
    across = shift("anisotropy_mm", strength=4.0, along="R").apply(Pair("a", Image(ramp, grid), Image(ramp, grid)), 0)
    np.testing.assert_allclose(across.fixed.array, ramp, atol=1e-5)
    thin = shift("anisotropy_mm", strength=0.9)
    np.testing.assert_array_equal(
        thin.apply(Pair("a", Image(stripes, grid), Image(ramp, grid)), 0).fixed.array, stripes
    )
    with pytest.raises(ConfigError, match="2-D images do not have"):
        shift("anisotropy_mm", along="S").apply(Pair("a", Image(ramp, grid), Image(ramp, grid)), 0)


def test_a_named_direction_is_found_on_any_storage() -> None:
    pair = whole_pair(3)
    stored = shift("orientation", strength=3.0, on="both").apply(pair, 0)
    for along in ("R", "A", "S"):
        thick = shift("anisotropy_mm", strength=8.0, along=along)
        plain, other = thick.apply(pair, 0).fixed.array, thick.apply(stored, 0).fixed.array
        np.testing.assert_allclose(np.flip(other).transpose(2, 1, 0), plain, atol=1e-2)


def test_missing_slices_are_whole_dark_and_of_the_body() -> None:
    pair = whole_pair(3)
    changed = shift("missing_slices", strength=0.25, along="S", on="fixed").apply(pair, 0).fixed.array
    occupied = pair.fixed.array.any(axis=(0, 1))
    lost = occupied & ~changed.any(axis=(0, 1))
    assert lost.sum() == np.ceil(0.25 * occupied.sum())
    np.testing.assert_array_equal(changed[..., ~lost], pair.fixed.array[..., ~lost])


def test_inversion_turns_the_order_of_the_body_round_and_not_the_background() -> None:
    pair = whole_pair(3)
    old, new = pair.fixed.array, shift("inversion").apply(pair, 0).fixed.array
    gone = cut_out(pair.fixed)
    assert gone.any() and (new[gone] == 0).all()
    np.testing.assert_allclose(new[~gone], old.max() - old[~gone], rtol=1e-5, atol=1e-3)
    grey = shift("inversion", strength=0.5).apply(pair, 0).fixed.array
    np.testing.assert_allclose(grey[~gone], old.max() / 2, rtol=1e-5)


def test_three_tissues_get_the_brightness_of_t2() -> None:
    grid = Grid.from_spacing((40, 40))
    rng = np.random.default_rng(0)
    tissue = rng.integers(0, 4, grid.shape)
    values = np.array([0.0, 0.2, 0.55, 0.85])[tissue] + np.where(tissue, rng.normal(0, 0.01, grid.shape), 0)
    values[0, 0] = 1.0
    image = Image(values, grid)
    mapped = shift("t2_like").apply(Pair("t", image, image), 0).fixed.array
    fluid, grey, white = (mapped[tissue == t].mean() for t in (1, 2, 3))
    assert (mapped[tissue == 0][1:] == 0).all()
    assert fluid == pytest.approx(1.0, abs=0.05) and grey == pytest.approx(0.62, abs=0.03)
    assert white == pytest.approx(0.40, abs=0.03)


def test_a_contrast_curve_is_monotone_and_keeps_the_ends() -> None:
    pair = whole_pair(3)
    old, new = pair.fixed.array.ravel(), shift("contrast", strength=1.0).apply(pair, 0).fixed.array.ravel()
    assert (np.diff(new[np.argsort(old, kind="stable")]) >= -1e-3).all()
    np.testing.assert_allclose([new.min(), new.max()], [old.min(), old.max()], rtol=1e-6)


def test_scales_and_normalisations_are_what_they_say() -> None:
    pair = whole_pair(3)
    old = pair.fixed.array
    scaled = shift("intensity_scale", strength=2.0).apply(pair, 0).fixed.array
    np.testing.assert_allclose(scaled, 100 * old, rtol=1e-6)
    standard = shift("zscore").apply(pair, 0).fixed.array
    assert standard[old > 0].mean() == pytest.approx(0, abs=1e-4) and standard[old > 0].std() == pytest.approx(1)
    clipped = shift("clipping", strength=10.0).apply(pair, 0).fixed.array
    body = old > 0
    assert (clipped[body] == clipped[body].max()).mean() == pytest.approx(0.1, abs=0.01)
    assert (clipped[~body] == old[~body]).all() and clipped.max() == pytest.approx(old.max())


@pytest.mark.parametrize("which", ["strip_holes", "strip_residue"])
def test_strip_errors_stay_near_the_surface(which: str) -> None:
    from scipy.ndimage import distance_transform_edt

    pair = whole_pair(3)
    body = head_of(pair.fixed)
    changed = shift(which, strength=0.3, depth_mm=6.0, on="fixed").apply(pair, 0).fixed.array != pair.fixed.array
    side = body if which == "strip_holes" else ~body
    depth = distance_transform_edt(side, sampling=pair.fixed.grid.spacing_mm)
    assert not (changed & ~side).any() and depth[changed].max() <= 6.0
    shell = side & (depth <= 6.0)
    assert changed.sum() / shell.sum() == pytest.approx(0.3, abs=0.03)


@pytest.mark.skipif(find_spec("torchio") is None, reason="torchio is not installed: pip install 'regbench[shifts]'")
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("which", sorted(KSPACE))
def test_artefacts_of_k_space_leave_anatomy_where_it_is(which: str, ndim: int) -> None:
    pair = whole_pair(ndim)
    for seed in range(3):
        changed = shift(which, strength=SHIFTS[which].levels[1]).apply(pair, seed)
        for side in ("fixed", "moving"):
            old, new = getattr(pair, side).array, getattr(changed, side).array
            weights = np.indices(old.shape).reshape(ndim, -1)
            centres = [(weights * image.ravel()).sum(1) / image.sum() for image in (old, new)]
            assert np.abs(centres[0] - centres[1]).max() < 1.0, "the body has moved"
            assert np.corrcoef(old.ravel(), new.ravel())[0, 1] > 0.8


def test_without_torchio_its_shifts_say_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regbench.shifts.kspace.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"conditions.motion: needs torchio.*pip install 'regbench\[shifts\]'"):
        shift("motion")


# -- gamma ------------------------------------------------------------------------------------------------


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
