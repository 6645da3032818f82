"""The training loop: random ordered pairs of training subjects, checkpoints, validation, the model file.

A run can be killed and started again: it goes on from the last checkpoint, and because the pairs and the
labels of a step are drawn from a generator seeded by (seed, step), it sees the same pairs as an
undisturbed run. The weights kept are those with the best validation score: Dice on the validation
subjects for supervised training, similarity for unsupervised training, which sees no label.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regbench import __version__
from regbench.errors import ConfigError, StoreError
from regbench.methods.nets.spatial import warp
from regbench.methods.nets.unet import RegistrationUNet
from regbench.methods.voxelmorph import TrainedNetwork, load_network
from regbench.metrics.overlap import overlap_counts
from regbench.training import losses
from regbench.training.recipe import ScheduleRecipe, TrainingRecipe, load_recipe
from regbench.training.subjects import TrainingSet, load_training_set
from regbench.volume import Grid, Labels

logger = logging.getLogger(__name__)

Message = Callable[[str], None]


@dataclass
class _State:
    """What a checkpoint holds."""

    network: RegistrationUNet
    optimiser: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    best_score: float = -math.inf
    best_step: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        temporary = path.with_suffix(".tmp")
        content = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "best_weights": self.best_weights,
            **{k: getattr(self, k) for k in ("step", "seconds", "best_score", "best_step")},
        }
        try:
            torch.save(content, temporary)
            temporary.replace(path)
        except (OSError, RuntimeError) as error:  # torch's writer tells of a full disk by a RuntimeError
            temporary.unlink(missing_ok=True)
            raise StoreError(f"{path}: the checkpoint cannot be written; free some space and start again") from error

    def load(self, path: Path) -> None:
        content = torch.load(path, weights_only=True)
        self.network.load_state_dict(content.pop("network"))
        self.optimiser.load_state_dict(content.pop("optimiser"))
        for key, value in content.items():
            setattr(self, key, value)


def train_from_config(config: Path, output: Path | None, message: Message) -> Path:
    """Trains what the config describes and returns the path of the weights (safetensors, with its card beside).

    `output` is the folder of the training run (default: runs/train/<name>); an unfinished run there goes on.
    """
    recipe = load_recipe(config)
    folder = output or Path("runs") / "train" / recipe.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be made ({error.strerror}); choose another folder with -o") from error
    _claim(folder, recipe)
    torch.set_num_threads(recipe.schedule.threads)
    data = load_training_set(recipe.dataset, "train", recipe.spacing_mm, message)
    validation = load_training_set(recipe.dataset, "validation", recipe.spacing_mm, message)
    return _Training(recipe, folder, data, validation, message).run()


def _claim(folder: Path, recipe: TrainingRecipe) -> None:
    """Notes the recipe in its folder; ConfigError if the folder belongs to another one."""
    path, content = folder / "recipe.json", recipe.model_dump_json(indent=2)
    if not path.exists():
        path.write_text(content, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != content:
        raise ConfigError(f"{folder}: holds the training of another recipe; choose another folder with -o")


class _Training:
    def __init__(
        self, recipe: TrainingRecipe, folder: Path, data: TrainingSet, validation: TrainingSet, message: Message
    ) -> None:
        self.recipe, self.folder, self.data, self.validation, self.message = recipe, folder, data, validation, message
        torch.manual_seed(recipe.seed)
        network = RegistrationUNet(data.grid.ndim, recipe.network.channels, recipe.network.squarings)
        self.start: TrainedNetwork | None = None
        if recipe.start_from is not None:
            self.start = load_network(recipe.start_from)
            network.load_state_dict(self.start.network.state_dict())
        optimiser = torch.optim.Adam(network.parameters(), lr=recipe.schedule.learning_rate)
        self.state = _State(network, optimiser)
        self.scans = torch.from_numpy(data.scans)[:, None]
        self.labels = torch.from_numpy(data.labels)[:, None]
        self.supervised = recipe.loss.dice > 0

    def run(self) -> Path:
        schedule, state = self.recipe.schedule, self.state
        checkpoint = self.folder / "checkpoint.pt"
        if checkpoint.exists():
            state.load(checkpoint)
            self.message(f"going on from step {state.step}")
        started, saved = time.monotonic() - state.seconds, time.monotonic()
        running: list[dict[str, float]] = []
        while state.step < schedule.steps:
            running.append(self._step())
            state.step += 1
            state.seconds = time.monotonic() - started
            if state.step % schedule.validate_every == 0 or state.step == schedule.steps:
                self._validate(running)
                running = []
            if time.monotonic() - saved > 60 * schedule.checkpoint_minutes or state.step == schedule.steps:
                state.save(checkpoint)
                saved = time.monotonic()
        return self._write_model()

    def _step(self) -> dict[str, float]:
        schedule, state = self.recipe.schedule, self.state
        rng = np.random.default_rng([self.recipe.seed, state.step])
        pairs = np.stack([rng.choice(len(self.data.subjects), 2, replace=False) for _ in range(schedule.batch)])
        for group in state.optimiser.param_groups:
            group["lr"] = schedule.learning_rate * _rate(state.step, schedule)
        state.network.train()
        terms = self._losses(pairs[:, 0], pairs[:, 1], rng)
        total = torch.stack(list(terms.values())).sum()
        state.optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
        state.optimiser.step()
        return {name: float(value.detach()) for name, value in terms.items()}

    def _losses(self, fixed_ids: np.ndarray, moving_ids: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        recipe = self.recipe.loss
        fixed, moving = self.scans[fixed_ids], self.scans[moving_ids]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.schedule.bfloat16):
            displacement = self.state.network(fixed, moving)
        terms = {"diffusion": recipe.diffusion * losses.diffusion_loss(displacement)}
        if recipe.similarity_weight > 0:
            terms["similarity"] = recipe.similarity_weight * self._similarity(fixed, warp(moving, displacement))
        if self.supervised:
            n = min(recipe.labels_per_step, len(self.data.label_values))
            chosen = torch.from_numpy(
                rng.choice(self.data.label_values, n, replace=False).astype(self.data.labels.dtype)
            )
            chosen = chosen.view(1, -1, *[1] * self.data.grid.ndim)
            one_hot_fixed = (self.labels[fixed_ids] == chosen).float()
            one_hot_moving = (self.labels[moving_ids] == chosen).float()
            overlap = losses.soft_dice_loss(one_hot_fixed, warp(one_hot_moving, displacement))
            rise = min(self.state.step / recipe.dice_rise, 1.0) if recipe.dice_rise else 1.0
            terms["dice"] = rise * recipe.dice * overlap
        return terms

    def _similarity(self, fixed: Tensor, moved: Tensor) -> Tensor:
        if self.recipe.loss.similarity == "lncc":
            return losses.lncc_loss(fixed, moved, self.recipe.loss.window)
        return losses.mse_loss(fixed, moved)

    @torch.inference_mode()
    def _validate(self, running: list[dict[str, float]]) -> None:
        state = self.state
        state.network.eval()
        n = len(self.validation.subjects)
        scores = [self._score(i % n, (i + 1) % n) for i in range(min(self.recipe.validation_pairs, n))]
        similarity, dice, before = (float(np.mean(column)) for column in zip(*scores, strict=True))
        score = dice if self.supervised else similarity
        if score > state.best_score:
            state.best_score, state.best_step = score, state.step
            state.best_weights = {k: v.detach().clone() for k, v in state.network.state_dict().items()}
        means = {k: float(np.mean([r[k] for r in running])) for k in running[0]}
        self._log({"step": state.step, "seconds": round(state.seconds, 1), **means, "validation_similarity": similarity,
                   "validation_dice": dice, "validation_dice_before": before})  # fmt: skip
        parts = "  ".join(f"{k} {v:.4f}" for k, v in means.items())
        self.message(
            f"step {state.step}/{self.recipe.schedule.steps}  {state.seconds:.0f} s  {parts}  "
            f"validation: similarity {similarity:.4f}, Dice {before:.3f} -> {dice:.3f}"
        )

    def _score(self, fixed_id: int, moving_id: int) -> tuple[float, float, float]:
        """Similarity and mean label Dice of one validation pair after, and Dice before, registration."""
        data = self.validation
        fixed, moving = (torch.from_numpy(data.scans[i])[None, None] for i in (fixed_id, moving_id))
        displacement = self.state.network(fixed, moving)
        similarity = 1.0 - float(self._similarity(fixed, warp(moving, displacement)))
        labels = torch.from_numpy(data.labels[moving_id].astype(np.float32))[None, None]
        moved = warp(labels, displacement, mode="nearest")[0, 0].numpy().astype(np.int64)
        return similarity, *(
            _mean_dice(data.labels[fixed_id], other, data.grid) for other in (moved, data.labels[moving_id])
        )  # type: ignore[return-value]

    def _log(self, entry: dict[str, float]) -> None:
        path = self.folder / "training.csv"
        is_new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, entry.keys())
            if is_new:
                writer.writeheader()
            writer.writerow(entry)

    def _write_model(self) -> Path:
        from safetensors.torch import save_file

        card = self._card()
        path = self.folder / "model.safetensors"
        # Half precision: the field changes by far less than a hundredth of a voxel, and the file halves.
        weights = {name: tensor.half().contiguous() for name, tensor in self.state.best_weights.items()}
        save_file(weights, str(path), metadata={"regbench": json.dumps(card, sort_keys=True)})
        (self.folder / "card.json").write_text(json.dumps(card, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        self.message(f"best step {self.state.best_step}; weights in {path}")
        return path

    def _card(self) -> dict[str, Any]:
        state, recipe = self.state, self.recipe
        ((dataset, parameters),) = recipe.dataset.items()
        return {
            "name": recipe.name,
            "regbench": __version__,
            "network": {"ndim": self.data.grid.ndim, **recipe.network.model_dump(mode="json")},
            "grid": {"shape": self.data.grid.shape, "affine": self.data.grid.affine.tolist()},
            "supervision": "labels" if self.supervised else "image",
            "trained_on": {"dataset": dataset, "parameters": parameters, "subjects": self.data.subjects},
            "recipe": recipe.model_dump(mode="json"),
            "start": self.start.facts if self.start else None,
            "steps": state.step,
            "best_step": state.best_step,
            "best_validation_score": round(state.best_score, 4),
            "seconds": round(state.seconds),
            "hardware": f"{platform.machine()} CPU, {recipe.schedule.threads} thread(s)",
            "torch": torch.__version__,
        }


def _rate(step: int, schedule: ScheduleRecipe) -> float:
    """The learning rate as a share of its peak: a linear rise, then half a cosine down to `final_rate`."""
    rise = min((step + 1) / (schedule.warmup + 1), 1.0)
    fall = 0.5 * (1.0 + math.cos(math.pi * step / schedule.steps))
    return rise * (schedule.final_rate + (1.0 - schedule.final_rate) * fall)


def _mean_dice(fixed: np.ndarray, moved: np.ndarray, grid: Grid) -> float:
    """Returns the mean Dice over the labels of either map."""
    _, both, in_fixed, in_moved = overlap_counts(Labels(fixed, grid), Labels(moved, grid))
    return float(np.mean(2 * both / (in_fixed + in_moved)))
