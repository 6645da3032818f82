"""The diagnosis of mix-ups: a field that is wrong in a known way is explained by that way, a right one by none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from regbench.contract import phantom
from regbench.contract.conventions import explain, explain_shape, shape_in
from regbench.displacement import Displacement
from regbench.errors import InvalidDisplacement
from regbench.files.conventions import to_grid_sample
from regbench.files.itk import ras_signs
from regbench.pair import Pair
from regbench.warp import warp

Spoil = Callable[[np.ndarray, Pair], np.ndarray]


def found_by_registration(pair: Pair) -> np.ndarray:
    """The truth as a registration finds it: not quite all of it, and with errors of its own."""
    assert pair.truth is not None
    rough = np.random.default_rng(1).normal(0, 0.3, pair.truth.vectors_mm.shape)
    return 0.93 * pair.truth.vectors_mm.astype(np.float64) + rough


def lps(v: np.ndarray, pair: Pair) -> np.ndarray:
    return v * ras_signs(v.shape[-1])


def reversed_components(v: np.ndarray, pair: Pair) -> np.ndarray:
    return v[..., ::-1]


def fixed_voxels(v: np.ndarray, pair: Pair) -> np.ndarray:
    return v @ np.linalg.inv(pair.fixed.grid.linear).T


def index_to_index(v: np.ndarray, pair: Pair) -> np.ndarray:
    return Displacement(v, pair.fixed.grid).in_voxels(pair.moving.grid)


def along_fixed_axes(v: np.ndarray, pair: Pair) -> np.ndarray:
    return fixed_voxels(v, pair) * pair.fixed.grid.spacing_mm


def positions(v: np.ndarray, pair: Pair) -> np.ndarray:
    return v + pair.fixed.grid.world_points()


def lps_positions(v: np.ndarray, pair: Pair) -> np.ndarray:
    return lps(positions(v, pair), pair)


def grid_sample(v: np.ndarray, pair: Pair) -> np.ndarray:
    return to_grid_sample(Displacement(v, pair.fixed.grid), pair.moving.grid, align_corners=True)[0]


def negative(v: np.ndarray, pair: Pair) -> np.ndarray:
    return -v


def mirrored_x(v: np.ndarray, pair: Pair) -> np.ndarray:
    return v * np.array([-1.0, 1.0, 1.0][: v.shape[-1]])


def push(v: np.ndarray, pair: Pair) -> np.ndarray:
    """The field of the way back on the fixed grid, found by refining -v until there and back is the same."""
    forward, back = Displacement(v, pair.fixed.grid), -v
    for _ in range(20):
        moved = Displacement(back, pair.fixed.grid)
        back = -np.stack([warp(_image(v[..., a], pair), moved).array for a in range(v.shape[-1])], axis=-1)
    assert forward.max_mm > 1
    return back


def half(v: np.ndarray, pair: Pair) -> np.ndarray:
    return v / 2


def reshaped(v: np.ndarray, pair: Pair) -> np.ndarray:
    axes = range(v.ndim - 1)
    return np.ascontiguousarray(v.transpose(*reversed(axes), v.ndim - 1)).reshape(v.shape)


def _image(component: np.ndarray, pair: Pair):  # type: ignore[no-untyped-def]
    from regbench.volume import Image

    return Image(component, pair.fixed.grid)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lps, "looks like LPS instead of RAS"),
        (reversed_components, "components come in reverse order"),
        (fixed_voxels, "in voxels of the fixed image instead of mm"),
        (index_to_index, "in voxels, from a fixed index to a moving index"),
        (along_fixed_axes, "along the axes of the fixed image"),
        (positions, "it holds positions in mm instead of displacements"),
        (lps_positions, "positions in mm, in LPS"),
        (grid_sample, "between -1 and 1"),
        (mirrored_x, "its x component has the opposite sign"),
        (push, "from the moving to the fixed image (push)"),
        (half, "half as long"),
        (reshaped, "reverse order of axes (z, y, x) in memory"),
    ],
)
def test_one_mixup_is_named(spoil: Spoil, words: str, ndim: int) -> None:
    fields = [(spoil(found_by_registration(p), p), p) for p in (phantom.shifted(ndim), phantom.bent(ndim))]
    told = explain(fields)
    assert told is not None and words in told, told
    if spoil not in (grid_sample,):
        assert " and " not in told.partition("; to do:")[0].replace("and exchange", ""), told


def test_the_opposite_sign_is_not_taken_for_the_inverse() -> None:
    pair = phantom.bent(3)
    told = explain([(-found_by_registration(pair), pair)])
    assert told is not None and "all of it has the opposite sign" in told


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (lps, reversed_components, ("LPS", "reverse order")),
        (lps, push, ("LPS", "push")),
        (fixed_voxels, reversed_components, ("voxels of the fixed", "reverse order")),
        (index_to_index, reversed_components, ("fixed index to a moving index", "reverse order")),
    ],
)
def test_two_mixups_are_both_named(first: Spoil, second: Spoil, words: tuple[str, str]) -> None:
    fields = []
    for pair in (phantom.shifted(3), phantom.bent(3)):
        found = found_by_registration(pair)
        # The inverse is one of vectors in mm, RAS.
        steps = (second, first) if second is push else (first, second)
        for step in steps:
            found = step(found, pair)
        fields.append((found, pair))
    told = explain(fields)
    assert told is not None and all(word in told for word in words), told


@pytest.mark.parametrize("ndim", [2, 3])
def test_what_no_mixup_explains_is_not_explained(ndim: int) -> None:
    pair = phantom.bent(ndim)
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 5, (*pair.fixed.grid.shape, ndim))
    assert explain([(noise, pair)]) is None
    assert explain([(np.zeros_like(noise), pair)]) is None
    weak = 0.3 * found_by_registration(pair)
    assert explain([(weak, pair)]) is None


def test_a_mixup_must_explain_every_field() -> None:
    shifted, bent = phantom.shifted(3), phantom.bent(3)
    lps_field = lps(found_by_registration(shifted), shifted)
    assert explain([(lps_field, shifted)]) is not None
    noise = np.random.default_rng(3).normal(0, 5, bent.truth.vectors_mm.shape)  # type: ignore[union-attr]
    assert explain([(lps_field, shifted), (noise, bent)]) is None


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((25, 29, 27, 3), "axes are reversed"),
        ((3, 27, 29, 25), "components come first"),
        ((3, 25, 29, 27), "components come first and its axes are reversed"),
        ((30, 26, 28, 3), "lies on the moving grid"),
        ((28, 26, 30, 3), "moving grid with its axes reversed"),
        ((27, 29, 25), "one number for each voxel"),
        ((1, 27, 29, 25, 3), "axes of one voxel"),
        ((1, 3, 27, 29, 25), "components come first"),
        ((13, 14, 12, 3), "half the resolution"),
    ],
)
def test_a_shape_is_explained(shape: tuple[int, ...], words: str) -> None:
    fixed, moving = phantom.grids(3)
    with pytest.raises(InvalidDisplacement) as caught:
        Displacement(np.zeros(shape), fixed)
    assert shape_in(str(caught.value)) == shape
    told = explain_shape(shape, fixed, moving)
    assert told is not None and words in told


def test_a_shape_of_nothing_is_not_explained() -> None:
    fixed, moving = phantom.grids(3)
    assert explain_shape((5, 6, 7, 3), fixed, moving) is None
    assert shape_in("no shape here") is None
