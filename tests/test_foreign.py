"""Fields made elsewhere: which file is whose, ITK's and ANTs' transforms on oblique grids, rows of what is broken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from support_runs import Recorder
from support_tasks import oblique_pairs, pair, unpaired_task, write_json, write_points, write_scan

from regbench.analysis.groups import group_rows
from regbench.contract.phantom import CENTRE_MM
from regbench.datasets.protocol import PairRef
from regbench.displacement import Displacement
from regbench.errors import ConfigError, DatasetError, StoreError
from regbench.files import itk
from regbench.files.fields import save_field, write_itk_warp
from regbench.files.images import read_image
from regbench.foreign.evaluation import ForeignFields, NothingFound, evaluate_fields
from regbench.foreign.finding import FieldFolder
from regbench.pair import Pair
from regbench.store import RunStore, read_run
from regbench.volume import Grid

AB = PairRef("a_b", "a", "b")
PAIRED = PairRef("0001_0000-0001_0001", "0001", "0001", {"fixed_modality": "0000", "moving_modality": "0001"})


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def _found(folder: Path, ref: PairRef, *others: PairRef) -> list[str] | None:
    files = FieldFolder(folder, [ref, *others]).find(ref)
    return None if files is None else [str(path.relative_to(folder)) for path in files.forward]


def _rows(folder: Path, dataset: Path | str, out: Path, **said: Any) -> list[dict[str, Any]]:
    said = {"method": "theirs", "metrics": ["dice", "fold_percent"], **said}
    evaluate_fields(ForeignFields(folder, str(dataset), **said), out)
    return read_run(out).rows


# -- which file is whose --------------------------------------------------------------------------------


def test_the_first_name_that_is_there_counts(tmp_path: Path) -> None:
    # From the last that is looked for to the first: each new file comes before all earlier ones.
    for name in (
        "0001-0001.tfm",
        "0001-0001.nii.gz",
        "0001_0001.mha",
        f"{PAIRED.id}.nrrd",
        f"{PAIRED.id}.nii.gz",
        f"{PAIRED.id}.npz",
        f"Toy__none__{PAIRED.id}__demons__0a1b2c3d.npz",
        "disp_0001_0001.nii",
        "disp_0001_0001.nii.gz",
        "disp_0001_0001.npz",
        "disp_0001_0000_0001_0001.nii.gz",
        "disp_0001_0000_0001_0001.npz",
    ):
        _touch(tmp_path, name)
        assert _found(tmp_path, PAIRED) == [name]


@pytest.mark.parametrize(
    "name", ["a_b_warp.nii.gz", "a-b_field.mha", "a_b_disp.npz", "a_b/warp.nii.gz", "a-b/disp.npz"]
)
def test_names_with_a_word(tmp_path: Path, name: str) -> None:
    _touch(tmp_path, name, "b_a.npz", "a_b.json", "a_b_warped.nii.gz", "a_bc.npz")
    assert _found(tmp_path, AB) == [name]


def test_other_files_are_not_taken(tmp_path: Path) -> None:
    _touch(tmp_path, "b_a.npz", "disp_b_a.npz", "a_b.json", "a_b.png", "xa_b.npz", "a_bc.npz", "a_b_c.npz")
    assert _found(tmp_path, AB) is None


def test_a_name_that_two_pairs_could_have_is_refused(tmp_path: Path) -> None:
    first, second = (
        PairRef(f"0011_{m}-0011_0000", "0011", "0011", {"fixed_modality": m, "moving_modality": "0000"})
        for m in ("0001", "0002")
    )
    _touch(tmp_path, "disp_0011_0011.npz")
    with pytest.raises(DatasetError, match=r"disp_0011_0011.npz: could be the field of 0011_0001.* and 0011_0002"):
        _found(tmp_path, first, second)
    _touch(tmp_path, "disp_0011_0002_0011_0000.npz")
    assert _found(tmp_path, second, first) == ["disp_0011_0002_0011_0000.npz"]
    # The id of one pair is its own, also where it could be another pair's FIXED_MOVING.
    odd = PairRef("x", "a", "b")
    _touch(tmp_path, "a_b.npz")
    assert _found(tmp_path, AB, odd) == ["a_b.npz"]
    with pytest.raises(DatasetError, match="could be the field of x and a_b"):
        _found(tmp_path, odd, AB)


@pytest.mark.parametrize("beginning", ["a_b", "a_b_", "a-b_", "a_b.SyN_", "a_b/", "a_b/ants_", "a-b/out1_"])
def test_ants_outputs_are_whole_series(tmp_path: Path, beginning: str) -> None:
    _touch(tmp_path, *(beginning + name for name in ("1Warp.nii.gz", "1InverseWarp.nii.gz", "0GenericAffine.mat")))
    _touch(tmp_path, beginning + "Warped.nii.gz", "a_b.nii.gz" if "/" not in beginning else "c.nii.gz")
    files = FieldFolder(tmp_path, [AB]).find(AB)
    assert files is not None
    assert files.are_stages
    names = ["1Warp.nii.gz", "0GenericAffine.mat"]
    assert [str(path.relative_to(tmp_path)) for path in files.forward] == [beginning + name for name in names]
    names = ["0GenericAffine.mat", "1InverseWarp.nii.gz"]
    assert [str(path.relative_to(tmp_path)) for path in files.inverse] == [beginning + name for name in names]


def test_a_series_belongs_to_the_longest_name(tmp_path: Path) -> None:
    longer = PairRef("a_b_2", "a", "b2")
    _touch(tmp_path, "a_b_2_1Warp.nii.gz", "a_b_2_0GenericAffine.mat")
    assert _found(tmp_path, longer, AB) == ["a_b_2_1Warp.nii.gz", "a_b_2_0GenericAffine.mat"]
    assert _found(tmp_path, AB, longer) is None
    # A number that goes on is another pair, known or not: a_1 has no field here, a_10 has.
    _touch(tmp_path, "a_101Warp.nii.gz", "a_100GenericAffine.mat")
    assert _found(tmp_path, PairRef("a_1", "a", "1")) is None
    assert _found(tmp_path, PairRef("a_10", "a", "10")) == ["a_101Warp.nii.gz", "a_100GenericAffine.mat"]


def test_stages_and_composites(tmp_path: Path) -> None:
    _touch(tmp_path, "a_b_0GenericAffine.mat")
    files = FieldFolder(tmp_path, [AB]).find(AB)
    assert files is not None
    assert ([path.name for path in files.forward], files.inverse) == (["a_b_0GenericAffine.mat"], ())
    _touch(tmp_path, "a_b_2Warp.nii.gz")
    with pytest.raises(DatasetError, match=r"a_b_1Warp.nii.gz is missing"):
        _found(tmp_path, AB)
    _touch(tmp_path, "a_b_1Affine.mat")
    assert _found(tmp_path, AB) == ["a_b_2Warp.nii.gz", "a_b_1Affine.mat", "a_b_0GenericAffine.mat"]
    (tmp_path / "a_b_0GenericAffine.mat").unlink()
    with pytest.raises(DatasetError, match=r"a_b_0GenericAffine.mat is missing"):
        _found(tmp_path, AB)
    _touch(tmp_path, "a_b_new_0Warp.nii.gz")
    with pytest.raises(DatasetError, match="several ANTs outputs"):
        _found(tmp_path, AB)
    other = PairRef("c_d", "c", "d")
    _touch(tmp_path, "c_d_Composite.h5", "c_d_InverseComposite.h5")
    files = FieldFolder(tmp_path, [other]).find(other)
    assert files is not None
    assert [path.name for path in files.paths] == ["c_d_Composite.h5", "c_d_InverseComposite.h5"]


def test_fields_that_a_run_kept(tmp_path: Path) -> None:
    name = "csv__none__a_b__demons__0a1b2c3d"
    _touch(tmp_path, f"{name}.npz", f"{name}__inverse.npz", "csv__none__a_c__demons__0a1b2c3d.npz")
    files = FieldFolder(tmp_path, [AB]).find(AB)
    assert files is not None
    assert [path.name for path in files.paths] == [f"{name}.npz", f"{name}__inverse.npz"]
    _touch(tmp_path, "csv__none__a_b__affine__0a1b2c3d.npz")
    with pytest.raises(DatasetError, match=r"several fields of this pair .*affine.*demons"):
        _found(tmp_path, AB)


# -- transforms on oblique grids ------------------------------------------------------------------------


def _affine() -> np.ndarray:
    """A turn, a stretch and a shift about the phantom's middle, in RAS mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = [[1.05, 0.08, 0.0], [-0.06, 0.97, 0.04], [0.0, 0.03, 1.02]]
    matrix[:3, 3] = CENTRE_MM + np.array([2.0, -1.5, 1.0]) - matrix[:3, :3] @ CENTRE_MM
    return matrix


