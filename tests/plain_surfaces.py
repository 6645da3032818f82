"""Surface distances restated plainly: areas from polygons given by hand, distances by asking for every element.

Corners of a cube of 2x2x2 voxels are numbered 0 to 7, in binary the steps along the first, second and last axis.
Two digits are the midpoint of the edge between two corners.
"""

from __future__ import annotations

from functools import cache
from itertools import permutations, product

import numpy as np
from scipy.spatial import cKDTree

# Triangles of the surface around some inside corners, one case of each kind; the others are turned or mirrored.
_EDGE, _PENTAGON = "02 13 15, 02 15 04", "13 23 15, 23 26 15, 26 04 15"
_KINDS = {
    "0": "01 02 04",
    "01": _EDGE,
    "03": "01 02 04, 13 23 37",
    "07": "01 02 04, 37 57 67",
    "012": _PENTAGON,
    "016": f"{_EDGE}, 26 46 67",
    "035": "01 02 04, 13 23 37, 15 45 57",
    "0123": "04 15 37, 04 37 26",
    "0124": "13 23 26, 13 26 46, 13 46 45, 13 45 15",
    "0126": "13 04 15, 13 46 04, 13 67 46, 13 23 67",
    "0167": f"{_EDGE}, 37 26 46, 37 46 57",
    "0127": f"{_PENTAGON}, 37 57 67",
    "0356": "01 02 04, 13 23 37, 15 45 57, 26 46 67",
}


@cache
def _triangles() -> dict[frozenset[int], np.ndarray]:
    """Triangles (n, 3, 3) on the unit cube by inside corners; those of more than four are of the other ones."""
    found = {}
    for order, flips in product(permutations(range(3)), product((0, 1), repeat=3)):
        points = np.array(list(product((0, 1), repeat=3)))[:, order] ^ np.array(flips)
        numbers = points @ [4, 2, 1]
        for kind, triangles in _KINDS.items():
            edges = [[[int(corner) for corner in edge] for edge in t.split()] for t in triangles.split(", ")]
            inside = frozenset(int(numbers[int(corner)]) for corner in kind)
            found[inside] = points[np.array(edges)].mean(axis=2)
            if len(inside) < 4:
                found[frozenset(range(8)) - inside] = found[inside]
    return found


@cache
def plain_area(pattern: tuple[bool, ...], spacing: tuple[float, ...]) -> float:
    """Area of the surface between inside and outside among 2x2x2 voxels, or its length among 2x2."""
    inside = np.reshape(pattern, [2] * len(spacing))
    n = int(inside.sum())
    if n in (0, inside.size):
        return 0.0
    if inside.ndim == 3:
        a, b, c = np.moveaxis(_triangles()[frozenset(np.flatnonzero(inside).tolist())] * spacing, 1, 0)
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=-1).sum() / 2)
    if n == 2 and inside[0, 0] == inside[0, 1]:
        return spacing[1]
    if n == 2 and inside[0, 0] == inside[1, 0]:
        return spacing[0]
    return float(np.linalg.norm(spacing) / 2 * (2 if n == 2 else 1))


def plain_elements(region: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, ndim) in mm and areas (n,) of the surface elements of a region, corner by corner."""
    padded = np.pad(region.astype(bool), 1)
    points, areas = [], []
    for corner in np.ndindex(*[n + 1 for n in region.shape]):
        inside = padded[tuple(slice(i, i + 2) for i in corner)]
        if inside.any() and not inside.all():
            points.append(corner * spacing)
            areas.append(plain_area(tuple(inside.ravel().tolist()), tuple(spacing)))
    return np.array(points), np.array(areas)


def plain_distances(first: np.ndarray, second: np.ndarray, spacing: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Distances and areas of all elements, of the first surface to the second one and the other way."""
    one, two = plain_elements(first, spacing), plain_elements(second, spacing)
    return [(cKDTree(two[0]).query(one[0])[0], one[1]), (cKDTree(one[0]).query(two[0])[0], two[1])]


def plain_percentile(directions: list[tuple[np.ndarray, np.ndarray]], share: float) -> float:
    """The larger of the smallest distances within which a share of the area lies, found by trying them all."""
    smallest = []
    for distances, areas in directions:
        wanted = share * areas.sum() * (1 - 1e-12)
        smallest.append(next(d for d in np.sort(distances) if areas[distances <= d + 1e-9].sum() >= wanted))
    return float(max(smallest))


def plain_mean(directions: list[tuple[np.ndarray, np.ndarray]]) -> float:
    return float(sum((d * a).sum() for d, a in directions) / sum(a.sum() for _, a in directions))


def plain_share_within(directions: list[tuple[np.ndarray, np.ndarray]], tolerance: float) -> float:
    return float(sum(a[d <= tolerance + 1e-9].sum() for d, a in directions) / sum(a.sum() for _, a in directions))
