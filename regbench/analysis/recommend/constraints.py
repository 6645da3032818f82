"""Which methods the user's situation excludes, and why; before any accuracy is looked at.

What a network needs to be trained on is read from its card. One that was trained on the data set of the evidence
stands for a network that the user trains on data of his own; one from elsewhere is used as it is and needs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from regbench.analysis.groups import Row, pair_of
from regbench.analysis.recommend.scores import Scores, kind_of
from regbench.analysis.recommend.situation import Situation
from regbench.errors import RegbenchError
from regbench.leaks import scans_of, trainings_of
from regbench.methods.card import Card
from regbench.targets import method_card

_INVERTIBLE = ("none", "rigid", "affine", "diffeomorphic")
# Folds of a field that was stored on a grid: a diffeomorphism can show a few by sampling alone.
_FOLDS_OF_AN_INVERTIBLE = 0.01


@dataclass(frozen=True)
class Facts:
    """What is known of a method beside its results; `settings` are its parameters in the run.

    `is_own` says that it was trained on data like those of the evidence, `n_training` on how many subjects if known.
    """

    name: str
    settings: Mapping[str, Any]
    card: Card | None = None
    devices: tuple[str, ...] = ()
    is_own: bool = False
    n_training: int | None = None


def facts_of(rows: list[Row], runs: tuple[Mapping[str, Any], ...]) -> dict[str, Facts]:
    """Returns what is known of the methods of these rows, by label."""
    names = {m.get("label"): m.get("name") for run in runs for m in (run.get("config") or {}).get("methods") or ()}
    datasets = {label: entry for run in runs for label, entry in (run.get("datasets") or {}).items()}
    first: dict[str, Row] = {}
    devices: dict[str, dict[str, None]] = {}
    for row in rows:
        label = str(row.get("method", "?"))
        first.setdefault(label, row)
        if row.get("device"):
            devices.setdefault(label, {})[str(row["device"])] = None
    return {
        label: _facts(
            str(names.get(row.get("label_before", label)) or label), row, tuple(devices.get(label, ())), datasets
        )
        for label, row in first.items()
    }


def _facts(name: str, row: Row, devices: tuple[str, ...], datasets: Mapping[str, Any]) -> Facts:
    settings = dict(row.get("params") or {})
    try:
        card = method_card(name, settings)
        trainings = trainings_of(name, settings)
    except (RegbenchError, OSError, TypeError, ValueError, LookupError, AttributeError):
        # A method of somebody else's whose file has gone or has changed since the run.
        return Facts(name, settings, None, devices)
    dataset = str(row.get("dataset", "?"))
    entry = datasets.get(dataset) or {}
    pair, (fixed, moving) = pair_of(row)
    told = {"id": pair, "fixed": fixed, "moving": moving, "tags": (row.get("pair") or {}).get("tags") or {}}
    scans = scans_of(
        told, str(entry.get("name") or dataset), entry.get("parameters") or {}, entry.get("manifest") or {}
    )
    families = {scan.family.name for scan in scans.values()}
    own = [training for training in trainings if training.family.name in families]
    known = [len(training.members) for training in own if training.members is not None]
    return Facts(name, settings, card, devices, bool(own), sum(known) if known else None)


def exclusions(scores: Scores, facts: Mapping[str, Facts], situation: Situation) -> dict[str, str]:
    """Returns the methods that the situation rules out, each with the reason."""
    found = {}
    for method in scores.labels:
        reason = next(_reasons(scores, method, facts.get(method) or Facts(method, {}), situation), None)
        if reason:
            found[method] = reason
    return found


def _reasons(scores: Scores, method: str, facts: Facts, situation: Situation) -> Iterator[str]:
    checks: tuple[Callable[[Scores, str, Facts, Situation], str | None], ...] = (
        _too_slow, _wrong_device, _folds, _not_invertible, _lacks_training,
    )  # fmt: skip
    for check in checks:
        if reason := check(scores, method, facts, situation):
            yield reason


def _too_slow(scores: Scores, method: str, facts: Facts, situation: Situation) -> str | None:
    if situation.max_seconds is None:
        return None
    seconds = scores.seconds(method)
    if seconds is None:
        return "its time per pair was not measured"
    return (
        f"takes {seconds:.3g} s per pair, {situation.max_seconds:g} s are allowed"
        if seconds > situation.max_seconds
        else None
    )


def _wrong_device(scores: Scores, method: str, facts: Facts, situation: Situation) -> str | None:
    if situation.device != "cpu" or not facts.devices or "cpu" in facts.devices:
        return None
    return f"was measured on {facts.devices[0]} only, so its time on a CPU is not known"


def _folds(scores: Scores, method: str, facts: Facts, situation: Situation) -> str | None:
    limit = situation.max_fold_percent
    if limit is None:
        return None
    folds = scores.mean_of("fold_percent", method)
    if folds is None:
        return "its folding was not measured"
    return f"folds {folds:.3g} % of voxels, {limit:g} % are allowed" if folds > limit else None


def _not_invertible(scores: Scores, method: str, facts: Facts, situation: Situation) -> str | None:
    if not situation.invertible:
        return None
    folds = scores.mean_of("fold_percent", method)
    if folds is not None and folds > max(_FOLDS_OF_AN_INVERTIBLE, situation.max_fold_percent or 0.0):
        return f"folds {folds:.3g} % of voxels, so its fields are not invertible"
    if facts.card is not None and facts.card.transformation not in _INVERTIBLE:
        return "its transformation is not invertible by construction"
    return "nothing says that its fields are invertible" if facts.card is None and folds is None else None


def _lacks_training(scores: Scores, method: str, facts: Facts, situation: Situation) -> str | None:
    kind = kind_of(scores.labels[method])
    from_elsewhere = facts.card is not None and not facts.is_own and bool(facts.card.trained_on)
    if kind == "classical" or from_elsewhere:
        return None
    needed = facts.n_training
    supervision = scores.labels[method].supervision
    if supervision == "labels" and situation.training_labels is not None:
        have, what = situation.training_labels, "labelled subjects"
        if have == 0 or (needed and 2 * have < needed):
            there = f"{'is' if have == 1 else 'are'} {have}"
            return f"was trained on {needed or 'many'} {what} of such data, and there {there}"
    if supervision in ("image", "labels") and situation.training_pairs == 0 and not situation.training_labels:
        return "must be trained on data like these, and there are none to train on"
    return None
