"""The claims of "Deep Learning in Medical Image Registration: Magic or Mirage?" held against a run.

Jena et al., NeurIPS 2024 (arXiv 2408.05839) say: networks without labels do not beat classical optimisation; label
supervision does, on data like those of training; on other data it does not any more; and the Dice of classical
methods follows the mutual information of intensity and label. A run can come out for or against each of them, or be
too small to say. Results are *at home* for a network if the condition is unshifted and the data set is of a family
that it was trained on (the `family` of a data set in the config says where one differs), else they are *away*.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from regbench.analysis.contests import Contest, contest, of_kind
from regbench.analysis.correlation import Estimate, Scope
from regbench.analysis.groups import UNSHIFTED, Group, Row, group_rows, higher_is_better
from regbench.analysis.information import relate
from regbench.analysis.information_words import correlation
from regbench.analysis.verdicts import amount, too_few
from regbench.errors import RegbenchError
from regbench.leaks import scans_of, trainings_of

Holds = Literal["holds", "does not hold", "in part", "undecided"]
# A correlation from which Dice is said to follow the information: a quarter of its variance. The paper's is .886.
FOLLOWS = 0.5
# Below this number of data sets a correlation over data sets is one of them, not of data sets in general.
FEWEST_DATASETS = 4
SOURCE = "Jena et al., NeurIPS 2024, arXiv 2408.05839"
_OUTCOMES = {
    "ahead": "the networks are ahead",
    "behind": "the networks are behind",
    "not ahead": "the networks are not ahead",
    "undecided": "undecided",
    "too few": "too few",
}


@dataclass(frozen=True)
class Finding:
    """What one group of results says of a claim."""

    where: str
    words: str
    holds: Holds


@dataclass(frozen=True)
class Claim:
    """A claim of the paper with what was measured here; `expected` is what the paper says, `note` what to add."""

    name: str
    expected: str
    holds: Holds
    findings: tuple[Finding, ...]
    note: str = ""


def claims(run: Mapping[str, Any], rows: Iterable[Row]) -> list[Claim]:
    """Returns the claims that a run with classical and learned methods can say something of; none without both."""
    rows = list(rows)
    groups = [group for group in group_rows(rows) if group.accuracy_metric]
    is_home = homes(run, rows)
    image, labels = ("image",), ("labels",)
    made = [
        _claim(
            "unsupervised networks",
            "networks trained without labels do not beat classical methods, on data like those of training",
            _findings(groups, image, is_home, _not_ahead),
        ),
        _claim(
            "label supervision",
            "networks trained with labels beat classical methods, on data like those of training",
            _findings(groups, labels, is_home, _ahead),
        ),
        _claim(
            "domain shift",
            "on other data the gain of label supervision is gone: classical methods are as good or better",
            _findings(groups, labels, lambda group, method: not is_home(group, method), _not_ahead),
        ),
    ]
    if made[1].findings and made[1].holds in ("does not hold", "undecided"):
        made[2] = replace(made[2], note="There was no sure gain at home that could have been lost.")
    if not any(claim.findings for claim in made):
        return []
    made.append(_information(rows))
    return [claim for claim in made if claim.findings]


def homes(run: Mapping[str, Any], rows: Sequence[Row]) -> Callable[[Group, str], bool]:
    """Returns whether a group is at home for a method, by its name in the run."""
    config = run.get("config") or {}
    entries = {str(entry.get("label")): entry for entry in config.get("datasets") or () if isinstance(entry, Mapping)}
    methods = {str(entry.get("label")): entry for entry in config.get("methods") or () if isinstance(entry, Mapping)}
    families = {label: _families(label, entry, run, rows) for label, entry in entries.items()}
    trained = {label: _trained_on(entry) for label, entry in methods.items()}

    def is_home(group: Group, method: str) -> bool:
        known = trained.get(method, set()) & families.get(group.source, set())
        return group.condition == UNSHIFTED and bool(known)

    return is_home


def _families(label: str, entry: Mapping[str, Any], run: Mapping[str, Any], rows: Sequence[Row]) -> set[str]:
    manifest = ((run.get("datasets") or {}).get(label) or {}).get("manifest") or {}
    pair = next((row["pair"] for row in rows if row.get("dataset") == label and row.get("pair")), None)
    if pair is None:
        return set()
    name, parameters = str(entry.get("name")), entry.get("parameters") or {}
    return {
        scan.family.name for scan in scans_of(pair, name, parameters, manifest, entry.get("family"), label).values()
    }


def _trained_on(entry: Mapping[str, Any]) -> set[str]:
    try:
        trainings = trainings_of(str(entry.get("name")), entry.get("parameters") or {}, entry.get("trained_on"))
    except (RegbenchError, OSError):
        return set()
    return {training.family.name for training in trainings}


# -- judging ------------------------------------------------------------------------------------------


def _findings(
    groups: Sequence[Group],
    supervision: tuple[str, ...],
    is_meant: Callable[[Group, str], bool],
    judge: Callable[[Contest], Holds],
) -> tuple[Finding, ...]:
    found = []
    for group in groups:
        learned = [name for name in of_kind(group, "learned", supervision) if is_meant(group, name)]
        result = contest(group, learned, of_kind(group, "classical"))
        if result is not None:
            found.append(Finding(_where(group), _words(result), judge(result)))
    return tuple(found)


def _not_ahead(result: Contest) -> Holds:
    if result.outcome in ("behind", "not ahead"):
        return "holds"
    return "does not hold" if result.outcome == "ahead" else "undecided"


def _ahead(result: Contest) -> Holds:
    if result.outcome == "ahead":
        return "holds"
    return "does not hold" if result.outcome in ("behind", "not ahead") else "undecided"


def _information(rows: Sequence[Row]) -> Claim:
    """What each classical method says: correlation over pairs, of all data sets together and within them."""
    expected = "the Dice of classical methods follows the mutual information of intensity and label (r = .886)"
    if not any("mi_nats" in (row.get("metrics") or {}) for row in rows):
        return _claim("information", expected, ())
    relation = relate(rows)
    names = [method.name for method in relation.methods if method.paradigm == "classical"]
    scopes: tuple[tuple[Scope, str], ...] = (("pooled", "all data together"), ("within", "within data sets"))
    findings = []
    for scope, where in scopes if len(relation.datasets) > 1 else scopes[1:]:
        for name in names:
            found = relation.find(name, scope)
            if found is not None:
                words = f"{name}: r = {correlation(found.estimate)}"
                findings.append(Finding(f"{where} ({found.n_pairs} pairs)", words, _follows(found.estimate)))
    claim = _claim("information", expected, tuple(findings))
    if relation.n_independent >= FEWEST_DATASETS:
        return claim
    return replace(claim, note=f"From {_count(relation.n_independent)} only: not enough to conclude for others.")


def _count(n: int) -> str:
    return "1 data set" if n == 1 else f"{n} data sets that do not share subjects"


def _follows(estimate: Estimate) -> Holds:
    if estimate.low is None or estimate.high is None:
        return "undecided"
    if estimate.low >= FOLLOWS:
        return "holds"
    return "does not hold" if estimate.high < FOLLOWS else "undecided"


def _claim(name: str, expected: str, findings: tuple[Finding, ...]) -> Claim:
    return Claim(name, expected, _overall(findings), findings)


def _overall(findings: Sequence[Finding]) -> Holds:
    """Returns one verdict: groups that are undecided do not overrule those that are not."""
    counts = Counter(finding.holds for finding in findings)
    if counts["holds"] and counts["does not hold"]:
        return "in part"
    if counts["holds"] > counts["undecided"]:
        return "holds"
    return "does not hold" if counts["does not hold"] > counts["undecided"] else "undecided"


def _words(result: Contest) -> str:
    rivals = f"{result.challenger} against {result.holder}"
    lead = amount(result.lead, result.metric)
    if not higher_is_better(result.metric):
        lead += ", positive is better"
    if result.outcome == "too few":
        return f"{rivals}: {lead}; {too_few(result.lead)}"
    return f"{_OUTCOMES[result.outcome]} ({rivals}: {lead})"


def _where(group: Group) -> str:
    condition = "" if group.condition == UNSHIFTED else f", {group.condition}"
    return f"{group.dataset}{condition} ({len(group.common_pairs(group.accuracy_metric))} pairs)"
