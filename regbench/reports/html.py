"""The HTML report of a run: one file that opens offline, with all figures and tables inside.

It is put together from parts; a part without data is not there. Other modules make some of the parts as HTML
(`PARTS`). Nothing of the page refers to anything outside of it, and its security policy forbids that it could.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regbench.analysis.groups import Group, Row, group_rows
from regbench.analysis.headline import headline
from regbench.analysis.summary import SummaryRow, notes, summarise, takeaway
from regbench.metrics.table import METRICS
from regbench.reports import words
from regbench.reports.cases import LEGEND, extremes, extremes_table
from regbench.reports.failures import failures
from regbench.reports.figures import Plot
from regbench.reports.labels import LabelMeans, label_means, label_table
from regbench.reports.methods_text import methods_text
from regbench.reports.origin import origin
from regbench.reports.page import Cell, Table, download, environment, file_text, picture
from regbench.reports.page_tables import with_files
from regbench.reports.robustness import DropTable, drop_tables
from regbench.reports.slices import PICTURE_DPI
from regbench.reports.summary_tables import summary_parts

# Parts that other modules make: name, to module and function of (run, rows), which returns HTML, '' for nothing.
PARTS = {
    "recommendation": ("regbench.reports.recommendation", "recommendation_html"),
    "information": ("regbench.reports.information", "information_html"),
    "ranking": ("regbench.reports.ranking", "ranking_html"),
    "claims": ("regbench.reports.claims", "claims_html"),
}
# Pictures of slices fill most of the file: beyond this many bytes they stay in the run folder.
MOST_PICTURE_BYTES = 3_500_000
_CHARTS = ("accuracy", "labels", "cost", "shift", "robustness")


@dataclass(frozen=True)
class Report:
    """The page, and its tables, methods text and references as files: name such as 'metrics.csv' to text."""

    page: str
    tables: dict[str, str]


def render_report(
    run: Mapping[str, Any],
    rows: Sequence[Row],
    plots: Sequence[Plot],
    order: Sequence[str] = (),
    *,
    folder: Path | None = None,
    parts: Mapping[str, str] | None = None,
) -> Report:
    """Returns the report of a run; `folder` has the logs, `parts` what other modules say, by the names in `PARTS`."""
    groups = group_rows(rows, order)
    summary = [row for row in summarise(rows, order) if not row.is_apart]
    shown, n_left_out = _within_budget([plot for plot in plots if plot.in_report and _kind(plot) not in _CHARTS])
    content: dict[str, Any] = {
        "name": run.get("name") or run.get("run") or "run",
        "run_id": run.get("run"),
        "when": _when(run),
        "counts": _counts(rows),
        "headline": headline(rows),
        "takeaway": takeaway(rows),
        "notes": notes(rows),
        "results": summary_parts(summary),
        "intervals": words.INTERVALS_LINE,
        "tuning": words.tuning_line(run.get("tuning") or {}),
        "charts": {kind: [picture(p) for p in plots if _kind(p) == kind and p.in_report] for kind in _CHARTS},
        "labels": [(means.is_long, label_table(means)) for means in _labels(run, rows, groups)],
        "drops": [_drop_table(table) for table in drop_tables(groups)],
        "cases": [extremes_table(*found) for found in extremes(groups)],
        "case_pictures": [picture(plot, PICTURE_DPI) for plot in shown if _kind(plot) == "case"],
        "pair_pictures": [picture(plot, PICTURE_DPI) for plot in shown if _kind(plot) == "pictures"],
        "legend": LEGEND,
        "n_left_out": n_left_out,
        "failures": failures(rows, folder),
        "metrics": _metric_table(summary),
        "origin": origin(run, rows),
        "text": methods_text(run, rows, groups),
        "parts": {name: _trusted((parts or {}).get(name, "")) for name in PARTS if name != "recommendation"},
        "recommendation": [tuple(map(_trusted, item)) for item in _folded((parts or {}).get("recommendation", ""))],
        "download": download,
    }
    return _rendered(content)


def _rendered(content: Mapping[str, Any]) -> Report:
    style, script = file_text("report.css"), file_text("report.js")
    text = (
        environment()
        .get_template("report.html.j2")
        .render(
            **content,
            contents=list(_contents(content)),
            style=_trusted(style),
            script=_trusted(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
        )
    )
    page, tables = with_files(text)
    said = content["text"]
    if said.plain:
        tables |= {"methods.tex": said.latex, "references.bib": said.bibtex}
    return Report(page, tables)


def _trusted(text: str) -> Any:
    """Returns text that the template puts in as it is: our own files, and parts made with the same escaping."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704


