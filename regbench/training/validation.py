"""How well a network registers the validation pairs, in full precision, at full resolution, with the recipe's loss."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import nn

from regbench.errors import ConfigError
from regbench.methods.nets.spatial import warp
from regbench.methods.objectives.similarity import make_similarity
from regbench.metrics.overlap import overlap_counts
from regbench.training.data import ValidationPairs
from regbench.training.recipe import TrainingRecipe
from regbench.training.sources import Batch
from regbench.training.terms import compared, mean_error
from regbench.volume import Grid, Labels

Scores = dict[str, float]


class Validation:
    """The validation of a recipe.

    `similarity` is 1 minus the weighted mean of the objectives, `dice` the mean over labels of either map (and
    `dice_before` without registration), `error` the mean length of the error in voxels where the truth is known.
    """

    def __init__(self, recipe: TrainingRecipe, pairs: ValidationPairs, device: str) -> None:
        self._pairs, self._grid, self._device = pairs, pairs.grid, device
        rows = recipe.loss.similarities
        if recipe.score == "similarity" and not rows:
            raise ConfigError("validation.score: is similarity, and the loss has none; take dice or truth")
        total = sum(weight for _, weight, _ in rows)
        self._similarities = [(make_similarity(name, **settings), weight / total) for name, weight, settings in rows]
        self._score = recipe.score
        self.per_pair: dict[str, Scores] = {}

    @torch.inference_mode()
    def __call__(self, network: nn.Module) -> Scores:
        """The means over the pairs; those of each pair are in `per_pair` afterwards."""
        network.eval()
        self.per_pair = {name: self._of_pair(network, self._pairs.read(i)) for i, name in enumerate(self._pairs.names)}
        names = dict.fromkeys(key for scores in self.per_pair.values() for key in scores)
        found = {k: float(np.mean([s[k] for s in self.per_pair.values() if k in s])) for k in names}
        if (key := {"truth": "error"}.get(self._score, self._score)) not in found:
            missing = {"dice": "labels", "error": "known displacement"}.get(key, key)
            raise ConfigError(f"validation: the pairs have no {missing}, by which the best step is to be chosen; "
                              "name other data or another `score`")  # fmt: skip
        return found

    def score(self, scores: Scores) -> float:
        """What the best step is chosen by: the higher, the better."""
        return -scores["error"] if self._score == "truth" else scores[self._score]

    @torch.inference_mode()
    def seconds_of_pair(self, network: nn.Module) -> float:
        """The seconds that the first pair takes."""
        batch = self._pairs.read(0)
        begun = time.monotonic()
        self._of_pair(network.eval(), batch)
        return time.monotonic() - begun

    def _of_pair(self, network: nn.Module, batch: Batch) -> Scores:
        seen = batch.to(self._device)
        displacement = network(seen.fixed, seen.moving).float()
        scores: Scores = {}
        if self._similarities:
            rows = ((weight, compared(objective, seen, displacement)) for objective, weight in self._similarities)
            scores["similarity"] = 1.0 - sum(weight * float(value) for weight, value in rows)
        if seen.fixed_labels is not None and seen.moving_labels is not None and batch.fixed_labels is not None:
            moved = warp(seen.moving_labels.float(), displacement, mode="nearest").cpu().numpy()
            fixed, moving = batch.fixed_labels.numpy(), seen.moving_labels.cpu().numpy()
            if (fixed > 0).any() or (moving > 0).any():
                both = (_mean_dice(fixed, other, self._grid) for other in (moved, moving))
                scores["dice"], scores["dice_before"] = both
        if seen.displacement is not None:
            scores["error"] = float(mean_error(displacement, seen.displacement))
        return scores


def _mean_dice(fixed: np.ndarray, moved: np.ndarray, grid: Grid) -> float:
    """The mean Dice over the labels of either map; maps are (1, 1, *shape)."""
    first, second = (Labels(labels[0, 0].astype(np.int64), grid) for labels in (fixed, moved))
    _, both, in_fixed, in_moved = overlap_counts(first, second)
    return float(np.mean(2 * both / (in_fixed + in_moved)))
