"""The folder of a training: which files there are, and whose training it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from regbench.errors import ConfigError, StoreError
from regbench.files.atomic import replaced
from regbench.training.recipe import FREE, TrainingRecipe

RECIPE, CHECKPOINT, LOG, CURVES = "recipe.json", "checkpoint.pt", "training.csv", "curves.svg"


def training_folder(recipe: TrainingRecipe, output: Path | None) -> Path:
    """The folder of a training, made if it is not there; StoreError if that cannot be."""
    folder = output or Path("runs") / "train" / recipe.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be made ({error.strerror}); choose another folder with -o") from error
    return folder


def claim(folder: Path, recipe: TrainingRecipe) -> None:
    """Notes the recipe in its folder; ConfigError if the folder belongs to another one.

    Where and for how long it trains may differ from before.
    """
    path, content = folder / RECIPE, recipe.model_dump(mode="json")
    if path.exists() and _essence(_read(path)) != _essence(content):
        raise ConfigError(f"{folder}: holds the training of another recipe; choose another folder with -o")
    with replaced(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _essence(content: Any) -> Any:
    """What of a recipe decides what is computed."""
    if not isinstance(content, dict) or not isinstance(content.get("schedule"), dict):
        return content
    schedule = {key: value for key, value in content["schedule"].items() if key not in FREE}
    return {**content, "schedule": schedule}
