"""Area of the surface between inside and outside voxels, for each of the 256 patterns of 2x2x2 voxels.

A surface element sits on the corner where 2x2x2 voxels meet (2-D: 2x2) and is told by their code: one bit
per voxel, 1 inside; the voxel with the lowest index has the highest bit and the last axis runs fastest.
Its surface is the one of marching cubes: polygons through the midpoints of the edges that the surface cuts.
Two choices that marching cubes leaves open fix the areas; they are those under which the areas equal the
ones that surface-distance publications use:

- On a cube face whose diagonals differ, the corners of the rarer kind in the cube are kept apart.
- A polygon that is not flat is split into the triangles with the largest total area on the unit cube.

Areas are kept as vectors normal to the triangles, so they can be had for any spacing: each component grows with
the spacing of the two other axes. In 2-D the elements are segments of the contour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product

import numpy as np

Point = tuple[float, ...]
Corner = tuple[int, ...]
Edge = tuple[Corner, Corner]
Triangle = tuple[Point, Point, Point]


@lru_cache(maxsize=2)
def unit_elements(ndim: int) -> np.ndarray:
    """Area vectors (256, 4, 3) per code on the unit cube, or contour segments (16, 2, 2) on the unit square.

    Unused places are zero.
    """
    n_codes, most = 1 << (1 << ndim), 1 << (ndim - 1)
    out = np.zeros((n_codes, most, ndim))
    for code in range(1, n_codes - 1):
        inside = {corner: bool(code >> bit & 1) for corner, bit in _bits(ndim).items()}
        cuts = _cuts(inside)
        if ndim == 2:
            vectors = [np.subtract(_middle(b), _middle(a)) for a, b in cuts]
        else:
            triangles = [t for loop in _loops(cuts) for t in _largest_split(loop)[1]]
            vectors = [np.array(_area_vector(t)) for t in triangles]
        out[code, : len(vectors)] = vectors
    out.setflags(write=False)
    return out


def element_sizes(spacing_mm: Sequence[float]) -> np.ndarray:
    """Area in mm^2 per code (256,), or contour length in mm (16,), on a grid with this spacing."""
    spacing = np.array(spacing_mm)
    growth = spacing if len(spacing) == 2 else spacing.prod() / spacing
    return np.linalg.norm(unit_elements(len(spacing)) * growth, axis=-1).sum(axis=-1)


def _bits(ndim: int) -> dict[Corner, int]:
    corners = list(product((0, 1), repeat=ndim))
    return {corner: len(corners) - 1 - place for place, corner in enumerate(corners)}


def _cuts(inside: dict[Corner, bool]) -> list[tuple[Edge, Edge]]:
    """Pairs of cut edges that a line of the surface joins, over all faces (2-D: the one square)."""
    ndim = len(next(iter(inside)))
    rarer = sum(inside.values()) <= len(inside) // 2
    cuts = []
    for ring in _rings(ndim):
        edges = [(min(a, b), max(a, b)) for a, b in zip(ring, [*ring[1:], ring[0]], strict=True)]
        cut = [k for k, (a, b) in enumerate(edges) if inside[a] != inside[b]]
        if len(cut) == 2:
            cuts.append((edges[cut[0]], edges[cut[1]]))
        elif len(cut) == 4:
            # Cut off each corner of the rarer kind: join the two edges that meet there.
            cuts += [(edges[k - 1], edges[k]) for k in range(4) if inside[ring[k]] == rarer]
    return cuts


def _rings(ndim: int) -> Iterator[list[Corner]]:
    """The corners of each face of the cube in cyclic order; in 2-D of the square itself."""
    square = [(0, 0), (0, 1), (1, 1), (1, 0)]
    if ndim == 2:
        yield list(square)
        return
    for axis, side in product(range(3), (0, 1)):
        yield [(*corner[:axis], side, *corner[axis:]) for corner in square]


def _loops(cuts: list[tuple[Edge, Edge]]) -> list[list[Point]]:
    """Closed polygons of edge midpoints, chained from the lines on the faces; every cut edge has two lines."""
    rest = list(cuts)
    loops = []
    while rest:
        first, end = rest.pop()
        loop = [first]
        while end != first:
            loop.append(end)
            line = next(line for line in rest if end in line)
            rest.remove(line)
            end = line[1] if line[0] == end else line[0]
        loops.append([_middle(edge) for edge in loop])
    return loops


def _largest_split(loop: list[Point]) -> tuple[float, list[Triangle]]:
    """The split of a polygon into triangles with the largest total area, and that area."""
    if len(loop) < 3:
        return 0.0, []
    best: tuple[float, list[Triangle]] = (-1.0, [])
    # The edge from the last to the first point belongs to one triangle; its tip divides the rest in two.
    for tip in range(1, len(loop) - 1):
        triangle = (loop[0], loop[tip], loop[-1])
        left, right = _largest_split(loop[: tip + 1]), _largest_split(loop[tip:])
        area = sum(x * x for x in _area_vector(triangle)) ** 0.5 + left[0] + right[0]
        if area > best[0] + 1e-9:
            best = (area, [triangle, *left[1], *right[1]])
    return best


def _area_vector(triangle: Triangle) -> Point:
    """Half the cross product of two sides."""
    o, p, q = triangle
    a, b = [x - y for x, y in zip(p, o, strict=True)], [x - y for x, y in zip(q, o, strict=True)]
    return tuple(0.5 * (a[i] * b[j] - a[j] * b[i]) for i, j in ((1, 2), (2, 0), (0, 1)))


def _middle(edge: Edge) -> Point:
    return tuple((a + b) / 2 for a, b in zip(*edge, strict=True))