def _large(grid: Grid) -> Grid:
    """A grid of other axes and spacing that reaches far beyond the given one."""
    affine = np.diag([5.0, 6.0, 4.0, 1.0])
    affine[:3, 3] = grid.to_world((np.array(grid.shape) - 1) / 2) - np.array([30, 27, 33]) / 2 * [5, 6, 4]
    return Grid((31, 28, 34), affine)


def _write_ants(beginning: Path, like: Pair, vector_mm: np.ndarray) -> None:
    """ANTs' files of x -> affine(x + vector) and its inverse."""
    domain = _large(like.fixed.grid)
    constant = np.broadcast_to(vector_mm, (*domain.shape, 3))
    write_itk_warp(Path(f"{beginning}1Warp.nii.gz"), Displacement(constant, domain))
    write_itk_warp(Path(f"{beginning}1InverseWarp.nii.gz"), Displacement(-constant, domain))
    sitk.WriteTransform(itk.affine_to_sitk(_affine()), f"{beginning}0GenericAffine.mat")


def test_ants_warp_and_affine_lead_points_as_itk_does(tmp_path: Path) -> None:
    phantom = oblique_pairs(tmp_path)["a_b"]
    fields = tmp_path / "fields"
    fields.mkdir()
    rng = np.random.default_rng(1)
    vectors = np.add.outer(rng.uniform(-3, 3, phantom.fixed.grid.shape), [0.0, 1.0, -2.0])
    write_itk_warp(fields / "a_b_1Warp.nii.gz", Displacement(vectors, phantom.fixed.grid))
    sitk.WriteTransform(itk.affine_to_sitk(_affine()), str(fields / "a_b_0GenericAffine.mat"))
    files = FieldFolder(fields, [AB]).find(AB)
    assert files is not None
    ours = files.read(phantom.fixed.grid, phantom.moving.grid, None)
    # The transform that was added last is the first that a point goes through.
    chain = sitk.CompositeTransform(3)
    chain.AddTransform(sitk.ReadTransform(str(fields / "a_b_0GenericAffine.mat")))
    warp_image = sitk.ReadImage(str(fields / "a_b_1Warp.nii.gz"), sitk.sitkVectorFloat64)
    chain.AddTransform(sitk.DisplacementFieldTransform(warp_image))
    signs = np.array([-1.0, -1.0, 1.0])
    for index in ((3, 4, 5), (12, 13, 9), (20, 6, 17)):
        start = phantom.fixed.grid.to_world(np.array(index, float))
        theirs = np.array(chain.TransformPoint((start * signs).tolist())) * signs
        assert np.allclose(start + ours.vectors_mm[index], theirs, atol=1e-3)


