"""The terms of the loss: what a recipe names, computed by `methods.objectives`, each times its weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from regbench.methods.nets.fields import reduced
from regbench.methods.nets.spatial import warp
from regbench.methods.objectives import overlap, regularity
from regbench.methods.objectives.similarity import Similarity, make_similarity
from regbench.training.recipe import LossRecipe
from regbench.training.sources import Batch

_ON_FIELD: dict[str, Callable[[Tensor], Tensor]] = {
    "diffusion": regularity.diffusion,
    "bending": regularity.bending,
    "jacobian": regularity.jacobian_penalty,
}
_ON_INVERSE = {
    "inverse_consistency": regularity.inverse_consistency,
    "gradicon": regularity.gradient_inverse_consistency,
}
_ON_LABELS = {"dice": overlap.soft_dice, "cross_entropy": overlap.cross_entropy}
# Keeps the slope of a length finite where the error is 0.
_SMALL_VOXELS = 1e-3


def term_names(losses: Sequence[LossRecipe]) -> list[str]:
    """The names of all terms of some losses, in the order of the columns of training.csv."""
    names: list[str] = []
    for loss in losses:
        names += [name for name in (*_ON_FIELD, *_ON_INVERSE) if getattr(loss, name) > 0]
        names += [_term_name(loss, name) for name, _, _ in loss.similarities]
        names += [name for name in (*_ON_LABELS, "truth") if getattr(loss, name) > 0]
    return list(dict.fromkeys(names))


def _term_name(loss: LossRecipe, similarity: str) -> str:
    return "similarity" if len(loss.similarities) == 1 else similarity


class Terms:
    """The loss of a recipe (or of one of its phases) as a function of a network and a batch."""

    def __init__(self, loss: LossRecipe, label_values: np.ndarray) -> None:
        self.loss, self._label_values = loss, label_values
        self._similarities = [
            (_term_name(loss, name), weight, make_similarity(name, **settings))
            for name, weight, settings in loss.similarities
        ]

    def __call__(
        self, network: nn.Module, batch: Batch, rng: np.random.Generator, step: int, numbers: torch.dtype
    ) -> dict[str, Tensor]:
        """Each term by name, times its weight; label terms are missing where no pair has labels."""
        loss, device = self.loss, batch.fixed.device.type
        with torch.autocast(device, numbers, enabled=numbers != torch.float32):
            displacement = network(batch.fixed, batch.moving)
            inverse = network(batch.moving, batch.fixed) if loss.needs_inverse else None
        displacement = displacement.float()
        terms: dict[str, Tensor] = {}
        for name, on_field in _ON_FIELD.items():
            if weight := getattr(loss, name):
                terms[name] = weight * on_field(displacement)
        for name, on_inverse in _ON_INVERSE.items():
            if weight := getattr(loss, name):
                assert inverse is not None
                terms[name] = weight * on_inverse(displacement, inverse.float())
        for name, weight, similarity in self._similarities:
            terms[name] = weight * compared(similarity, batch, displacement)
        if loss.needs_labels:
            terms |= self._label_terms(batch, displacement, rng, step)
        if loss.truth:
            assert batch.displacement is not None
            terms["truth"] = loss.truth * mean_error(displacement, batch.displacement)
        return terms

    def _label_terms(
        self, batch: Batch, displacement: Tensor, rng: np.random.Generator, step: int
    ) -> dict[str, Tensor]:
        loss = self.loss
        n = min(loss.labels_per_step, len(self._label_values))
        chosen = torch.from_numpy(rng.choice(self._label_values, n, replace=False).astype(np.int64))
        if batch.fixed_labels is None or batch.moving_labels is None:
            return {}
        fixed, moving = batch.fixed_labels, batch.moving_labels
        if batch.labelled is not None:
            fixed, moving, displacement = (part[batch.labelled] for part in (fixed, moving, displacement))
        if not len(fixed):
            return {}
        chosen = chosen.to(fixed.device).view(1, -1, *[1] * (fixed.dim() - 2))
        fixed_maps = (fixed == chosen).float()
        moved_maps = warp((moving == chosen).float(), displacement)
        rise = min(step / loss.dice_rise, 1.0) if loss.dice_rise else 1.0
        weighted = ((name, rise * getattr(loss, name), term) for name, term in _ON_LABELS.items())
        return {name: weight * term(fixed_maps, moved_maps) for name, weight, term in weighted if getattr(loss, name)}


def compared(similarity: Similarity, batch: Batch, displacement: Tensor) -> Tensor:
    """The objective of a pair under a displacement."""
    return similarity(similarity.prepare(batch.fixed), warp(similarity.prepare(batch.moving), displacement))


def mean_error(displacement: Tensor, truth: Tensor) -> Tensor:
    """The mean length of the error in voxels."""
    return ((displacement - truth).square().sum(1) + _SMALL_VOXELS**2).sqrt().mean()


def reduced_batch(batch: Batch, factor: int) -> Batch:
    """The pairs on a grid that is coarser by `factor` (a power of two)."""
    if factor == 1:
        return batch
    times = factor.bit_length() - 1
    labels = [_every(part, factor) for part in (batch.fixed_labels, batch.moving_labels)]
    pool = functional.avg_pool3d if batch.fixed.dim() == 5 else functional.avg_pool2d
    truth = batch.displacement
    return replace(
        batch,
        fixed=reduced(batch.fixed, times),
        moving=reduced(batch.moving, times),
        fixed_labels=labels[0],
        moving_labels=labels[1],
        displacement=None if truth is None else pool(truth, factor) / factor,
    )


def _every(labels: Tensor | None, factor: int) -> Tensor | None:
    """Every `factor`-th voxel of label maps along each axis."""
    for axis in range(2, 0 if labels is None else labels.dim()):
        assert labels is not None
        labels = labels.index_select(axis, torch.arange(factor // 2, labels.shape[axis], factor, device=labels.device))
    return labels
