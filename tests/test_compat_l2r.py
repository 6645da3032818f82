"""`compat`: the official Learn2Reg numbers (see data/golden_l2r/README.md), and restatements of their formulas."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates, zoom

from regbench.compat import evaluate_submission, write_report
from regbench.compat.config import CasePair, Task, read_task
from regbench.compat.field_scores import log_jacobian, spline_samples
from regbench.compat.files import load_field
from regbench.compat.label_scores import pulled_back
from regbench.errors import ConfigError, DatasetError

GOLDEN = Path(__file__).parent / "data" / "golden_l2r"
SHAPE = (32, 28, 36)
CASES = [f"000{k}_0000<--000{k}_0001" for k in (1, 2, 3, 4)]
seeds = st.integers(0, 2**32 - 1)


def _save(path: Path, array: np.ndarray, spacing: tuple[float, ...] = (1.5, 1.5, 2.0)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([*spacing, 1.0])), path)


def _edit(path: Path, **changes: Any) -> Path:
    """The JSON file with other values; None takes a key away."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return path


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """The toy task with images of zeros."""
    folder = tmp_path / "toy"
    shutil.copytree(GOLDEN, folder)
    for case in (1, 2, 3, 4):
        for side in (0, 1):
            _save(folder / "imagesTr" / f"Toy_000{case}_000{side}.nii.gz", np.zeros(SHAPE, np.uint8))
    return folder


def _evaluate(toy: Path, config: str = "unmasked", **options: Any) -> dict[str, Any]:
    return evaluate_submission(toy / "disp", toy / "Toy_dataset.json", toy / f"config_{config}.json", **options)


def _official(config: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / f"official_{config}.json").read_text())
    return found


def _check(ours: Any, official: Any, tolerance: float = 1e-6, where: str = "") -> None:
    """Equal keys in equal order, equal lengths, equal texts, numbers within the tolerance."""
    if isinstance(official, dict):
        assert list(ours) == list(official), where
        for key, value in official.items():
            _check(ours[key], value, tolerance, f"{where}.{key}")
    elif isinstance(official, list):
        assert len(ours) == len(official), where
        for number, value in enumerate(official):
            _check(ours[number], value, tolerance, f"{where}[{number}]")
    elif isinstance(official, float):
        assert ours == pytest.approx(official, abs=tolerance, nan_ok=True), where
    else:
        assert ours == official, where


def _note(result: dict[str, Any], where: str) -> dict[str, Any]:
    (found,) = [note for note in result["notes"] if note["where"] == where]
    return found


# -- the official numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize("config", ["masked", "unmasked"])
def test_numbers_and_keys_are_the_official_ones(toy: Path, config: str) -> None:
    result = _evaluate(toy, config)
    assert list(result)[-2:] == ["notes", "missing"]
    assert result["missing"] == []
    _check({key: value for key, value in result.items() if key not in ("notes", "missing")}, _official(config), 1e-9)


def test_the_written_file_differs_from_the_official_one_in_its_last_keys_only(toy: Path, tmp_path: Path) -> None:
    write_report(tmp_path / "out.json", _evaluate(toy, "masked"))
    text = (tmp_path / "out.json").read_text()
    ours, theirs = text.splitlines(), (GOLDEN / "official_masked.json").read_text().splitlines()
    names = [[line.rpartition(":")[0] for line in lines] for lines in (ours, theirs)]
    assert names[0][: len(theirs) - 1] == names[1][:-1]
    assert not text.endswith("\n")


def test_numbers_that_json_does_not_know_are_written_as_the_official_writer_does(tmp_path: Path) -> None:
    write_report(tmp_path / "out.json", {"a": float("nan"), "b": float("inf")})
    assert (tmp_path / "out.json").read_text() == '{\n    "a": NaN,\n    "b": Infinity\n}'


