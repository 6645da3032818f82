"""A comparison for programs: strict JSON, JUnit XML, and the annotations and step summary of GitHub Actions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from regbench.analysis.comparison.outcome import OUTCOMES, Check, Comparison, Outcome
from regbench.errors import StoreError
from regbench.reports.comparison import comparison_markdown, one_line, verdict_word

# What XML 1.0 has no way to write.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# GitHub shows ten annotations of each level per step.
_MOST_ANNOTATIONS = 10
_SUMMARY_LIMIT = 1_000_000
_LEVELS: dict[Outcome, str] = {
    "regression": "error",
    "not comparable": "error",
    "inconclusive": "warning",
    "improvement": "notice",
}


def comparison_json(comparison: Comparison) -> str:
    """Returns the comparison as strict JSON."""
    return json.dumps(comparison.json, indent=1, allow_nan=False, ensure_ascii=True) + "\n"


# -- JUnit --------------------------------------------------------------------------------------------


def comparison_junit(comparison: Comparison) -> str:
    """Returns the comparison as JUnit XML: a suite per dataset and condition, a test case per check.

    A regression is a failure; what cannot be compared or is inconclusive is an error; so is an empty comparison.
    """
    root = ElementTree.Element("testsuites", name="regbench compare")
    suites: dict[str, list[Check]] = {}
    for check in comparison.of(*(outcome for outcome in OUTCOMES if outcome != "new")):
        suites.setdefault(_suite(check), []).append(check)
    for name, checks in suites.items():
        _add_suite(root, name, checks, comparison)
    if comparison.exit_code == 5:
        suite = ElementTree.SubElement(root, "testsuite", name="comparison", tests="1", failures="0", errors="1")
        case = ElementTree.SubElement(suite, "testcase", classname="comparison", name="something was compared")
        ElementTree.SubElement(case, "error", type="nothing compared", message=_xml(comparison.headline))
    total = {key: sum(int(suite.get(key, "0")) for suite in root) for key in ("tests", "failures", "errors", "skipped")}
    for key, value in total.items():
        root.set(key, str(value))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(check: Check) -> str:
    condition = "" if check.condition in ("", "none") else f", {check.condition}"
    return f"{check.dataset or 'all datasets'}{condition}"


def _add_suite(root: ElementTree.Element, name: str, checks: list[Check], comparison: Comparison) -> None:
    kinds = [_KINDS.get(check.outcome, "") for check in checks]
    counts = {"tests": len(checks), "failures": kinds.count("failure"), "errors": kinds.count("error")}
    counts["skipped"] = kinds.count("skipped")
    numbers = {key: str(count) for key, count in counts.items()}
    suite = ElementTree.SubElement(root, "testsuite", {"name": _xml(name), **numbers})
    for check, kind in zip(checks, kinds, strict=True):
        attributes = {"classname": _xml(check.method or "all methods"), "name": _xml(check.what)}
        case = ElementTree.SubElement(suite, "testcase", attributes)
        if kind == "skipped":
            ElementTree.SubElement(case, kind, message=_xml(check.text))
        elif kind:
            word = verdict_word(check, comparison)
            found = ElementTree.SubElement(case, kind, type=word, message=_xml(f"{word}: {check.text}"))
            found.text = _xml(_pairs(check))


_KINDS: Mapping[Outcome, str] = {
    "regression": "failure",
    "not comparable": "error",
    "inconclusive": "error",
    "skipped": "skipped",
}


def _pairs(check: Check) -> str:
    """Returns the pairs that changed, one on each line."""
    told = []
    for change in check.pairs[:20]:
        values = "" if change.base is None or change.new is None else f" {change.base:.6g} to {change.new:.6g}"
        told.append(f"{change.pair}:{values}{f' {change.text}' if change.text else ''}")
    return "\n".join([f"{check.place}, {check.what}: {check.text}", *told])


def _xml(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


# -- GitHub -------------------------------------------------------------------------------------------


def github_annotations(comparison: Comparison) -> list[str]:
    """Returns the workflow commands that GitHub shows beside a run: errors, warnings and notices, ten of each."""
    lines = []
    by_level: dict[str, list[Check]] = {}
    for outcome, level in _LEVELS.items():
        by_level.setdefault(level, []).extend(comparison.of(outcome))
    for level, checks in by_level.items():
        shown = checks if len(checks) <= _MOST_ANNOTATIONS else checks[: _MOST_ANNOTATIONS - 1]
        for check in shown:
            title = f"{verdict_word(check, comparison)}: {check.place}"
            lines.append(command(level, title, f"{check.what}: {check.text}"))
        if len(shown) < len(checks):
            lines.append(command(level, comparison.verdict, f"{len(checks) - len(shown)} more; see the step summary"))
    if comparison.exit_code == 5:
        lines.append(command("error", comparison.verdict, comparison.headline))
    return lines


def command(level: str, title: str, message: str) -> str:
    """Returns a workflow command of GitHub Actions; nothing in the texts can end it or start another one."""
    return f"::{level} title={_property(one_line(title))}::{_data(one_line(message))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def append_step_summary(comparison: Comparison, path: Path) -> None:
    """Appends the comparison as Markdown to the file that GitHub shows as the summary of a step. Raises StoreError."""
    text = comparison_markdown(comparison)
    if len(text.encode()) > _SUMMARY_LIMIT:
        text = f"### regbench: {comparison.verdict}\n\n{one_line(comparison.headline)}\n"
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(text + "\n")
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from None
