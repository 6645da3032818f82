"""Pair protocols, label harmonisation, pickles of strangers, and what is said about scans that do not meet."""

from __future__ import annotations

import io
import itertools
import json
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts_on_disk import labels, scan, write_nifti

from regbench.alignment import Alignment
from regbench.datasets.folder_dataset import overlap_in_world
from regbench.datasets.label_sets import groupings, label_set
from regbench.datasets.label_tables import COMMON, FREESURFER_NAMES, TABLES
from regbench.datasets.pair_protocols import in_order, select_pairs
from regbench.datasets.restricted_pickle import read_pickled_arrays
from regbench.datasets.table import build_dataset
from regbench.displacement import Displacement
from regbench.errors import ConfigError, DatasetError
from regbench.metrics.landmarks import tre_mm
from regbench.volume import Grid, Labels

# -- protocols -------------------------------------------------------------------------------------------


def test_names_are_in_the_order_of_their_numbers() -> None:
    assert in_order(["m10", "m2", "m1"]) == ["m1", "m2", "m10"]
    assert in_order(["b", "A", "a2", "a10", "3"]) == ["3", "A", "a2", "a10", "b"]


def test_protocols_name_pairs() -> None:
    names = ["a", "b", "c"]
    assert select_pairs(names, "consecutive", 0, "x") == [("a", "b"), ("b", "c")]
    assert select_pairs(names, "all-ordered", 0, "x") == list(itertools.permutations(names, 2))
    assert select_pairs(names, "atlas:b", 0, "x") == [("b", "a"), ("b", "c")]
    assert select_pairs(names, "atlas", 0, "x", atlas="c") == [("c", "a"), ("c", "b")]


def test_a_seed_in_the_protocol_goes_before_that_of_the_dataset() -> None:
    names = [str(n) for n in range(20)]
    assert select_pairs(names, "random:5,3", 0, "x") == select_pairs(names, "random:5", 3, "x")
    assert select_pairs(names, "random:5,3", 0, "x") != select_pairs(names, "random:5", 0, "x")
    assert select_pairs(names, "disjoint:5,3", 0, "x") == select_pairs(names, "disjoint:5", 3, "x")


def test_the_pairs_of_jena_are_the_last_fifty_and_all_of_414() -> None:
    names = [f"{n:04d}" for n in range(414)]
    last = select_pairs(names, "jena-val49", 0, "x")
    assert (len(last), last[0], last[-1]) == (49, ("0364", "0365"), ("0412", "0413"))
    assert len(select_pairs(names, "jena-trainval413", 0, "x")) == 413
    with pytest.raises(ConfigError, match="defined on the 414 subjects of OASIS and this folder has 413"):
        select_pairs(names[1:], "jena-val49", 0, "x")


@pytest.mark.parametrize(
    ("protocol", "told"),
    [
        ("rondom:3", "unknown pair protocol 'rondom:3'; known: all-ordered, consecutive, random:N"),
        ("random:7", "7 pairs asked for; 3 subjects give 1 to 6"),
        ("disjoint:2", "2 pairs asked for; 3 subjects give 1 to 1"),
        ("atlas", "no atlas of its own; name a subject, such as atlas:a"),
        ("atlas:z", "no subject 'z' for the atlas; there are a, b, c"),
    ],
)
def test_a_wrong_protocol_is_told(protocol: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"^here: .*{told.replace('.', '.')}"):
        select_pairs(["a", "b", "c"], protocol, 0, "here")


# -- labels ----------------------------------------------------------------------------------------------


def _map(values: list[int]) -> Labels:
    return Labels(np.array(values, np.int32).reshape(-1, 1), Grid.from_spacing((len(values), 1)))


def test_tables_agree_with_each_other() -> None:
    for name, table in TABLES.items():
        assert set(table.freesurfer) <= set(table.names), name
        for value, number in table.freesurfer.items():
            assert table.names[value] == FREESURFER_NAMES[number], f"{name}: {value}"
        for groups in table.merges.values():
            taken = [value for group in groups.values() for value in group]
            assert len(taken) == len(set(taken))
            assert set(taken) <= set(table.names)
    sizes = {name: len(table.names) for name, table in TABLES.items()}
    assert (sizes["seg35"], sizes["seg24"], sizes["lpba40"]) == (35, 24, 56)
    assert len(TABLES["freesurfer"].merges["voi30"]) == 30
    assert len(TABLES["freesurfer"].merges["ibsr31"]) == 31


