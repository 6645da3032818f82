"""Learning rates and optimisers of a training."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from regbench.training.recipe import ScheduleRecipe

if TYPE_CHECKING:
    from torch import nn, optim


def rate(step: int, schedule: ScheduleRecipe) -> float:
    """The learning rate of a step as a share of its peak: a linear rise, times what is left by then."""
    rise = min((step + 1) / (schedule.warmup + 1), 1.0)
    if schedule.decay == "constant":
        return rise
    if schedule.decay == "step":
        return rise * max(schedule.drop ** (step // schedule.drop_every), schedule.final_rate)
    fall = 0.5 * (1.0 + math.cos(math.pi * step / schedule.steps))
    return rise * (schedule.final_rate + (1.0 - schedule.final_rate) * fall)


def make_optimiser(schedule: ScheduleRecipe, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
    """The optimiser of a recipe."""
    import torch

    lr, decay = schedule.learning_rate, schedule.weight_decay
    if schedule.optimiser == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=schedule.momentum, weight_decay=decay)
    cls = torch.optim.AdamW if schedule.optimiser == "adamw" else torch.optim.Adam
    return cls(parameters, lr=lr, weight_decay=decay)