def test_two_threads_change_no_bit(toy: Path) -> None:
    assert json.dumps(_evaluate(toy, "masked")) == json.dumps(_evaluate(toy, "masked", threads=2))


def test_a_listener_hears_of_every_case(toy: Path) -> None:
    class Ear:
        heard: list[str] = []  # noqa: RUF012 - one listener, one test

        def message(self, text: str) -> None:
            self.heard.append(text)

    _evaluate(toy, listener=Ear())
    assert [text.split()[1] for text in Ear.heard] == CASES


# -- notes --------------------------------------------------------------------------------------------


def test_folds_are_counted_beside_the_official_zero(toy: Path) -> None:
    result = _evaluate(toy)
    folded = {note["where"]: note["ours"] for note in result["notes"] if "num_foldings" in note["where"]}
    assert list(folded) == [f"cases.{case}.num_foldings.mean" for case in CASES[2:]]
    assert all(case["num_foldings"] == {"mean": 0.0, "detailed": 0.0} for case in result["cases"].values())
    voxels = np.prod([n - 4 for n in SHAPE])
    assert [100 * count / voxels for count in folded.values()] == pytest.approx([0.24, 27.6], abs=0.05)


def test_notes_tell_what_is_wrong_with_aggregates(toy: Path) -> None:
    result = _evaluate(toy)
    means = [case["HD95"]["mean"] for case in result["cases"].values()]
    robust = _note(result, "aggregates.HD95.30")
    assert robust["official"] == result["aggregates"]["HD95"]["30"] == np.quantile(means, 0.3)
    assert robust["ours"] == np.quantile(means, 0.7)
    sdlogj = _note(result, "aggregates.LogJacDetStd.mean")
    assert sdlogj["official"] == result["aggregates"]["LogJacDetStd"]["mean"]
    deviations = []
    for case in (1, 2, 3, 4):
        jacobian = _plain_jacobian(_field(toy, case))
        deviations.append(np.log(jacobian[jacobian > 0]).std())
    assert sdlogj["ours"] == pytest.approx(np.mean(deviations), abs=1e-9)


def _field(toy: Path, case: int) -> np.ndarray:
    return nibabel.load(toy / "disp" / f"disp_000{case}_000{case}.nii.gz").get_fdata()


# -- missing and damaged ------------------------------------------------------------------------------


def test_missing_and_damaged_fields_are_told_and_the_rest_is_scored(toy: Path) -> None:
    disp = toy / "disp"
    (disp / "disp_0001_0001.nii.gz").unlink()
    (disp / "disp_0003_0003.nii.gz").write_bytes((disp / "disp_0003_0003.nii.gz").read_bytes()[:5000])
    (disp / "disp_0004_0004.nii.gz").unlink()
    broken = np.zeros((*SHAPE, 3), np.float32)
    broken[3, 4, 5, 1] = np.nan
    np.savez(disp / "disp_0004_0004.npz", broken)
    result, official = _evaluate(toy), _official("unmasked")
    assert result["missing"] == [CASES[0], CASES[2], CASES[3]]
    assert list(result["cases"]) == [CASES[1]]
    _check(result["cases"][CASES[1]], official["cases"][CASES[1]])
    for name, aggregate in result["aggregates"].items():
        assert (aggregate["mean"], aggregate["cases"]) == (result["cases"][CASES[1]][name]["mean"], 1)
    reasons = [_note(result, f"cases.{case}")["what"] for case in result["missing"]]
    for reason, part in zip(
        reasons, ("holds no disp_0001_0001", "cannot be read", "1 of 96768 components"), strict=True
    ):
        assert part in reason


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("disp_0002_0002.npz", np.zeros((*SHAPE[::-1], 3), np.float32), "expected (32, 28, 36, 3)"),
        ("disp_0002_0002.npz", np.zeros((3, *SHAPE), np.float32), "expected (32, 28, 36, 3)"),
        ("disp_0002_0002.npz", np.zeros((*SHAPE, 3), complex), "complex"),
        ("disp_0002_0002.nii.gz", b"", "empty"),
        ("disp_0002_0002.npz", b"no zip", "cannot be read"),
    ],
)
def test_what_is_no_field_is_told(toy: Path, name: str, content: Any, part: str) -> None:
    (toy / "disp" / "disp_0002_0002.nii.gz").unlink()
    path = toy / "disp" / name
    path.write_bytes(content) if isinstance(content, bytes) else np.savez(path, content)
    result = _evaluate(toy)
    assert result["missing"] == [CASES[1]]
    assert part in _note(result, f"cases.{CASES[1]}")["what"]


