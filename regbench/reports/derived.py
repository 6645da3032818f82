"""What a run folder holds beside its rows: CSV tables, figures and the HTML report, all written from the rows.

The tables of the report stand in `tables/` as well, as CSV and as LaTeX, with the methods text and its references.

These files can be made again at any time, so whatever goes wrong here is told and never ends a run.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from regbench.analysis.groups import Row, group_rows
from regbench.analysis.robustness import Conditions, curved_conditions
from regbench.analysis.summary import summarise
from regbench.errors import RegbenchError
from regbench.reports.figures import PLOT_NAMES, Plot
from regbench.store import read_run, reason_of, write_whole

if TYPE_CHECKING:
    from regbench.reports.html import Report

logger = logging.getLogger(__name__)

FIGURES, TABLES = "figures", "tables"
_LISTING = ".written"
_OUR_FIGURES = ("labels__", "pictures__", "case__")


@dataclass(frozen=True)
class Derived:
    """The files that were written, and a sentence for each that could not be."""

    files: tuple[Path, ...]
    problems: tuple[str, ...]


def write_derived(folder: Path | str) -> Derived:
    """Writes results.csv, summary.csv, figures/*.png, tables/* and report.html of a run folder; what was written.

    Where conditions lie on curves, robustness.csv is written, too. Never raises for what the rows hold or for a full
    disk; each problem is logged as a warning.
    """
    folder = Path(folder)
    writer = _Writer(folder)
    record = writer.attempt("the run", lambda: read_run(folder))
    if record is None:
        return writer.outcome
    rows, order = record.rows, method_order(record.run)
    writer.write("results.csv", lambda: _results_csv(rows))
    writer.write("summary.csv", lambda: _summary_csv(rows, order))
    conditions: Conditions = record.run.get("conditions") or {}
    curved = writer.attempt("the curves", lambda: curved_conditions(group_rows(rows, order), conditions)) or set()
    if curved:
        writer.write("robustness.csv", lambda: _robustness_csv(rows, order, conditions))
    plots = _write_figures(
        writer, record.run, rows, order=order, conditions=conditions if curved else {}, curved=curved
    )
    parts = _parts(writer, record.run, rows)
    report = writer.attempt(
        "the report", lambda: _report(folder, record.run, rows, plots=plots, order=order, parts=parts)
    )
    if report is not None:
        writer.write("report.html", lambda: report.page)
        _write_tables(writer, report.tables)
    return writer.outcome


def method_order(run: Mapping[str, Any]) -> list[str]:
    """Returns the labels of the methods in the order of the config of a run; empty where it is not recorded."""
    config = run.get("config")
    methods = config.get("methods") if isinstance(config, Mapping) else None
    if not isinstance(methods, list):
        return []
    return [str(m.get("label") or m.get("name")) if isinstance(m, Mapping) else str(m) for m in methods]


_T = TypeVar("_T")


class _Writer:
    """Writes files into one folder, each as a whole, and keeps what failed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[Path] = []
        self.problems: list[str] = []

    @property
    def outcome(self) -> Derived:
        return Derived(tuple(self.files), tuple(self.problems))

    def attempt(self, what: str, make: Callable[[], _T]) -> _T | None:
        """Returns what is made, or None with the problem noted."""
        try:
            return make()
        except RegbenchError as error:
            self._note(str(error))
        except OSError as error:
            self._note(f"{what} could not be written: {reason_of(error)}")
        except Exception as error:  # a report must not take the results of hours with it
            logger.debug("while making %s", what, exc_info=True)
            self._note(f"{what} could not be made: {type(error).__name__}: {error}")
        return None

    def write(self, name: str, make: Callable[[], str | bytes]) -> None:
        """Writes a file as a whole."""

        def make_and_write() -> Path:
            content = make()
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            write_whole(path, content.encode("utf-8") if isinstance(content, str) else content)
            return path

        path = self.attempt(name, make_and_write)
        if path:
            self.files.append(path)

    def _note(self, problem: str) -> None:
        logger.warning("%s: %s", self.folder, problem)
        self.problems.append(problem)


def _write_figures(
    writer: _Writer,
    run: Mapping[str, Any],
    rows: Sequence[Row],
    *,
    order: Sequence[str],
    conditions: Conditions,
    curved: Collection[str],
) -> list[Plot]:
    """Writes the figures and removes those of an earlier state of the run; returns them in the order of the report."""
    plots: list[Plot] = []
    writer.attempt("a figure", lambda: plots.extend(_plots(rows, order, curved)))
    writer.attempt("a figure", lambda: plots.extend(_curves(rows, order, conditions)))
    writer.attempt("a figure", lambda: plots.extend(_labels(run, rows, order)))
    writer.attempt("a figure", lambda: plots.extend(_pictures(writer.folder, rows, order)))
    for plot in plots:
        writer.write(f"{FIGURES}/{plot.name}.png", lambda plot=plot: plot.png)  # type: ignore[misc]
    writer.attempt("removal of old figures", lambda: _remove_others(writer.folder / FIGURES, plots))
    return plots


def _remove_others(folder: Path, plots: Sequence[Plot]) -> None:
    """Removes figures that regbench made of rows or pictures that are there no more; a user's own files stay."""
    kept = {f"{plot.name}.png" for plot in plots}
    for path in folder.glob("*.png"):
        if path.name not in kept and (path.stem in PLOT_NAMES or path.name.startswith(_OUR_FIGURES)):
            path.unlink(missing_ok=True)


def _write_tables(writer: _Writer, tables: Mapping[str, str]) -> None:
    """Writes the tables of the report and removes those of an earlier state, which a list beside them names."""
    folder = writer.folder / TABLES
    listing = folder / _LISTING
    earlier = writer.attempt("the list of tables", lambda: listing.read_text().split() if listing.exists() else [])
    for name in set(earlier or ()) - set(tables):
        # Names in the list are plain file names, whoever wrote it.
        if "/" not in name:
            writer.attempt("removal of an old table", lambda name=name: (folder / name).unlink(missing_ok=True))  # type: ignore[misc]
    for name, text in tables.items():
        writer.write(f"{TABLES}/{name}", lambda text=text: text)  # type: ignore[misc]
    if tables or earlier:
        writer.write(f"{TABLES}/{_LISTING}", lambda: "".join(f"{name}\n" for name in sorted(tables)))


def _parts(writer: _Writer, run: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, str]:
    """Returns the parts of the report that other modules make; one that fails is told and left out."""
    from regbench.reports.html import PARTS

    made = {}
    for name, (module, function) in PARTS.items():
        make = getattr(importlib.import_module(module), function)
        made[name] = writer.attempt(f"the {name} in the report", lambda make=make: make(run, rows)) or ""  # type: ignore[misc]
    return made


def _plots(rows: Sequence[Row], order: Sequence[str], curved: Collection[str]) -> Iterator[Plot]:
    from regbench.reports.figures import draw_plots

    yield from draw_plots(group_rows(rows, order), curved)


def _curves(rows: Sequence[Row], order: Sequence[str], conditions: Conditions) -> Iterator[Plot]:
    from regbench.reports.robustness import robustness_plots

    yield from robustness_plots(group_rows(rows, order), conditions)


def _robustness_csv(rows: Sequence[Row], order: Sequence[str], conditions: Conditions) -> str:
    from regbench.reports.robustness import robustness_csv

    return robustness_csv(group_rows(rows, order), conditions)


def _pictures(folder: Path, rows: Sequence[Row], order: Sequence[str]) -> Iterator[Plot]:
    from regbench.reports.cases import draw_extremes
    from regbench.reports.slices import draw_pictures

    groups = group_rows(rows, order)
    yield from draw_extremes(groups, folder)
    yield from draw_pictures(groups, folder)


def _results_csv(rows: Sequence[Row]) -> str:
    from regbench.reports.tables import results_csv

    return results_csv(rows)


def _summary_csv(rows: Sequence[Row], order: Sequence[str]) -> str:
    from regbench.reports.tables import summary_csv

    return summary_csv(summarise(rows, order))


def _labels(run: Mapping[str, Any], rows: Sequence[Row], order: Sequence[str]) -> Iterator[Plot]:
    from regbench.reports.html import label_names
    from regbench.reports.labels import label_means, label_plot

    for means in label_means(rows, group_rows(rows, order), label_names(run)):
        yield label_plot(means)


def _report(
    folder: Path,
    run: Mapping[str, Any],
    rows: Sequence[Row],
    *,
    plots: Sequence[Plot],
    order: Sequence[str],
    parts: Mapping[str, str],
) -> Report:
    from regbench.reports.html import render_report

    return render_report(run, rows, plots, order, folder=folder, parts=parts)
