"""Dice, HD95, SDlogJ and TRE against the numbers of the official Learn2Reg evaluator (data/golden_l2r/README.md)."""

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
from regbench.volume import Grid, Image, Labels, Landmarks

FOLDER = Path(__file__).parent / "data" / "golden_l2r"
OFFICIAL = json.loads((FOLDER / "official_unmasked.json").read_text())["cases"]
CASES = ["0001", "0002", "0003", "0004"]


def _array(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def _alignment(case: str, spacing_mm: tuple[float, ...] = (1, 1, 1)) -> Alignment:
    """The case on a grid of 1 mm, because the official surface distances are in voxels, or on its own."""
    grid = Grid.from_spacing((32, 28, 36), spacing_mm)
    labels = [Labels(_array(FOLDER / "labelsTr" / f"Toy_{case}_000{side}.nii.gz"), grid) for side in (0, 1)]
    points = [np.loadtxt(FOLDER / "keypointsTr" / f"Toy_{case}_000{side}.csv", delimiter=",") for side in (0, 1)]
    landmarks = [Landmarks(grid.to_world(voxel)) for voxel in points]
    image = Image(np.zeros(grid.shape), grid)
    pair = Pair(
        case,
        image,
        image,
        fixed_labels=labels[0],
        moving_labels=labels[1],
        fixed_landmarks=landmarks[0],
        moving_landmarks=landmarks[1],
    )
    voxels = _array(FOLDER / "disp" / f"disp_{case}_{case}.nii.gz")
    return Alignment(pair, Displacement.from_voxels(voxels, grid, grid))


def _official(case: str) -> dict:
    return OFFICIAL[f"{case}_0000<--{case}_0001"]


@pytest.mark.parametrize("case", CASES)
def test_dice_and_hd95_equal_the_official_evaluator(case: str) -> None:
    found = evaluate(_alignment(case), ["dice", "hd95_mm"])
    for ours, theirs in (("dice", "DSC"), ("hd95_mm", "HD95")):
        official = _official(case)[theirs]
        per_label = list(found[ours]["per_label"].values())
        np.testing.assert_allclose(per_label, official["detailed"], atol=1e-12)
        assert found[ours]["mean"] == pytest.approx(official["mean"], abs=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_sdlogj_in_their_form_equals_the_official_evaluator(case: str) -> None:
    """Up to single precision, in which displacements are kept."""
    found = evaluate(_alignment(case), ["sdlogj_l2r"])["sdlogj_l2r"]
    assert found["mean"] == pytest.approx(_official(case)["LogJacDetStd"]["mean"], abs=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_tre_equals_the_official_evaluator(case: str) -> None:
    """The keypoints lie on voxel centres, where the official cubic and our linear interpolation agree."""
    official = _official(case)["TRE_kp"]
    found = evaluate(_alignment(case, (1.5, 1.5, 2.0)), ["tre_mm"])["tre_mm"]
    assert (found["n"], found["n_outside"], found["n_unmatched"]) == (5, 0, 0)
    for name, expected in (
        ("mean", official["mean"]),
        ("median", np.median(official["detailed"])),
        ("p75", np.percentile(official["detailed"], 75)),
        ("max", max(official["detailed"])),
    ):
        assert found[name] == pytest.approx(expected, abs=1e-6)


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
