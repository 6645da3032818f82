"""What a training would be and how long it would take, without training: `regbench train --dry-run`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from regbench.training.data import TrainingData, training_data
from regbench.training.loop import Training, check_device
from regbench.training.recipe import TrainingRecipe, load_recipe

_STEPS = 2
# More than a preview reads.
_MEMORY_MIB = 1 << 20


@dataclass(frozen=True)
class Preview:
    """The resolved recipe as plain data, what it would train on, and seconds measured on a few steps."""

    recipe: dict[str, Any]
    data: dict[str, str]
    n_parameters: int
    step_s: float
    total_s: float


def preview(config: Path, message: Callable[[str], None]) -> Preview:
    """Measures two steps of each phase of a recipe; reads only the images that these need, and writes nothing."""
    recipe = load_recipe(config)
    check_device(recipe)
    torch.set_num_threads(recipe.schedule.threads)
    data = training_data(recipe.model_copy(update={"loading": "lazy", "memory_mib": _MEMORY_MIB}), message)
    training = Training(recipe, Path(), data, message)
    n_parameters = sum(p.numel() for p in training.state.network.parameters())
    schedule = recipe.schedule
    starts = [0, *(phase.until for phase in recipe.phases if phase.until and phase.until < schedule.steps)]
    lengths = [end - start for start, end in zip(starts, [*starts[1:], schedule.steps], strict=True)]
    steps_s = sum(n * training.seconds_per_step(_STEPS, start) for start, n in zip(starts, lengths, strict=True))
    n_validations = -(-schedule.steps // schedule.validate_every)
    total_s = steps_s + n_validations * training.seconds_per_validation()
    if schedule.minutes is not None:
        total_s = min(total_s, 60 * schedule.minutes)
    return Preview(_resolved(recipe, data), _described(data), n_parameters, steps_s / schedule.steps, total_s)


def _resolved(recipe: TrainingRecipe, data: TrainingData) -> dict[str, Any]:
    """The recipe with all defaults, as it could be written; one way where there are two."""
    content = recipe.model_dump(mode="json")
    loss = content["loss"]
    del loss["window"], loss["similarity_weight"], content["schedule"]["bfloat16"]
    loss["similarity"] = {name: {"weight": weight, **more} for name, weight, more in recipe.loss.similarities} or None
    content["schedule"]["precision"] = recipe.schedule.numbers
    for place in (content, content["validation"]):
        if place["dataset"] is not None:
            place["dataset"] = {place["dataset"]["name"]: place["dataset"]["parameters"]}
    content["conditions"] = [{entry.name: entry.parameters} for entry in recipe.conditions]
    if not recipe.conditions:
        del content["conditions"]
    if content["test"] is not None:
        content["test"] = {content["test"]["name"]: content["test"]["parameters"]}
    return {**content, "network": data.network}


def _described(data: TrainingData) -> dict[str, str]:
    grid, facts = data.source.grid, data.source.facts()
    subjects = facts.get("subjects", [])
    return {
        "training": f"{facts['dataset']}, {len(subjects)} subjects"
        + (f", {len(facts['pairs'])} pairs" if "pairs" in facts else "")
        + (f", {len(facts['labelled'])} of them with labels" if "labelled" in facts else ""),
        "validation": f"{len(data.validation)} pairs of {len(data.validation.subjects)} subjects",
        "grid": f"{grid.describe()}, {getattr(data.source, 'placement', 'world')}",
    }
