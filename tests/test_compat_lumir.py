"""`compat` on LUMIR's dialect: background as a label, non-diffeomorphic volume, centroids of landmark images."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

from regbench.compat import evaluate_submission
from regbench.compat.config import read_task
from regbench.compat.field_scores import inverted_volumes
from regbench.metrics.surface_elements import unit_elements

SHAPE = (13, 15, 11)
LABELS = [0, 4, 11, 23]
PAIRS = [("3455", "3454"), ("3456", "3455"), ("3457", "3456")]
SUBJECTS = ["3454", "3455", "3456", "3457"]


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


class Toy:
    """Four subjects, three pairs with fields of rising roughness, and everything as plain arrays."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(7)
        self.folder = folder
        smooth = [gaussian_filter(rng.normal(size=(4, *SHAPE)), (0, 2, 2, 2)) for _ in SUBJECTS]
        self.labels = {s: np.array(LABELS)[part.argmax(0)] for s, part in zip(SUBJECTS, smooth, strict=True)}
        self.images = {s: (part[0] > 0) * 7.5 for s, part in zip(SUBJECTS, smooth, strict=True)}
        self.landmarks = {s: np.zeros(SHAPE, np.uint8) for s in SUBJECTS}
        for number, (subject, corner) in enumerate(product(SUBJECTS, (3, 6))):
            place = (corner, 4 + number % 3, 7 - number % 2)
            self.landmarks[subject][tuple(slice(p, p + 2) for p in place)] = corner
        self.fields = {
            pair: rng.normal(0, size, (*SHAPE, 3)).astype(np.float32)
            for pair, size in zip(PAIRS, (0.1, 0.5, 1.0), strict=True)
        }
        self._write()

    def _write(self) -> None:
        for kind, arrays in (("images", self.images), ("labels", self.labels), ("landmarks", self.landmarks)):
            for subject, array in arrays.items():
                _save(self.folder / f"{kind}Val" / f"LUMIRMRI_{subject}_0000.nii.gz", array.astype(np.float32))
        for (fixed, moving), field in self.fields.items():
            _save(self.folder / "disp" / f"disp_{fixed}_{moving}.nii.gz", field)
        listed = [
            {side: f"./imagesVal/LUMIRMRI_{s}_0000.nii.gz" for side, s in zip(("fixed", "moving"), pair, strict=True)}
            for pair in PAIRS
        ]
        self._json("LUMIR_dataset.json", {"name": "LUMIR", "training": [], "validation": listed})
        methods = [
            {"name": "Non-diffeomorphic Volumes", "metric": "ndv"},
            {"name": "TRE_lm", "metric": "tre", "dest": "landmarks"},
            {"name": "DSC", "metric": "dice", "labels": LABELS},
            {"name": "HD95", "metric": "hd95", "labels": LABELS},
        ]
        config = {"name": "LUMIR", "evaluation_methods": methods, "expected_shape": [*SHAPE, 3], "eval_pairs": listed}
        self._json("config.json", config | {"eval_config_version": 0.0, "masked_evaluation": False})

    def _json(self, name: str, content: dict[str, Any]) -> None:
        (self.folder / name).write_text(json.dumps(content))

    def evaluate(self) -> dict[str, Any]:
        return evaluate_submission(
            self.folder / "disp", self.folder / "LUMIR_dataset.json", self.folder / "config.json"
        )

    def moved(self, pair: tuple[str, str], arrays: dict[str, np.ndarray]) -> np.ndarray:
        places = np.indices(SHAPE) + np.moveaxis(self.fields[pair], -1, 0)
        return map_coordinates(arrays[pair[1]].astype(float), places, order=0)


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


def _name(pair: tuple[str, str]) -> str:
    return f"{pair[0]}_0000<--{pair[1]}_0000"