def test_the_inverse_of_ants_leads_back(tmp_path: Path) -> None:
    phantom = oblique_pairs(tmp_path)["a_b"]
    fields = tmp_path / "fields"
    fields.mkdir()
    _write_ants(fields / "a_b_", phantom, np.array([3.0, -2.0, 4.0]))
    files = FieldFolder(fields, [AB]).find(AB)
    assert files is not None
    inverse = files.read(phantom.fixed.grid, phantom.moving.grid, None).inverse
    assert inverse is not None
    assert inverse.grid.matches(phantom.moving.grid)
    (row, other) = _rows(fields, tmp_path / "pairs.csv", tmp_path / "run", metrics=["ice_mm", "fold_percent"])
    assert row["status"] == "ok"
    assert row["metrics"]["ice_mm"]["voxels"] > 2000
    assert row["metrics"]["ice_mm"]["max"] < 1e-3
    assert row["files"] == ["a_b_1Warp.nii.gz", "a_b_0GenericAffine.mat", "a_b_1InverseWarp.nii.gz"]
    assert other["status"] == "failed"
    # Without its inverse there is no such number, and with a wrong one it is large.
    shutil.copy(fields / "a_b_1Warp.nii.gz", fields / "a_b_1InverseWarp.nii.gz")
    (row, _) = _rows(fields, tmp_path / "pairs.csv", tmp_path / "run", metrics=["ice_mm", "fold_percent"])
    assert row["metrics"]["ice_mm"]["mean"] > 5
    (fields / "a_b_1InverseWarp.nii.gz").unlink()
    (row, _) = _rows(fields, tmp_path / "pairs.csv", tmp_path / "run", metrics=["ice_mm", "fold_percent"])
    assert set(row["metrics"]) == {"fold_percent"}


