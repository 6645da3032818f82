"""The training config: strict, with defaults in view. This module imports no torch.

    name: my-net
    dataset: {mni-cohort: {ndim: 2, spacing_mm: 2}}      # or a CSV of pairs, a Learn2Reg task, any other dataset
    spacing_mm: 2
    network: {kind: unet}
    loss: {similarity: {lncc: {weight: 1, window: 5}}, diffusion: 0.5}

Networks are those of `methods.nets.trainable`, similarities those of `methods.objectives.similarity`. Paths of datasets
are relative to the folder of the config, as in every config; `start_from` is relative to where the program is started.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, ValidationInfo

from regbench.config import RunConfig
from regbench.config_entries import Entry
from regbench.config_file import ConfigFile, Place, read_yaml
from regbench.errors import ConfigError
from regbench.methods.nets.trainable import check_network
from regbench.methods.objectives.similarity import check_similarity
from regbench.parameters import nearest
from regbench.shifts.entries import expanded
from regbench.shifts.table import SHIFTS, shift_class
from regbench.training.loss_recipe import LossRecipe, Strict
from regbench.training.sources import SOURCES

Precision = Literal["float32", "bfloat16", "float16"]
Score = Literal["dice", "similarity", "truth"]


def _dataset(value: Any, info: ValidationInfo) -> Any:
    """The entry of a dataset, read as `regbench run` reads those of its configs."""
    if value is None or isinstance(value, Entry) or (isinstance(value, Mapping) and {"name", "label"} <= set(value)):
        return value
    if not isinstance(value, str) and not (isinstance(value, Mapping) and len(value) == 1):
        raise ValueError("give one dataset with its parameters, such as {mni-cohort: {ndim: 2}}")
    try:
        return RunConfig.model_validate({"datasets": [value], "methods": ["identity"]}, context=info.context).datasets[
            0
        ]
    except ValidationError as error:
        raise ValueError(_words(error.errors()[0]["msg"])) from None


DatasetEntry = Annotated[Entry | None, BeforeValidator(_dataset)]


def _conditions(value: Any, info: ValidationInfo) -> Any:
    """The conditions, read as `regbench run` reads those of its configs."""
    if not isinstance(value, list) or not value:
        raise ValueError("give a list of conditions, such as [none, {gamma: 2}]")
    given = {"conditions": [part for entry in value for part in expanded(entry)]}
    try:
        config = RunConfig.model_validate({"datasets": ["csv"], "methods": ["identity"], **given}, context=info.context)
    except ValidationError as error:
        raise ValueError(_words(error.errors()[0]["msg"])) from None
    return tuple(config.conditions)


ConditionEntries = Annotated[tuple[Entry, ...], BeforeValidator(_conditions)]


class GridRecipe(Strict):
    """The grid of the network: that of an image, or a shape and its affine (voxel -> mm)."""

    image: Path | None = None
    shape: tuple[int, ...] | None = None
    affine: tuple[tuple[float, ...], ...] | None = None


class ScheduleRecipe(Strict):
    """How long, how fast and on what to train.

    The learning rate rises over `warmup` steps; then it falls along a cosine to the share `final_rate`, stays constant,
    or falls by `drop` every `drop_every` steps. `patience` stops after that many validations without a better score,
    `minutes` after that time (the same command with more goes on). Training on a CPU can be repeated bit for bit with
    the same number of threads.
    """

    steps: int = Field(4000, ge=1)
    batch: int = Field(1, ge=1)
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    clip: float = Field(1.0, ge=0, description="largest length of the gradient; 0 for any")
    decay: Literal["cosine", "constant", "step"] = "cosine"
    warmup: int = Field(200, ge=0)
    final_rate: float = Field(0.05, gt=0, le=1)
    drop_every: int = Field(1000, ge=1)
    drop: float = Field(0.3, gt=0, le=1)
    validate_every: int = Field(500, ge=1)
    log_every: int | None = Field(None, ge=1, description="steps between rows of training.csv, besides validations")
    patience: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0)
    checkpoint_minutes: float = Field(5.0, gt=0)
    bfloat16: bool = True
    precision: Precision | None = Field(None, description="of the network; goes before `bfloat16`")
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = Field(2, ge=1)

    @property
    def numbers(self) -> Precision:
        """The precision in which the network computes."""
        return self.precision or ("bfloat16" if self.bfloat16 else "float32")


# What of a schedule may be changed when a training goes on: not what is computed, but where and for how long.
FREE = {"minutes", "checkpoint_minutes", "threads", "device"}


class AffineRecipe(Strict):
    """Largest values of a random affine map; each is drawn evenly from both signs."""

    rotation_degrees: float = Field(0.0, ge=0, le=180)
    scale: float = Field(0.0, ge=0, lt=1)
    shear: float = Field(0.0, ge=0, lt=1)
    translation_mm: float = Field(0.0, ge=0)


class AugmentationRecipe(Strict):
    """Random changes of the training pairs, drawn anew in every step.

    `flip`: array axes along which both images are mirrored in half of the steps. `affine`: a map of its own for either
    image. `gamma`: spread of the logarithm of an exponent; `bias`: spread of the logarithm of a smooth factor; `noise`:
    largest standard deviation; each image has its own.
    """

    flip: tuple[int, ...] = ()
    affine: AffineRecipe = AffineRecipe()
    gamma: float = Field(0.0, ge=0)
    bias: float = Field(0.0, ge=0)
    noise: float = Field(0.0, ge=0)


class DeformRecipe(Strict):
    """Pairs of one scan with itself under a random deformation, whose truth is known: an affine map, and a smooth
    field of the standard deviation `smooth_mm` that is blurred over `length_mm`."""

    affine: AffineRecipe = AffineRecipe()
    smooth_mm: float = Field(0.0, ge=0)
    length_mm: float = Field(12.0, gt=0)


class PhaseRecipe(Strict):
    """What differs from the recipe in the steps before `until`: terms of the loss, images reduced by a factor."""

    until: int | None = Field(None, ge=1)
    loss: dict[str, Any] = Field(default_factory=dict)
    reduce: Literal[1, 2, 4, 8] = 1


class ValidationRecipe(Strict):
    """What the best step is chosen on: the split `split` of the dataset, another dataset, or held-out subjects.

    `fraction` holds out that share of the training subjects, with all their pairs. `pairs` are so many fixed pairs.
    """

    dataset: DatasetEntry = None
    split: str | None = None
    fraction: float | None = Field(None, gt=0, lt=1)
    pairs: int | None = Field(None, ge=1)
    score: Score | None = None


class TrainingRecipe(Strict):
    """A whole training run.

    `pairs`: 'any' two training subjects, where the dataset names them, or those 'listed' by it. `labelled`: only so
    many subjects keep their labels; `labelled_share` of the pairs are drawn among these. `conditions`: changes of
    contrast, as in the config of a run, of which every pair gets one. `test`: a dataset none of
    whose subjects may be trained or validated on. `placement`: 'world' for images in the space of the training data,
    'fixed' for a grid around each fixed image.
    """

    name: str
    dataset: DatasetEntry = None
    source: dict[str, dict[str, Any]] | None = None
    spacing_mm: float | None = Field(None, gt=0)
    grid: GridRecipe | None = None
    placement: Literal["world", "fixed"] | None = None
    pairs: Literal["any", "listed"] | None = None
    deform: DeformRecipe | None = None
    conditions: ConditionEntries = ()
    labelled: int | None = Field(None, ge=2)
    labelled_share: float = Field(0.5, gt=0, le=1)
    loading: Literal["memory", "lazy"] = "memory"
    memory_mib: int = Field(4096, ge=1, description="for images that are loaded lazily")
    network: dict[str, Any] = Field(default_factory=dict)
    loss: LossRecipe = LossRecipe()
    schedule: ScheduleRecipe = ScheduleRecipe()
    augmentation: AugmentationRecipe = AugmentationRecipe()
    phases: tuple[PhaseRecipe, ...] = ()
    validation: ValidationRecipe = ValidationRecipe()
    test: DatasetEntry = None
    start_from: Path | None = Field(None, description="weights of another training to go on from")
    validation_pairs: int = Field(6, ge=1)
    licence: str | None = Field(None, description="of the weights")
    seed: int = Field(0, ge=0)

    @property
    def n_validation_pairs(self) -> int:
        return self.validation.pairs or self.validation_pairs

    def phase(self, step: int) -> PhaseRecipe:
        """The phase that a step is in."""
        return next((p for p in self.phases if p.until is None or step < p.until), PhaseRecipe())

    def loss_in(self, phase: PhaseRecipe) -> LossRecipe:
        """The loss in a phase; ValidationError where its changes do not fit."""
        return LossRecipe.model_validate({**self.loss.model_dump(exclude_unset=True), **phase.loss})

    @property
    def losses(self) -> list[LossRecipe]:
        """The losses of all phases that there are."""
        covered = any(p.until is None or p.until >= self.schedule.steps for p in self.phases)
        return [*(self.loss_in(phase) for phase in self.phases), *([] if covered else [self.loss])]

    @property
    def needs_labels(self) -> bool:
        return any(loss.needs_labels for loss in self.losses)

    @property
    def needs_truth(self) -> bool:
        return any(loss.truth > 0 for loss in self.losses)

    @property
    def score(self) -> Score:
        """What the best step is chosen by: Dice where labels are trained on, else similarity, else the known truth."""
        default: Score = "dice" if self.needs_labels else "similarity" if self.loss.similarities else "truth"
        return self.validation.score or default


# -- reading --------------------------------------------------------------------------------------------


def load_recipe(path: Path) -> TrainingRecipe:
    """The recipe in a YAML file; ConfigError with one sentence that names the line and the place of a mistake."""
    file = read_yaml(path)
    context = {"folder": file.path.parent}
    try:
        recipe = TrainingRecipe.model_validate(file.data, context=context)
    except ValidationError as error:
        raise ConfigError(_first_problem(file, error, TrainingRecipe)) from None
    _check_phases(recipe, file)
    for place, loss in _places_of_losses(recipe):
        for name, _, settings in loss.similarities:
            check_similarity(name, settings, file.sentence((*place, "similarity"), "").rstrip(": "))
    check_network(recipe.network, recipe.network.get("ndim", 3), file.at_line(("network",), "network"))
    for place, text in _problems(recipe):
        raise ConfigError(file.sentence(place, text))
    _check_names(recipe, file)
    return recipe


def _places_of_losses(recipe: TrainingRecipe) -> list[tuple[Place, LossRecipe]]:
    phases = [(("phases", i, "loss"), recipe.loss_in(phase)) for i, phase in enumerate(recipe.phases)]
    return [(("loss",), recipe.loss), *phases]


def _check_phases(recipe: TrainingRecipe, file: ConfigFile) -> None:
    for i, phase in enumerate(recipe.phases):
        try:
            recipe.loss_in(phase)
        except ValidationError as error:
            raise ConfigError(_first_problem(file, error, LossRecipe, ("phases", i, "loss"))) from None
    ends = [phase.until for phase in recipe.phases]
    if None in ends[:-1] or any(a >= b for a, b in pairwise(e for e in ends if e is not None)):
        raise ConfigError(
            file.sentence(("phases",), "`until` must grow from phase to phase; only the last may lack it")
        )


def _problems(recipe: TrainingRecipe) -> list[tuple[Place, str]]:
    """What in a recipe does not fit together, with its place."""
    found: list[tuple[Place, str]] = []
    if (recipe.dataset is None) == (recipe.source is None):
        found.append((("dataset",), "give one dataset with its parameters, or one source"))
    if recipe.source is not None and len(recipe.source) != 1:
        found.append((("source",), f"give one source with its parameters; known: {', '.join(SOURCES)}"))
    if recipe.dataset is not None and (recipe.spacing_mm is None) == (recipe.grid is None):
        found.append((("spacing_mm",), "give the voxel size of the network in mm, or a `grid`, and not both"))
    if recipe.grid is not None and (recipe.grid.image is None) == (recipe.grid.shape is None or not recipe.grid.affine):
        found.append((("grid",), "give an `image`, or a `shape` and an `affine`"))
    if recipe.start_from is not None and not recipe.start_from.is_file():
        found.append((("start_from",), f"{recipe.start_from} does not exist; train it first"))
    if recipe.schedule.numbers == "float16" and recipe.schedule.device == "cpu":
        found.append((("schedule", "precision"), "float16 needs `device: cuda`; take bfloat16 on a CPU"))
    ways = [key for key in ("dataset", "split", "fraction") if getattr(recipe.validation, key) is not None]
    if len(ways) > 1:
        found.append((("validation",), f"{' and '.join(ways)} exclude each other; keep one of them"))
    if recipe.deform is not None and recipe.source is not None:
        found.append((("deform",), "a source deforms by itself; take `deform` out"))
    if not all(loss.similarities or loss.needs_labels or loss.truth for loss in recipe.losses):
        found.append((("loss",), "nothing is left to learn from; give a similarity, a label term or `truth` a weight"))
    flat = {"window", "similarity_weight"} & recipe.loss.model_fields_set
    if flat and not isinstance(recipe.loss.similarity, str):
        found.append((("loss", min(flat)), "belongs to the similarity, such as {lncc: {weight: 1, window: 5}}"))
    return found


def _check_names(recipe: TrainingRecipe, file: ConfigFile) -> None:
    """Names and parameters of datasets and sources against their tables; opens nothing."""
    from regbench.datasets.table import dataset_class
    from regbench.parameters import check_parameters

    entries = {
        ("dataset",): recipe.dataset,
        ("validation", "dataset"): recipe.validation.dataset,
        ("test",): recipe.test,
    }
    for place, entry in entries.items():
        if entry is not None:
            try:
                check_parameters(dataset_class(entry.name), entry.parameters, entry.name)
            except ConfigError as error:
                raise ConfigError(file.sentence(place, str(error))) from None
    for shift in recipe.conditions:
        try:
            check_parameters(shift_class(shift.name), shift.parameters, shift.name)
            if SHIFTS[shift.name].changes not in ("nothing", "intensities"):
                raise ConfigError(
                    f"{shift.name} changes more than intensities; a training takes conditions that do not"
                )
        except ConfigError as error:
            raise ConfigError(file.sentence(("conditions",), str(error))) from None
    for name in recipe.source or {}:
        if name not in SOURCES:
            known = f"{nearest(name, list(SOURCES))}; known: {', '.join(SOURCES)}"
            raise ConfigError(file.sentence(("source",), f"unknown source '{name}'{known}"))


def _first_problem(file: ConfigFile, error: ValidationError, model: Any, start: Place = ()) -> str:
    problem = error.errors()[0]
    place = tuple(problem["loc"])
    if problem["type"] == "extra_forbidden":
        for part in place[:-1]:
            if isinstance(part, str):
                model = _model_in(model.model_fields[part].annotation)
        known = list(model.model_fields)
        return file.sentence((*start, *place), f"unknown key{nearest(str(place[-1]), known)}")
    return file.sentence((*start, *place), _words(problem["msg"]))


def _model_in(annotation: Any) -> Any:
    """The model that an annotation is about, such as X of `X | None` and of `tuple[X, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(_model_in(part) for part in get_args(annotation) if part not in (type(None), ...))


def _words(message: str) -> str:
    text = message.removeprefix("Value error, ")
    return text if text != message else text[:1].lower() + text[1:]
