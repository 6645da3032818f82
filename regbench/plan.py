"""The cases of a run: a config expanded over datasets, conditions, pairs, methods and repeats.

Planning runs nothing. It opens input files for their content hash only, so that a case has a key that is
the same wherever the data lie, and changes when an image, a parameter or a version does.

The key covers: content of the pair, condition and its version, method, its version, parameters and weights,
pre-alignment, seed, repeat, the label warp, whether both directions are asked for, and the names under which the row
appears (so that no two cases of a plan share one). Metrics are kept apart: they can be computed again where fields
were kept.
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regbench import targets
from regbench.environments import Home, home_of
from regbench.errors import ConfigError, DatasetError
from regbench.leaks import Scan, Training, leak_of, refusal, scans_of, trainings_of
from regbench.parameters import as_plain, check_parameters, nearest
from regbench.tuned import read_tuning, refuse_shared_subjects

if TYPE_CHECKING:
    from regbench.alignment import LabelWarp
    from regbench.config import RunConfig
    from regbench.config_entries import Entry
    from regbench.datasets.protocol import Dataset, PairRef
    from regbench.methods.card import Card


@dataclass(frozen=True)
class Case:
    """One registration to be run and scored; plain data that travels to a worker as JSON.

    `dataset`, `condition` and `method` are labels; the `_name` beside them is the plug-in. `python` is the
    interpreter that the method runs in where that is not regbench's own. `verdict` is (status, reason) where the
    outcome is known before anything runs. `leak` is the mark of a pair whose subjects the method was trained on.
    """

    dataset: str
    dataset_name: str
    dataset_parameters: Mapping[str, Any]
    condition: str
    condition_name: str
    condition_parameters: Mapping[str, Any]
    condition_seed: int
    pair: Mapping[str, Any]
    fingerprint: str | None
    method: str
    method_name: str
    params: Mapping[str, Any]
    paradigm: str
    supervision: str
    method_version: str
    prealign: str
    metrics: Sequence[str]
    label_warp: LabelWarp
    threads: int
    repeat: int
    seed: int
    key: str
    keep_field: bool = False
    keep_picture: bool = False
    both_directions: bool = False
    python: str | None = None
    verdict: tuple[str, str] | None = None
    leak: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """The case as plain JSON data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Case:
        """The case that `as_json` described."""
        known = data.get("verdict")
        return cls(**{**data, "verdict": None if known is None else tuple(known)})

    @property
    def place(self) -> tuple[str, str, str, str, int]:
        """What the row of this case is about: dataset, condition, pair, method, repeat."""
        return (self.dataset, self.condition, str(self.pair["id"]), self.method, self.repeat)


@dataclass(frozen=True)
class Plan:
    """All cases of a run, method by method, the manifests of its datasets, and how methods were tuned, by label."""

    cases: tuple[Case, ...]
    manifests: Mapping[str, Any] = field(default_factory=dict)
    tuning: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def methods(self) -> list[str]:
        """The labels of the methods, in order."""
        return list(dict.fromkeys(case.method for case in self.cases))

    def by_method(self) -> dict[str, list[Case]]:
        """The cases of each method, in order."""
        grouped: dict[str, list[Case]] = {label: [] for label in self.methods}
        for case in self.cases:
            grouped[case.method].append(case)
        return grouped


def make_plan(config: RunConfig, only: Iterable[str] | None = None, limit: int | None = None) -> Plan:
    """The plan of a config: of the methods labelled `only` and the first `limit` pairs per dataset, if given.

    Raises ConfigError for a name or a parameter that is not known, DatasetError for a dataset without pairs.
    A pair whose files cannot be read becomes failed cases; a method whose packages are missing, skipped ones.
    """
    from regbench.metrics.table import METRICS, select_metrics

    metrics = [name for name in select_metrics(config.metrics) if METRICS[name].function is not None]
    chosen = _chosen(config.methods, only)
    methods = [_MethodSpec.of(entry, config) for entry in chosen]
    inputs = [item for entry in config.datasets for item in _inputs(entry, config, limit)]
    tuning = {entry.label: _tuning(entry, inputs) for entry in chosen if entry.tuned is not None}
    cases = tuple(
        method.case(item, config, repeat, metrics)
        for method in methods
        # Repeats outermost: consecutive cases then share all parameters, and the worker its built method.
        for repeat in range(config.repeats)
        for item in inputs
    )
    return Plan(cases, {item.dataset: item.manifest for item in inputs}, tuning)