def _plain_ndv(field: np.ndarray, mask: np.ndarray) -> float:
    """Percent of the mask (one voxel off each face), voxel by voxel and simplex by simplex."""
    target = np.moveaxis(np.indices(field.shape[:3]), 0, -1) + field.astype(float)
    steps = np.eye(3, dtype=int)
    volume = 0.0
    for voxel in product(*(range(1, n - 1) for n in field.shape[:3])):
        if not mask[voxel]:
            continue

        def to(*step: int, here: tuple[int, ...] = voxel) -> np.ndarray:
            return target[tuple(np.add(here, step))] - target[here]

        simplices = [
            [sign * to(*(sign * step)) for sign, step in zip(signs, steps, strict=True)]
            for signs in product((1, -1), repeat=3)
        ]
        simplices.append([to(-1, -1, 0), to(-1, 0, -1), to(0, -1, -1)])
        simplices.append([to(1, 1, 0), to(0, 1, 1), to(1, 0, 1)])
        volume -= sum(min(np.linalg.det(simplex), 0) for simplex in simplices) / 12
    return 100 * volume / np.count_nonzero(mask[1:-1, 1:-1, 1:-1])


def _plain_hd95(first: np.ndarray, second: np.ndarray) -> float:
    elements = []
    areas_by_code = np.linalg.norm(unit_elements(3), axis=-1).sum(axis=-1)
    for region in (first, second):
        padded = np.pad(region.astype(int), 1)
        codes = np.zeros([n + 1 for n in region.shape], int)
        for corner in product((0, 1), repeat=3):
            codes = 2 * codes + padded[tuple(slice(c, n + 1 + c) for c, n in zip(corner, region.shape, strict=True))]
        border = np.argwhere((codes > 0) & (codes < 255))
        elements.append((border, areas_by_code[codes[tuple(border.T)]]))
    found = []
    for (points, areas), (targets, _) in (elements, elements[::-1]):
        distances = cKDTree(targets).query(points)[0]
        order = np.argsort(distances)
        within = np.cumsum(areas[order])
        found.append(distances[order][np.argmax(within >= 0.95 * areas.sum() * (1 - 1e-12))])
    return max(found)


def test_every_number_equals_a_plain_restatement(toy: Toy) -> None:
    result = toy.evaluate()
    assert list(result["cases"]) == [_name(pair) for pair in PAIRS]
    for pair in PAIRS:
        case = result["cases"][_name(pair)]
        assert list(case) == ["Non-diffeomorphic Volumes", "TRE_lm", "DSC", "HD95"]
        ndv = _plain_ndv(toy.fields[pair], toy.images[pair[0]] > 0)
        assert case["Non-diffeomorphic Volumes"] == {
            "mean": pytest.approx(ndv, abs=1e-9),
            "detailed": pytest.approx(ndv),
        }
        fixed, moved = toy.labels[pair[0]], toy.moved(pair, toy.labels)
        dice = [2 * np.sum((fixed == n) & (moved == n)) / (np.sum(fixed == n) + np.sum(moved == n)) for n in LABELS]
        assert case["DSC"] == {"mean": pytest.approx(np.mean(dice)), "detailed": pytest.approx(dice)}
        hd95 = [_plain_hd95(fixed == n, moved == n) for n in LABELS]
        assert case["HD95"] == {"mean": pytest.approx(np.mean(hd95)), "detailed": pytest.approx(hd95)}
        marks = toy.landmarks[pair[0]], toy.moved(pair, toy.landmarks)
        ends = [[np.argwhere(part == n).mean(axis=0) for n in (3, 6)] for part in marks]
        tre = np.linalg.norm(np.subtract(*ends), axis=1).mean()
        assert case["TRE_lm"] == {"mean": pytest.approx(tre), "detailed": pytest.approx(tre)}


def test_aggregates_are_sorted_and_30_is_the_lower_quantile_but_for_tre(toy: Toy) -> None:
    result = toy.evaluate()
    assert list(result["aggregates"]) == ["DSC", "HD95", "Non-diffeomorphic Volumes", "TRE_lm"]
    assert (result["name"], result["eval_version"]) == ("LUMIR", "3.0")
    for name, aggregate in result["aggregates"].items():
        means = [case[name]["mean"] for case in result["cases"].values()]
        share = 0.7 if name == "TRE_lm" else 0.3
        assert aggregate["30"] == pytest.approx(np.quantile(means, share))
        assert (aggregate["mean"], aggregate["std"]) == pytest.approx((np.mean(means), np.std(means)))
    told = {note["where"]: note for note in result["notes"]}
    assert {f"aggregates.{name}.30" for name in ("HD95", "Non-diffeomorphic Volumes")} <= set(told)
    assert "aggregates.TRE_lm.30" not in told