def _folded(part: str) -> Iterator[tuple[str, str]]:
    """Yields each `<h3>` of a part with its first paragraph, which is read by all, and what stands below for some."""
    for item in re.split(r"(?=<h3)", part):
        if item.strip():
            start, paragraph, rest = item.partition("</p>")
            yield start + paragraph, rest.strip()


def _contents(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the sections that are there, as (id, title)."""
    charts, parts = content["charts"], content["parts"]
    for name, title, is_there in (
        ("recommendation", "What to use", content["recommendation"]),
        ("results", "Results", True),
        ("accuracy", "Accuracy", charts["accuracy"]),
        ("labels", "Labels", content["labels"]),
        ("cost", "Regularity and time", charts["cost"]),
        ("robustness", "Robustness", content["drops"] or charts["shift"] or charts["robustness"]),
        ("information", "Information", parts["information"]),
        ("ranking", "Ranking", parts["ranking"]),
        ("claims", "Claims", parts["claims"]),
        ("cases", "Worst and best cases", content["cases"]),
        ("failures", "Failures", True),
        ("metrics", "Metrics", content["metrics"].rows),
        ("origin", "Provenance", True),
        ("cite", "Methods text and citation", content["text"].plain),
    ):
        if is_there:
            yield name, title


def _kind(plot: Plot) -> str:
    return plot.name.partition("__")[0]


def _within_budget(plots: Sequence[Plot]) -> tuple[list[Plot], int]:
    """Returns the pictures that fit into the report, first come first, and how many do not."""
    shown: list[Plot] = []
    room = MOST_PICTURE_BYTES
    for plot in plots:
        if len(plot.png) <= room:
            shown.append(plot)
            room -= len(plot.png)
    return shown, len(plots) - len(shown)


def _labels(run: Mapping[str, Any], rows: Sequence[Row], groups: Sequence[Group]) -> list[LabelMeans]:
    return label_means(rows, groups, label_names(run))


def label_names(run: Mapping[str, Any]) -> dict[str, Mapping[str, str]]:
    """Returns names of labels by dataset and number, where the manifest of a dataset tells them."""
    found: dict[str, Mapping[str, str]] = {}
    for dataset, facts in (run.get("datasets") or {}).items():
        manifest = facts.get("manifest") if isinstance(facts, Mapping) else None
        names = manifest.get("label_names") if isinstance(manifest, Mapping) else None
        if isinstance(names, Mapping):
            found[str(dataset)] = {str(label): str(name) for label, name in names.items()}
    return found


def _drop_table(drops: DropTable) -> Table:
    title = f"{drops.dataset} \N{MIDDLE DOT} drop of {drops.metric} in %"
    headings = [("condition", "text"), *((method, "") for method in drops.methods)]
    rows = [[Cell(condition), *(Cell(text, kind) for text, kind in cells)] for condition, cells in drops.rows]
    return Table(f"drops {drops.dataset}", title, headings, rows)


def _metric_table(summary: Sequence[SummaryRow]) -> Table:
    measured = [METRICS[name] for name in METRICS if any(name in row.metrics for row in summary)]
    headings = [(text, "text") for text in ("name", "unit", "better", "definition", "source")]
    rows = [
        [Cell(m.name), Cell(m.unit), Cell(m.direction), Cell(m.definition, "wide"), Cell(m.source)] for m in measured
    ]
    return Table("metrics", "Metrics", headings, rows)


def _counts(rows: Sequence[Row]) -> str:
    counts = Counter(str(row.get("status")) for row in rows)
    what = f"{len(rows)} case{'' if len(rows) == 1 else 's'}"
    return f"{what}: " + ", ".join(f"{n} {status}" for status, n in counts.most_common()) if rows else "no cases"


def _when(run: Mapping[str, Any]) -> str:
    """Returns the day on which the run was started first; '' where it is not recorded."""
    sessions = run.get("sessions")
    first = sessions[0] if isinstance(sessions, list) and sessions else {}
    started = first.get("started") if isinstance(first, Mapping) else None
    return str(started)[:10] if started else ""
