"""Real folders, recognised and read as they are; the data is below $REGBENCH_DATA and not part of the repository."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regbench.alignment import Alignment
from regbench.datasets.recognition import recognised
from regbench.datasets.table import build_dataset
from regbench.displacement import Displacement
from regbench.files.images import read_landmarks
from regbench.metrics.overlap import dice
from regbench.volume import Grid

pytestmark = pytest.mark.real


def _folder(name: str) -> Path:
    root = os.environ.get("REGBENCH_DATA")
    if not root:
        pytest.skip("$REGBENCH_DATA is not set")
    path = Path(root) / name
    if not path.is_dir():
        pytest.skip(f"$REGBENCH_DATA has no {name}")
    return path


def _first_pair(name: str, **parameters: Any) -> Any:
    found, given = recognised(_folder(name))
    dataset = build_dataset(found, {**given, **parameters})
    return dataset.load(dataset.pair_refs()[0])


def _identity_dice(pair: Any) -> float:
    zero = Displacement(np.zeros((*pair.fixed.grid.shape, pair.fixed.grid.ndim), np.float32), pair.fixed.grid)
    return float(dice(Alignment(pair, zero))["mean"])


@pytest.mark.parametrize(
    ("folder", "name", "shape", "orientation", "n_labels"),
    [
        ("neurite_oasis", "neurite-oasis", (160, 192, 224), "LIA", 35),
        ("hippocampus", "decathlon", (35, 51, 35), "RAS", 2),
        ("slices_2d", "folders", (216, 291), "LP", 48),
        ("layouts/LPBA40_loni_quarter", "lpba40", (64, 62, 64), "RAS", 48),
        ("layouts/TransMorph_pkl_quarter/IXI_data", "transmorph-ixi", (40, 48, 56), "LIA", 43),
        ("layouts/TransMorph_pkl_quarter/OASIS_L2R_2021_task03", "transmorph-oasis", (40, 48, 56), "LIA", 43),
        ("voxelmorph_pair", "voxelmorph-npz", (160, 192, 224), "LIA", 45),
        ("golden_l2r", "learn2reg", (32, 28, 36), "RAS", 4),
    ],
)
def test_a_real_folder_is_known_and_read(
    folder: str, name: str, shape: tuple[int, ...], orientation: str, n_labels: int
) -> None:
    assert recognised(_folder(folder))[0] == name
    pair = _first_pair(folder)
    assert pair.fixed.grid.shape == shape
    assert pair.fixed.grid.orientation == orientation
    assert len(pair.fixed_labels.values) == n_labels
    # Labels lie in the head: their voxels are brighter than the rest.
    inside = pair.fixed_labels.array > 0
    if name not in ("decathlon", "learn2reg"):
        assert pair.fixed.array[inside].mean() > 2 * pair.fixed.array[~inside].mean()


def test_the_overlap_before_registration_is_that_on_record() -> None:
    assert _identity_dice(_first_pair("neurite_oasis")) == pytest.approx(0.459, abs=0.08)
    assert _identity_dice(_first_pair("slices_2d")) == pytest.approx(0.376, abs=0.08)


def test_four_tissues_merged_from_35_labels_are_those_of_the_slices() -> None:
    root = str(_folder("neurite_oasis"))
    volumes = build_dataset("neurite-oasis", {"path": root, "labels": "seg4"})
    slices = build_dataset("neurite-oasis", {"path": root, "ndim": 2, "labels": "seg4"})
    volume, flat = volumes.load(volumes.pair_refs()[0]), slices.load(slices.pair_refs()[0])
    for side in ("fixed_labels", "moving_labels"):
        merged, drawn = getattr(volume, side).array[:, :, 109], getattr(flat, side).array
        np.testing.assert_array_equal(merged, drawn)
    np.testing.assert_array_equal(volume.fixed.array[:, :, 109], flat.fixed.array)


def test_names_of_24_labels_are_those_of_the_same_voxels_in_35() -> None:
    root = str(_folder("neurite_oasis"))
    volumes = build_dataset("neurite-oasis", {"path": root, "labels": "freesurfer"})
    slices = build_dataset("neurite-oasis", {"path": root, "ndim": 2, "labels": "freesurfer"})
    merged = volumes.load(volumes.pair_refs()[0]).moving_labels.array[:, :, 109]
    drawn = slices.load(slices.pair_refs()[0]).moving_labels.array
    np.testing.assert_array_equal(merged[drawn > 0], drawn[drawn > 0])


@pytest.mark.parametrize("folder", ["neurite_oasis", "layouts/LPBA40_loni_quarter", "voxelmorph_pair"])
def test_structures_whose_names_say_left_lie_on_the_left(folder: str) -> None:
    label_map = _first_pair(folder).moving_labels
    numbers = {name: value for value, name in label_map.names.items() if value in label_map.values}
    sides = [name.removeprefix("left ") for name in numbers if name.startswith("left ")]
    assert len(sides) >= 14
    for structure in sides:
        if f"right {structure}" in numbers:
            left, right = (
                label_map.grid.to_world(np.argwhere(label_map.array == numbers[f"{side} {structure}"])).mean(axis=0)
                for side in ("left", "right")
            )
            assert left[0] < right[0], structure


def test_landmarks_of_a_real_task_lie_in_their_images() -> None:
    points = _folder("learn2reg_layout") / "L2RTest/ground-truth/landmarksTr"
    grid = Grid((192, 192, 208), np.diag([1.75, 1.25, 1.75, 1.0]))
    files = sorted(points.glob("*.csv"))
    assert files
    for path in files:
        found = grid.to_voxel(read_landmarks(path, grid, most_outside=0.5).points_mm)
        # No line is taken for a header.
        assert len(found) == len(path.read_text().split())
        assert ((found >= 0) & (found < grid.shape)).all()


def test_pictures_of_tissue_are_no_known_layout() -> None:
    from regbench.errors import DatasetError

    with pytest.raises(DatasetError, match="holds no layout that is known"):
        recognised(_folder("histology_birl"))