def test_the_background_is_told(toy: Toy) -> None:
    result = toy.evaluate()
    (note,) = [note for note in result["notes"] if note["where"] == "aggregates.DSC.mean"]
    without = [np.mean(case["DSC"]["detailed"][1:]) for case in result["cases"].values()]
    assert note["official"] == result["aggregates"]["DSC"]["mean"]
    assert note["ours"] == pytest.approx(np.mean(without))


def test_fields_may_have_their_components_first(toy: Toy) -> None:
    expected = toy.evaluate()
    for (fixed, moving), field in toy.fields.items():
        _save(toy.folder / "disp" / f"disp_{fixed}_{moving}.nii.gz", np.moveaxis(field, -1, 0))
    assert toy.evaluate() == expected


def test_the_long_name_is_read_and_told_where_the_short_one_is_asked_for(toy: Toy) -> None:
    disp = toy.folder / "disp"
    (disp / "disp_3455_3454.nii.gz").rename(disp / "disp_3455_0000_3454_0000.nii.gz")
    result = toy.evaluate()
    assert result["missing"] == []
    (note,) = [note for note in result["notes"] if note["where"] == f"cases.{_name(PAIRS[0])}"]
    assert "looks for disp_3455_3454" in note["what"]


def test_a_landmark_that_the_warp_lost_makes_the_mean_nan_and_is_told(toy: Toy) -> None:
    toy.landmarks["3454"][toy.landmarks["3454"] == 6] = 0
    _save(toy.folder / "landmarksVal" / "LUMIRMRI_3454_0000.nii.gz", toy.landmarks["3454"])
    result = toy.evaluate()
    assert np.isnan(result["cases"][_name(PAIRS[0])]["TRE_lm"]["mean"])
    (note,) = [note for note in result["notes"] if note["where"] == f"cases.{_name(PAIRS[0])}.TRE_lm.mean"]
    ends = [np.argwhere(part == 3).mean(axis=0) for part in (toy.landmarks["3455"], toy.moved(PAIRS[0], toy.landmarks))]
    assert note["ours"] == pytest.approx(np.linalg.norm(np.subtract(*ends)))
    assert np.isnan(result["aggregates"]["TRE_lm"]["mean"])


def test_the_validation_list_serves_where_the_config_has_no_pairs(toy: Toy) -> None:
    config = json.loads((toy.folder / "config.json").read_text())
    del config["eval_pairs"]
    (toy.folder / "config.json").write_text(json.dumps(config))
    task = read_task(toy.folder / "LUMIR_dataset.json", toy.folder / "config.json")
    assert task.is_lumir
    assert [pair.name for pair in task.pairs] == [_name(pair) for pair in PAIRS]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from((0.05, 0.4, 3.0, 1000.0)))
def test_ndv_equals_its_formula_for_smooth_and_wild_fields(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    field = rng.normal(0, size, (*rng.integers(3, 7, 3), 3)).astype(np.float32)
    mask = rng.random(field.shape[:3]) < 0.7
    mask[1, 1, 1] = True
    found = inverted_volumes(field.T[::-1]).percent_of(mask.T)
    assert found == pytest.approx(_plain_ndv(field, mask), rel=1e-9, abs=1e-9)


def test_ndv_sees_a_mirror_wholly_and_a_translation_not_at_all() -> None:
    """A mirrored axis turns every one of the ten simplices over: the volume is that of the mask."""
    mask = np.ones((8, 8, 8), bool)
    mirror = np.zeros((3, 8, 8, 8))
    mirror[1] = -2.0 * np.arange(8)[:, None]
    assert inverted_volumes(mirror).percent_of(mask) == pytest.approx(100)
    assert inverted_volumes(np.full((3, 8, 8, 8), 5.5)).percent_of(mask) == 0
    assert np.isnan(inverted_volumes(mirror).percent_of(np.zeros_like(mask)))
