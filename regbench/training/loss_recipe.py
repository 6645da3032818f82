"""The `loss` of a training config: terms by name with their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Strict(BaseModel):
    """A part of a config that knows all of its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LossRecipe(Strict):
    """Weights of the loss terms; 0 leaves a term out. `dice` and `cross_entropy` make the training label-supervised.

    `similarity` is a name, whose weight is `similarity_weight`, or several names with their weights and settings, or
    none. `inverse_consistency` and `gradicon` run the network both ways. `truth` is the mean length of the error in
    voxels, where the right displacement is known.
    """

    similarity: Any = "lncc"
    similarity_weight: float = Field(1.0, ge=0)
    window: int = Field(5, ge=3)
    diffusion: float = Field(0.5, ge=0)
    bending: float = Field(0.0, ge=0)
    jacobian: float = Field(0.0, ge=0)
    inverse_consistency: float = Field(0.0, ge=0)
    gradicon: float = Field(0.0, ge=0)
    dice: float = Field(0.0, ge=0)
    cross_entropy: float = Field(0.0, ge=0)
    truth: float = Field(0.0, ge=0)
    dice_rise: int = Field(0, ge=0, description="steps over which the weights of label terms rise from 0")
    labels_per_step: int = Field(12, ge=1)

    @field_validator("similarity")
    @classmethod
    def _is_names_with_settings(cls, value: Any) -> Any:
        if value is None or value == "none":
            return {}
        if isinstance(value, str):
            return value
        if not isinstance(value, Mapping):
            raise ValueError(f"{value!r} is no similarity; write lncc, or {{lncc: {{weight: 1}}, mse: 0.5}}")
        for name, settings in value.items():
            weight = settings.get("weight", 1.0) if isinstance(settings, Mapping) else settings
            if not isinstance(weight, int | float) or isinstance(weight, bool) or not weight >= 0:
                raise ValueError(f"the weight of {name} must be 0 or more, not {weight!r}")
        return dict(value)

    @property
    def similarities(self) -> list[tuple[str, float, dict[str, Any]]]:
        """Name, weight and settings of each similarity that counts."""
        if isinstance(self.similarity, str):
            settings = {"window": self.window} if self.similarity == "lncc" else {}
            found = [(self.similarity, self.similarity_weight, settings)]
        else:
            found = []
            for name, given in self.similarity.items():
                settings = dict(given) if isinstance(given, Mapping) else {"weight": given}
                found.append((name, float(settings.pop("weight", 1.0)), settings))
        return [row for row in found if row[1] > 0]

    @property
    def needs_labels(self) -> bool:
        return self.dice > 0 or self.cross_entropy > 0

    @property
    def needs_inverse(self) -> bool:
        return self.inverse_consistency > 0 or self.gradicon > 0
