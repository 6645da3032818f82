"""Areas of surface elements: plain facts of geometry, and all patterns against polygons given by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_surfaces import plain_area

from regbench.metrics.surface_elements import element_sizes
from regbench.metrics.surface_search import Layout, surface_of
from regbench.slabs import Scratch


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 3).flatmap(lambda ndim: st.tuples(*[st.floats(0.2, 5)] * ndim)))
def test_every_pattern_has_the_area_of_its_polygons(spacing: tuple[float, ...]) -> None:
    areas, n_corners = element_sizes(spacing), 1 << len(spacing)
    assert len(areas) == 1 << n_corners
    for code, area in enumerate(areas):
        pattern = tuple(bool(code >> (n_corners - 1 - corner) & 1) for corner in range(n_corners))
        expected = plain_area(pattern, spacing)
        assert area == pytest.approx(expected), f"pattern {code:b}"


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.floats(0.2, 5)] * 3))
def test_areas_of_plain_cases(spacing: tuple[float, float, float]) -> None:
    """One corner cut off is a triangle; half a cube is a rectangle; a wedge is a slanted rectangle."""
    x, y, z = spacing
    areas = element_sizes(spacing)
    assert areas[0] == areas[255] == 0
    triangle = 0.5 * np.linalg.norm(np.cross([x / 2, -y / 2, 0], [x / 2, 0, -z / 2]))
    for bit in range(8):
        assert areas[1 << bit] == areas[255 - (1 << bit)] == pytest.approx(triangle)
    assert areas[0b11110000] == pytest.approx(y * z)
    assert areas[0b11001100] == pytest.approx(x * z)
    assert areas[0b10101010] == pytest.approx(x * y)
    assert areas[0b11000000] == pytest.approx(z * np.hypot(x, y) / 2)


def test_distinct_areas_on_the_unit_cube() -> None:
    """By hand from the polygons: s is the triangle at one corner, w the rectangle of a wedge."""
    s, w = np.sqrt(3) / 8, np.sqrt(2) / 2
    corners, flat = [s, 2 * s, 3 * s, 4 * s], [0, w, 1, 2 * w, 6 * s]
    with_corner = [w + s]
    # The pentagon of three corners in an L, alone and with a fourth corner; the bent hexagon of four in a chain.
    bent = [0.5 + 3 * s, 0.5 + 4 * s, w + 4 * s]
    expected = sorted({round(float(area), 9) for area in (*corners, *flat, *with_corner, *bent)})
    assert sorted({round(float(area), 9) for area in element_sizes((1, 1, 1))}) == expected


def test_contour_lengths_in_the_plane() -> None:
    lengths = element_sizes((3, 4))
    corner, down, across = 2.5, 3.0, 4.0
    expected = [0, corner, corner, across, corner, down, 2 * corner, corner]
    np.testing.assert_allclose(lengths, expected + expected[::-1])


def _area(region: np.ndarray, spacing: tuple[float, ...]) -> float:
    layout = Layout.of(region.shape, [3] * (region.ndim - 1))
    return float(surface_of(region, layout, element_sizes(spacing), Scratch(), "columns").areas.sum())


def test_a_ball_has_about_the_area_of_a_ball() -> None:
    """Marching cubes on a binary ball overestimates by a few percent; voxel faces would give 50 % too much."""
    centred = np.stack(np.meshgrid(*[np.arange(-22, 23)] * 3, indexing="ij"))
    ball = np.square(centred).sum(axis=0) <= 20**2
    assert _area(ball, (1, 1, 1)) == pytest.approx(4 * np.pi * 20**2, rel=0.12)


@pytest.mark.parametrize("shape", [(4, 5, 6), (7, 3)])
def test_a_box_that_fills_the_grid_closes_at_its_faces(shape: tuple[int, ...]) -> None:
    """Faces, edges and corners of a box: those of its voxels, bevelled by half a voxel."""
    spacing = np.array([0.5, 2.0, 1.5][: len(shape)])
    inner = (np.array(shape) - 1) * spacing
    if len(shape) == 2:
        expected = 2 * inner.sum() + 4 * np.hypot(*spacing) / 2
    else:
        x, y, z = inner
        bevels = sum(4 * inner[a] * np.hypot(*np.delete(spacing, a)) / 2 for a in range(3))
        corner = 0.5 * np.linalg.norm(np.cross(spacing * [0.5, -0.5, 0], spacing * [0.5, 0, -0.5]))
        expected = 2 * (x * y + y * z + x * z) + bevels + 8 * corner
    assert _area(np.ones(shape, bool), tuple(spacing)) == pytest.approx(expected)