def _tuning(entry: Entry, inputs: Iterable[_Input]) -> dict[str, Any]:
    """The facts of how a method was tuned; ConfigError if that was on subjects that it would be tested on."""
    tuning = read_tuning(Path(str(entry.tuned)), entry.label, entry.name)
    for item in inputs:
        pair = {**item.pair, "fingerprint": item.fingerprint}
        refuse_shared_subjects(tuning, entry.label, item.dataset_name, [pair])
    return tuning.as_json()


def _chosen(entries: Sequence[Entry], only: Iterable[str] | None) -> list[Entry]:
    if only is None:
        return list(entries)
    labels, wanted = [entry.label for entry in entries], list(only)
    for label in wanted:
        if label not in labels:
            raise ConfigError(f"--only: the config has no method '{label}'{nearest(label, labels)}")
    return [entry for entry in entries if entry.label in wanted]


@dataclass(frozen=True)
class _Input:
    """A pair under a condition, with its content hash or the reason why it cannot be read."""

    dataset: str
    dataset_name: str
    dataset_parameters: Mapping[str, Any]
    manifest: Any
    condition: str
    condition_name: str
    condition_parameters: Mapping[str, Any]
    pair: Mapping[str, Any]
    fingerprint: str | None
    problem: str | None
    is_pictured: bool
    scans: Mapping[str, Scan]


def _inputs(entry: Entry, config: RunConfig, limit: int | None) -> Iterator[_Input]:
    from regbench.datasets.table import build_dataset
    from regbench.shifts.table import shift_class

    dataset: Dataset = build_dataset(entry.name, entry.parameters)
    refs = list(dataset.pair_refs())[:limit]
    _refuse_repeated_ids(entry.label, refs)
    fingerprints = [_fingerprint(dataset, ref) for ref in refs]
    manifest = as_plain(dict(dataset.manifest()))
    for shift in config.conditions:
        parameters = check_parameters(shift_class(shift.name), shift.parameters, f"conditions.{shift.label}")
        for index, (ref, (fingerprint, problem)) in enumerate(zip(refs, fingerprints, strict=True)):
            pair = {"id": ref.id, "fixed": ref.fixed, "moving": ref.moving, "tags": as_plain(ref.tags)}
            yield _Input(
                dataset=entry.label,
                dataset_name=entry.name,
                dataset_parameters=as_plain(entry.parameters),
                manifest=manifest,
                condition=shift.label,
                condition_name=shift.name,
                condition_parameters=as_plain(parameters),
                pair=pair,
                fingerprint=fingerprint,
                problem=problem,
                is_pictured=index < config.keep.pictures,
                scans=scans_of(pair, entry.name, entry.parameters, manifest, entry.family, entry.label),
            )


def _refuse_repeated_ids(label: str, refs: Sequence[PairRef]) -> None:
    seen: set[str] = set()
    for ref in refs:
        if ref.id in seen:
            raise DatasetError(f"datasets.{label}: two pairs are called '{ref.id}'; each pair needs a name of its own")
        seen.add(ref.id)


def _fingerprint(dataset: Dataset, ref: PairRef) -> tuple[str | None, str | None]:
    try:
        return dataset.fingerprint(ref), None
    except DatasetError as error:
        return None, str(error)