@pytest.mark.parametrize("table", ["seg35", "seg24", "freesurfer", "lpba40"])
def test_common_are_the_same_labels_from_every_table(table: str) -> None:
    common = label_set("common", table, "x")
    everything = _map([0, *TABLES[table].names])
    found = common.apply(everything)
    np.testing.assert_array_equal(found.values, sorted(COMMON))
    assert (found.counts == 1).all()
    assert found.names == dict(COMMON)


def test_sides_are_merged_by_name() -> None:
    merged = label_set("sides-merged", "seg35", "x")
    by_name = {name: new for new, name in merged.names.items()}
    found = merged.apply(_map([14, 30, 13, 0]))
    np.testing.assert_array_equal(found.array[:, 0], [by_name["hippocampus"]] * 2 + [by_name["brain stem"], 0])
    assert len(merged.names) == 19


def test_groups_of_a_user_are_numbered_or_named_by_number(tmp_path: Path) -> None:
    values = [0, 7, 26, 9]
    named = label_set({"thalamus": [7, 26], "other": [9]}, None, "x")
    np.testing.assert_array_equal(named.apply(_map(values)).array[:, 0], [0, 1, 1, 2])
    assert named.names == {1: "thalamus", 2: "other"}
    numbered = label_set({10: [7], "49": [26]}, "freesurfer", "x")
    np.testing.assert_array_equal(numbered.apply(_map(values)).array[:, 0], [0, 10, 49, 0])
    kept = label_set([26, 9], None, "x")
    np.testing.assert_array_equal(kept.apply(_map(values)).array[:, 0], [0, 0, 26, 9])
    (tmp_path / "g.json").write_text(json.dumps({"thalamus": [7, 26], "other": [9]}))
    assert label_set(str(tmp_path / "g.json"), None, "x") == named


@given(st.lists(st.integers(0, 60), min_size=2, max_size=30), st.sets(st.integers(1, 60), min_size=1))
def test_a_subset_keeps_its_voxels_and_nothing_else(values: list[int], chosen: set[int]) -> None:
    found = label_set(sorted(chosen), None, "x").apply(_map(values)).array[:, 0]
    np.testing.assert_array_equal(found, [value if value in chosen else 0 for value in values])


@pytest.mark.parametrize(
    ("choice", "table", "told"),
    [
        ("seg4", None, "names of these labels are not on record; give groups"),
        ("comon", "seg35", "unknown label set 'comon'; known: seg4, common, freesurfer, sides-merged"),
        ({"a": [1], "b": [1]}, None, "label 1 is in 'a' and in 'b'"),
        ({"a": [0]}, None, "0 is not a label"),
        ({"a": []}, None, "[] is not a list of labels"),
        ({}, None, "has no groups"),
        ("nothere.json", None, "nothere.json: no such file"),
    ],
)
def test_a_wrong_choice_of_labels_is_told(choice: Any, table: str | None, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        label_set(choice, table, "datasets.x.labels")
    assert str(caught.value).startswith("datasets.x.labels")
    assert told in str(caught.value)


def test_the_names_of_groupings_are_known() -> None:
    for table in TABLES:
        for name in groupings(table):
            assert label_set(name, table, "x").groups


def test_labels_of_a_csv_are_harmonised_and_its_fingerprints_stay_without(tmp_path: Path) -> None:
    for n in (1, 2):
        write_nifti(tmp_path / f"i{n}.nii.gz", scan(n))
        write_nifti(tmp_path / f"l{n}.nii.gz", labels((11, 2)))
    rows = "fixed,moving,fixed_labels,moving_labels\ni1.nii.gz,i2.nii.gz,l1.nii.gz,l2.nii.gz\n"
    (tmp_path / "p.csv").write_text(rows)
    given_to = {"path": str(tmp_path / "p.csv")}
    plain = build_dataset("csv", given_to)
    chosen = build_dataset("csv", {**given_to, "labels": "common", "label_table": "freesurfer"})
    (ref,) = plain.pair_refs()
    np.testing.assert_array_equal(plain.load(ref).fixed_labels.values, [2, 11])
    np.testing.assert_array_equal(chosen.load(ref).fixed_labels.values, [11])
    assert plain.fingerprint(ref) != chosen.fingerprint(ref)
    with pytest.raises(ConfigError, match="unknown table of labels 'x'; known: freesurfer, seg35"):
        build_dataset("csv", {**given_to, "label_table": "x"})


# -- pickles ---------------------------------------------------------------------------------------------


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "u1", "?"])
def test_arrays_are_read_from_pickles_of_any_protocol(protocol: int, dtype: str, tmp_path: Path) -> None:
    array = np.asfortranarray(np.arange(24).reshape(2, 3, 4)).astype(dtype)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps((array, array[0]), protocol=protocol))
    first, second = read_pickled_arrays(tmp_path / "a.pkl")
    np.testing.assert_array_equal(first, array)
    np.testing.assert_array_equal(second, array[0])


