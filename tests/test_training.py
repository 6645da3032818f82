"""Training: recipes, resume, and the model file."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")

from regbench.datasets.mni_cohort import MniCohort  # noqa: E402
from regbench.errors import ConfigError, MethodDeclined  # noqa: E402
from regbench.methods.trained import VoxelMorph, load_network  # noqa: E402
from regbench.training.grids import training_grid  # noqa: E402
from regbench.training.loop import train_from_config  # noqa: E402
from regbench.training.recipe import load_recipe  # noqa: E402

CONFIGS = Path(__file__).parent.parent / "configs" / "train"
RECIPE = {
    "name": "tiny",
    "dataset": {"mni-cohort": {"ndim": 2, "spacing_mm": 8}},
    "spacing_mm": 8,
    "network": {"channels": [4, 4]},
    "loss": {"dice": 1.0, "labels_per_step": 4},
    "schedule": {"steps": 6, "batch": 2, "validate_every": 3, "threads": 1, "checkpoint_minutes": 1e-6},
}


def _write(folder, **changes):
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changes}))
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schedul": {}}, "did you mean 'schedule'"),
        ({"schedule": {"step": 3}}, "schedule.step: unknown key; did you mean 'steps'"),
        ({"spacing_mm": -1}, "spacing_mm"),
        ({"dataset": {}}, "one dataset"),
    ],
)
def test_a_wrong_recipe_is_one_sentence(tmp_path, change, words):
    with pytest.raises(ConfigError, match=r"recipe\.yaml") as caught:
        load_recipe(_write(tmp_path, **change))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recipe_that_is_not_yaml_names_the_line(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\nloss: {dice: [\n")
    with pytest.raises(ConfigError, match="line"):
        load_recipe(path)


def test_the_training_grid_covers_the_images_with_multiples_of_eight():
    grid = training_grid(MniCohort(spacing_mm=2).grid, 3.0)
    assert all(n % 8 == 0 for n in grid.shape)
    assert np.allclose(grid.spacing_mm, 3)
    middle = grid.to_world((np.array(grid.shape) - 1) / 2)
    assert np.allclose(middle, [0, -17, 5])


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(tmp_path):
    recipe = _write(tmp_path)
    whole = train_from_config(recipe, tmp_path / "whole", lambda _: None)

    class Killed(Exception):
        pass

    def stop_at_first_validation(text):
        if text.startswith("step 3/"):
            raise Killed

    with pytest.raises(Killed):
        train_from_config(recipe, tmp_path / "resumed", stop_at_first_validation)
    told = []
    resumed = train_from_config(recipe, tmp_path / "resumed", told.append)
    assert any("going on from step" in text for text in told)
    first, second = (load_network(path).network.state_dict() for path in (whole, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_model_is_a_method_that_knows_what_it_was_trained_on(tmp_path):
    path = train_from_config(_write(tmp_path), tmp_path / "run", lambda _: None)
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert card["supervision"] == "labels"
    assert card["trained_on"]["subjects"][0] == "train-000"
    assert not any(name.startswith(("validation", "test")) for name in card["trained_on"]["subjects"])
    with (tmp_path / "run" / "training.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["step"]) for row in rows] == [3, 6]

    cohort = MniCohort(ndim=2, spacing_mm=6, pairs="random:1")
    pair = cohort.load(cohort.pair_refs()[0])
    method = VoxelMorph(weights=str(path))
    method.prepare()
    displacement = method.register(pair.blind())
    assert displacement.grid.matches(pair.fixed.grid)
    assert np.array_equal(displacement.vectors_mm, method.register(pair.blind()).vectors_mm)
    volume = MniCohort(ndim=3, spacing_mm=8, pairs="random:1")
    with pytest.raises(MethodDeclined, match="3-D"):
        method.register(volume.load(volume.pair_refs()[0]).blind())


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_recipes_that_are_shipped_are_valid(tmp_path, path):
    content = yaml.safe_load(path.read_text())
    content.pop("start_from", None)
    (tmp_path / path.name).write_text(yaml.safe_dump(content))
    recipe = load_recipe(tmp_path / path.name)
    assert recipe.name == path.stem
    assert recipe.dataset is not None or recipe.source is not None


def test_a_folder_of_another_recipe_is_refused(tmp_path):
    train_from_config(_write(tmp_path), tmp_path / "run", lambda _: None)
    with pytest.raises(ConfigError, match="another recipe"):
        train_from_config(_write(tmp_path, seed=1), tmp_path / "run", lambda _: None)