def test_composites_and_kept_fields_have_inverses_too(tmp_path: Path) -> None:
    made = oblique_pairs(tmp_path)
    fields = tmp_path / "fields"
    fields.mkdir()
    sitk.WriteTransform(sitk.CompositeTransform([itk.affine_to_sitk(_affine())]), str(fields / "a_b_Composite.h5"))
    back = itk.affine_to_sitk(np.linalg.inv(_affine()))
    sitk.WriteTransform(sitk.CompositeTransform([back]), str(fields / "a_b_InverseComposite.h5"))
    fixed, moving = made["c_d"].fixed.grid, made["c_d"].moving.grid
    save_field(
        fields / "pairs__none__c_d__affine__0a1b2c3d.npz", Displacement.from_affine(_affine(), fixed), exact=True
    )
    inverse = Displacement.from_affine(np.linalg.inv(_affine()), moving)
    save_field(fields / "pairs__none__c_d__affine__0a1b2c3d__inverse.npz", inverse, exact=True)
    refs = [AB, PairRef("c_d", "c", "d")]
    for ref in refs:
        files = FieldFolder(fields, refs).find(ref)
        assert files is not None
        read = files.read(made[ref.id].fixed.grid, made[ref.id].moving.grid, None)
        assert read.inverse is not None
        assert read.inverse.grid.matches(made[ref.id].moving.grid)
    for row in _rows(fields, tmp_path / "pairs.csv", tmp_path / "run", metrics=["ice_mm"]):
        assert row["metrics"]["ice_mm"]["mean"] < 1e-3


@pytest.mark.parametrize(
    ("name", "format", "is_told"),
    [
        ("disp_a_b.npz", "learn2reg", False),
        ("disp_a_b.nii.gz", "learn2reg", False),
        ("a_b.npz", "regbench", False),
        ("a_b.nii.gz", "itk", False),
        ("a-b.mha", "itk", False),
        ("a_b.nii.gz", "fsl-relative", True),
        ("a_b_warp.nii.gz", "fsl-absolute", True),
    ],
)
def test_the_true_field_in_every_format_aligns_the_pair(tmp_path: Path, name: str, format: str, is_told: bool) -> None:
    phantom = oblique_pairs(tmp_path)["a_b"]
    assert phantom.truth is not None
    (tmp_path / "fields").mkdir()
    save_field(tmp_path / "fields" / name, phantom.truth, format, phantom.moving.grid)
    said = {"format": format if is_told else None}
    row, missing = _rows(tmp_path / "fields", tmp_path / "pairs.csv", tmp_path / "run", **said)
    assert row["status"] == "ok", row["reason"]
    assert row["metrics"]["dice"]["mean"] > 0.95
    assert missing["status"] == "failed"


# -- rows ---------------------------------------------------------------------------------------------------


def _task_with_fields(folder: Path) -> tuple[Path, Path]:
    """A task of four pairs, and a folder with the identity for the first of them."""
    task = unpaired_task(folder / "task", 5)
    fields = folder / "fields"
    fields.mkdir()
    shape = read_image(folder / "task/imagesTr/Toy_0001_0000.nii.gz").grid.shape
    np.savez(fields / "disp_0001_0002.npz", np.zeros((*shape, 3), np.float32))
    return task, fields