@dataclass(frozen=True)
class _MethodSpec:
    """A method of the config with everything about it that a case repeats."""

    label: str
    name: str
    parameters: Mapping[str, Any]
    fills_seed: bool
    card: Card
    version: str
    weights: str | None
    missing: str | None
    python: str | None
    trainings: Sequence[Training]

    @classmethod
    def of(cls, entry: Entry, config: RunConfig) -> _MethodSpec:
        name = targets.absolute_target(entry.name, Path(config.source_folder))
        parameters = targets.method_parameters(name, entry.parameters, f"methods.{entry.label}")
        plain = as_plain(parameters)
        card = targets.method_card(name, plain)
        home = home_of(name, entry.python, plain)
        return cls(
            label=entry.label,
            name=name,
            parameters=plain,
            fills_seed="seed" in parameters and "seed" not in entry.parameters,
            card=card,
            version=home.version,
            weights=_weights_hash(name, card, plain),
            missing=_missing_words(card, home),
            python=home.python,
            trainings=trainings_of(name, plain, entry.trained_on),
        )

    def case(self, item: _Input, config: RunConfig, repeat: int, metrics: Sequence[str]) -> Case:
        """The case of this method on one input."""
        seed = config.seed + repeat
        params = {**self.parameters, "seed": seed} if self.fills_seed else dict(self.parameters)
        leak = leak_of(self.trainings, item.scans)
        refused = refusal(leak) if leak is not None and config.leaks == "refuse" else None
        case = Case(
            dataset=item.dataset,
            dataset_name=item.dataset_name,
            dataset_parameters=item.dataset_parameters,
            condition=item.condition,
            condition_name=item.condition_name,
            condition_parameters=item.condition_parameters,
            condition_seed=config.seed,
            pair=item.pair,
            fingerprint=item.fingerprint,
            method=self.label,
            method_name=self.name,
            params=params,
            paradigm=self.card.paradigm,
            supervision=self.card.supervision,
            method_version=self.version,
            prealign=config.prealign,
            metrics=list(metrics),
            label_warp=config.label_warp,
            threads=config.engine.threads,
            repeat=repeat,
            seed=seed,
            key="",
            keep_field=config.keep.fields,
            keep_picture=item.is_pictured and repeat == 0,
            both_directions=config.both_directions,
            python=self.python,
            verdict=self._verdict(item, refused),
            leak=leak,
        )
        return dataclasses.replace(case, key=self._key(case))

    def _verdict(self, item: _Input, refused: str | None) -> tuple[str, str] | None:
        if item.problem is not None:
            return ("failed", item.problem)
        if refused is not None:
            return ("skipped", refused)
        return None if self.missing is None else ("skipped", self.missing)

    def _key(self, case: Case) -> str:
        # A file that cannot be read has no content; what it is called must do.
        content = case.fingerprint or ["unreadable", case.dataset_name, case.dataset_parameters]
        # The path of a user's own method says nothing; its version is a hash of its content.
        name = case.method_name.rpartition(":")[2]
        params = targets.placeless(case.method_name, case.params)
        method = [case.method, name, case.method_version, params, self.weights]
        shift = [case.condition, case.condition_name, case.condition_parameters, case.condition_seed]
        prealign = [case.prealign, prealign_version(case.prealign)]
        parts = ["case", case.dataset, case.pair["id"], content, shift, method, prealign, case.seed, case.repeat]
        # What departs from the default is named, so that the key of every other case stays what it was.
        if case.label_warp != "nearest":
            parts.append(["label_warp", case.label_warp])
        if case.both_directions:
            parts.append("both_directions")
        parts += condition_version(case)
        # A refused case has not been run: where leaks are no longer refused, it is to be.
        if case.leak is not None and case.verdict == ("skipped", refusal(case.leak)):
            parts.append("refused")
        return content_key(parts)


def condition_version(case: Case) -> list[Any]:
    """What of a key tells the version of the condition of a case; nothing for the data as they are."""
    from regbench.shifts.table import shift_version

    version = shift_version(case.condition_name)
    return [["condition", version]] if version else []


def content_key(parts: Sequence[Any]) -> str:
    """The key "sha256:..." of plain JSON data."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def prealign_version(kind: str) -> str | None:
    """The version of the method that computes a shared pre-alignment, or None where there is none."""
    return None if kind == "none" else targets.version_of(kind)


def _missing_words(card: Card, home: Home) -> str | None:
    """Why a method cannot run where it would, with the line that installs what it needs; None if nothing is missing."""
    if not home.missing:
        return None
    names = ", ".join(need.name for need in home.missing)
    hints = "; ".join(dict.fromkeys(need.install_hint for need in home.missing))
    return f"{card.name} needs {names}, which is not installed: {hints}"


def _weights_hash(method: str, card: Card, params: Mapping[str, Any]) -> str | None:
    """A hash over the weight files of a method: the user's file, or the shipped ones of that name; None if none.

    Those of a method that goes on from another one are that one's.
    """
    inner = targets.inner_method(method, params)
    if inner is not None:
        return _weights_hash(inner[0], targets.method_card(*inner), inner[1])
    name = params.get("weights") or card.weights
    if not isinstance(name, str):
        return None
    own = Path(name).expanduser()
    shipped = Path(str(resources.files("regbench.methods"))) / "weights"
    # Shipped weights come as one file per dimension: NAME-2d.safetensors and NAME-3d.safetensors.
    files = [own] if own.is_file() else sorted(shipped.glob(f"{glob.escape(own.name)}-[23]d.*"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest() if files else None
