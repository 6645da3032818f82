"""The training loop: pairs, loss, optimiser, checkpoints, validation, the model file.

A run can be killed and started again: it goes on from the last checkpoint, and because all that is random in a step is
drawn from generators seeded by (seed, step), it sees the same pairs as an undisturbed run. On a CPU, with the same
number of threads, it ends with the same weights and the same log, bit for bit; some operations of a GPU add in any
order. The weights kept are those with the best validation score: Dice for training with labels, similarity without.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regbench.errors import ConfigError, MethodDeclined, MethodError, RegbenchError
from regbench.methods.nets.trainable import build_network, check_network
from regbench.methods.trained import TrainedNetwork, load_network
from regbench.training.augmentation import augmented
from regbench.training.checkpoints import Row, State, write_log
from regbench.training.curves import draw_curves
from regbench.training.data import TrainingData, training_data
from regbench.training.folder import CHECKPOINT, CURVES, LOG, claim, training_folder
from regbench.training.model_card import model_card
from regbench.training.model_file import write_model
from regbench.training.recipe import TrainingRecipe, load_recipe
from regbench.training.schedule import make_optimiser, rate
from regbench.training.sources import Batch
from regbench.training.stopping import StopRequest
from regbench.training.terms import Terms, reduced_batch, term_names
from regbench.training.validation import Validation

Message = Callable[[str], None]

_NUMBERS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# A picture takes a second; training shares its cores with it.
_CURVES_S = 60.0
# So many steps are averaged for what is shown of the loss.
_SHOWN_STEPS = 20


class Diverged(MethodError):
    """A training whose loss or gradient is no longer finite."""


@dataclass(frozen=True)
class Progress:
    """How far a training is: the terms are means over the latest steps, `left_s` is None before it can be known."""

    step: int
    steps: int
    seconds: float
    left_s: float | None
    terms: Row
    validation: Row = field(default_factory=dict)
    best_step: int = 0


def train_from_config(
    config: Path, output: Path | None, message: Message, progress: Callable[[Progress], None] = lambda _: None
) -> Path:
    """Trains what the config describes and returns the path of the weights (safetensors, with its card beside).

    `output` is the folder of the training run (default: runs/train/<name>); an unfinished run there goes on.
    """
    recipe = load_recipe(config)
    check_device(recipe)
    folder = training_folder(recipe, output)
    claim(folder, recipe)
    torch.set_num_threads(recipe.schedule.threads)
    return Training(recipe, folder, training_data(recipe, message), message, progress).run()


def check_device(recipe: TrainingRecipe) -> None:
    """Raises MethodDeclined where the recipe asks for a GPU that is not there."""
    if recipe.schedule.device == "cuda" and not torch.cuda.is_available():
        raise MethodDeclined("schedule.device is cuda, and torch finds no CUDA GPU; use `device: cpu`")


class Training:
    """One training: its network, its data, and where it stands."""

    def __init__(
        self,
        recipe: TrainingRecipe,
        folder: Path,
        data: TrainingData,
        message: Message,
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self.recipe, self.folder, self.data = recipe, folder, data
        self.message, self._progress = message, progress
        self.device, self._numbers = recipe.schedule.device, _NUMBERS[recipe.schedule.numbers]
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        torch.manual_seed(recipe.seed)
        network = build_network(data.network, data.source.grid.ndim)
        self.start: TrainedNetwork | None = None
        if recipe.start_from is not None:
            self.start = _loaded_start(recipe.start_from, data.network)
            network.load_state_dict(self.start.network.state_dict())
        network.to(self.device)
        scaler = torch.amp.GradScaler(self.device, enabled=self._numbers == torch.float16)
        self.state = State(network, make_optimiser(recipe.schedule, network.parameters()), scaler)
        self._check_data()
        self._terms: dict[int, Terms] = {}
        self._validation = Validation(recipe, data.validation, self.device)
        self._recent: list[Row] = []
        self._begun = (0, 0.0)
        self._drawn_at = time.monotonic()
        self._ahead: tuple[int, Future[tuple[Batch, np.random.Generator]]] | None = None
        # One thread, and only where the processor has nothing else to do.
        self._drawer = ThreadPoolExecutor(1) if self.device == "cuda" else None

    def _check_data(self) -> None:
        source, recipe = self.data.source, self.recipe
        if recipe.needs_labels and not len(source.label_values):
            raise ConfigError(
                "loss: the training data have no labels; set `dice` and `cross_entropy` to 0, or add them"
            )
        multiple = int(getattr(self.state.network, "multiple", 1))
        for phase in recipe.phases:
            if any(n % (multiple * phase.reduce) for n in source.grid.shape):
                shape = "x".join(map(str, source.grid.shape))
                raise ConfigError(f"phases: {shape} voxels reduced by {phase.reduce} are no multiples of {multiple}, "
                                  "which the network needs; reduce by less, or give a `grid`")  # fmt: skip
        if recipe.needs_truth and source.draw(np.random.default_rng(0), 1).displacement is None:
            raise ConfigError("loss.truth: the right displacement is not known; use a source, `deform`, or take it out")
        if any(axis >= source.grid.ndim or axis < 0 for axis in recipe.augmentation.flip):
            raise ConfigError(f"augmentation.flip: axes of {source.grid.ndim}-D images are 0 to {source.grid.ndim - 1}")

    # -- the whole -----------------------------------------------------------------------------------

    def run(self) -> Path:
        """Trains to the end, or until it is stopped, and returns the path of the weights.

        Raises KeyboardInterrupt where it was interrupted, after a checkpoint; `Diverged` where it cannot go on.
        """
        checkpoint = self.folder / CHECKPOINT
        if checkpoint.exists():
            self.state.load(checkpoint)
            self.message(f"going on from step {self.state.step}")
        try:
            with StopRequest() as stop:
                self._steps(checkpoint, stop)
        finally:
            if self._drawer is not None:
                self._drawer.shutdown(wait=False, cancel_futures=True)
        if stop.name:
            self.message(f"stopped at step {self.state.step} by {stop.name}; the same command goes on from there")
            raise KeyboardInterrupt
        return self._finish()

    def _steps(self, checkpoint: Path, stop: StopRequest) -> None:
        schedule, state = self.recipe.schedule, self.state
        started, saved = time.monotonic() - state.seconds, time.monotonic()
        self._begun = (state.step, time.monotonic())
        limit_s = math.inf if schedule.minutes is None else 60 * schedule.minutes
        while state.step < schedule.steps and not state.stopped and state.seconds < limit_s and not stop.name:
            self._guarded_step()
            state.seconds = time.monotonic() - started
            is_last = state.step == schedule.steps
            if is_last or state.step % schedule.validate_every == 0:
                self._validate()
            elif schedule.log_every and state.step % schedule.log_every == 0:
                self._log({})
            if is_last or state.stopped or time.monotonic() - saved > 60 * schedule.checkpoint_minutes:
                state.save(checkpoint)
                saved = time.monotonic()
            self._progress(self._where())
        if stop.name or (state.seconds >= limit_s and state.step < schedule.steps):
            state.save(checkpoint)

    def _guarded_step(self) -> None:
        try:
            row = self._step()
        except Diverged as error:
            kept = ""
            if self.state.best_weights:
                self.state.stopped = "diverged"
                kept = f"; the weights of step {self.state.best_step} are in {self._finish()}"
            advice = (
                "try a lower learning_rate, a smaller `clip`, more `warmup` or `precision: float32` in a new folder"
            )
            raise Diverged(f"{error}; {advice}{kept}") from None
        self.state.step += 1
        self.state.running.append(row)
        self._recent = [*self._recent[1 - _SHOWN_STEPS :], row]

    def seconds_per_step(self, n: int, first: int) -> float:
        """The mean seconds of `n` steps from `first` on, after one to warm up; images are read before.

        Changes the weights.
        """
        self.state.step = first
        taken = []
        for _ in range(n + 1):
            self._draw(self.state.step)
            begun = time.monotonic()
            self._guarded_step()
            taken.append(time.monotonic() - begun)
        return sum(taken[1:]) / n

    def seconds_per_validation(self) -> float:
        """The seconds of a validation, from its first pair."""
        return len(self.data.validation) * self._validation.seconds_of_pair(self.state.network)

    # -- a step --------------------------------------------------------------------------------------

    def _step(self) -> Row:
        schedule, state = self.recipe.schedule, self.state
        batch, rng = self._batch()
        for group in state.optimiser.param_groups:
            group["lr"] = schedule.learning_rate * rate(state.step, schedule)
        state.network.train()
        terms = self._terms_now()(state.network, batch, rng, state.step, self._numbers)
        row = {name: float(value.detach()) for name, value in terms.items()}
        if not all(map(math.isfinite, row.values())):
            told = ", ".join(f"{name} {value:.3g}" for name, value in row.items())
            raise Diverged(f"step {state.step + 1}: the loss is not finite ({told})")
        if not terms:
            return row
        state.optimiser.zero_grad(set_to_none=True)
        state.scaler.scale(torch.stack(list(terms.values())).sum()).backward()
        state.scaler.unscale_(state.optimiser)
        length = torch.nn.utils.clip_grad_norm_(state.network.parameters(), schedule.clip or math.inf)
        if not state.scaler.is_enabled() and not math.isfinite(float(length)):
            raise Diverged(f"step {state.step + 1}: the gradient is not finite")
        # In half precision a gradient that is not finite lowers the scale, and the step is left out.
        state.scaler.step(state.optimiser)
        state.scaler.update()
        return row

    def _terms_now(self) -> Terms:
        phase = self.recipe.phase(self.state.step)
        key = self.recipe.phases.index(phase) if phase in self.recipe.phases else -1
        if key not in self._terms:
            loss = self.recipe.loss_in(phase) if key >= 0 else self.recipe.loss
            self._terms[key] = Terms(loss, self.data.source.label_values)
        return self._terms[key]

    def _batch(self) -> tuple[Batch, np.random.Generator]:
        """The pairs of this step on the device, and the generator for what else is drawn in it."""
        step = self.state.step
        if self._ahead is not None and self._ahead[0] == step:
            batch, rng = self._ahead[1].result()
        else:
            batch, rng = self._draw(step)
        if self._drawer is not None and step + 1 < self.recipe.schedule.steps:
            self._ahead = (step + 1, self._drawer.submit(self._draw, step + 1))
        batch = batch.to(self.device)
        changes = np.random.default_rng([self.recipe.seed, step, 1])
        batch = augmented(batch, self.recipe.augmentation, changes, self.data.source.grid.spacing_mm)
        return reduced_batch(batch, self.recipe.phase(step).reduce), rng

    def _draw(self, step: int) -> tuple[Batch, np.random.Generator]:
        rng = np.random.default_rng([self.recipe.seed, step])
        return self.data.source.draw(rng, self.recipe.schedule.batch), rng

    # -- what is told ----------------------------------------------------------------------------------

    def _validate(self) -> None:
        state, schedule = self.state, self.recipe.schedule
        scores = self._judge()
        row = self._log({f"validation_{name}": value for name, value in scores.items()})
        left = self._where().left_s
        parts = "  ".join(f"{name} {row[name]:.4f}" for name in self._term_names() if name in row)
        words = [f"{name} {scores[name]:.4f}" for name in ("similarity", "error") if name in scores]
        words += [f"Dice {scores['dice_before']:.3f} -> {scores['dice']:.3f}"] if "dice" in scores else []
        self.message(
            f"step {state.step}/{schedule.steps}  {state.seconds:.0f} s  {parts}  validation: {', '.join(words)}"
            + (f"  {left:.0f} s left" if left and state.step < schedule.steps else "")
        )
        if schedule.patience is not None and state.since_best >= schedule.patience:
            state.stopped = f"no better score in {state.since_best} validations"
            self.message(f"stopped at step {state.step}: {state.stopped}")
        if time.monotonic() - self._drawn_at > _CURVES_S and state.step < schedule.steps:
            draw_curves(self.folder / CURVES, self.recipe.name, state.rows, state.best_step)
            self._drawn_at = time.monotonic()

    def _judge(self) -> Row:
        """The validation scores of the weights as they are; the best so far are kept."""
        state = self.state
        scores = self._validation(state.network)
        score = self._validation.score(scores)
        state.since_best += 1
        if score > state.best_score:
            state.best_score, state.best_step, state.since_best = score, state.step, 0
            state.best_scores = {**self._validation.per_pair, "mean": scores}
            state.best_weights = {k: v.detach().cpu().clone() for k, v in state.network.state_dict().items()}
        return scores

    def _log(self, more: Row) -> Row:
        """The new row of the log: means over the steps since the last one."""
        state = self.state
        names = {name for row in state.running for name in row}
        means = {n: float(np.mean([r[n] for r in state.running if n in r])) for n in self._term_names() if n in names}
        lr = self.recipe.schedule.learning_rate * rate(max(state.step - 1, 0), self.recipe.schedule)
        row = {"step": state.step, "seconds": round(state.seconds, 1), "learning_rate": lr, **means, **more}
        state.rows.append(row)
        state.running = []
        self._write_log()
        return row

    def _term_names(self) -> list[str]:
        return term_names(self.recipe.losses)

    def _write_log(self) -> None:
        names = [key for row in self.state.rows for key in row]
        fixed = ["step", "seconds", "learning_rate", *self._term_names()]
        write_log(self.folder / LOG, list(dict.fromkeys([*fixed, *names])), self.state.rows)

    def _where(self) -> Progress:
        state, steps = self.state, self.recipe.schedule.steps
        done, since = state.step - self._begun[0], time.monotonic() - self._begun[1]
        left = since / done * (steps - state.step) if done else None
        if left is not None and self.recipe.schedule.minutes is not None:
            left = min(left, max(60 * self.recipe.schedule.minutes - state.seconds, 0.0))
        names = dict.fromkeys(key for row in self._recent for key in row)
        terms = {n: float(np.mean([row[n] for row in self._recent if n in row])) for n in names}
        judged = next((row for row in reversed(state.rows) if any(k.startswith("validation_") for k in row)), {})
        validation = {k.removeprefix("validation_"): v for k, v in judged.items() if k.startswith("validation_")}
        return Progress(state.step, steps, state.seconds, left, terms, validation, state.best_step)

    def _finish(self) -> Path:
        """Writes log, curves, and the model of the best weights."""
        if not self.state.best_weights:
            self._judge()
        if not self.state.best_weights:
            raise Diverged(f"step {self.state.step}: the validation score is not finite; try a lower learning_rate")
        if self.state.rows:
            self._write_log()
            draw_curves(self.folder / CURVES, self.recipe.name, self.state.rows, self.state.best_step)
        card = model_card(self.recipe, self.data, self.state, self.start)
        path = write_model(self.folder, self.state.best_weights, card)
        self.message(f"best step {self.state.best_step}; weights in {path}")
        return path


def _loaded_start(path: Path, settings: dict[str, Any]) -> TrainedNetwork:
    """The network to start from; ConfigError where it is another one than that of the recipe."""
    try:
        start = load_network(path)
        found = check_network(start.facts["network"], start.grid.ndim, "start_from")
    except RegbenchError as error:
        raise ConfigError(f"start_from: {error}") from error
    if found != settings or start.grid.ndim != settings.get("ndim", start.grid.ndim):
        differing = ", ".join(k for k in {**found, **settings} if found.get(k) != settings.get(k))
        raise ConfigError(f"start_from: {path} holds another network (its {differing} differ); take its settings over")
    return start
