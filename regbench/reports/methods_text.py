"""The methods paragraph of a paper, written from what a run recorded; with its references.

Said are datasets and pairs, what was compared with which settings, how accuracy and regularity were measured, and the
statistics that the intervals of this run were made with: nothing that the run did not do. Citations are marks
`{cite:key}` until the text is rendered, for reading or for LaTeX.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regbench.analysis.groups import UNSHIFTED, Group, Row
from regbench.analysis.statistics import BOUNDED, DYADIC, INDEPENDENT, MINIMUM_PAIRS
from regbench.analysis.verdicts import MARGINS
from regbench.metrics.table import METRICS
from regbench.reports import words
from regbench.reports.page_tables import latex_escaped
from regbench.reports.references import Reference, keys_of, merged, references_in

_STATISTICS = {
    INDEPENDENT: ("Student's t over pairs, which share no subjects", ()),
    DYADIC: (
        "dyadic-robust standard errors, which count the covariance of pairs that share a subject",
        ("fafchamps2007", "aronow2015", "bell2002"),
    ),
    BOUNDED: (
        "Student's t, widened for the strongest possible effect of shared subjects",
        ("bell2002",),
    ),
}
# Metrics that a paragraph defines; costs and counts need no reference.
_DEFINED = tuple(name for name, row in METRICS.items() if row.function)
_CITE = re.compile(r"\{cite:([^}]+)\}")
_MOST_VALUES = 12


@dataclass(frozen=True)
class MethodsText:
    """The paragraphs for reading and as LaTeX, and the references as BibTeX."""

    plain: list[str]
    latex: str
    bibtex: str


def methods_text(run: Mapping[str, Any], rows: Sequence[Row], groups: Sequence[Group]) -> MethodsText:
    """Returns the text of a run; parts of which nothing was recorded are left out."""
    citations = _Citations(run, rows)
    paragraphs = [
        " ".join(filter(None, [_data(run, groups, citations), _shifts(run, groups)])),
        " ".join(filter(None, [_methods(run, rows, citations), _prealign(run), _tuning(run)])),
        " ".join(filter(None, [_metrics(run, rows, citations), _statistics(groups, citations), _completeness(rows)])),
        " ".join(filter(None, [_software(run, rows)])),
    ]
    paragraphs = [text for text in paragraphs if text]
    used = [
        r
        for r in citations.references
        if any(r.key in mark.split(",") for p in paragraphs for mark in _CITE.findall(p))
    ]
    bibtex = "\n".join([_own_entry(run), *(reference.as_bibtex() for reference in used)])
    named = {reference.key: _short(reference) for reference in used} | {"regbench": "regbench"}
    return MethodsText(
        [_readable(text, named) for text in paragraphs], "\n\n".join(map(_latex, paragraphs)) + "\n", bibtex
    )


class _Citations:
    """The citation texts of what a run used, and marks for them."""

    def __init__(self, run: Mapping[str, Any], rows: Sequence[Row]) -> None:
        self.methods, self.datasets = _method_citations(run), _dataset_citations(run)
        self.sources = {name: METRICS[name].source for name in _DEFINED if _is_measured(name, rows)}
        texts = [*self.methods.values(), *self.datasets.values(), *self.sources.values()]
        found = [reference for text in texts for reference in references_in(text)]
        statistics = (key for _, keys in _STATISTICS.values() for key in keys)
        self.references = merged([*found, *(_known(key) for key in statistics)])

    def mark(self, text: str | None) -> str:
        """Returns the mark of a citation text, with a space before it; nothing where it names no publication."""
        return self.of(keys_of(text or "", self.references))

    def of(self, keys: Iterable[str]) -> str:
        """Returns the mark of these keys, with a space before it; nothing where there are none."""
        joined = ",".join(dict.fromkeys(keys))
        return f" {{cite:{joined}}}" if joined else ""


def _known(key: str) -> Reference:
    from regbench.reports.bibliography import KNOWN

    return Reference(key, *KNOWN[key])


def _method_citations(run: Mapping[str, Any]) -> dict[str, str]:
    """Returns the citation texts of the methods of a config, by label, as far as the table of methods has them."""
    from regbench.methods.table import card, method_names

    entries = _entries(run, "methods")
    known = set(method_names([]))
    return {label: card(str(e["name"])).citation for label, e in entries.items() if e.get("name") in known}


def _dataset_citations(run: Mapping[str, Any]) -> dict[str, str]:
    from regbench.datasets.table import DATASETS

    found = {}
    for label, facts in (run.get("datasets") or {}).items():
        if isinstance(facts, Mapping):
            manifest = facts.get("manifest") if isinstance(facts.get("manifest"), Mapping) else {}
            card = DATASETS.get(str(facts.get("name")))
            found[str(label)] = str((manifest or {}).get("citation") or (card.citation if card else ""))
    return found


def _entries(run: Mapping[str, Any], key: str) -> dict[str, Mapping[str, Any]]:
    """Returns the entries of a config by label."""
    config = run.get("config")
    entries = config.get(key) if isinstance(config, Mapping) else None
    found = entries if isinstance(entries, list) else []
    return {str(e.get("label") or e.get("name")): e for e in found if isinstance(e, Mapping)}


# -- sentences ----------------------------------------------------------------------------------------


def _data(run: Mapping[str, Any], groups: Sequence[Group], citations: _Citations) -> str:
    told = []
    for dataset in dict.fromkeys(group.dataset for group in groups):
        group = next(g for g in groups if g.dataset == dataset)
        subjects = {subject for pair in group.subjects.values() for subject in pair}
        facts = (run.get("datasets") or {}).get(group.source)
        parameters = facts.get("parameters") if isinstance(facts, Mapping) else None
        settings = _settings(parameters if isinstance(parameters, Mapping) else {})
        told.append(
            f"{dataset}{citations.mark(citations.datasets.get(group.source))} "
            f"({_count(len(group.subjects), 'pair')} of {_count(len(subjects), 'subject')}"
            f"{'; ' if settings else ''}{settings})"
        )
    return f"Registration was evaluated on {_listed(told)}." if told else ""


def _shifts(run: Mapping[str, Any], groups: Sequence[Group]) -> str:
    conditions = list(dict.fromkeys(group.condition for group in groups if group.condition != UNSHIFTED))
    if not conditions:
        return ""
    facts = run.get("conditions") if isinstance(run.get("conditions"), Mapping) else {}
    shifts: dict[str, list[str]] = {}
    for condition in conditions:
        entry = (facts or {}).get(condition)
        name = str(entry.get("name")) if isinstance(entry, Mapping) else condition
        strength = (entry.get("parameters") or {}).get("strength") if isinstance(entry, Mapping) else None
        shifts.setdefault(name, []).append(
            "" if strength is None else f"{strength:g}" if isinstance(strength, float) else str(strength)
        )
    told = []
    for name, strengths in shifts.items():
        known = [strength for strength in strengths if strength]
        told.append(f"{name} (strength {_listed(known)})" if known else name)
    return f"Every pair was also registered with the images changed on purpose: {_listed(told)}."


def _methods(run: Mapping[str, Any], rows: Sequence[Row], citations: _Citations) -> str:
    entries, told = _entries(run, "methods"), []
    for label in dict.fromkeys(str(row.get("method")) for row in rows):
        row = next(r for r in rows if str(r.get("method")) == label)
        entry = entries.get(label, {})
        name = str(entry.get("name") or label)
        given = entry.get("parameters")
        facts = [f"method {name}"] if name != label else []
        facts += [str(row["method_version"])] if row.get("method_version") else []
        facts += [_settings(given)] if isinstance(given, Mapping) and given else []
        if row.get("paradigm") == "none":
            facts = ["no registration"]
        said = f" ({'; '.join(facts)})" if facts else ""
        told.append(f"{label}{citations.mark(citations.methods.get(label))}{said}")
    return f"Compared were {_listed(told)}; all other parameters were the defaults of regbench." if told else ""


def _prealign(run: Mapping[str, Any]) -> str:
    kind = (run.get("config") or {}).get("prealign") if isinstance(run.get("config"), Mapping) else None
    if not kind or kind == "none":
        return ""
    return (
        f"All methods started from the same {kind} pre-alignment, which is part of the scored displacement but not of "
        "the time."
    )


def _tuning(run: Mapping[str, Any]) -> str:
    tuning = run.get("tuning")
    return words.tuning_line(tuning).replace("`", "") if tuning else ""


def _metrics(run: Mapping[str, Any], rows: Sequence[Row], citations: _Citations) -> str:
    told = []
    for name, source in citations.sources.items():
        unit = METRICS[name].unit
        definition = METRICS[name].definition.split(";")[0]
        unit = "" if unit in ("1", "%") else f", in {unit}"
        told.append(f"{words.metric_name(name)}{citations.mark(source)} ({definition}{unit})")
    if not told:
        return ""
    warps = sorted({str(row["label_warp"]) for row in rows if row.get("label_warp") and row.get("status") == "ok"})
    warp = f" Labels were moved by {_listed(warps)} interpolation." if warps and "dice" in citations.sources else ""
    return f"Each displacement field was scored by {_listed(told)}.{warp}"


def _statistics(groups: Sequence[Group], citations: _Citations) -> str:
    methods: dict[str, None] = {}
    for group in groups:
        if group.accuracy_metric:
            for method in group.methods:
                if values := group.common_values(group.accuracy_metric, method.name):
                    methods.setdefault(group.interval(values).method)
    start = (
        "Labels and repeats were averaged within each pair, and means are over the pairs that all compared methods "
        "finished."
    )
    used = [_STATISTICS[name] for name in methods if name in _STATISTICS]
    if not used:
        return f"{start} With fewer than {MINIMUM_PAIRS} pairs, or too few subjects, no intervals are given."
    told = _listed([f"{text}{citations.of(keys)}" for text, keys in used])
    return f"{start} Intervals are 95 % confidence intervals of the mean, by {told}.{_margin(groups)}"


def _margin(groups: Sequence[Group]) -> str:
    metrics = dict.fromkeys(group.accuracy_metric for group in groups if group.accuracy_metric in MARGINS)
    told = [f"{MARGINS[str(m)]:g} {words.metric_heading(str(m))}" for m in metrics]
    if not told:
        return ""
    return (
        " One method was called ahead of another only where the whole interval of their paired difference lay beyond "
        f"{_listed(told)}, and level with it where the whole interval lay within."
    )


def _completeness(rows: Sequence[Row]) -> str:
    n_ok = sum(row.get("status") == "ok" for row in rows)
    n_skipped = sum(row.get("status") == "skipped" for row in rows)
    n_leaked = sum(bool(row.get("leaked")) for row in rows)
    if not rows:
        return ""
    told = f"All {n_ok} cases finished" if n_ok == len(rows) else f"Of {_count(len(rows), 'case')} {n_ok} finished"
    told += f" and {n_skipped} were skipped" if n_skipped else ""
    told += f"; {n_leaked} were of subjects that a method was trained on and are marked as such" if n_leaked else ""
    return f"{told}."


def _software(run: Mapping[str, Any], rows: Sequence[Row]) -> str:
    versions = run.get("versions") if isinstance(run.get("versions"), Mapping) else {}
    hosts = run.get("hosts") if isinstance(run.get("hosts"), Mapping) else {}
    sentences = []
    if versions:
        version, python = (versions or {}).get("regbench"), (versions or {}).get("python")
        sentences.append(
            f"All cases were run and scored by regbench{f' {version}' if version else ''} {{cite:regbench}}"
            f"{f' under Python {python}' if python else ''}"
            + (f", seed {run['seed']}." if run.get("seed") is not None else ".")
        )
    machines = list(dict.fromkeys(filter(None, (_machine(host) for host in (hosts or {}).values()))))
    threads = sorted({str(row["threads"]) for row in rows if row.get("threads")})
    if machines:
        of = f" with {_listed(threads)} thread{'' if threads == ['1'] else 's'} per case" if threads else ""
        sentences.append(f"Times are wall-clock times of the registration call alone, on {_listed(machines)}{of}.")
    return " ".join(sentences)


def _machine(host: Any) -> str:
    if not isinstance(host, Mapping):
        return ""
    parts = [str(host["cpu"])] if host.get("cpu") else []
    parts += [f"{host['cores']} cores"] if host.get("cores") else []
    parts += (
        [f"{round(host['memory_mib'] / 1024)} GiB of memory"] if isinstance(host.get("memory_mib"), int | float) else []
    )
    parts += [str(host["gpu"])] if host.get("gpu") else []
    return ", ".join(parts)


# -- words --------------------------------------------------------------------------------------------


def _settings(parameters: Mapping[str, Any]) -> str:
    """Returns given parameters in words, like 'spacing_mm = 2, pairs = disjoint:6'."""
    return ", ".join(f"{name} = {_value(value)}" for name, value in parameters.items())


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        shown = "/".join(_value(item) for item in value[:_MOST_VALUES])
        return f"{shown}/\N{HORIZONTAL ELLIPSIS}" if len(value) > _MOST_VALUES else shown
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_measured(name: str, rows: Iterable[Row]) -> bool:
    return any(name in (row.get("metrics") or {}) for row in rows)


def _listed(items: Sequence[str]) -> str:
    return f"{', '.join(items[:-1])} and {items[-1]}" if len(items) > 1 else "".join(items)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _short(reference: Reference) -> str:
    """Returns a citation for reading, like 'Avants et al. 2008'."""
    authors = reference.fields.get("author", reference.key).split(" and ")
    names = [author.split(",")[0].strip() for author in authors]
    shown = names[0] if len(names) == 1 else f"{names[0]} and {names[1]}" if len(names) == 2 else f"{names[0]} et al."
    if len(names) == 2 and names[1] == "others":
        shown = f"{names[0]} et al."
    # The letter of a key tells two of a year apart.
    letter = reference.key[-1] if re.search(r"\d[b-z]$", reference.key) else ""
    return f"{shown} {reference.fields.get('year', '')}{letter}".strip()


def _readable(text: str, named: Mapping[str, str]) -> str:
    return _CITE.sub(lambda mark: f"[{'; '.join(named.get(key, key) for key in mark.group(1).split(','))}]", text)


def _latex(text: str) -> str:
    parts = _CITE.split(text)
    # Every second part is what a mark holds.
    return "".join(rf"\cite{{{part}}}" if i % 2 else latex_escaped(part) for i, part in enumerate(parts)).replace(
        " \\cite", "~\\cite"
    )


def _own_entry(run: Mapping[str, Any]) -> str:
    return own_reference(run).as_bibtex()


def own_reference(run: Mapping[str, Any]) -> Reference:
    """Returns the entry that cites regbench itself, in the version of the run."""
    versions = run.get("versions") if isinstance(run.get("versions"), Mapping) else {}
    git = run.get("git") if isinstance(run.get("git"), Mapping) else {}
    fields = {"title": "regbench: a benchmark of medical image registration", "author": "The regbench contributors"}
    if version := (versions or {}).get("regbench"):
        fields["version"] = str(version)
    if commit := (git or {}).get("commit"):
        fields["note"] = f"commit {str(commit)[:12]}{', with local changes' if (git or {}).get('dirty') else ''}"
    return Reference("regbench", "software", fields)
