"""The pairs that the evaluator is measured on: one made here, or two real brains.

The made pair is a head of some labels with rough borders; its moving side is the fixed one warped by a smooth field.
The result to be scored is the inverse of that field to first order, with a rougher error on top that folds a little.
Landmarks are points whose partner is known from the field, the inverse direction is the field itself, and the truth
is the inverse without the rough error.

A case can be written into a folder, from which fresh processes load it as it is, array by array.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from regbench.displacement import Displacement
from regbench.files.images import read_image, read_labels
from regbench.methods.demons import Demons
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels, Landmarks
from regbench.warp import sample_displacement, warp

Case = tuple[Pair, Displacement]

SHAPE = (160, 192, 224)
N_LABELS = 35
N_LANDMARKS = 300
_REAL_PAIR = ("OASIS_OAS1_0001_MR1", "OASIS_OAS1_0002_MR1")
_FIELDS = ("inverse", "truth")


def make_case(
    shape: tuple[int, ...] = SHAPE,
    n_labels: int = N_LABELS,
    rough_mm: float = 0.9,
    turn_degrees: float = 0.0,
    n_landmarks: int = N_LANDMARKS,
) -> Case:
    """A pair whose moving side is the fixed one warped, and a displacement between them that is not quite right."""
    rng = np.random.default_rng(0)
    grid = Grid.from_spacing(shape)
    fixed_labels = Labels(_parcels(rng, shape, n_labels), grid)
    texture = ndimage.gaussian_filter(rng.standard_normal(shape).astype(np.float32), 2)
    fixed = Image(fixed_labels.array + 20 * texture, grid)
    back = Displacement(_smooth_vectors(rng, shape, 2.5, 24), grid)
    moving, moving_labels = warp(fixed, back), warp(fixed_labels, back)
    found = Displacement(_smooth_vectors(rng, shape, rough_mm, 7) - back.vectors_mm, grid, inverse=back)
    partners = _points_inside(rng, moving_labels, n_landmarks)
    pair = Pair(
        "made",
        fixed,
        moving,
        fixed_labels=fixed_labels,
        moving_labels=moving_labels,
        # moving(y) = fixed(y + back(y)), so these are the same places.
        fixed_landmarks=Landmarks(partners + sample_displacement(back, partners)),
        moving_landmarks=Landmarks(partners),
        truth=Displacement(-back.vectors_mm, grid),
    )
    return pair, found.then(_turn(grid, np.deg2rad(turn_degrees))) if turn_degrees else found


def real_case(folder: Path, n_landmarks: int = N_LANDMARKS) -> Case:
    """Two neurite-OASIS brains (35 labels) below `folder`, the second registered to the first by demons at 2 mm.

    Nobody has set landmarks there, so points are drawn and their partners put near the place that the result says:
    the number means nothing, but costs what it would cost.
    """
    parts = [folder / "neurite_oasis" / name for name in _REAL_PAIR]
    images = [read_image(part / "aligned_norm.nii.gz") for part in parts]
    labels = [read_labels(part / "aligned_seg35.nii.gz") for part in parts]
    pair = Pair("real", images[0], images[1], fixed_labels=labels[0], moving_labels=labels[1])
    displacement = Demons(shrink=(4, 2), iterations=(60, 30)).register(pair.blind())
    rng = np.random.default_rng(0)
    points = _points_inside(rng, labels[0], n_landmarks)
    partners = points + sample_displacement(displacement, points) + rng.normal(0, 1, points.shape)
    return replace(pair, fixed_landmarks=Landmarks(points), moving_landmarks=Landmarks(partners)), displacement


def save_case(case: Case, folder: Path) -> None:
    """Writes a case on one grid into a folder, one `.npy` file for each array."""
    pair, displacement = case
    assert pair.fixed_labels and pair.moving_labels and pair.fixed_landmarks and pair.moving_landmarks
    arrays = {
        "affine": pair.fixed.grid.affine,
        "fixed": pair.fixed.array,
        "moving": pair.moving.array,
        "fixed_labels": pair.fixed_labels.array,
        "moving_labels": pair.moving_labels.array,
        "fixed_landmarks": pair.fixed_landmarks.points_mm,
        "moving_landmarks": pair.moving_landmarks.points_mm,
        "displacement": displacement.vectors_mm,
    }
    for name, field in zip(_FIELDS, (displacement.inverse, pair.truth), strict=True):
        if field is not None:
            arrays[name] = field.vectors_mm
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def load_case(folder: Path, fields: bool = False) -> Case:
    """The case in a folder; with its inverse and true fields, where it has them, only if `fields`."""

    def array(name: str) -> np.ndarray:
        return np.load(folder / f"{name}.npy")

    fixed = array("fixed")
    grid = Grid(fixed.shape, array("affine"))
    more = {name: Displacement(array(name), grid) for name in _FIELDS if fields and (folder / f"{name}.npy").is_file()}
    pair = Pair(
        folder.name,
        Image(fixed, grid),
        Image(array("moving"), grid),
        fixed_labels=Labels(array("fixed_labels"), grid),
        moving_labels=Labels(array("moving_labels"), grid),
        fixed_landmarks=Landmarks(array("fixed_landmarks")),
        moving_landmarks=Landmarks(array("moving_landmarks")),
        truth=more.get("truth"),
    )
    return pair, Displacement(array("displacement"), grid, inverse=more.get("inverse"))


def _points_inside(rng: np.random.Generator, labels: Labels, number: int) -> np.ndarray:
    """Points in mm (number, ndim), between the voxels of labelled regions, at least 3 voxels from the faces."""
    inner = np.zeros(labels.grid.shape, bool)
    middle = (slice(3, -3),) * labels.grid.ndim
    inner[middle] = labels.array[middle] > 0
    places = np.argwhere(inner)
    chosen = places[rng.choice(len(places), number, replace=len(places) < number)]
    return labels.grid.to_world(chosen + rng.uniform(-0.5, 0.5, chosen.shape))


def _turn(grid: Grid, angle: float) -> np.ndarray:
    """A rotation about the centre of the grid in the plane of the first two axes."""
    matrix = np.eye(grid.ndim + 1)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    centre = grid.to_world((np.array(grid.shape) - 1) / 2)
    matrix[:-1, -1] = centre - matrix[:-1, :-1] @ centre
    return matrix


def _smooth_vectors(rng: np.random.Generator, shape: tuple[int, ...], size: float, control: int) -> np.ndarray:
    """A random field with standard deviation `size` per component and a control point every `control` voxels."""
    out = np.empty((*shape, len(shape)), np.float32)
    inner = tuple(slice(control, control + n) for n in shape)
    for component in range(len(shape)):
        coarse = rng.standard_normal([n // control + 4 for n in shape])
        fine = ndimage.zoom(coarse, control, order=3)[inner]
        out[..., component] = fine * (size / fine.std())
    return out


def _parcels(rng: np.random.Generator, shape: tuple[int, ...], n_labels: int) -> np.ndarray:
    """An ellipsoid parcelled by the nearest of some seeds, its borders roughened like those of a cortex."""
    # Made at half the resolution, which is rough enough and much quicker.
    half = tuple((n + 1) // 2 for n in shape)
    points = (Grid.from_spacing(half).indices() + _smooth_vectors(rng, half, 2.0, 6)) / np.array(half) - 0.5
    seeds = rng.uniform(-0.35, 0.35, (n_labels, len(shape)))
    labels = 1 + cKDTree(seeds).query(points)[1]
    labels[np.square(points).sum(axis=-1) > 0.42**2] = 0
    return labels[np.ix_(*[np.arange(n) // 2 for n in shape])]
