"""Non-diffeomorphic volume and voxels, against fields whose answer is known and plain restatements."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from analytic_fields import about_centre, alignment_of, general_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from oblique_grids import random_field, rotation

import regbench.slabs
from regbench.displacement import Displacement
from regbench.metrics.nondiffeomorphic import ndv_percent
from regbench.metrics.regularity import fold_percent
from regbench.volume import Grid

seeds = st.integers(0, 2**32 - 1)
dimensions = st.sampled_from((2, 3))


@settings(max_examples=20, deadline=None)
@given(seeds, dimensions)
def test_affine_maps_are_diffeomorphic_everywhere(seed: int, ndim: int) -> None:
    """Also turned upside down, where a constant continuation beyond the grid would look inverted."""
    rng, grid = general_grid(seed, ndim)
    turn = rotation(rng, ndim)
    turn[0] *= np.sign(np.linalg.det(turn))
    shear = np.eye(ndim)
    shear[0, 1] = rng.uniform(-2, 2)
    found = ndv_percent(alignment_of(about_centre(turn @ shear * rng.uniform(0.5, 2), grid)))
    assert set(found.values()) == {0}


@settings(max_examples=20, deadline=None)
@given(seeds, dimensions)
def test_a_mirror_inverts_everything(seed: int, ndim: int) -> None:
    rng, grid = general_grid(seed, ndim)
    axis = rotation(rng, ndim)[0]
    found = ndv_percent(alignment_of(about_centre(np.eye(ndim) - 2 * np.outer(axis, axis), grid)))
    n_cells = np.prod([n - 1 for n in grid.shape])
    assert (found["mean"], found["foreground"]) == pytest.approx((100, 100), abs=1e-2)
    assert found["volume_voxels"] == pytest.approx(n_cells, rel=1e-4)
    assert found["cells"] == n_cells
    assert found["nondiffeomorphic_voxels"] == grid.n_voxels
    assert found["foreground_nondiffeomorphic_voxels"] == np.prod([n - 2 for n in grid.shape])


def test_simplices_fill_each_cell_twice() -> None:
    """A mirrored unit grid has all simplices inverted, so their volumes add up to the whole."""
    for ndim in (2, 3):
        mirror = np.diag([-1.0] + [1.0] * (ndim - 1))
        found = ndv_percent(alignment_of(about_centre(mirror, Grid.from_spacing((4,) * ndim))))
        assert (found["mean"], found["foreground"]) == (100, 100)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_checkerboard_folds_where_central_differences_see_nothing(ndim: int) -> None:
    grid = Grid.from_spacing((8,) * ndim)
    sign = (-1.0) ** grid.indices().sum(axis=-1)
    alignment = alignment_of(Displacement(np.repeat(0.8 * sign[..., None], ndim, axis=-1), grid))
    found = ndv_percent(alignment)
    assert fold_percent(alignment)["count"] == 0
    assert found["mean"] > 10
    assert found["foreground_nondiffeomorphic_voxels"] == 6**ndim


def test_one_voxel_pushed_through_its_neighbour() -> None:
    """In 2-D: the point (3, 3) moves by 2 along the first axis; the triangles around it are known by hand."""
    grid = Grid.from_spacing((7, 7))
    vectors = np.zeros((7, 7, 2))
    vectors[3, 3, 0] = 2.0
    found = ndv_percent(alignment_of(Displacement(vectors, grid)))
    # The two cells ahead have its corners at (3, 3) -> (5, 3) and (4, 3): in each, the two triangles that have the edge
    # between them as a side are inverted with determinant 1 - 2, each of area 1/2 and counted half.
    assert found["cells"] == 2
    assert found["volume_voxels"] == pytest.approx(2 * 2 * 0.25)
    # Their right angles are at the two ends of that edge.
    assert found["nondiffeomorphic_voxels"] == found["foreground_nondiffeomorphic_voxels"] == 2
    assert found["foreground"] == pytest.approx(100 * 1.0 / 25)


def test_simplices_count_for_the_foreground_by_their_apex() -> None:
    """The two voxels of the field above, one at a time."""
    grid = Grid.from_spacing((7, 7))
    vectors = np.zeros((7, 7, 2))
    vectors[3, 3, 0] = 2.0
    for voxel, volume, n_bad in (((3, 3), 0.5, 1), ((4, 3), 0.5, 1), ((2, 3), 0.0, 0)):
        inside = np.zeros(grid.shape, bool)
        inside[voxel] = True
        inside[0] = True  # which is no voxel of the interior
        found = ndv_percent(alignment_of(Displacement(vectors, grid), inside))
        assert found["foreground"] == pytest.approx(100 * volume)
        assert found["foreground_nondiffeomorphic_voxels"] == n_bad


def _plain(displacement: Displacement) -> tuple[np.ndarray, set[tuple[int, ...]]]:
    """Inverted volume by voxel, and the cells with an inverted simplex, from world points before and after."""
    ndim = displacement.grid.ndim
    before, after = displacement.grid.world_points(), displacement.targets()
    volumes, cells = np.zeros(displacement.grid.shape), set()
    for cell in product(*[range(n - 1) for n in displacement.grid.shape]):
        corners = [tuple(c) for c in product((0, 1), repeat=ndim)]
        simplices = [[c, *[tuple(np.array(c) ^ np.eye(ndim, dtype=int)[a]) for a in range(ndim)]] for c in corners]
        if ndim == 3:
            simplices += [sorted(c for c in corners if sum(c) % 2 == 0)]
            simplices += [sorted((c for c in corners if sum(c) % 2 == 1), reverse=True)]
        for simplex in simplices:
            places = [tuple(np.add(cell, c)) for c in simplex]
            old, new = (np.array([x[p] for p in places]) for x in (before, after))
            change = np.linalg.det(new[1:] - new[0]) / np.linalg.det(old[1:] - old[0])
            unit = abs(np.linalg.det(np.subtract(simplex[1:], simplex[0]))) / (6 if ndim == 3 else 2)
            volumes[places[0]] += max(-change, 0.0) * unit / 2
            if change <= 0:
                cells.add(cell)
    return volumes, cells


@settings(max_examples=12, deadline=None)
@given(seeds, dimensions, st.floats(0.2, 2.0))
def test_all_numbers_equal_a_plain_restatement_in_mm(seed: int, ndim: int, size_mm: float) -> None:
    rng, grid = general_grid(seed, ndim, low=3, high=5)
    displacement = random_field(rng, grid, size_mm).then(np.diag([1.3] * ndim + [1.0]))
    inside = rng.random(grid.shape) < 0.5
    inside[(1,) * ndim] = True
    volumes, cells = _plain(displacement)
    found = ndv_percent(alignment_of(displacement, inside))
    inner = np.zeros(grid.shape, bool)
    inner[(slice(1, -1),) * ndim] = True
    n_cells = np.prod([n - 1 for n in grid.shape])
    assert found["mean"] == pytest.approx(100 * volumes.sum() / n_cells, rel=1e-3, abs=1e-3)
    assert found["volume_voxels"] == pytest.approx(volumes.sum(), rel=1e-3, abs=1e-4)
    assert found["cells"] == len(cells)
    assert found["nondiffeomorphic_voxels"] == np.count_nonzero(volumes)
    assert found["foreground_nondiffeomorphic_voxels"] == np.count_nonzero(volumes[inside & inner])
    expected = 100 * volumes[inside & inner].sum() / np.count_nonzero(inside & inner)
    assert found["foreground"] == pytest.approx(expected, rel=1e-3, abs=1e-3)


def _digital(displacement: Displacement) -> np.ndarray:
    """The determinants that Liu et al. give to each voxel of the interior, (n, *interior), by voxel index.

    One-sided differences in all combinations, and those of the central tetrahedra, J1* and J2*.
    """
    grid, ndim = displacement.grid, displacement.grid.ndim
    targets = grid.to_voxel(displacement.targets())

    def neighbour(*step: int) -> np.ndarray:
        return targets[tuple(slice(1 + s, n - 1 + s) for s, n in zip(step, grid.shape, strict=True))]

    here, unit = neighbour(*[0] * ndim), np.eye(ndim, dtype=int)
    found = []
    for signs in product((1, -1), repeat=ndim):
        columns = [s * (neighbour(*(s * unit[a])) - here) for a, s in enumerate(signs)]
        found.append(np.linalg.det(np.stack(columns, axis=-1)))
    for way in (-1, 1) if ndim == 3 else ():
        columns = [neighbour(*(way * np.array(step))) - here for step in ((1, 1, 0), (0, 1, 1), (1, 0, 1))]
        found.append(way * np.linalg.det(np.stack(columns, axis=-1)))
    return np.array(found)


@settings(max_examples=30, deadline=None)
@given(seeds, dimensions, st.floats(0.2, 2.0))
def test_voxels_of_the_interior_are_those_of_the_paper(seed: int, ndim: int, size_mm: float) -> None:
    rng, grid = general_grid(seed, ndim)
    displacement = random_field(rng, grid, size_mm)
    determinants = _digital(displacement)
    found = ndv_percent(alignment_of(displacement))
    if np.abs(determinants).min() > 1e-4:
        n_bad = np.count_nonzero((determinants <= 0).any(axis=0))
        assert found["foreground_nondiffeomorphic_voxels"] == n_bad
    volume = -np.minimum(determinants, 0).sum(axis=0) / (12 if ndim == 3 else 4)
    assert found["foreground"] == pytest.approx(100 * volume.mean(), rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("shape", [(11, 8, 9), (23, 17)])
def test_slabs_and_threads_change_no_bit(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    displacement, inside = random_field(rng, Grid.from_spacing(shape), 0.5), rng.random(shape) < 0.5
    whole = ndv_percent(alignment_of(displacement, inside))
    assert 0 < whole["nondiffeomorphic_voxels"] < displacement.grid.n_voxels
    for n_points in (1, 200, 500):
        monkeypatch.setattr(regbench.slabs.row_slabs, "__defaults__", (n_points,))
        for threads in (1, 2):
            assert ndv_percent(alignment_of(displacement, inside, threads)) == whole


@pytest.mark.parametrize("shape", [(1, 5, 5), (5, 1), (5, 5, 1), (1, 1)])
def test_grids_without_cells_have_no_number(shape: tuple[int, ...]) -> None:
    found = ndv_percent(alignment_of(Displacement.identity(Grid.from_spacing(shape))))
    assert np.isnan([found["mean"], found["foreground"]]).all()
    assert (found["cells"], found["nondiffeomorphic_voxels"]) == (0, 0)


@pytest.mark.parametrize("shape", [(2, 5, 5), (5, 2), (5, 5, 2), (2, 2)])
def test_grids_of_two_layers_have_cells_and_no_interior(shape: tuple[int, ...]) -> None:
    mirror = np.diag([-1.0] + [1.0] * (len(shape) - 1))
    found = ndv_percent(alignment_of(about_centre(mirror, Grid.from_spacing(shape))))
    assert found["mean"] == 100
    assert np.isnan(found["foreground"])
