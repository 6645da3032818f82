"""Subjects as training needs them: network inputs and label maps on one grid, all in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from regbench.datasets.protocol import SubjectSource
from regbench.datasets.table import build_dataset
from regbench.errors import ConfigError
from regbench.methods.voxelmorph import network_input
from regbench.volume import Grid
from regbench.warp import resample


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Scans (n, *grid.shape) float32 and label maps (n, *grid.shape) of named subjects on one grid."""

    subjects: list[str]
    grid: Grid
    scans: np.ndarray
    labels: np.ndarray
    label_values: np.ndarray


def load_training_set(
    dataset: dict[str, dict[str, Any]], split: str, spacing_mm: float, message: Callable[[str], None]
) -> TrainingSet:
    """All subjects of one split, resampled to `spacing_mm` by the same steps that inference uses."""
    ((name, parameters),) = dataset.items()
    source = build_dataset(name, parameters)
    if not isinstance(source, SubjectSource):
        raise ConfigError(f"dataset: '{name}' has no named training subjects; known: mni-cohort")
    names = source.subjects(split)
    scans, maps, grid = [], [], None
    for i, subject in enumerate(names):
        image, label_map = source.scan(subject)
        grid = grid or training_grid(image.grid, spacing_mm)
        scans.append(network_input(image, grid))
        maps.append(resample(label_map, grid).array)
        if (i + 1) % 16 == 0 or i + 1 == len(names):
            message(f"{split}: {i + 1}/{len(names)} subjects ready")
    assert grid is not None
    labels = np.stack(maps)
    values = np.flatnonzero(np.bincount(labels.ravel()))
    return TrainingSet(names, grid, np.stack(scans), labels, values[values > 0])


def training_grid(image_grid: Grid, spacing_mm: float) -> Grid:
    """A grid of `spacing_mm` along the world axes over the same box, every axis a multiple of 8 voxels."""
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in image_grid.shape], indexing="ij"))
    box = image_grid.to_world(corners.reshape(image_grid.ndim, -1).T)
    low, high = box.min(0), box.max(0)
    shape = tuple(int(8 * np.ceil((h - lo) / spacing_mm / 8 - 1e-6)) for lo, h in zip(low, high, strict=True))
    affine = np.diag([spacing_mm] * image_grid.ndim + [1.0])
    affine[:-1, -1] = (low + high) / 2 - spacing_mm * (np.array(shape) - 1) / 2
    return Grid(shape, affine)
