"""What a training may see: pairs of any dataset, no subject twice, never a test pair; labels of a few subjects."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from support_training import ring, write_recipe, write_scans  # noqa: E402

import regbench  # noqa: E402
from regbench.errors import ConfigError, DatasetError  # noqa: E402
from regbench.methods.trained import load_network  # noqa: E402
from regbench.training.data import TrainingData, training_data  # noqa: E402
from regbench.training.loop import train_from_config  # noqa: E402
from regbench.training.recipe import load_recipe  # noqa: E402

COHORT = {"mni-cohort": {"ndim": 2, "spacing_mm": 8}}


@pytest.fixture(autouse=True)
def _no_picture(monkeypatch):
    monkeypatch.setattr("regbench.training.loop.draw_curves", lambda *_: None)


def quiet(_text: str) -> None: ...


def data_of(folder: Path, **changes) -> TrainingData:
    return training_data(load_recipe(write_recipe(folder, **changes)), quiet)


def same_batches(first: TrainingData, second: TrainingData) -> bool:
    drawn = [data.source.draw(np.random.default_rng(3), 4) for data in (first, second)]
    return torch.equal(drawn[0].fixed, drawn[1].fixed) and torch.equal(drawn[0].moving, drawn[1].moving)


def test_listed_pairs_hold_out_subjects_and_never_split_them(tmp_path):
    write_scans(tmp_path, ring(8))
    told: list[str] = []
    recipe = load_recipe(
        write_recipe(tmp_path, dataset="pairs.csv", spacing_mm=1, validation={"fraction": 0.3, "pairs": 9})
    )
    data = training_data(recipe, told.append)
    trained, held = set(data.source.facts()["subjects"]), set(data.validation.subjects)
    assert len(held) == 2 and len(trained) == 6
    assert not trained & held
    assert len(data.source.facts()["pairs"]) == 30 and len(data.validation) == 2
    assert any("2 of 8 subjects held out, 24 of 56 pairs left out" in text for text in told)


def test_held_out_subjects_depend_on_the_seed_alone(tmp_path):
    write_scans(tmp_path, ring(8))
    changes = {"dataset": "pairs.csv", "spacing_mm": 1}
    held = [data_of(tmp_path, **changes, seed=seed).validation.names for seed in (0, 0, 1)]
    assert held[0] == held[1] != held[2]


def test_pairs_that_all_share_a_subject_cannot_be_divided(tmp_path):
    write_scans(tmp_path, [(0, i) for i in range(1, 6)])
    with pytest.raises(ConfigError, match="every pair shares a subject"):
        data_of(tmp_path, dataset="pairs.csv", spacing_mm=1)


def test_a_subject_is_never_trained_and_validated_on(tmp_path):
    write_scans(tmp_path, ring(3))
    write_scans(tmp_path, [(2, 4)], "other.csv")
    write_scans(tmp_path, [(4, 5)], "apart.csv")
    write_scans(tmp_path, [(5, 6)], "tested.csv")
    changes = {"dataset": "pairs.csv", "spacing_mm": 1}
    with pytest.raises(ConfigError, match="s2 would be trained on and validated on"):
        data_of(tmp_path, **changes, validation={"dataset": "other.csv"})
    assert data_of(tmp_path, **changes, validation={"dataset": "apart.csv"}).validation.subjects == ["s4", "s5"]
    with pytest.raises(ConfigError, match="s5 would be validated on, and `test` names them"):
        data_of(tmp_path, **changes, validation={"dataset": "apart.csv"}, test="tested.csv")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"validation": {"split": "test"}}, "test subjects are kept for the benchmark"),
        ({"validation": {"split": "train"}}, "train-000 and 255 more would be trained on and validated on"),
        ({"pairs": "listed"}, "test pairs of mni-cohort"),
        ({"dataset": {"mni-cohort": {"ndim": 2, "split": "test"}}, "pairs": "listed"}, "test pairs of mni-cohort"),
    ],
)
def test_test_pairs_are_refused(tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        data_of(tmp_path, **{"dataset": COHORT, "spacing_mm": 8, **changes})


def test_test_pairs_of_a_learn2reg_task_are_refused(tmp_path):
    pairs = [{"fixed": f"./imagesTr/T_000{i}_0000.nii.gz", "moving": "./imagesTr/T_0009_0000.nii.gz"} for i in (1, 2)]
    (tmp_path / "T_dataset.json").write_text(json.dumps({"name": "T", "registration_test": pairs}))
    with pytest.raises(ConfigError, match="test pairs of learn2reg"):
        data_of(tmp_path, dataset="T_dataset.json", spacing_mm=1)


def test_lazy_reading_gives_the_same_pairs_in_little_memory(tmp_path):
    write_scans(tmp_path, ring(6))
    for dataset, spacing in (("pairs.csv", 1), (COHORT, 8)):
        whole = data_of(tmp_path, dataset=dataset, spacing_mm=spacing)
        lazy = data_of(tmp_path, dataset=dataset, spacing_mm=spacing, loading="lazy", memory_mib=1)
        assert same_batches(whole, lazy)
        assert set(lazy.source.label_values) <= set(whole.source.label_values)
    assert whole.manifest() == lazy.manifest()
    assert len(whole.manifest()["subjects"]) == 256


def test_only_labelled_subjects_show_their_labels(tmp_path):
    data = data_of(tmp_path, dataset=COHORT, spacing_mm=8, labelled=4, loss={"dice": 1.0}, labelled_share=0.4)
    labelled = data.source.facts()["labelled"]
    assert len(labelled) == 4 and set(labelled) <= set(data.source.facts()["subjects"])
    batch = data.source.draw(np.random.default_rng(0), 200)
    assert 0.3 < batch.labelled.float().mean() < 0.5
    scans = {name: data.source.batch([(name, name)]).fixed for name in labelled}
    for fixed, flag in zip(batch.fixed[:40], batch.labelled[:40], strict=True):
        assert not flag or any(torch.equal(fixed[None], scan) for scan in scans.values())
    for seed, is_same in ((0, True), (1, False)):
        again = data_of(tmp_path, dataset=COHORT, spacing_mm=8, labelled=4, loss={"dice": 1.0}, seed=seed)
        assert (again.source.facts()["labelled"] == labelled) is is_same


def test_labelled_subjects_of_listed_pairs_have_pairs_among_them(tmp_path):
    write_scans(tmp_path, [(0, 1), (2, 3), (4, 5), (1, 2), (6, 7)])
    data = data_of(tmp_path, dataset="pairs.csv", spacing_mm=1, labelled=2, loss={"dice": 1.0})
    batch = data.source.draw(np.random.default_rng(0), 50)
    assert 0 < batch.labelled.float().mean() < 1
    with pytest.raises(ConfigError, match="labelled: 20 of"):
        data_of(tmp_path, dataset="pairs.csv", spacing_mm=1, labelled=20, loss={"dice": 1.0})


def test_labels_that_are_not_there_are_one_sentence(tmp_path):
    write_scans(tmp_path, ring(5), labels=False)
    recipe = write_recipe(tmp_path, dataset="pairs.csv", spacing_mm=1, loss={"dice": 1.0})
    with pytest.raises(ConfigError, match="no labels") as caught:
        train_from_config(recipe, tmp_path / "run", quiet)
    assert "\n" not in str(caught.value)


def test_a_network_of_listed_pairs_is_a_method_that_knows_its_subjects(tmp_path):
    write_scans(tmp_path, ring(5))
    path = train_from_config(write_recipe(tmp_path, dataset="pairs.csv", spacing_mm=1), tmp_path / "run", quiet)
    card = load_network(path).facts
    assert card["grid"]["placement"] == "fixed"
    assert card["trained_on"]["dataset"] == "csv"
    assert not set(card["trained_on"]["subjects"]) & set(card["validation"]["subjects"])
    assert set(card["data"]["pairs"]) == set(card["trained_on"]["pairs"])
    assert all(len(digest) == 64 for digest in card["data"]["pairs"].values())


def test_a_given_grid_must_fit_the_network(tmp_path):
    write_scans(tmp_path, ring(5))
    affine = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    data = data_of(tmp_path, dataset="pairs.csv", grid={"shape": [20, 12], "affine": affine})
    assert data.source.grid.shape == (20, 12)
    assert data.source.draw(np.random.default_rng(0), 2).fixed.shape == (2, 1, 20, 12)
    with pytest.raises(ConfigError, match="multiples of 2 voxels, not 21x12; take 22x12"):
        data_of(tmp_path, dataset="pairs.csv", grid={"shape": [21, 12], "affine": affine})


def test_the_grid_suits_the_network_in_every_phase(tmp_path):
    write_scans(tmp_path, ring(5))
    data = data_of(tmp_path, dataset="pairs.csv", spacing_mm=1, phases=[{"until": 2, "reduce": 8}])
    assert data.source.grid.shape == (16, 16)
    data = data_of(tmp_path, dataset="pairs.csv", spacing_mm=0.9, phases=[{"until": 2, "reduce": 8}])
    assert data.source.grid.shape == (32, 32)


def test_images_that_miss_the_grid_are_one_sentence(tmp_path):
    write_scans(tmp_path, ring(5))
    affine = [[1, 0, 500], [0, 1, 0], [0, 0, 1]]
    with pytest.raises(DatasetError, match="does not reach the grid"):
        data_of(tmp_path, dataset="pairs.csv", grid={"shape": [16, 16], "affine": affine})


def test_a_source_validates_on_fixed_pairs_of_its_own(tmp_path):
    first, second = data_of(tmp_path), data_of(tmp_path)
    for i in range(2):
        assert torch.equal(first.validation.read(i).fixed, second.validation.read(i).fixed)
    assert not torch.equal(first.validation.read(0).fixed, first.validation.read(1).fixed)


def test_a_source_may_validate_on_scans(tmp_path):
    write_scans(tmp_path, ring(3))
    data = data_of(tmp_path, validation={"dataset": "pairs.csv", "pairs": 3})
    assert sorted(data.validation.subjects) == ["s0", "s1", "s2"]
    assert np.allclose(data.validation.grid.spacing_mm, 2)


def test_the_truth_of_a_pair_is_known_in_voxels_of_the_network(tmp_path):
    from regbench.methods.nets.spatial import warp

    cohort = {"mni-cohort": {"ndim": 2, "spacing_mm": 4, "split": "train", "pairs": "disjoint:6"}}
    data = data_of(tmp_path, dataset=cohort, spacing_mm=8, loss={"truth": 1.0}, validation={"fraction": 0.4})
    batch = data.source.draw(np.random.default_rng(0), 2)
    maps = [(labels[..., None] == torch.from_numpy(data.source.label_values)).float().squeeze(1).movedim(-1, 1)
            for labels in (batch.fixed_labels, batch.moving_labels)]  # fmt: skip
    moved = warp(maps[1], batch.displacement)
    before, after = ((2 * (maps[0] * other).sum() / (maps[0] + other).sum()).item() for other in (maps[1], moved))
    assert after > before + 0.1


def test_the_recipe_is_read_without_torch():
    code = "import sys, regbench.training.recipe, regbench.training.sources; sys.exit('torch' in sys.modules)"
    folder = str(Path(regbench.__file__).parent.parent)
    assert subprocess.run([sys.executable, "-c", code], cwd=folder, check=False).returncode == 0