def test_pickles_of_older_numpy_are_read(tmp_path: Path) -> None:
    content = pickle.dumps((scan(1),), protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    (tmp_path / "a.pkl").write_bytes(content)
    np.testing.assert_array_equal(read_pickled_arrays(tmp_path / "a.pkl")[0], scan(1))


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps((_Evil(), np.zeros(2))),
        b'cbuiltins\neval\n(S\'__import__("os").mkdir("harm")\'\ntR.',
        b"cnumpy\nfromfile\n(S'x'\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cbuiltins\nlist\n(I0\ntS'b'\ntR.",
        b"cnumpy\ndtype\n(S'O8'\ntR.",
        pickle.dumps((np.array([{}], dtype=object),)),
        pickle.dumps({"a": np.zeros(2)}),
        pickle.dumps("text"),
        pickle.dumps((np.zeros(3),))[:-9],
        b"not a pickle",
        b"\x80\x04P1\n.",
    ],
)
def test_nothing_but_arrays_comes_out_of_a_pickle(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.pkl").write_bytes(content)
    with pytest.raises(DatasetError, match=r"^a.pkl: "):
        read_pickled_arrays(Path("a.pkl"))
    assert not Path("harm").exists()


def test_an_ordinary_unpickler_would_have_done_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.Unpickler(io.BytesIO(pickle.dumps(_Evil()))).load()  # noqa: S301
    assert Path("harm").exists()


# -- scans that do not meet, points that lie outside -------------------------------------------------------


def _ball(centre: tuple[float, float, float]) -> np.ndarray:
    distance = np.linalg.norm(np.indices((20, 22, 24)).transpose(1, 2, 3, 0) - centre, axis=-1)
    return (100 * np.exp(-((distance / 5) ** 2))).astype(np.float32)


def test_scans_without_overlap_are_told_about_and_brought_together_by_a_prealignment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from regbench.prealign import Prealignment, checked_matrix, prealigned
    from regbench.targets import build_method

    far = np.eye(4)
    far[:3, 3] = (500, -400, 300)
    for name, affine in (("a", np.eye(4)), ("b", far)):
        write_nifti(tmp_path / f"images/{name}.nii.gz", _ball((9, 11, 12)), affine)
        write_nifti(tmp_path / f"labels/{name}.nii.gz", (_ball((9, 11, 12)) > 40).astype(np.uint8), affine)
    dataset = build_dataset("folders", {"path": str(tmp_path)})
    with caplog.at_level(logging.WARNING):
        pair = dataset.load(dataset.pair_refs()[0])
    assert pair.tags["world_overlap"] == "none"
    assert "set prealign: moments" in caplog.text
    displacement = build_method("moments", {}).register(pair.blind())
    corner = displacement.vectors_mm[0, 0, 0]
    np.testing.assert_allclose(corner, [500, -400, 300], atol=0.5)
    matrix = np.eye(4)
    matrix[:3, 3] = corner
    seen = prealigned(pair, Prealignment("moments", 0.0, checked_matrix(matrix, 3)))
    assert np.corrcoef(seen.moving.array.ravel(), pair.fixed.array.ravel())[0, 1] > 0.99


def test_overlap_is_that_of_boxes_in_the_world() -> None:
    grid = Grid.from_spacing((4, 4, 4))
    turned = np.diag([-1.0, -1.0, 1.0, 1.0])
    assert overlap_in_world(grid, Grid((4, 4, 4), turned))
    turned[0, 3] = -2
    assert not overlap_in_world(grid, Grid((4, 4, 4), turned))


def test_landmarks_outside_of_an_image_are_counted_and_left_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_nifti(tmp_path / f"images/{name}.nii.gz", scan(1), np.eye(4))
        (tmp_path / "landmarks").mkdir(exist_ok=True)
        (tmp_path / f"landmarks/{name}.csv").write_text("1,1,1\n2,2,2\n40,2,2\n")
    dataset = build_dataset("folders", {"path": str(tmp_path)})
    pair = dataset.load(dataset.pair_refs()[0])
    identity = Displacement(np.zeros((*pair.fixed.grid.shape, 3), np.float32), pair.fixed.grid)
    found = tre_mm(Alignment(pair, identity))
    assert (found["n"], found["n_outside"], found["mean"]) == (2, 1, 0.0)
    (tmp_path / "landmarks/a.csv").write_text("1,1,1\n-52,2,2\n40,2,2\n")
    with pytest.raises(DatasetError, match="landmark 2 lies outside its image"):
        dataset.load(dataset.pair_refs()[0])
