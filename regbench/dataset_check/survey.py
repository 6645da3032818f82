"""What the scans of a dataset are, each looked at once: grids, labels, points, and a coarse copy for comparisons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from regbench.datasets.folder_dataset import FolderDataset
from regbench.datasets.protocol import Dataset
from regbench.errors import DatasetError
from regbench.volume import Grid, Image, Labels, Landmarks

# Along an axis, by dimension; enough to tell subjects apart, little enough to keep hundreds in memory.
_COARSE_VOXELS = {2: 256, 3: 40}


@dataclass(frozen=True)
class Surveyed:
    """A scan: whose, of which part, its files, and what was found in them; `problem` if it cannot be read.

    `coarse_image` and `coarse_labels` are every k-th voxel; `labels` counts voxels by label, None without a label map;
    `excluded_percent` is the share of the voxels that takes no part in scores.
    """

    name: str
    subject: str
    split: str = ""
    files: dict[str, Path] = field(default_factory=dict)
    grid: Grid | None = None
    label_grid: Grid | None = None
    labels: dict[int, int] | None = None
    label_names: dict[int, str] = field(default_factory=dict)
    n_landmarks: int = 0
    n_outside: int = 0
    coarse_image: np.ndarray | None = None
    coarse_labels: np.ndarray | None = None
    excluded_percent: float | None = None
    excluded_problem: str = ""
    planes: tuple[np.ndarray, np.ndarray | None] | None = None
    problem: str = ""


def survey(dataset: Dataset, limit: int | None = None) -> Iterator[Surveyed]:
    """Every scan of a folder, or every scan that occurs in the pairs of another dataset; the first `limit` of them."""
    scans = _of_folder(dataset) if isinstance(dataset, FolderDataset) else _of_pairs(dataset)
    for number, scan in enumerate(scans):
        if limit is not None and number >= limit:
            return
        yield scan


def _of_folder(dataset: FolderDataset) -> Iterator[Surveyed]:
    for scan in dataset.scans.values():
        known: dict[str, Any] = {"name": scan.name, "subject": scan.of, "split": scan.split}
        try:
            known["files"] = dataset.files_of(scan)
            image, labels, landmarks = dataset.read(scan)
            known |= _excluded(known["files"].get("excluded"), image)
        except DatasetError as error:
            yield Surveyed(**known, problem=str(error))
            continue
        yield _surveyed(known, image, labels, landmarks)


def _of_pairs(dataset: Dataset) -> Iterator[Surveyed]:
    """The scans of pairs; one that occurs in several pairs is known by its subject and the content of its image."""
    seen: set[tuple[str, int]] = set()
    for ref in dataset.pair_refs():
        split = str(ref.tags.get("split", ""))
        try:
            pair = dataset.load(ref)
        except DatasetError as error:
            yield Surveyed(ref.id, ref.fixed, split, problem=str(error))
            continue
        for side, subject in (("fixed", ref.fixed), ("moving", ref.moving)):
            image = getattr(pair, side)
            key = (subject, hash(image.array.tobytes()))
            if key in seen:
                continue
            seen.add(key)
            name = subject if sum(one == subject for one, _ in seen) == 1 else f"{subject} ({side} of {ref.id})"
            known: dict[str, Any] = {"name": name, "subject": subject, "split": split}
            excluded = getattr(pair, f"{side}_excluded")
            if excluded is not None:
                known["excluded_percent"] = 100 * float((excluded.array > 0).mean())
            yield _surveyed(known, image, getattr(pair, f"{side}_labels"), getattr(pair, f"{side}_landmarks"))


def _surveyed(known: dict[str, Any], image: Image, labels: Labels | None, landmarks: Landmarks | None) -> Surveyed:
    same_shape = labels is not None and labels.array.shape == image.array.shape
    step = tuple(slice(None, None, max(1, -(-n // _COARSE_VOXELS[image.grid.ndim]))) for n in image.grid.shape)
    counted = None if labels is None else dict(zip(labels.values.tolist(), labels.counts.tolist(), strict=True))
    return Surveyed(
        **known,
        grid=image.grid,
        label_grid=None if labels is None else labels.grid,
        labels=counted,
        label_names={} if labels is None else dict(labels.names),
        n_landmarks=0 if landmarks is None else len(landmarks),
        n_outside=0 if landmarks is None else _outside(image.grid, landmarks),
        coarse_image=np.array(image.array[step]),
        coarse_labels=np.array(labels.array[step]) if labels is not None and same_shape else None,
        planes=_planes(image, labels if same_shape else None),
    )


def _excluded(path: Path | None, image: Image) -> dict[str, Any]:
    from regbench.files.images import read_labels

    if path is None:
        return {}
    mask = read_labels(path)
    if not mask.grid.matches(image.grid, 1e-2):
        words = f"{path}: is on another grid ({mask.grid.describe()}) than the image ({image.grid.describe()})"
        return {"excluded_problem": words}
    return {"excluded_percent": 100 * float((mask.array > 0).mean())}


def _outside(grid: Grid, landmarks: Landmarks) -> int:
    voxel = grid.to_voxel(landmarks.points_mm)
    inside = ((voxel >= -0.5) & (voxel <= np.array(grid.shape) - 0.5)).all(axis=1)
    return int((~inside).sum())


def _planes(image: Image, labels: Labels | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The slice of the image, and of its labels, in which most voxels are labelled (else the middle one); upright."""
    if image.grid.ndim == 2:
        return image.array, None if labels is None else labels.array
    # Across the axis that runs from head to foot where there is one.
    letters = image.grid.orientation
    axis = next((i for i, letter in enumerate(letters) if letter in "SI"), 2)
    others = tuple(i for i in range(3) if i != axis)
    index = image.grid.shape[axis] // 2
    if labels is not None and labels.array.any():
        index = int(np.argmax((labels.array > 0).sum(axis=others)))
    chosen = np.take(labels.array, index, axis) if labels is not None else None
    return np.take(image.array, index, axis), chosen