@pytest.mark.parametrize("sidecar", ["labelsTr/Toy_0002_0001.nii.gz", "keypointsTr/Toy_0002_0000.csv"])
def test_a_case_without_its_sidecars_is_missing(toy: Path, sidecar: str) -> None:
    (toy / sidecar).unlink()
    result = _evaluate(toy)
    assert result["missing"] == [CASES[1]]
    assert sidecar in _note(result, f"cases.{CASES[1]}")["what"]


def test_an_empty_folder_gives_a_report_of_nothing(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    result = evaluate_submission(tmp_path / "none", toy / "Toy_dataset.json", toy / "config_masked.json")
    assert (result["cases"], result["missing"]) == ({}, CASES)
    assert all(np.isnan(aggregate["mean"]) for aggregate in result["aggregates"].values())


# -- names and formats of fields ----------------------------------------------------------------------


@pytest.mark.parametrize("stem", ["disp_0003_0003", "disp_0003_0000_0003_0001"])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_npz_fields_under_both_names(toy: Path, stem: str, kind: type) -> None:
    """The official evaluator casts what an npz holds to float32 and reads splines in float32, too."""
    # Far enough for the steps of float32 to show.
    field = (_field(toy, 3) + 20).astype(kind)
    (toy / "disp" / "disp_0003_0003.nii.gz").unlink()
    np.savez_compressed(toy / "disp" / f"{stem}.npz", any_name=field)
    fixed, moving = np.random.default_rng(2).uniform(3, 24, (2, 9, 3)).round(3)
    for side, points in enumerate((fixed, moving)):
        np.savetxt(toy / "keypointsTr" / f"Toy_0003_000{side}.csv", points, fmt="%.3f", delimiter=",")
    result = _evaluate(toy)
    assert not any("refuses" in note["what"] for note in result["notes"])
    case = result["cases"][CASES[2]]
    single = field.astype(np.float32)
    shift = np.stack([map_coordinates(single[..., k], fixed.T) for k in range(3)], axis=1)
    assert shift.dtype == np.float32
    errors = np.linalg.norm((fixed + shift - moving) * (1.5, 1.5, 2.0), axis=1)
    np.testing.assert_allclose(case["TRE_kp"]["detailed"], errors, rtol=0, atol=2e-8)
    shifted = np.log(np.clip(_plain_jacobian(single.astype(float)) + 3, 1e-9, 1e9))
    assert case["LogJacDetStd"]["mean"] == pytest.approx(shifted.std(), abs=1e-9)


def test_the_short_name_and_npz_come_first_where_both_are_allowed(toy: Path) -> None:
    np.savez(toy / "disp" / "disp_0002_0002.npz", np.full((*SHAPE, 3), 9, np.float32))
    np.savez(toy / "disp" / "disp_0002_0000_0002_0001.npz", np.full((*SHAPE, 3), 5, np.float32))
    task = read_task(toy / "Toy_dataset.json", toy / "config_masked.json")
    assert load_field(toy / "disp", task.pairs[1], task).array[0, 0, 0, 0] == 9


def test_a_short_name_that_the_official_evaluator_refuses_is_read_and_told(toy: Path) -> None:
    pairs = [{"fixed": "./imagesTr/Toy_0001_0000.nii.gz", "moving": "./imagesTr/Toy_0002_0000.nii.gz"}]
    _edit(toy / "config_unmasked.json", eval_pairs=pairs)
    shutil.copy(toy / "disp" / "disp_0002_0002.nii.gz", toy / "disp" / "disp_0001_0002.nii.gz")
    result = _evaluate(toy)
    assert list(result["cases"]) == ["0001_0000<--0002_0000"]
    assert "disp_0001_0000_0002_0000" in _note(result, "cases.0001_0000<--0002_0000")["what"]


def test_a_short_name_that_could_be_two_cases_is_none(toy: Path) -> None:
    task = _task([("0001_0001", "0001_0000"), ("0001_0002", "0001_0000")])
    shutil.copy(toy / "disp" / "disp_0001_0001.nii.gz", toy / "disp" / "disp_0001_0002_0001_0000.nii.gz")
    with pytest.raises(DatasetError, match="holds no disp_0001_0001_0001_0000"):
        load_field(toy / "disp", task.pairs[0], task)
    assert load_field(toy / "disp", task.pairs[1], task).refusal == ""


def _task(pairs: list[tuple[str, str]], folder: Path = Path()) -> Task:
    paths = [[f"./imagesTr/T_{side}.nii.gz" for side in pair] for pair in pairs]
    return Task("T", False, folder, tuple(CasePair(*sides) for sides in paths), (), SHAPE, False)


def test_fields_of_half_resolution_are_enlarged_and_told(toy: Path) -> None:
    rng = np.random.default_rng(3)
    half = rng.normal(0, 0.5, (3, *(n // 2 for n in SHAPE))).astype(np.float16)
    (toy / "disp" / "disp_0002_0002.nii.gz").unlink()
    np.savez(toy / "disp" / "disp_0002_0002.npz", half)
    full = np.stack([zoom(component.astype(np.float32), 2, order=2) for component in half], axis=-1)
    result = _evaluate(toy)
    shifted = np.log(np.clip(_plain_jacobian(full.astype(float)) + 3, 1e-9, 1e9))
    assert result["cases"][CASES[1]]["LogJacDetStd"]["mean"] == pytest.approx(shifted.std(), abs=1e-6)
    assert "half resolution" in _note(result, f"cases.{CASES[1]}")["what"]


# -- labels, masks, landmarks ---------------------------------------------------------------------------


def test_labels_of_one_side_are_nan_and_lost_ones_infinite(toy: Path) -> None:
    labels = np.zeros((2, *SHAPE), np.uint8)
    labels[:, 10:20, 10:20, 10:20] = 1
    labels[0, 2:5, 2:5, 2:5] = 2
    labels[1, 2:5, 20:25, 2:5] = 3
    labels[:, 25:30, 20:26, 25:30] = 4
    for side in (0, 1):
        _save(toy / "labelsTr" / f"Toy_0002_000{side}.nii.gz", labels[side])
    field = np.zeros((*SHAPE, 3), np.float32)
    field[20:] = 100.0
    _save(toy / "disp" / "disp_0002_0002.nii.gz", field)
    for name in ("config_unmasked.json", "config_masked.json"):
        methods = json.loads((toy / name).read_text())["evaluation_methods"]
        _edit(
            toy / name, evaluation_methods=[m | {"labels": [4, 1, 2, 3, 77]} if "labels" in m else m for m in methods]
        )
    result = _evaluate(toy)
    case = result["cases"][CASES[1]]
    _check(case["DSC"], {"mean": 0.5, "detailed": [0.0, 1.0, np.nan, np.nan, np.nan]})
    _check(case["HD95"], {"mean": np.inf, "detailed": [np.inf, 0.0, np.nan, np.nan, np.nan]})
    note = _note(result, f"cases.{CASES[1]}.HD95.mean")
    assert (note["ours"], "label 4" in note["what"]) == (0.0, True)
    assert result["aggregates"]["HD95"]["mean"] == np.inf
    rest = [result["cases"][name]["HD95"]["mean"] for name in CASES if name != CASES[1]]
    assert _note(result, "aggregates.HD95.mean")["ours"] == pytest.approx(np.mean(rest))


def test_labels_written_as_text_are_read_and_told(toy: Path) -> None:
    methods = [{"name": "DSC", "metric": "dice", "labels": ["1", "2"]}]
    _edit(toy / "config_unmasked.json", evaluation_methods=methods)
    result = _evaluate(toy)
    official = _official("unmasked")["cases"][CASES[3]]["DSC"]["detailed"][:2]
    assert result["cases"][CASES[3]]["DSC"]["detailed"] == pytest.approx(official, abs=1e-9)
    assert _note(result, "evaluation_methods.DSC.labels")["ours"] == [1, 2]


def test_masks_count_where_they_are_1_and_may_be_missing(toy: Path) -> None:
    path = toy / "masksTr" / "Toy_0003_0000.nii.gz"
    mask = np.asarray(nibabel.load(path).dataobj)
    _save(path, np.where(mask == 1, 1, 2).astype(np.uint8))
    (toy / "masksTr" / "Toy_0004_0000.nii.gz").unlink()
    result = _evaluate(toy, "masked")
    for case, config in ((CASES[2], "masked"), (CASES[3], "unmasked")):
        _check(result["cases"][case]["LogJacDetStd"], _official(config)["cases"][case]["LogJacDetStd"])
    assert "no mask" in _note(result, f"cases.{CASES[3]}.LogJacDetStd")["what"]


@pytest.mark.parametrize("folder", ["landmarks00000002Tr", "landmarks02Tr", "landmarksTr"])
def test_landmarks_of_other_modalities_are_found_in_their_folders(toy: Path, folder: str) -> None:
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 25, (2, 6, 3))
    pair = {"fixed": "./imagesTr/Toy_0002_0000.nii.gz", "moving": "./imagesTr/Toy_0002_0002.nii.gz"}
    methods = [{"name": "TRE_lm", "metric": "tre", "dest": "landmarks"}]
    _edit(toy / "config_unmasked.json", eval_pairs=[pair], evaluation_methods=methods)
    _save(toy / "imagesTr" / "Toy_0002_0002.nii.gz", np.zeros((5, 6, 7), np.uint8), (0.5, 1.0, 3.0))
    (toy / folder).mkdir()
    for side, own in zip((0, 2), points, strict=True):
        np.savetxt(toy / folder / f"Toy_0002_000{side}.csv", own, delimiter=",")
    result = _evaluate(toy)
    errors = np.linalg.norm((points[0] - points[1]) * (0.5, 1.0, 3.0), axis=1)
    found = result["cases"]["0002_0000<--0002_0002"]["TRE_lm"]
    assert found["detailed"] == pytest.approx(errors.tolist(), abs=1e-6)


def test_points_outside_the_field_count_as_unmoved_and_are_told(toy: Path) -> None:
    for side in (0, 1):
        np.savetxt(toy / "keypointsTr" / f"Toy_0001_000{side}.csv", [[10, 10, 10], [10, 10, 35.5]], delimiter=",")
    result = _evaluate(toy)
    shift = np.linalg.norm(_field(toy, 1)[10, 10, 10] * (1.5, 1.5, 2.0))
    assert result["cases"][CASES[0]]["TRE_kp"]["detailed"] == pytest.approx([shift, 0], abs=1e-6)
    note = _note(result, f"cases.{CASES[0]}.TRE_kp.mean")
    assert (note["official"], note["ours"]) == pytest.approx((shift / 2, shift), abs=1e-6)


# -- formulas -------------------------------------------------------------------------------------------


def _plain_jacobian(field: np.ndarray) -> np.ndarray:
    """Determinants of I + central differences of (X, Y, Z, 3) in voxels, two voxels of each face left out."""
    gradient = np.stack([np.gradient(field, axis=axis) for axis in range(3)], axis=-1) + np.eye(3)
    return np.linalg.det(gradient[2:-2, 2:-2, 2:-2])


def _held(field: np.ndarray) -> np.ndarray:
    return field.T[::-1]


@settings(max_examples=15, deadline=None)
@given(seeds, st.booleans(), st.sampled_from((0.2, 2.0)))
def test_sdlogj_equals_its_formula(seed: int, masked: bool, size: float) -> None:
    rng = np.random.default_rng(seed)
    field = rng.normal(0, size, (*rng.integers(5, 12, 3), 3))
    mask = rng.random(field.shape[:3]) < 0.6 if masked else np.ones(field.shape[:3], bool)
    jacobian = _plain_jacobian(field)
    found = log_jacobian(_held(field), mask.T if masked else None)
    inside = jacobian[mask[2:-2, 2:-2, 2:-2]]
    if inside.size:
        assert found.shifted == pytest.approx(np.log(np.clip(inside + 3, 1e-9, 1e9)).std(), abs=1e-9)
    else:
        assert np.isnan(found.shifted)
    assert found.folds == np.count_nonzero(jacobian <= 0)


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from((np.float32, np.float64)))
def test_labels_move_as_by_scipy_to_the_last_voxel(seed: int, kind: type) -> None:
    """Halves, whole voxels, and positions just outside the faces, where regbench's own warp is lenient."""
    rng = np.random.default_rng(seed)
    shape, moving_shape = rng.integers(1, 9, 3), rng.integers(1, 9, 3)
    moving = rng.integers(1, 9, moving_shape).astype(np.uint8)
    field = rng.integers(-6, 7, (3, *shape)) / 2 + rng.choice([0, 0, 1e-5, -1e-5, 1e-7], (3, *shape))
    field = field.astype(kind)
    expected = map_coordinates(moving.astype(float), np.indices(shape) + field.astype(float), order=0)
    np.testing.assert_array_equal(pulled_back(moving, field), expected)


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_fields_are_read_at_points_as_by_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 60, 3)
    field = rng.normal(0, 20, (3, *shape))
    points = rng.uniform(-1, shape, (8, 3))
    points = np.concatenate([points, [np.zeros(3), shape - 1.0, rng.integers(0, shape)]])
    expected = np.stack([map_coordinates(component, points.T) for component in field], axis=1)
    np.testing.assert_allclose(spline_samples(field, points), expected, atol=1e-6)


# -- configs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"task_name": None}, "neither `task_name` nor `name`"),
        ({"evaluation_methods": []}, "not a list of metrics"),
        ({"evaluation_methods": [{"name": "a", "metric": "asd"}]}, "out of sdlogj, dice"),
        ({"evaluation_methods": [{"name": "a", "metric": "sdlogj"}] * 2}, "listed twice"),
        ({"evaluation_methods": [{"name": "a", "metric": "dice", "labels": ["x"]}]}, "'x' is not a label number"),
        ({"evaluation_methods": [{"name": "a", "metric": "dice"}]}, "`labels` is not a list"),
        ({"evaluation_methods": [{"name": "a", "metric": "tre"}]}, "`dest` does not name a folder"),
        ({"eval_pairs": [{"fixed": "a.nii.gz", "moving": "b.nii.gz"}]}, "end in _XXXX_YYYY.nii.gz"),
        ({"expected_shape": [1, 2, 3]}, "is not [X, Y, Z, 3]"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused(toy: Path, changes: dict[str, Any], part: str) -> None:
    _edit(toy / "config_unmasked.json", **changes)
    with pytest.raises(ConfigError) as caught:
        _evaluate(toy)
    assert part in str(caught.value)


def test_files_that_are_no_json_and_folders_that_are_none_are_refused(toy: Path) -> None:
    dataset, config = toy / "Toy_dataset.json", toy / "config_masked.json"
    with pytest.raises(ConfigError, match="is not a folder"):
        evaluate_submission(toy / "nowhere", dataset, config)
    with pytest.raises(ConfigError, match="cannot be read"):
        evaluate_submission(toy / "disp", toy / "other.json", config)
    dataset.write_text("{")
    with pytest.raises(ConfigError, match="not valid JSON"):
        evaluate_submission(toy / "disp", dataset, config)


def test_without_eval_pairs_the_validation_pairs_and_the_shape_of_the_dataset_count(toy: Path) -> None:
    _edit(toy / "config_unmasked.json", eval_pairs=None, expected_shape=None)
    validation = json.loads((toy / "Toy_dataset.json").read_text())["registration_val"]
    _edit(toy / "Toy_dataset.json", registration_val=validation[:1])
    task = read_task(toy / "Toy_dataset.json", toy / "config_unmasked.json")
    assert ([pair.name for pair in task.pairs], task.shape) == (CASES[:1], SHAPE)


# -- real files -------------------------------------------------------------------------------------------


def _real() -> Path:
    if "REGBENCH_DATA" not in os.environ:
        pytest.skip("REGBENCH_DATA is not set; it names the folder with learn2reg_layout/")
    return Path(os.environ["REGBENCH_DATA"]) / "learn2reg_layout"


@pytest.mark.real
def test_the_official_configs_are_understood(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{}")
    tasks = {}
    for path in sorted((_real() / "evaluation_configs").glob("*.json")):
        tasks[path.name.removesuffix("_evaluation_config.json")] = read_task(tmp_path / "dataset.json", path)
    assert len(tasks) == 14
    assert len(tasks["OASIS_VAL"].measures[1].labels) == 35
    assert tasks["OASIS_VAL"].pairs[0].name == "0395_0000<--0396_0000"
    assert (tasks["LungCT_TEST"].masked, len(tasks["LungCT_TEST"].pairs)) == (True, 10)
    assert tasks["ThoraxCBCT_VAL"].ambiguous(tasks["ThoraxCBCT_VAL"].pairs[0].short_name)
    assert not any(task.is_lumir for task in tasks.values())


@pytest.mark.real
def test_a_zero_field_leaves_the_lungs_where_they_are(tmp_path: Path) -> None:
    """LungCT, whose images are not here: their headers alone are made up, with one voxel of them."""
    truth = _real() / "L2RTest" / "ground-truth"
    task, disp = tmp_path / "task", tmp_path / "disp"
    for name in ("landmarksTr", "keypointsTr", "masksTr"):
        task.mkdir(exist_ok=True)
        (task / name).symlink_to(truth / name)
    config = json.loads((truth / "LungCT_VAL_evaluation_config.json").read_text())
    _edit_new(task / "config.json", config | {"eval_pairs": config["eval_pairs"][:1]})
    _edit_new(task / "LungCT_dataset.json", {"name": "LungCT"})
    spacing = (1.75, 1.25, 1.75)
    for side in (0, 1):
        _save(task / "imagesTr" / f"LungCT_0001_000{side}.nii.gz", np.zeros((1, 1, 1), np.uint8), spacing)
    disp.mkdir()
    np.savez_compressed(disp / "disp_0001_0001.npz", np.zeros((192, 192, 208, 3), np.float16))
    result = evaluate_submission(disp, task / "LungCT_dataset.json", task / "config.json")
    (case,) = result["cases"].values()
    for name, folder in (("TRE_lm", "landmarksTr"), ("TRE_kp", "keypointsTr")):
        one, two = (np.loadtxt(truth / folder / f"LungCT_0001_000{k}.csv", delimiter=",") for k in (0, 1))
        assert case[name]["mean"] == pytest.approx(np.linalg.norm((one - two) * spacing, axis=1).mean(), abs=1e-9)
    assert case["LogJacDetStd"]["mean"] == pytest.approx(0, abs=1e-12)


def _edit_new(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content))
