"""The situation of the user whom a recommendation is for: what the images will be like, what there is to train on,
and what a method must keep to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from regbench.errors import ConfigError

Deploy = Literal["same", "shifted", "unknown"]
Modality = Literal["mono", "multi"]
Device = Literal["cpu", "gpu"]
DEFAULT_MARGIN = 0.5


@dataclass(frozen=True)
class Situation:
    """What the user has and needs; None where it was not said, and then it excludes nothing.

    `deploy` says whether the images to come are like those of the evidence. `training_labels` are labelled subjects
    and `training_pairs` unlabelled pairs of the user's own that a network could be trained on. `margin` is what makes
    no difference in practice, in Dice points; `max_fold_percent` is the mean share of folded voxels.
    """

    deploy: Deploy = "unknown"
    training_labels: int | None = None
    training_pairs: int | None = None
    modality: Modality = "mono"
    invertible: bool = False
    device: Device | None = None
    max_seconds: float | None = None
    max_fold_percent: float | None = None
    margin: float = DEFAULT_MARGIN

    def __post_init__(self) -> None:
        for name, choices in (("deploy", get_args(Deploy)), ("modality", get_args(Modality))):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} is '{getattr(self, name)}'; choose one of {', '.join(choices)}")
        if self.device is not None and self.device not in get_args(Device):
            raise ConfigError(f"device is '{self.device}'; choose one of {', '.join(get_args(Device))}")
        if not (math.isfinite(self.margin) and self.margin > 0):
            raise ConfigError(f"margin is {self.margin}; give a positive number of Dice points, such as 0.5")
        for name in ("training_labels", "training_pairs", "max_seconds", "max_fold_percent"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} is {value}; give zero or a positive number")

    @property
    def words(self) -> list[str]:
        """Returns what was said, one clause each, like 'images like those of the evidence'."""
        told = [
            {
                "same": "images to come are like those of the evidence",
                "shifted": "images to come are shifted against those of the evidence",
                "unknown": "not known whether images to come are like those of the evidence",
            }[self.deploy],
            {"mono": "one modality", "multi": "two modalities"}[self.modality],
        ]
        if self.training_labels is not None:
            told.append(f"{_count(self.training_labels, 'labelled subject')} to train on")
        if self.training_pairs is not None:
            told.append(f"{_count(self.training_pairs, 'pair')} to train on")
        if self.invertible:
            told.append("the deformation must be invertible")
        if self.device is not None:
            told.append({"cpu": "no GPU", "gpu": "a GPU is there"}[self.device])
        if self.max_seconds is not None:
            told.append(f"at most {self.max_seconds:g} s per pair")
        if self.max_fold_percent is not None:
            told.append(f"at most {self.max_fold_percent:g} % folded voxels")
        return [*told, f"{self.margin:g} Dice points make no difference"]


def _count(n: int, noun: str) -> str:
    return f"{'no' if n == 0 else n} {noun}{'' if n == 1 else 's'}"
