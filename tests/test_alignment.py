"""Alignments: the Jacobian against analytic truth on any grid, the foreground, and work done once."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oblique_grids import oblique_grid, random_field, random_image

import regbench.alignment
import regbench.slabs
from regbench.alignment import Alignment, jacobian_determinants
from regbench.displacement import Displacement
from regbench.errors import ConfigError, InvalidDisplacement
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels

seeds = st.integers(0, 2**32 - 1)
dimensions = st.sampled_from((2, 3))
GRID = Grid.from_spacing((6, 5, 4), (1.0, 2.0, 3.0))


def _linear_field(grid: Grid, linear: np.ndarray) -> Displacement:
    """u(x) = linear @ x about the grid's centre, so that float32 keeps all digits that matter."""
    centre = grid.to_world((np.array(grid.shape) - 1) / 2)
    return Displacement((grid.world_points() - centre) @ linear.T, grid)


@settings(max_examples=40, deadline=None)
@given(seeds, dimensions)
def test_the_jacobian_of_a_linear_field_is_the_determinant_on_any_grid(seed: int, ndim: int) -> None:
    rng = np.random.default_rng(seed)
    grid = oblique_grid(rng, ndim, rng.uniform(-80, 80, ndim))
    linear = rng.uniform(-1, 1, (ndim, ndim))
    jacobian = jacobian_determinants(_linear_field(grid, linear))
    assert jacobian.shape == tuple(n - 2 for n in grid.shape)
    np.testing.assert_allclose(jacobian, np.linalg.det(np.eye(ndim) + linear), atol=2e-4)


@settings(max_examples=20, deadline=None)
@given(seeds, dimensions, st.floats(0.3, 3.0))
def test_uniform_scaling_has_the_jacobian_of_its_volume(seed: int, ndim: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    grid = oblique_grid(rng, ndim, rng.uniform(-80, 80, ndim))
    jacobian = jacobian_determinants(_linear_field(grid, (scale - 1) * np.eye(ndim)))
    np.testing.assert_allclose(jacobian, scale**ndim, rtol=1e-4)


@settings(max_examples=20, deadline=None)
@given(seeds, dimensions)
def test_identity_and_translation_have_a_jacobian_of_exactly_one(seed: int, ndim: int) -> None:
    rng = np.random.default_rng(seed)
    grid = oblique_grid(rng, ndim, rng.uniform(-80, 80, ndim))
    shift = Displacement(np.broadcast_to(rng.uniform(-9, 9, ndim), (*grid.shape, ndim)), grid)
    assert (jacobian_determinants(Displacement.identity(grid)) == 1).all()
    assert (jacobian_determinants(shift) == 1).all()


@settings(max_examples=20, deadline=None)
@given(seeds, dimensions)
def test_the_jacobian_is_that_of_the_map_in_mm(seed: int, ndim: int) -> None:
    """Against numpy's gradient of the world map, with the chain rule of the grid written out."""
    rng = np.random.default_rng(seed)
    displacement = random_field(rng, oblique_grid(rng, ndim, rng.uniform(-80, 80, ndim)), size_mm=1.0)
    targets = displacement.targets()
    by_index = np.stack([np.gradient(targets, axis=axis) for axis in range(ndim)], axis=-1)
    inner = (slice(1, -1),) * ndim
    expected = np.linalg.det(by_index @ np.linalg.inv(displacement.grid.linear))[inner]
    np.testing.assert_allclose(jacobian_determinants(displacement), expected, atol=1e-3)


def test_handedness_of_the_moving_grid_is_no_fold() -> None:
    fixed, moving = Grid.from_spacing((5, 5, 5)), Grid((5, 5, 5), np.diag([-1.0, 1, 1, 1]))
    pair = Pair("p", Image(np.zeros((5, 5, 5)), fixed), Image(np.zeros((5, 5, 5)), moving))
    for displacement in (Displacement.identity(fixed), Displacement.identity(fixed).then(np.diag([1.1, 1.1, 1.1, 1]))):
        assert (Alignment(pair, displacement).jacobian > 0).all()


@pytest.mark.parametrize("shape", [(2, 5, 5), (1, 4), (5, 5, 1)])
def test_thin_grids_have_no_interior(shape: tuple[int, ...]) -> None:
    grid = Grid.from_spacing(shape)
    assert jacobian_determinants(Displacement.identity(grid)).size == 0


def test_the_jacobian_does_not_depend_on_the_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    displacement = random_field(np.random.default_rng(0), GRID)
    whole = jacobian_determinants(displacement)
    monkeypatch.setattr(regbench.slabs.row_slabs, "__defaults__", (1,))
    np.testing.assert_array_equal(jacobian_determinants(displacement), whole)


@pytest.mark.parametrize(("label_warp", "expected"), [("nearest", "nearest"), ("linear", "votes"), ("soft", "votes")])
def test_images_and_labels_are_moved_once(label_warp: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, str, int]] = []

    def counted(how: str, moving: Image | Labels, displacement: Displacement, threads: int) -> Image | Labels:
        calls.append((how, type(moving).__name__, threads))
        return moving

    monkeypatch.setattr(regbench.alignment, "warp", partial(counted, "nearest"))
    monkeypatch.setattr(regbench.alignment, "warp_labels_linear", partial(counted, "votes"))
    labels = Labels(np.ones(GRID.shape, int), GRID)
    image = random_image(np.random.default_rng(0), GRID)
    pair = Pair("p", image, image, moving_labels=labels)
    alignment = Alignment(pair, Displacement.identity(GRID), label_warp, threads=2)  # type: ignore[arg-type]
    for _ in range(2):
        assert alignment.moved_image is image
        assert alignment.moved_labels is labels
    assert calls == [("nearest", "Image", 2), (expected, "Labels", 2)]