def test_what_is_missing_or_broken_is_a_row(tmp_path: Path) -> None:
    task, fields = _task_with_fields(tmp_path)
    zeros = np.zeros((9, 8, 7, 3), np.float32)
    nib.save(nib.Nifti1Image(zeros, np.eye(4)), fields / "0002_0003.nii.gz")
    nib.save(nib.Nifti1Image(np.random.default_rng(0).normal(size=zeros.shape), np.eye(4)), fields / "whole.nii.gz")
    (fields / "disp_0003_0004.nii.gz").write_bytes((fields / "whole.nii.gz").read_bytes()[:3000])
    told = Recorder()
    evaluate_fields(ForeignFields(fields, str(task), "theirs"), tmp_path / "run", listener=told)
    good, doubtful, torn, missing = read_run(tmp_path / "run").rows
    assert [row["status"] for row in (good, doubtful, torn, missing)] == ["ok", "failed", "failed", "failed"]
    assert "say which format: learn2reg or fsl-relative or fsl-absolute (`--format`)" in doubtful["reason"]
    assert "disp_0003_0004.nii.gz: cannot be read" in torn["reason"]
    for name in (
        "disp_0004_0000_0005_0000",
        "disp_0004_0005",
        "0004_0000-0005_0000",
        "0004_0005",
        "0GenericAffine.mat",
    ):
        assert name in missing["reason"]
    assert (told.n_planned, [row["status"] for row in told.rows]) == (4, ["ok", "failed", "failed", "failed"])
    # What is not a number is no missing file: the method returned it.
    zeros[1, 2, 3, 0] = np.nan
    np.savez(fields / "disp_0004_0005.npz", zeros)
    _, read, _, invalid = _rows(fields, task, tmp_path / "run", format="learn2reg")
    assert (read["status"], read["params"]) == ("ok", {"format": "learn2reg"})
    assert (invalid["status"], "NaN" in invalid["reason"]) == ("invalid", True)


def test_a_pair_that_cannot_be_read_is_a_row(tmp_path: Path) -> None:
    task, fields = _task_with_fields(tmp_path)
    (tmp_path / "task/imagesTr/Toy_0002_0000.nii.gz").unlink()
    row = _rows(fields, task, tmp_path / "run")[0]
    assert (row["status"], row["fingerprint"]) == ("failed", None)
    assert "Toy_0002_0000.nii.gz: no such file" in row["reason"]


def test_a_row_says_that_nothing_was_run(tmp_path: Path) -> None:
    task, fields = _task_with_fields(tmp_path)
    row = _rows(fields, task, tmp_path / "run", label_warp="linear")[0]
    assert (row["dataset"], row["condition"], row["pair"]["fixed"], row["pair"]["moving"]) == (
        "Toy",
        "none",
        "0001",
        "0002",
    )
    assert (row["method"], row["method_version"], row["device"]) == ("theirs", "foreign", None)
    assert (row["paradigm"], row["supervision"], row["label_warp"]) == ("unknown", "unknown", "linear")
    assert row["files"] == ["disp_0001_0002.npz"]
    measured = {name for name, value in {**row["timing"], **row["memory"]}.items() if value is not None}
    assert measured == {"evaluate_s"}
    # What is unknown is neither the baseline nor one of the paradigms that are compared.
    (group,) = group_rows([row])
    assert group.identity is None
    assert [method.paradigm_text for method in group.methods] == ["unknown"]
    known = _rows(fields, task, tmp_path / "run", paradigm="learned", supervision="labels")[0]
    assert (known["paradigm"], known["supervision"]) == ("learned", "labels")


def test_the_target_registration_error_is_that_of_a_calculation_by_hand(tmp_path: Path) -> None:
    """Two images of a case, one field of (1, -0.5, 0.25) voxels; errors in mm with 1.5, 2 and 3 mm per voxel."""
    names = ("Toy_0001_0000", "Toy_0001_0001")
    for name in names:
        write_scan(tmp_path, name)
    write_points(tmp_path, names[0], [[2, 3, 3], [4, 4, 2]], "keypointsTr")
    # The first point is missed by (2, 0, 0) voxels, 3 mm; the second by (0, -1, 1), sqrt(2^2 + 3^2) mm.
    write_points(tmp_path, names[1], [[5, 2.5, 3.25], [5, 2.5, 3.25]], "keypointsTr")
    task = write_json(tmp_path, registration_val=[pair(*names)])
    (tmp_path / "fields").mkdir()
    field = np.broadcast_to(np.array([1, -0.5, 0.25], np.float32), (9, 8, 7, 3))
    np.savez(tmp_path / "fields" / "disp_0001_0000_0001_0001.npz", field)
    (row,) = _rows(tmp_path / "fields", task, tmp_path / "run", metrics=["tre_mm"])
    assert row["metrics"]["tre_mm"]["max"] == pytest.approx(np.sqrt(13), abs=1e-5)
    assert row["metrics"]["tre_mm"]["mean"] == pytest.approx((3 + np.sqrt(13)) / 2, abs=1e-5)
    assert row["pair"]["tags"]["points"] == "keypoints"


