"""The card of a trained network: plain data that goes into its weight file and stands beside it."""

from __future__ import annotations

import platform
from typing import Any

import torch

from regbench import __version__
from regbench.methods.trained import TrainedNetwork
from regbench.provenance import host, versions
from regbench.training.checkpoints import State
from regbench.training.data import TrainingData
from regbench.training.recipe import TrainingRecipe

_DISTRIBUTIONS = ("torch", "monai", "safetensors")


def model_card(
    recipe: TrainingRecipe, data: TrainingData, state: State, start: TrainedNetwork | None
) -> dict[str, Any]:
    """Everything about a training: network, grid, data with their hashes, time, machine, scores, versions."""
    grid = data.source.grid
    scores = dict(state.best_scores)
    return {
        "name": recipe.name,
        "regbench": __version__,
        "network": {"ndim": grid.ndim, **data.network},
        "parameters": sum(p.numel() for p in state.network.parameters()),
        "grid": {
            "shape": grid.shape,
            "affine": grid.affine.tolist(),
            "placement": getattr(data.source, "placement", "world"),
        },
        "supervision": supervision(recipe, data),
        "trained_on": data.source.facts(),
        "data": data.manifest(),
        "validation": {
            **data.validation.facts,
            "pairs": data.validation.names,
            "subjects": data.validation.subjects,
            "score": recipe.score,
            "scores": scores.pop("mean", {}),
            "per_pair": scores,
        },
        "recipe": recipe.model_dump(mode="json"),
        # Hashes of earlier data are in the card of the earlier training.
        "start": {k: v for k, v in start.facts.items() if k != "data"} if start else None,
        "steps": state.step,
        "stopped": state.stopped,
        "best_step": state.best_step,
        "best_validation_score": round(state.best_score, 4),
        "seconds": round(state.seconds),
        "seed": recipe.seed,
        "hardware": hardware(recipe),
        "host": {key: value for key, value in host().items() if value is not None},
        "torch": torch.__version__,
        "versions": versions(_DISTRIBUTIONS),
        **({"licence": recipe.licence} if recipe.licence else {}),
    }


def supervision(recipe: TrainingRecipe, data: TrainingData) -> str:
    """What the network learned from: 'synthetic' pairs, 'labels', or the 'image' alone."""
    if data.source.supervision == "synthetic":
        return "synthetic"
    return "labels" if recipe.needs_labels else "synthetic" if recipe.needs_truth else "image"


def hardware(recipe: TrainingRecipe) -> str:
    """The device in words."""
    if recipe.schedule.device == "cuda":
        return f"{torch.cuda.get_device_name()}, {recipe.schedule.numbers}"
    return f"{platform.machine()} CPU, {recipe.schedule.threads} thread(s)"
