"""A tiny task in the Learn2Reg layout, and a tiny CSV of pairs on oblique grids, written by the tests."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regbench.contract.phantom import shifted, stretched
from regbench.files.images import write_image, write_labels
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels

# Anisotropic, turned by a quarter about z and flipped along y: a mixed-up axis or a forgotten spacing shows.
GRID = Grid((9, 8, 7), np.array([[0, 2.0, 0, -5], [1.5, 0, 0, 3], [0, 0, 3.0, 10], [0, 0, 0, 1]]))


def write_scan(
    task: Path, name: str, folder: str = "imagesTr", *, sides: Sequence[str] = ("labels", "masks"), grid: Grid = GRID
) -> None:
    """The image of a scan with its label map, a box that depends on the name, and a mask of everything."""
    offset = sum(map(ord, name)) % 3
    array = np.zeros(grid.shape, np.uint8)
    array[2 + offset : 6 + offset, 2:6, 2:5] = 1
    (task / folder).mkdir(parents=True, exist_ok=True)
    write_image(task / folder / f"{name}.nii.gz", Image(array + 0.1 * (offset + 1), grid))
    for kind in sides:
        (task / folder.replace("images", kind)).mkdir(parents=True, exist_ok=True)
        region = array if kind == "labels" else np.ones_like(array)
        write_labels(task / folder.replace("images", kind) / f"{name}.nii.gz", Labels(region, grid))


def write_points(task: Path, name: str, points: Any, folder: str = "landmarksTr") -> None:
    (task / folder).mkdir(parents=True, exist_ok=True)
    np.savetxt(task / folder / f"{name}.csv", np.atleast_2d(points), delimiter=",", fmt="%.3f")


def pair(fixed: str, moving: str, folder: str = "imagesTr") -> dict[str, str]:
    return {side: f"./{folder}/{name}.nii.gz" for side, name in (("fixed", fixed), ("moving", moving))}


def write_json(task: Path, **keys: Any) -> Path:
    task.mkdir(parents=True, exist_ok=True)
    path = task / "Toy_dataset.json"
    path.write_text(json.dumps({"name": "Toy", **keys}))
    return path


def unpaired_task(task: Path, n: int = 3) -> Path:
    """A task of one image per case; its validation pairs are 1 <- 2, 2 <- 3, ..."""
    names = [f"Toy_{number:04d}_0000" for number in range(1, n + 1)]
    for name in names:
        write_scan(task, name)
    return write_json(task, registration_val=[pair(a, b) for a, b in itertools.pairwise(names)])


def oblique_pairs(folder: Path) -> dict[str, Pair]:
    """Two phantom pairs on oblique grids of other shapes, in files, with `pairs.csv` that lists them."""
    made = {"a_b": shifted(3), "c_d": stretched(3)}
    lines = ["fixed,moving,fixed_labels,moving_labels,fixed_id,moving_id"]
    for name, phantom in made.items():
        assert phantom.fixed_labels is not None
        files = [f"{name}_{part}.nii.gz" for part in ("fixed", "moving", "fixed_labels", "moving_labels")]
        write_image(folder / files[0], phantom.fixed)
        write_image(folder / files[1], phantom.moving)
        write_labels(folder / files[2], phantom.fixed_labels)
        write_labels(folder / files[3], Labels((phantom.moving.array > 0.3).astype(np.uint8), phantom.moving.grid))
        lines.append(",".join([*files, *name.split("_")]))
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    return made
