"""The evaluator's benchmarks at a tiny size: every peer that is installed agrees with regbench, and the scripts run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from regbench.metrics.table import METRICS

_FOLDER = Path(__file__).parent.parent / "benchmarks"
_TINY = ((40, 44, 48), 5)
# Largest difference between a peer and regbench, per stage; labels as voxels. MONAI works in single precision.
_BOUNDS = {
    ("learn2reg restated", "warp labels"): 0.0,
    ("learn2reg restated", "dice"): 0.0,
    ("learn2reg restated", "hd95"): 1e-12,
    ("learn2reg restated", "sdlogj"): 1e-6,
    ("learn2reg restated", "tre"): 0.1,
    ("monai", "dice"): 1e-6,
    ("monai", "hd95"): 1.5,
    # It reads half a voxel beyond the faces.
    ("simpleitk", "warp labels"): 500.0,
    ("simpleitk", "dice"): 1e-12,
    ("simpleitk", "hd95"): 1.5,
    ("simpleitk", "sdlogj"): 1e-6,
    ("simpleitk", "folds"): 0.0,
    ("surface-distance", "dice"): 0.0,
    ("surface-distance", "hd95"): 1e-12,
    # Its bins lie between quantiles; where many voxels are equal (outside of the moving image) others are in them.
    ("scikit", "mutual information"): 5e-3,
    ("scikit", "nmi"): 1e-6,
    ("scikit", "ssim"): 0.02,
}
PEERS = sorted({peer for peer, _ in _BOUNDS})


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    """The benchmark scripts, imported as they import each other."""
    names = ("brain_case", "contenders", "evaluator", "evaluator_peers", "measured_process", "restated_learn2reg")
    sys.path.insert(0, str(_FOLDER))
    try:
        yield {name: import_module(name) for name in names}
    finally:
        sys.path.remove(str(_FOLDER))


@pytest.fixture(scope="module")
def case(scripts: dict[str, ModuleType]) -> Any:
    return scripts["brain_case"].make_case(*_TINY)


@pytest.fixture(scope="module")
def ours(scripts: dict[str, ModuleType], case: Any) -> dict[str, Any]:
    return {stage: work() for stage, work in scripts["contenders"].regbench(case).items()}


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.filterwarnings("ignore")
def test_peers_agree(scripts: dict[str, ModuleType], case: Any, ours: dict[str, Any], peer: str) -> None:
    package = scripts["contenders"].missing_package(peer)
    if package:
        pytest.skip(f"package {package} is not installed")
    found = {stage: work() for stage, work in scripts["contenders"].CONTENDERS[peer](case).items()}
    assert {(peer, stage) for stage in found} == {key for key in _BOUNDS if key[0] == peer}
    for stage, result in found.items():
        if isinstance(result, np.ndarray):
            difference = float(np.count_nonzero(result != ours[stage]))
        else:
            difference = scripts["evaluator_peers"].largest_difference(ours[stage], result)
        assert difference <= _BOUNDS[peer, stage], stage


def test_official_numbers_are_those_of_the_restated_evaluator(scripts: dict[str, ModuleType], case: Any) -> None:
    contenders = scripts["contenders"]
    ours, theirs = (
        {stage: work() for stage, work in stages(case).items()}
        for stages in (contenders.regbench_compat, contenders.learn2reg)
    )
    assert list(ours) == list(theirs) == list(contenders.STAGES_OF_SET)
    assert np.array_equal(ours.pop("warp labels"), theirs.pop("warp labels"))
    bounds = {"dice": 0.0, "hd95": 1e-12, "sdlogj": 1e-12, "tre": 1e-8}
    for stage, result in ours.items():
        assert scripts["evaluator_peers"].largest_difference(theirs[stage], result) <= bounds[stage], stage


def test_the_whole_set_is_its_metrics(scripts: dict[str, ModuleType], case: Any, ours: dict[str, Any]) -> None:
    contenders = scripts["contenders"]
    whole = contenders.regbench_learn2reg(case)["learn2reg set"]()
    assert set(whole) == set(contenders.LEARN2REG_SET)
    assert whole["tre_mm"] == ours["tre"]
    assert whole["dice"] == pytest.approx(np.mean(list(ours["dice"].values())))


def test_a_case_survives_its_folder(scripts: dict[str, ModuleType], case: Any, tmp_path: Path) -> None:
    brain_case = scripts["brain_case"]
    brain_case.save_case(case, tmp_path)
    pair, displacement = brain_case.load_case(tmp_path, fields=True)
    assert np.array_equal(pair.moving.array, case[0].moving.array)
    assert np.array_equal(pair.truth.vectors_mm, case[0].truth.vectors_mm)
    assert np.array_equal(displacement.inverse.vectors_mm, case[1].inverse.vectors_mm)
    assert brain_case.load_case(tmp_path)[1].inverse is None


def test_differences_count_what_is_not_finite(scripts: dict[str, ModuleType]) -> None:
    difference = scripts["evaluator_peers"].largest_difference
    nan, inf = float("nan"), float("inf")
    assert difference({"1": 1.0, "2": nan, "3": inf}, {"1": 1.5, "2": nan, "3": inf}) == 0.5
    assert difference({"1": 1.0, "2": nan}, {"1": 1.0}) == 0.0
    assert difference({"1": 1.0}, {}) == inf
    assert difference({"1": 1.0}, {"1": nan}) == inf
    assert difference({"1": inf}, {"1": 3.0}) == inf


def test_the_peers_script(scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "peers.json"
    arguments = ["--shape", "40", "44", "48", "--labels", "5", "--repeats", "1", "--peers", "learn2reg restated"]
    monkeypatch.setattr(sys, "argv", ["evaluator_peers.py", *arguments, "-o", str(out)])
    scripts["evaluator_peers"].main()
    lines = {(line["stage"], line["contender"]): line for line in json.loads(out.read_text())["lines"]}
    restated = lines["hd95", "learn2reg restated"]
    assert restated["difference"] < 1e-12
    assert restated["cpu_s"][0] > 0 and restated["ratios"][0] > 0
    assert lines["warp labels", "learn2reg restated"]["difference"] == 0.0
    assert ("learn2reg set", "regbench learn2reg") in lines


def test_each_metric_alone(scripts: dict[str, ModuleType], case: Any, capsys: pytest.CaptureFixture[str]) -> None:
    scripts["evaluator"].report_metrics(case, 1)
    text = capsys.readouterr().out
    assert [name for name, metric in METRICS.items() if metric.function is not None and name not in text] == []


@pytest.mark.real
def test_the_restatement_is_the_official_evaluator(scripts: dict[str, ModuleType]) -> None:
    """Against the numbers that the official script gave for a toy task."""
    nibabel: Any = import_module("nibabel")
    if "REGBENCH_DATA" not in os.environ:
        pytest.skip("REGBENCH_DATA is not set")
    restated = scripts["restated_learn2reg"]
    folder = Path(os.environ["REGBENCH_DATA"]) / "golden_l2r"
    official = json.loads((folder / "official_unmasked.json").read_text())["cases"]
    for name, expected in official.items():
        sides = name.split("<--")
        files = [nibabel.load(folder / "labelsTr" / f"Toy_{side}.nii.gz") for side in sides]
        fixed, moving = (file.get_fdata() for file in files)
        numbers = "_".join(side[:4] for side in sides)
        field = nibabel.load(folder / "disp" / f"disp_{numbers}.nii.gz").get_fdata()
        points = [np.loadtxt(folder / "keypointsTr" / f"Toy_{side}.csv", delimiter=",") for side in sides]
        warped = restated.warped_labels(moving, field)
        found = {
            "DSC": list(restated.dice(fixed, moving, warped, [1, 2, 3, 4]).values()),
            "HD95": list(restated.hd95(fixed, moving, warped, [1, 2, 3, 4]).values()),
            "LogJacDetStd": restated.sdlogj(field),
        }
        for metric, value in found.items():
            np.testing.assert_allclose(value, expected[metric]["detailed"], atol=1e-12, err_msg=f"{name} {metric}")
        tre = restated.tre(*points, field, files[1].header.get_zooms()[:3])
        assert tre == pytest.approx(expected["TRE_kp"]["mean"], abs=1e-9)