def test_another_label_warp_is_refused() -> None:
    image = random_image(np.random.default_rng(0), GRID)
    with pytest.raises(ConfigError, match="'cubic'; known: nearest, linear, soft"):
        Alignment(Pair("p", image, image), Displacement.identity(GRID), "cubic")  # type: ignore[arg-type]


def test_shared_work_is_done_once_per_alignment() -> None:
    image = random_image(np.random.default_rng(0), GRID)
    first, second = (Alignment(Pair("p", image, image), Displacement.identity(GRID)) for _ in range(2))
    seen: list[Alignment] = []

    def work(alignment: Alignment) -> int:
        seen.append(alignment)
        return len(seen)

    assert [a.once(work) for a in (first, first, second, first)] == [1, 1, 2, 1]
    assert seen == [first, second]


def test_a_pair_without_labels_has_no_moved_ones() -> None:
    image = random_image(np.random.default_rng(0), GRID)
    alignment = Alignment(Pair("p", image, image), Displacement.identity(GRID))
    assert alignment.moved_labels is None
    assert alignment.scored_labels.size == 0


def test_scored_and_absent_labels() -> None:
    image = random_image(np.random.default_rng(0), GRID)
    fixed, moving = np.zeros((2, *GRID.shape), int)
    fixed[0, 0, :3] = 2, 5, 2035
    moving[0, 0, :3] = 5, 2035, 9
    pair = Pair("p", image, image, fixed_labels=Labels(fixed, GRID), moving_labels=Labels(moving, GRID))
    alignment = Alignment(pair, Displacement.identity(GRID))
    assert alignment.scored_labels.tolist() == [5, 2035]
    assert alignment.absent_labels.tolist() == [2, 9]


def test_a_displacement_on_another_grid_is_refused() -> None:
    image = random_image(np.random.default_rng(0), GRID)
    shifted = Grid(GRID.shape, GRID.affine + np.eye(4)[:, ::-1] * 0.1)
    with pytest.raises(InvalidDisplacement, match="fixed grid"):
        Alignment(Pair("p", image, image), Displacement.identity(shifted))


def test_the_foreground_is_labels_then_mask_then_positive_intensities_then_everything() -> None:
    array = np.zeros(GRID.shape, np.float32)
    array[0] = 3.0
    labels = np.zeros(GRID.shape, int)
    labels[1] = 7
    mask = np.zeros(GRID.shape, int)
    mask[2] = 1
    image, nothing = Image(array, GRID), Labels(np.zeros(GRID.shape, int), GRID)
    cases = [
        ({"fixed_labels": Labels(labels, GRID), "fixed_mask": Labels(mask, GRID)}, labels > 0),
        ({"fixed_labels": nothing, "fixed_mask": Labels(mask, GRID)}, mask > 0),
        ({"fixed_labels": nothing, "fixed_mask": nothing}, array > 0),
        ({}, array > 0),
    ]
    for parts, expected in cases:
        alignment = Alignment(Pair("p", image, image, **parts), Displacement.identity(GRID))
        np.testing.assert_array_equal(alignment.foreground, expected)
    dark = Image(np.full(GRID.shape, -1.0), GRID)
    assert Alignment(Pair("p", dark, dark), Displacement.identity(GRID)).foreground.all()
