"""What a recipe trains on and what it validates on: two sets of pairs that share no subject.

Validation is, in this order: another dataset, a share of the training subjects, a split of the dataset, its split
'validation'. Datasets without splits hold out a fifth of their subjects; pairs of a held-out subject and another one
are left out of both sets. Test pairs are never opened: the split 'test' is refused, and so is every subject of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from regbench.config_entries import Entry
from regbench.datasets.protocol import Dataset, PairRef, SubjectSource
from regbench.datasets.table import build_dataset
from regbench.errors import ConfigError, RegbenchError
from regbench.leaks import leak_of, read_trainings, scans_of
from regbench.methods.nets.trainable import check_network, multiple_of
from regbench.training.grids import Frame, Placement, frame_of
from regbench.training.kept import Use
from regbench.training.listed import ListedPairs, connected_subjects, grids_of, subjects_of
from regbench.training.recipe import DeformRecipe, TrainingRecipe
from regbench.training.sources import Batch, PairSource, build_source
from regbench.training.subjects import SubjectPairs, chosen_subjects
from regbench.volume import Grid

Message = Callable[[str], None]

_FRACTION = 0.2
# What is drawn for validation is not what is drawn in any step.
_VALIDATION = 1 << 40


@dataclass(frozen=True)
class ValidationPairs:
    """A few fixed pairs by name on one grid, and where they are read; without `subjects` nobody was scanned."""

    names: list[str]
    subjects: list[str]
    grid: Grid
    read: Callable[[int], Batch]
    facts: dict[str, Any]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class TrainingData:
    """Pairs to train on, pairs to validate on, and the settings of a network that fits their grid."""

    source: PairSource
    validation: ValidationPairs
    network: dict[str, Any]
    manifest: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class _Chosen:
    """A dataset with what is taken of it: named subjects, or listed pairs."""

    entry: Entry
    dataset: Dataset
    names: list[str] | None
    refs: list[PairRef]

    @property
    def subjects(self) -> list[str]:
        return subjects_of(self.refs) if self.names is None else self.names


def training_data(recipe: TrainingRecipe, message: Message) -> TrainingData:
    """The data of a recipe; ConfigError in one sentence if there are not enough, or if test pairs would be seen."""
    data = _dataset_data(recipe, message) if recipe.source is None else _synthetic_data(recipe, message)
    return _under_conditions(data, recipe) if recipe.conditions else data


def _dataset_data(recipe: TrainingRecipe, message: Message) -> TrainingData:
    assert recipe.dataset is not None
    training = _chosen(recipe.dataset, recipe, "train", "dataset")
    training, validating = _divided(training, recipe, message)
    _check_disjoint(recipe, training, validating)
    frame, settings = _frame(recipe, training)
    scans = _pairs_of(training, frame, recipe, _labelled(recipe, training))
    scans.prepare("train", message)
    validation = _validation_of(validating, recipe, frame, message)
    data = TrainingData(scans, validation, settings, scans.manifest)
    return data if recipe.deform is None else _deformed(recipe.deform, data, recipe)


def _under_conditions(data: TrainingData, recipe: TrainingRecipe) -> TrainingData:
    """The data with their contrasts changed, those of the validation in turn."""
    from regbench.training.conditions import ConditionedPairs, conditioned_reading

    validation, conditions = data.validation, recipe.conditions
    read = conditioned_reading(validation.read, conditions, validation.grid, recipe.seed)
    return replace(data, source=ConditionedPairs(data.source, conditions), validation=replace(validation, read=read))


def _deformed(deform: DeformRecipe, data: TrainingData, recipe: TrainingRecipe) -> TrainingData:
    """The data with known deformations of single scans; so is the validation where it goes by the truth."""
    from regbench.training.augmentation import DeformedPairs

    source = DeformedPairs(data.source, deform)
    validation, read = data.validation, data.validation.read

    def read_deformed(i: int) -> Batch:
        return source.deformed(read(i), np.random.default_rng([recipe.seed, _VALIDATION, i]))

    if recipe.score == "truth":
        validation = replace(validation, read=read_deformed, facts={**validation.facts, "deformed": True})
    return replace(data, source=source, validation=validation)


def _synthetic_data(recipe: TrainingRecipe, message: Message) -> TrainingData:
    assert recipe.source is not None
    ((name, parameters),) = recipe.source.items()
    source = build_source(name, parameters)
    settings = check_network(recipe.network, source.grid.ndim, "network")
    multiple = multiple_of(settings, source.grid.ndim)
    if any(n % multiple for n in source.grid.shape):
        shape = "x".join(map(str, source.grid.shape))
        raise ConfigError(f"source.{name}: the network needs multiples of {multiple} voxels, not {shape}")
    entry = recipe.validation.dataset
    if entry is not None:
        chosen = _chosen(entry, recipe, recipe.validation.split or "validation", "validation.dataset")
        default: Placement = getattr(source, "placement", "world")
        spacing = float(source.grid.spacing_mm.mean())
        sized = recipe.model_copy(update={"spacing_mm": recipe.spacing_mm or spacing, "grid": None})
        frame = Frame(source.grid, "world") if default == "world" else _frame(sized, chosen)[0]
        if frame.grid.ndim != source.grid.ndim:
            raise ConfigError(f"validation.dataset: is {frame.grid.ndim}-D, the source is {source.grid.ndim}-D")
        validation = _validation_of(chosen, recipe, frame, message)
    elif recipe.validation.split or recipe.validation.fraction:
        raise ConfigError("validation: a source has no subjects; name a dataset, or leave it to the source")
    else:
        n, seed = recipe.n_validation_pairs, recipe.seed
        names = [f"{name}-{i}" for i in range(n)]

        def read(i: int) -> Batch:
            return source.draw(np.random.default_rng([seed, _VALIDATION, i]), 1)

        validation = ValidationPairs(names, [], source.grid, read, {"source": name})
    return TrainingData(source, validation, settings, lambda: {"source": source.facts()})


# -- what is taken of a dataset ---------------------------------------------------------------------------


def _chosen(entry: Entry, recipe: TrainingRecipe, split: str, where: str) -> _Chosen:
    dataset = build_dataset(entry.name, entry.parameters)
    is_listed = recipe.pairs == "listed" or recipe.needs_truth or recipe.score == "truth"
    if recipe.deform is not None:
        is_listed = recipe.pairs == "listed"
    if isinstance(dataset, SubjectSource) and not is_listed:
        return _Chosen(entry, dataset, _subjects(dataset, split, where), [])
    if recipe.pairs == "any":
        raise ConfigError(f"{where}: '{entry.name}' lists pairs and names no subjects; take `pairs: any` out")
    refs = list(dataset.pair_refs())
    told = entry.parameters.get("split") or dataset.manifest().get("split")
    if told == "test" or (isinstance(dataset, SubjectSource) and getattr(dataset, "split", "") == "test"):
        raise ConfigError(f"{where}: these are the test pairs of {entry.name}; give it another `split`, such as train")
    return _Chosen(entry, dataset, None, refs)


def _subjects(dataset: SubjectSource, split: str, where: str) -> list[str]:
    if split == "test":
        raise ConfigError(f"{where}: test subjects are kept for the benchmark; take another split")
    try:
        names = list(dataset.subjects(split))
    except (KeyError, ValueError, RegbenchError):
        names = []
    if not names:
        advice = "hold out a share of its subjects with `validation: {fraction: 0.2}`" if split != "train" else ""
        raise ConfigError(f"{where}: there are no subjects in split '{split}'" + (f"; {advice}" if advice else ""))
    return names


def _divided(training: _Chosen, recipe: TrainingRecipe, message: Message) -> tuple[_Chosen, _Chosen]:
    """What is left to train on, and what is validated on."""
    given = recipe.validation
    if given.dataset is not None:
        return training, _chosen(given.dataset, recipe, "validation", "validation.dataset")
    if training.names is not None and given.fraction is None:
        names = _subjects(training.dataset, given.split or "validation", "validation")  # type: ignore[arg-type]
        return training, _Chosen(training.entry, training.dataset, names, [])
    if given.split is not None:
        parameters = {**training.entry.parameters, "split": given.split}
        entry = training.entry.model_copy(update={"parameters": parameters})
        return training, _chosen(entry, recipe, given.split, "validation")
    fraction = given.fraction or _FRACTION
    divide = _without_pairs if training.names is None else _without_subjects
    kept, held = divide(training, fraction, np.random.default_rng([recipe.seed, 9]))
    n = len(training.refs)
    lost = (
        f", {n - len(kept.refs) - len(held.refs)} of {n} pairs left out as they share subjects with both" if n else ""
    )
    message(f"validation: {len(held.subjects)} of {len(training.subjects)} subjects held out{lost}")
    return kept, held


def _without_subjects(training: _Chosen, fraction: float, rng: np.random.Generator) -> tuple[_Chosen, _Chosen]:
    names = training.subjects
    n = max(2, round(fraction * len(names)))
    if len(names) - n < 2:
        raise ConfigError(f"validation: {len(names)} subjects are not enough to train on some and hold out others")
    out = {names[i] for i in rng.choice(len(names), n, replace=False)}
    kept, held = ([name for name in names if (name in out) == is_out] for is_out in (False, True))
    return (
        _Chosen(training.entry, training.dataset, kept, []),
        _Chosen(training.entry, training.dataset, held, []),
    )


def _without_pairs(training: _Chosen, fraction: float, rng: np.random.Generator) -> tuple[_Chosen, _Chosen]:
    out = connected_subjects(training.refs, max(1, round(fraction * len(training.subjects))), rng)
    held = [ref for ref in training.refs if {ref.fixed, ref.moving} <= out]
    kept = [ref for ref in training.refs if not {ref.fixed, ref.moving} & out]
    if not kept or not held:
        raise ConfigError(
            f"validation: {len(training.refs)} pairs of {len(training.subjects)} subjects are not enough: every pair "
            "shares a subject with the held-out ones; name another dataset, as in `validation: {dataset: ...}`"
        )
    return (
        _Chosen(training.entry, training.dataset, None, kept),
        _Chosen(training.entry, training.dataset, None, held),
    )


# -- nobody in two places ---------------------------------------------------------------------------------


def _check_disjoint(recipe: TrainingRecipe, training: _Chosen, validating: _Chosen) -> None:
    if len(training.subjects) < 2 and recipe.deform is None and training.names is not None:
        raise ConfigError(f"dataset: {len(training.subjects)} training subjects are not enough; a pair needs two")
    _refuse_shared(training, validating.entry, validating.subjects, "trained on and validated on")
    for chosen, what in ((training, "trained on"), (validating, "validated on")):
        if chosen.names is not None and isinstance(chosen.dataset, SubjectSource):
            _refuse_shared(
                chosen, chosen.entry, _test_subjects(chosen.dataset), f"{what}, and the benchmark tests on them"
            )
        if recipe.test is not None:
            test = build_dataset(recipe.test.name, recipe.test.parameters)
            tested = subjects_of(test.pair_refs())
            _refuse_shared(chosen, recipe.test, tested, f"{what}, and `test` names them")


def _test_subjects(dataset: SubjectSource) -> list[str]:
    try:
        return list(dataset.subjects("test"))
    except (KeyError, ValueError, RegbenchError):
        return []


def _refuse_shared(chosen: _Chosen, entry: Entry, subjects: Sequence[str], what: str) -> None:
    """ConfigError if one of the subjects is among the chosen ones, under whatever name the datasets know them."""
    if chosen.entry.name == entry.name and chosen.entry.parameters.get("seed") == entry.parameters.get("seed"):
        own = set(chosen.subjects)
        shared = [name for name in subjects if name in own]
    else:
        told = {"dataset": chosen.entry.name, "parameters": chosen.entry.parameters, "subjects": chosen.subjects}
        trainings = read_trainings(told)
        shared = [
            name
            for name in subjects
            for scans in [scans_of({"fixed": name, "moving": name}, entry.name, entry.parameters, {}, entry.family)]
            if (leak := leak_of(trainings, scans)) and leak["certain"]
        ]
    if shared:
        others = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
        raise ConfigError(f"{shared[0]}{others} would be {what}; take subjects for one purpose only")


# -- sources ----------------------------------------------------------------------------------------------


def _frame(recipe: TrainingRecipe, chosen: _Chosen) -> tuple[Frame, dict[str, Any]]:
    """The frame of the network, and its settings for that many dimensions."""
    if chosen.names is not None and isinstance(chosen.dataset, SubjectSource):
        grids: list[Grid] = [chosen.dataset.scan(chosen.names[0])[0].grid]
        default: Placement = "world"
    else:
        grids, default = grids_of(chosen.dataset, chosen.refs), "fixed"
    ndim = grids[0].ndim
    settings = check_network(recipe.network, ndim, "network")
    multiple = multiple_of(settings, ndim) * max((phase.reduce for phase in recipe.phases), default=1)
    return frame_of(recipe, grids, multiple, default), settings


def _labelled(recipe: TrainingRecipe, chosen: _Chosen) -> tuple[str, ...] | None:
    if recipe.labelled is None or not recipe.needs_labels:
        return None
    if chosen.names is not None:
        return chosen_subjects(chosen.names, recipe.labelled, recipe.seed, "labelled")
    if recipe.labelled > len(chosen.subjects):
        raise ConfigError(f"labelled: {recipe.labelled} of {len(chosen.subjects)} training subjects are asked for")
    found = connected_subjects(chosen.refs, recipe.labelled, np.random.default_rng([recipe.seed, 8]))
    return tuple(name for name in chosen.subjects if name in found)


def _pairs_of(
    chosen: _Chosen, frame: Frame, recipe: TrainingRecipe, labelled: tuple[str, ...] | None = None
) -> SubjectPairs | ListedPairs:
    truth = recipe.deform is None and (recipe.needs_truth or recipe.score == "truth")
    limit = recipe.memory_mib if recipe.loading == "lazy" else None
    use = Use(limit, labelled, recipe.labelled_share, truth)
    if chosen.names is not None:
        assert isinstance(chosen.dataset, SubjectSource)
        return SubjectPairs(chosen.dataset, chosen.entry, chosen.names, frame, use)
    return ListedPairs(chosen.dataset, chosen.entry, chosen.refs, frame, use)


def _validation_of(chosen: _Chosen, recipe: TrainingRecipe, frame: Frame, message: Message) -> ValidationPairs:
    """Each subject onto the one before it, or some of the listed pairs, drawn by the seed of the recipe."""
    n = recipe.n_validation_pairs
    facts = {"dataset": chosen.entry.name}
    if chosen.names is not None:
        names = chosen.names
        if len(names) < 2:
            raise ConfigError(f"validation: {len(names)} subject is not enough; a pair needs two")
        pairs = [(names[i], names[(i + 1) % len(names)]) for i in range(min(n, len(names)))]
        used = list(dict.fromkeys(name for pair in pairs for name in pair))
        subjects = _pairs_of(_Chosen(chosen.entry, chosen.dataset, used, []), frame, recipe)
        assert isinstance(subjects, SubjectPairs)
        subjects.prepare("validation", message)
        ids = [f"{f}_{m}" for f, m in pairs]
        return ValidationPairs(ids, used, frame.grid, lambda i: subjects.batch([pairs[i]]), facts)
    rng = np.random.default_rng([recipe.seed, 10])
    picked = sorted(rng.choice(len(chosen.refs), min(n, len(chosen.refs)), replace=False))
    refs = [chosen.refs[i] for i in picked]
    listed = _pairs_of(_Chosen(chosen.entry, chosen.dataset, None, refs), frame, recipe)
    assert isinstance(listed, ListedPairs)
    listed.prepare("validation", message)
    names = [ref.id for ref in refs]
    return ValidationPairs(names, subjects_of(refs), frame.grid, lambda i: listed.batch([names[i]]), facts)