# -- run folders ----------------------------------------------------------------------------------------


def test_a_folder_without_any_field_leaves_nothing_behind(tmp_path: Path) -> None:
    task, fields = _task_with_fields(tmp_path)
    (fields / "disp_0001_0002.npz").rename(fields / "disp_0002_0001.npz")
    with pytest.raises(NothingFound, match=r"no field of any of the 4 pairs of Toy; for the pair 0001_0000-0002_0000"):
        _rows(fields, task, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    # Files that are there and cannot be used are something.
    (fields / "disp_0002_0001.npz").rename(fields / "0001_0002_1Warp.nii.gz")
    row = _rows(fields, task, tmp_path / "run")[0]
    assert row["status"] == "failed"
    assert "0001_0002_0GenericAffine.mat is missing" in row["reason"]


def test_the_same_fields_are_evaluated_again_and_other_runs_are_left_alone(tmp_path: Path) -> None:
    task, fields = _task_with_fields(tmp_path)
    out = tmp_path / "run"
    first = _rows(fields, task, out)
    shutil.copy(fields / "disp_0001_0002.npz", fields / "disp_0002_0003.npz")
    again = _rows(fields, task, out, metrics=["ncc"])
    assert [row["status"] for row in again] == ["ok", "ok", "failed", "failed"]
    assert set(again[0]["metrics"]) == {"ncc"}
    assert again[0]["key"] == first[0]["key"]
    assert again[1]["key"] != first[1]["key"]
    shutil.copytree(fields, tmp_path / "others")
    for folder, said in ((fields, {"method": "another"}), (tmp_path / "others", {})):
        with pytest.raises(StoreError, match=r"holds another run; choose another folder with -o, or .* with --fresh"):
            _rows(folder, task, out, **said)
    evaluate_fields(ForeignFields(tmp_path / "others", str(task), "theirs", metrics=["dice"]), out, fresh=True)
    assert set(read_run(out).rows[0]["metrics"]) == {"dice"}
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "mine.txt").write_text("x")
    with pytest.raises(StoreError, match="has files in it but no run"):
        _rows(fields, task, tmp_path / "kept")


def test_the_record_of_the_run(tmp_path: Path) -> None:
    task, fields = _task_with_fields(tmp_path)
    _rows(fields, task, tmp_path / "run", parameters={"limit": 2})
    record = RunStore(tmp_path / "run", None).run_json()
    assert record is not None
    assert record["fields"]["folder"] == str(fields)
    assert record["datasets"]["Toy"]["parameters"] == {"path": str(task), "limit": 2}
    assert record["datasets"]["Toy"]["manifest"]["n_pairs"] == len(record["plan_keys"]) == 2
    assert "numpy" in record["versions"]
    assert json.loads((tmp_path / "run" / "results.jsonl").read_text().splitlines()[0])["run"] == record["run"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"dataset": "mni-cohrt"}, "--dataset: unknown dataset 'mni-cohrt'; did you mean 'mni-cohort'"),
        ({"method": "a/b"}, "--method: 'a/b' must be a word"),
        ({"metrics": ["dize"]}, "unknown metric 'dize'; did you mean 'dice'"),
        ({"label_warp": "cubic"}, "--label-warp: "),
        ({"parameters": {"limmit": 2}}, "unknown parameter 'limmit'; did you mean 'limit'"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(tmp_path: Path, said: dict[str, Any], words: str) -> None:
    task, fields = _task_with_fields(tmp_path)
    with pytest.raises(ConfigError, match=words):
        evaluate_fields(
            ForeignFields(**{"folder": fields, "dataset": str(task), "method": "x", **said}), tmp_path / "r"
        )
    assert not (tmp_path / "r").exists()
