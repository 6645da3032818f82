"""Training under conditions: who gets which, that nothing but contrast changes, and that it can be repeated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support_training import Squares, write_recipe

from regbench.config_entries import Entry
from regbench.errors import ConfigError
from regbench.training.conditions import ConditionedPairs, conditioned
from regbench.training.data import training_data
from regbench.training.recipe import load_recipe

NONE = Entry(name="none", label="none")
INVERTED = Entry(name="inversion", label="inverted", parameters={"strength": 1.0, "on": "moving"})


def quiet(_: str) -> None: ...


def test_one_side_changes_its_contrast_and_nothing_else_changes() -> None:
    source = Squares()
    batch = source.draw(np.random.default_rng(0), 2)
    found = conditioned(batch, [INVERTED, NONE], source.grid, [1, 2])
    assert torch.corrcoef(torch.stack([found.moving[0].ravel(), batch.moving[0].ravel()]))[0, 1] < -0.9
    assert torch.equal(found.moving[1], batch.moving[1])
    assert torch.equal(found.fixed_labels, batch.fixed_labels)
    assert torch.equal(found.displacement, batch.displacement)
    # The fixed image is no more than normalised again.
    assert torch.corrcoef(torch.stack([found.fixed[0].ravel(), batch.fixed[0].ravel()]))[0, 1] > 0.999


def test_the_batch_of_the_other_source_is_left_alone() -> None:
    batch = Squares().draw(np.random.default_rng(0), 1)
    before = batch.moving.clone()
    conditioned(batch, [INVERTED], Squares().grid, [1])
    assert torch.equal(batch.moving, before)


def test_every_pair_draws_one_of_the_conditions_from_the_generator_alone() -> None:
    source = ConditionedPairs(Squares(), [NONE, INVERTED])
    first, again = (source.draw(np.random.default_rng(3), 24) for _ in range(2))
    assert torch.equal(first.moving, again.moving)
    # A square is brighter than its surroundings unless the image was inverted.
    is_inverted = [float(m[label > 0].mean()) < float(m[label == 0].mean()) for m, label in _moving(first)]
    assert 4 < sum(is_inverted) < 20
    assert source.facts()["conditions"] == [{"none": {}}, {"inversion": {"strength": 1.0, "on": "moving"}}]


def _moving(batch) -> list[tuple[torch.Tensor, torch.Tensor]]:  # type: ignore[no-untyped-def]
    return list(zip(batch.moving[:, 0], batch.moving_labels[:, 0], strict=True))


def test_a_recipe_names_them_as_a_run_does(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, conditions=["none", {"inversion": {"strength": "strong", "on": "moving"}}])
    recipe = load_recipe(path)
    assert [entry.name for entry in recipe.conditions] == ["none", "inversion"]
    data = training_data(recipe, quiet)
    plain = training_data(load_recipe(write_recipe(tmp_path)), quiet)
    assert torch.equal(data.validation.read(0).moving, plain.validation.read(0).moving)
    assert not torch.equal(data.validation.read(1).moving, plain.validation.read(1).moving)


@pytest.mark.parametrize(
    ("conditions", "sentence"),
    [
        ([{"rotation_degrees": 10}], "line .*conditions: rotation_degrees changes more than intensities"),
        ([{"gama": 2}], "conditions: unknown condition 'gama'.*did you mean.*gamma"),
        ([{"gamma": {"strenth": 2}}], "conditions: gamma.*strenth"),
        ([], "conditions: give a list of conditions"),
        ("none", "conditions: give a list of conditions"),
    ],
)
def test_what_cannot_be_trained_under_is_one_sentence(conditions: object, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_recipe(write_recipe(tmp_path, conditions=conditions))
