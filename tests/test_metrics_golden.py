"""Dice and HD95 against the numbers of the official Learn2Reg evaluator (see data/golden_l2r/README.md)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.metrics.evaluate import evaluate
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels

FOLDER = Path(__file__).parent / "data" / "golden_l2r"
OFFICIAL = json.loads((FOLDER / "official_unmasked.json").read_text())["cases"]


def _array(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def _alignment(case: str) -> Alignment:
    """The case on a grid of 1 mm, because the official distances are in voxels."""
    labels = [Labels(_array(FOLDER / "labelsTr" / f"Toy_{case}_000{side}.nii.gz"), _grid()) for side in (0, 1)]
    image = Image(np.zeros(_grid().shape), _grid())
    pair = Pair(case, image, image, fixed_labels=labels[0], moving_labels=labels[1])
    voxels = _array(FOLDER / "disp" / f"disp_{case}_{case}.nii.gz")
    return Alignment(pair, Displacement.from_voxels(voxels, _grid(), _grid()))


def _grid() -> Grid:
    return Grid.from_spacing((32, 28, 36))


@pytest.mark.parametrize("case", ["0001", "0002", "0003", "0004"])
def test_dice_and_hd95_equal_the_official_evaluator(case: str) -> None:
    official = OFFICIAL[f"{case}_0000<--{case}_0001"]
    found = evaluate(_alignment(case), ["dice", "hd95_mm"])
    for ours, theirs in (("dice", "DSC"), ("hd95_mm", "HD95")):
        per_label = list(found[ours]["per_label"].values())
        np.testing.assert_allclose(per_label, official[theirs]["detailed"], atol=1e-12)
        assert found[ours]["mean"] == pytest.approx(official[theirs]["mean"], abs=1e-12)


@pytest.mark.parametrize(("case", "percent"), [("0001", 0.0), ("0002", 0.0), ("0003", 0.24), ("0004", 27.6)])
def test_folds_are_those_of_the_known_fields(case: str, percent: float) -> None:
    """The official count leaves out 2 voxels at each face, of which the Jacobian has left out one already."""
    alignment = _alignment(case)
    inner = alignment.jacobian[1:-1, 1:-1, 1:-1]
    assert 100 * np.mean(inner <= 0) == pytest.approx(percent, abs=0.05)
    assert (evaluate(alignment, ["ndv_percent"])["ndv_percent"]["mean"] > 0) == (percent > 0)


@pytest.mark.real
def test_dice_of_two_brains_before_registration() -> None:
    """neurite-OASIS 0001 <- 0002, 35 labels; .459 was measured by another program."""
    if "REGBENCH_DATA" not in os.environ:
        pytest.skip("REGBENCH_DATA is not set; it names the folder with neurite_oasis/")
    folder = Path(os.environ["REGBENCH_DATA"]) / "neurite_oasis"
    files = [nibabel.load(folder / f"OASIS_OAS1_000{k}_MR1" / "aligned_seg35.nii.gz") for k in (1, 2)]
    fixed, moving = (Labels(np.asarray(f.dataobj), Grid(f.shape, f.affine)) for f in files)
    images = [Image(part.array, part.grid) for part in (fixed, moving)]
    pair = Pair("oasis", *images, fixed_labels=fixed, moving_labels=moving)
    found = evaluate(Alignment(pair, Displacement.identity(fixed.grid)), ["dice"])["dice"]
    assert found["mean"] == pytest.approx(0.459, abs=5e-4)
    assert (len(found["per_label"]), found["n_lost"]) == (35, 0)
