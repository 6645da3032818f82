"""Curves against the strength of a shift, and what shifts cost: values, figure, tables, report."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest
from support_rows import row, table, write_run

from regbench.analysis.groups import group_rows
from regbench.analysis.robustness import curved_conditions, curves, drops
from regbench.reports.derived import write_derived
from regbench.reports.figures import draw_plots
from regbench.reports.robustness import CSV_COLUMNS, drop_tables, robustness_csv, robustness_plots

CONDITIONS: dict[str, dict[str, Any]] = {
    "none": {"name": "none", "parameters": {}},
    "noise 0.1": {"name": "noise", "parameters": {"strength": 0.1, "on": "both"}},
    "noise 0.05": {"name": "noise", "parameters": {"strength": 0.05, "on": "both"}},
    "noise 0.1 moving": {"name": "noise", "parameters": {"strength": 0.1, "on": "moving"}},
    "gamma 0.5": {"name": "gamma", "parameters": {"strength": 0.5, "on": "both"}},
    "gamma 3": {"name": "gamma", "parameters": {"strength": 3.0, "on": "both"}},
}
# Condition to the Dice of (identity, demons, vxm).
DICE = {
    "none": (0.4, 0.8, 0.6),
    "noise 0.1": (0.4, 0.6, 0.54),
    "noise 0.05": (0.4, 0.72, 0.6),
    "noise 0.1 moving": (0.4, 0.7, 0.6),
    "gamma 0.5": (0.4, 0.8, 0.66),
    "gamma 3": (0.4, 0.76, 0.3),
}
METHODS = ("identity", "demons", "vxm")


def rows(n: int = 8, dataset: str = "cohort") -> list[dict[str, Any]]:
    """Rows in which every pair is harder than the one before, by as much for all methods."""
    return [
        row(method, i, dice=value * (1 - 0.01 * i), condition=condition, dataset=dataset)
        for condition, values in DICE.items()
        for method, value in zip(METHODS, values, strict=True)
        for i in range(n)
    ]


def test_a_curve_joins_what_differs_in_strength_alone() -> None:
    found = {curve.shift: curve for curve in curves(group_rows(rows()), CONDITIONS)}
    assert set(found) == {"noise", "gamma"}, "one strength on the moving side is no curve"
    noise, gamma = ([(s, g.condition) for s, g in found[name].steps] for name in ("noise", "gamma"))
    assert noise == [(0.0, "none"), (0.05, "noise 0.05"), (0.1, "noise 0.1")]
    # What changes nothing is an exponent of 1.
    assert gamma == [(0.5, "gamma 0.5"), (1.0, "none"), (3.0, "gamma 3")]
    assert found["noise"].unit == "standard deviation / brightness"


def test_parameters_that_are_not_the_default_ones_are_in_the_title() -> None:
    conditions = CONDITIONS | {
        "more": {"name": "noise", "parameters": {"strength": 0.2, "on": "moving"}},
        "thick": {"name": "anisotropy_mm", "parameters": {"strength": 4.0, "on": "fixed", "along": "S"}},
        "thicker": {"name": "anisotropy_mm", "parameters": {"strength": 8.0, "on": "fixed", "along": "S"}},
    }
    made = rows() + [row("demons", i, condition=c) for c in ("more", "thick", "thicker") for i in range(8)]
    titles = [curve.shift for curve in curves(group_rows(made), conditions)]
    assert set(titles) == {"noise", "noise on moving", "gamma", "anisotropy_mm along S, on fixed"}


def test_without_the_data_as_they_are_there_is_no_curve_and_no_drop() -> None:
    groups = group_rows([line for line in rows() if line["condition"] != "none"])
    assert curves(groups, CONDITIONS) == [] and list(drops(groups)) == []
    assert list(robustness_plots(groups, CONDITIONS)) == [] and drop_tables(groups) == []


def test_conditions_that_are_not_known_are_left_out() -> None:
    odd: dict[str, dict[str, Any]] = {
        "noise 0.1": {"name": "noise", "parameters": None},
        "gamma 3": {"name": "none"},
        "gamma 0.5": {},
    }
    assert curves(group_rows(rows()), odd) == []
    assert curves(group_rows(rows()), {}) == []


def test_drops_are_paired_and_in_percent_of_what_there_was() -> None:
    found = {(drop.condition, drop.method): drop.percent for drop in drops(group_rows(rows()))}
    assert found["noise 0.1", "demons"].mean == pytest.approx(25.0)
    assert found["noise 0.1", "vxm"].mean == pytest.approx(10.0)
    assert found["gamma 0.5", "vxm"].mean == pytest.approx(-10.0)
    assert found["gamma 3", "identity"].mean == pytest.approx(0.0)
    # Pairs that are harder under both conditions make no width: 0.05 x 0.01 x i of 0.8 is what is left.
    assert found["noise 0.1", "demons"].half_width == pytest.approx(25 / 96.5 * 2.0, rel=0.1)


def test_an_error_that_grows_is_a_drop_too() -> None:
    made = []
    for condition, error in (("none", 2.0), ("noise 0.1", 3.0)):
        for i in range(6):
            made.append(row("demons", i, dice=None, condition=condition))
            made[-1]["metrics"]["epe_mm"] = {"mean": error}
    (drop,) = drops(group_rows(made))
    assert (drop.metric, drop.percent.mean) == ("epe_mm", pytest.approx(50.0))


def test_only_pairs_of_both_conditions_count() -> None:
    made = [line for line in rows() if not (line["condition"] == "noise 0.1" and line["pair"]["id"] in ("p00", "p01"))]
    found = {(drop.condition, drop.method): drop.percent for drop in drops(group_rows(made))}
    assert found["noise 0.1", "demons"].n == 6
    assert found["noise 0.1", "demons"].mean == pytest.approx(25.0)


def test_an_accuracy_of_nothing_has_no_drop() -> None:
    made = [row("demons", i, dice=0.0, condition=c) for c in ("none", "noise 0.1") for i in range(6)]
    assert list(drops(group_rows(made))) == []


def test_the_table_has_a_row_per_condition_and_marks_the_largest_drop() -> None:
    (found,) = drop_tables(group_rows(rows()))
    assert (found.dataset, found.metric, found.methods) == ("cohort", "Dice", list(METHODS))
    cells = dict(found.rows)
    assert list(cells) == [condition for condition in DICE if condition != "none"]
    assert [kind for _, kind in cells["noise 0.1"]] == ["", "best", ""]
    assert cells["noise 0.1"][1][0].startswith("25.0 ±")
    assert [kind for _, kind in cells["gamma 0.5"]] == ["", "", ""], "nobody lost anything"
    few = drop_tables(group_rows(rows(3)))
    assert dict(few[0].rows)["noise 0.1"][1] == ("25.0", "best")


def test_the_csv_has_every_point_of_every_curve() -> None:
    lines = list(csv.DictReader(io.StringIO(robustness_csv(group_rows(rows()), CONDITIONS))))
    assert tuple(lines[0]) == CSV_COLUMNS
    accuracy = [line for line in lines if line["metric"] == "dice"]
    assert len(accuracy) == 2 * 3 * 3
    at = {(line["shift"], float(line["strength"]), line["method"]): line for line in accuracy}
    assert float(at["noise", 0.1, "demons"]["drop_percent"]) == pytest.approx(25.0)
    assert float(at["noise", 0.1, "demons"]["mean"]) == pytest.approx(0.6 * 0.965)
    assert at["noise", 0.0, "demons"]["drop_percent"] == "" and at["noise", 0.0, "demons"]["condition"] == "none"
    assert {line["metric"] for line in lines} == {"dice", "fold_percent", "ndv_percent"}
    assert all(math.isfinite(float(line["mean"])) for line in lines)


def test_the_figure_is_drawn_once_for_all_datasets_and_the_same_again() -> None:
    groups = group_rows(rows() + rows(dataset="other"))
    (plot,) = robustness_plots(groups, CONDITIONS)
    assert plot.name == "robustness" and plot.png.startswith(b"\x89PNG")
    assert "noise on cohort" in plot.description and "gamma on other" in plot.description
    # Nothing folds; what is not diffeomorphic is there.
    assert "and below it NDV %" in plot.description
    assert next(robustness_plots(groups, CONDITIONS)).png == plot.png
    # The width and the height stand in the header: two datasets of two curves each, with two measures.
    width, height = (int.from_bytes(plot.png[at : at + 4], "big") for at in (16, 20))
    assert width < 1000 < height


def test_regular_fields_have_no_panels_of_their_own() -> None:
    made = rows()
    for line in made:
        line["metrics"]["ndv_percent"] = 0.0
    (plot,) = robustness_plots(group_rows(made), CONDITIONS)
    assert "(no method folds any voxel)" in plot.description
    made[0]["metrics"]["fold_percent"] = 0.1
    (folded,) = robustness_plots(group_rows(made), CONDITIONS)
    assert "and below it fold %" in folded.description
    heights = [int.from_bytes(found.png[20:24], "big") for found in (plot, folded)]
    assert heights[0] < heights[1]


def test_what_lies_on_a_curve_is_left_out_of_the_other_figures() -> None:
    groups = group_rows(rows())
    curved = curved_conditions(groups, CONDITIONS)
    assert curved == {"noise 0.1", "noise 0.05", "gamma 0.5", "gamma 3"}
    shown = {plot.name: plot.description for plot in draw_plots(groups, curved)}
    assert "noise 0.1 moving" in shown["shift"] and "gamma" not in shown["shift"] + shown["accuracy"]
    assert "no shift" in shown["accuracy"]


def test_the_run_folder_gets_curves_and_the_report_both(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", rows(), conditions=CONDITIONS)
    derived = write_derived(folder)
    assert derived.problems == ()
    assert {"robustness.csv", "robustness.png"} <= {path.name for path in derived.files}
    page = (folder / "report.html").read_text()
    assert "What shifts cost" in page and "drop of Dice in %" in page
    assert "Accuracy and folds against the strength of a shift" in page


def test_a_run_without_curves_has_neither_and_loses_an_old_figure(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", table(conditions=("none",)), conditions={"none": CONDITIONS["none"]})
    (folder / "figures").mkdir()
    (folder / "figures" / "robustness.png").write_bytes(b"old")
    derived = write_derived(folder)
    assert derived.problems == () and not (folder / "figures" / "robustness.png").exists()
    assert not (folder / "robustness.csv").exists()
    assert "What shifts cost" not in (folder / "report.html").read_text()
