"""The training config: strict, with defaults in view."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from regbench.config_file import ConfigFile, read_yaml
from regbench.errors import ConfigError
from regbench.parameters import nearest


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkRecipe(_Strict):
    """The U-Net: channels from half resolution downwards, and integration steps."""

    channels: tuple[int, ...] = (32, 32, 48, 64)
    squarings: int = Field(6, ge=1, le=10)


class LossRecipe(_Strict):
    """Weights of the loss terms; 0 leaves a term out. `dice` makes the training label-supervised."""

    similarity: Literal["lncc", "mse"] = "lncc"
    similarity_weight: float = Field(1.0, ge=0)
    window: int = Field(5, ge=3)
    diffusion: float = Field(0.5, ge=0)
    dice: float = Field(0.0, ge=0)
    dice_rise: int = Field(0, ge=0, description="steps over which the weight of `dice` rises from 0")
    labels_per_step: int = Field(12, ge=1)


class ScheduleRecipe(_Strict):
    """How long and how fast to train."""

    steps: int = Field(4000, ge=1)
    batch: int = Field(1, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    warmup: int = Field(200, ge=0)
    final_rate: float = Field(0.05, gt=0, le=1)
    validate_every: int = Field(500, ge=1)
    checkpoint_minutes: float = Field(5.0, gt=0)
    bfloat16: bool = True
    threads: int = Field(2, ge=1)


class TrainingRecipe(_Strict):
    """A whole training run."""

    name: str
    dataset: dict[str, dict[str, Any]]
    spacing_mm: float = Field(gt=0)
    network: NetworkRecipe = NetworkRecipe()
    loss: LossRecipe = LossRecipe()
    schedule: ScheduleRecipe = ScheduleRecipe()
    start_from: Path | None = Field(None, description="weights of another training to go on from")
    validation_pairs: int = Field(6, ge=1)
    seed: int = 0


def load_recipe(path: Path) -> TrainingRecipe:
    """The recipe in a YAML file; ConfigError with one sentence that names the line and the place of a mistake."""
    file = read_yaml(path)
    try:
        recipe = TrainingRecipe.model_validate(file.data)
    except ValidationError as error:
        raise ConfigError(_first_problem(file, error)) from None
    if len(recipe.dataset) != 1:
        raise ConfigError(file.sentence(("dataset",), "give one dataset with its parameters"))
    if recipe.start_from is not None and not recipe.start_from.is_file():
        raise ConfigError(file.sentence(("start_from",), f"{recipe.start_from} does not exist; train it first"))
    return recipe


def _first_problem(file: ConfigFile, error: ValidationError) -> str:
    problem = error.errors()[0]
    place = tuple(problem["loc"])
    if problem["type"] == "extra_forbidden":
        model: Any = TrainingRecipe
        for part in place[:-1]:
            model = model.model_fields[str(part)].annotation
        return file.sentence(place, f"unknown key{nearest(str(place[-1]), list(model.model_fields))}")
    return file.sentence(place, problem["msg"].lower())
