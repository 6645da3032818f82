"""Displacements: conversions to and from targets, index fields and world affines, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oblique_grids import registrations, rotation

from regbench.displacement import Displacement
from regbench.errors import InvalidDisplacement
from regbench.volume import Grid

GRID = Grid.from_spacing((3, 4, 5), (1.0, 2.0, 3.0))


@settings(max_examples=30, deadline=None)
@given(registrations())
def test_index_displacements_round_trip_between_grids(case: tuple[Displacement, Grid]) -> None:
    displacement, moving = case
    voxels = displacement.in_voxels(moving)
    again = Displacement.from_voxels(voxels, displacement.grid, moving)
    np.testing.assert_allclose(again.vectors_mm, displacement.vectors_mm, atol=1e-4)
    # The definition itself: fixed index i corresponds to moving index i + d(i).
    reached = moving.to_world(displacement.grid.indices() + voxels)
    np.testing.assert_allclose(reached, displacement.grid.world_points() + displacement.vectors_mm, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(registrations(), st.integers(0, 2**32 - 1))
def test_an_affine_after_a_field_moves_its_targets(case: tuple[Displacement, Grid], seed: int) -> None:
    displacement, _ = case
    rng = np.random.default_rng(seed)
    ndim = displacement.grid.ndim
    matrix = np.eye(ndim + 1)
    matrix[:-1, :-1] = rotation(rng, ndim) * 1.1
    matrix[:-1, -1] = rng.uniform(-5, 5, ndim)
    expected = displacement.targets() @ matrix[:-1, :-1].T + matrix[:-1, -1]
    np.testing.assert_allclose(displacement.then(matrix).targets(), expected, atol=1e-4)
    field = Displacement.from_affine(matrix, displacement.grid)
    same = Displacement.identity(displacement.grid).then(matrix)
    np.testing.assert_allclose(field.vectors_mm, same.vectors_mm, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(registrations(), st.integers(0, 2**32 - 1))
def test_the_inverse_of_a_field_and_an_affine_goes_back_through_the_affine_first(
    case: tuple[Displacement, Grid], seed: int
) -> None:
    """The point T y goes where the inverse led y."""
    displacement, moving = case
    rng = np.random.default_rng(seed)
    ndim = moving.ndim
    inverse = Displacement(rng.uniform(-3, 3, (*moving.shape, ndim)), moving)
    matrix = np.eye(ndim + 1)
    matrix[:-1] += rng.uniform(-0.3, 0.3, (ndim, ndim + 1))
    after = Displacement(displacement.vectors_mm, displacement.grid, inverse).then(matrix)
    np.testing.assert_array_equal(after.vectors_mm, displacement.then(matrix).vectors_mm)
    assert after.inverse is not None
    starts = moving.world_points() @ matrix[:-1, :-1].T + matrix[:-1, -1]
    np.testing.assert_allclose(after.inverse.grid.world_points(), starts, atol=1e-9)
    np.testing.assert_allclose(after.inverse.targets(), inverse.targets(), atol=1e-4)
    assert displacement.then(matrix).inverse is None


def test_the_identity_moves_nothing() -> None:
    identity = Displacement.identity(GRID)
    assert identity.max_mm == 0
    np.testing.assert_array_equal(identity.targets(), GRID.world_points())
    np.testing.assert_array_equal(identity.in_voxels(GRID), 0)


def test_the_longest_vector_is_measured_in_mm() -> None:
    vectors = np.zeros((*GRID.shape, 3))
    vectors[1, 2, 3] = 3, 0, -4
    assert Displacement(vectors, GRID).max_mm == pytest.approx(5.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_with_their_number(bad: float) -> None:
    vectors = np.zeros((*GRID.shape, 3))
    vectors[0, 0, 0] = bad
    with pytest.raises(InvalidDisplacement, match="3 of 180 components"):
        Displacement(vectors, GRID)


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 2), (3, 3, 4, 5), (5, 4, 3, 3)])
def test_a_field_on_another_grid_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidDisplacement, match=r"expected \(3, 4, 5, 3\)"):
        Displacement(np.zeros(shape), GRID)


def test_vectors_are_single_precision_and_cannot_be_written_to() -> None:
    displacement = Displacement(np.zeros((*GRID.shape, 3), np.float64), GRID)
    assert displacement.vectors_mm.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        displacement.vectors_mm[...] = 1
