"""Information and Dice: what relate finds in rows, and what words say of it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from regbench.analysis.information import PAPER, Relation, relate
from regbench.analysis.information_factors import factor_name
from regbench.reports.information import (
    correlation_tables,
    information_html,
    print_relation,
    relation_markdown,
)
from regbench.reports.information_figures import factor_plot, scatter_plot

KINDS = {"identity": ("none", "none"), "demons": ("classical", "none"), "net": ("learned", "image")}


def row(  # noqa: PLR0917
    dataset: str, pair: int, method: str, dice: float, information: tuple[float, float], condition: str = "none"
) -> dict[str, Any]:
    """A result row with Dice and the information of both images."""
    paradigm, supervision = KINDS[method]
    mean = sum(information) / 2
    sides = {"mean": mean, "fixed": information[0], "moving": information[1]}
    metrics: dict[str, Any] = {"dice": {"mean": dice, "per_label": {}}, "mi_nats": sides}
    metrics |= {"mi_ratio": {k: v / 3 for k, v in sides.items()}, "mi_jena_nats": {k: 2 * v for k, v in sides.items()}}
    return {
        "dataset": dataset, "condition": condition, "method": method, "paradigm": paradigm, "supervision": supervision,
        "pair": {"id": f"{dataset}-{pair}", "fixed": f"{dataset}-f{pair}", "moving": f"{dataset}-m{pair}"},
        "repeat": 0, "status": "ok", "metrics": metrics,
    }  # fmt: skip


def data(n_datasets: int, within: float, between: float, n: int = 14) -> list[dict[str, Any]]:
    """Rows of data sets in which Dice follows information by the slope `within`, and their means by `between`."""
    rng = np.random.default_rng(7)
    rows = []
    for number in range(n_datasets):
        centre = 0.3 + 0.15 * number
        informations, noises = centre + rng.uniform(-0.05, 0.05, (n, 2)), 0.01 * rng.standard_normal(n)
        apart = informations.mean(axis=1) - informations.mean()
        # Exactly the slope that was asked for, not one by chance.
        noises -= noises.mean() + apart * (noises @ apart) / (apart @ apart)
        for pair, (information, own) in enumerate(zip(informations, noises, strict=True)):
            base = 0.3 + between * centre + own
            inside = within * (information.mean() - centre)
            for method, gain in (("identity", 0.0), ("demons", 0.2), ("net", 0.25)):
                noise = 0.004 * rng.standard_normal()
                rows.append(row(f"d{number}", pair, method, base + gain + inside + noise, tuple(information)))
    return rows


def said(relation: Relation) -> str:
    return " ".join(relation.words)


def test_three_data_sets_are_not_concluded_from() -> None:
    relation = relate(data(3, within=0.0, between=0.5), resamples=200)
    assert "Between-dataset only: 3 data sets, do not conclude" in said(relation)
    between = relation.find("demons", "between")
    assert between is not None and between.estimate.low is None
    assert "within data sets as well." not in said(relation), "no strong wording below four data sets"


def test_a_correlation_between_data_sets_alone_is_called_that() -> None:
    relation = relate(data(5, within=0.0, between=0.5), resamples=200)
    pooled, within = relation.find("demons"), relation.find("demons", "within")
    assert pooled is not None and pooled.estimate.low is not None and pooled.estimate.low > 0.8
    assert within is not None and within.estimate.low is not None and within.estimate.high is not None
    assert within.estimate.low < 0 < within.estimate.high
    assert (pooled.estimate.n, pooled.n_subjects, pooled.estimate.datasets) == (70, 140, 5)
    text = said(relation)
    assert "the pooled correlation is between data sets: within a data set there is none to be seen" in text
    assert "no method has much more: anatomy and labels alone can make Dice follow information" in text
    assert "r = 0.886, and 0.933 with the logarithm" in text and "do not conclude" not in text


def test_the_opposite_within_data_sets_is_told() -> None:
    relation = relate(data(5, within=-1.0, between=0.5), resamples=200)
    assert "between data sets Dice rises with the information, within a data set it falls" in said(relation)
    follows = relate(data(5, within=1.0, between=0.5), resamples=200)
    assert "Dice follows the information within data sets as well." in said(follows)


def test_label_sets_of_the_same_pairs_are_not_counted_as_data_sets() -> None:
    rows = data(5, within=0.0, between=0.5)
    for one in rows:
        one["pair"] = {**one["pair"], "id": one["pair"]["id"].split("-")[1]}
    assert "no more than 1 can be of subjects of their own" in said(relate(rows, resamples=50))


def test_gain_is_over_leaving_images_as_they_are() -> None:
    relation = relate(data(1, within=1.0, between=0.0, n=40), resamples=200)
    dice, gain = relation.find("demons", "within"), relation.find("demons", "within", outcome="gain")
    assert dice is not None and dice.estimate.r > 0.6 and gain is not None and abs(gain.estimate.r) < 0.5
    assert relation.find("identity", outcome="gain") is None
    assert "One data set (d0)" in said(relation) and "depends on the information stays open" in said(relation)
    assert relation.find("demons", "between") is not None and relation.find("demons", "within", unit="subjects")


def test_rows_that_do_not_count_change_nothing() -> None:
    rows = data(2, within=0.5, between=0.5)
    bad = [
        {**row("d0", 0, "net", 0.0, (9.0, 9.0)), "status": "failed"},
        {**row("d0", 1, "net", 0.0, (9.0, 9.0)), "leaked": {"reason": "trained on it"}},
        row("d0", 2, "net", 0.0, (9.0, 9.0), condition="noise 0.1"),
    ]
    first, second = relate(rows, resamples=50), relate([*rows, *bad], resamples=50)
    assert first.correlations == second.correlations
    assert first.correlations == relate(rows, resamples=50).correlations
    assert "Run with `metrics: full`".lower() in said(relate([])).lower()


def document(rows: list[dict[str, Any]], factor: float) -> dict[str, Any]:
    """An information.json of the subjects of rows; the Dice of label k will follow its information."""
    subjects = {}
    for one in rows:
        for side in ("fixed", "moving"):
            value = factor * one["metrics"]["mi_nats"][side]
            per_label = {str(k): {"mi_nats": 0.01 * k, "mi_ratio": 0.1} for k in range(1, 9)}
            subjects[one["pair"][side]] = {"mi_nats": value, "mi_ratio": value / 3, "per_label": per_label}
    return {"schema": 1, "dataset": "x", "subjects": [{"subject": name, **told} for name, told in subjects.items()]}


def test_files_of_a_survey_go_before_rows_and_bring_labels() -> None:
    rows = [one for one in data(1, within=1.0, between=0.0) if one["method"] != "net"]
    rng = np.random.default_rng(0)
    for one in rows:
        noise = 0.01 * rng.standard_normal(8)
        one["metrics"]["dice"]["per_label"] = {str(k): 0.5 + 0.02 * k + noise[k - 1] for k in range(1, 9)}
    relation = relate(rows, [document(rows, 10.0)], resamples=100)
    assert relation.told == "from mi-analysis" and relation.points[0].information["mi_nats"] > 2
    labels = relation.find("demons", "within", unit="labels")
    assert labels is not None and labels.estimate.r > 0.95 and labels.estimate.n == 8
    assert (labels.n_pairs, labels.n_subjects) == (14, 28)
    assert labels.estimate.low is not None and labels.estimate.low > 0.8
    assert "before any registration too" in said(relation)
    other = relate(rows, [{**document(rows, 10.0), "subjects": []}], resamples=50)
    assert other.told == "from the result rows" and other.find("demons", unit="labels") is None


# -- factors ------------------------------------------------------------------------------------------


def changed(factor: str, slopes: dict[str, float], fall: float, labels: bool = False) -> list[dict[str, Any]]:
    """Rows of two levels of a factor that takes `fall` nats each; Dice goes with it by the slope of a method."""
    rng = np.random.default_rng(11)
    rows = []
    for one in data(1, within=0.0, between=0.0):
        for strength in (0, 1, 2):
            information = tuple(one["metrics"]["mi_nats"][side] - fall * strength for side in ("fixed", "moving"))
            moved = one["method"] != "identity" or labels
            change = -slopes.get(one["method"], 0.0) * fall * strength if moved else 0.0
            dice = one["metrics"]["dice"]["mean"] + change + (0.003 * rng.standard_normal() if moved else 0.0)
            condition = f"{factor} {strength / 10}" if strength else "none"
            number = int(one["pair"]["id"].split("-")[1])
            rows.append(row("d0", number, one["method"], dice, information, condition))
    return rows


def test_the_slope_inside_of_pairs_is_found_with_its_sign() -> None:
    relation = relate(changed("noise", {"demons": 1.0, "net": -1.0}, 0.05), resamples=200)
    (factor,) = relation.factors
    assert (factor.name, factor.changes, len(factor.levels)) == ("noise", "images", 3)
    demons, net, identity = (factor.find(name) for name in ("demons", "net", "identity"))
    assert demons is not None and net is not None and identity is not None
    assert demons.low is not None and demons.high is not None
    assert demons.low < 1.0 < demons.high and demons.high - demons.low < 0.2
    assert demons.slope == pytest.approx(1.0, abs=0.1) and demons.follows == "follows"
    assert net.follows == "goes against" and identity.slope == 0
    assert demons.swing.mean == pytest.approx(-0.1, abs=0.01)
    assert "Dice follows it for demons" in said(relation) and "goes against it" in said(relation)


def test_a_change_of_labels_is_seen_and_a_flat_line_does_not_follow() -> None:
    relation = relate(
        changed("merge", {"identity": -1.0, "demons": 0.0, "net": -1.0}, 0.05, labels=True), resamples=200
    )
    (factor,) = relation.factors
    demons = factor.find("demons")
    assert factor.changes == "labels" and demons is not None and demons.follows == "does not follow"
    assert "labels change, images stay" in said(relation)


def test_information_that_stays_is_not_divided_by() -> None:
    relation = relate(changed("gamma", {"demons": 1000.0}, 1e-4), resamples=200)
    slope = relation.factors[0].find("demons")
    assert slope is not None and slope.follows == "information stays" and slope.strongest.mean < -0.15
    assert "hardly changes" in said(relation) and "that is not information" in said(relation)


def test_factors_that_disagree_are_told() -> None:
    noise = changed("noise", {"demons": 1.0}, 0.05)
    blur = [one for one in changed("blur", {"demons": 3.0}, 0.05) if one["condition"] != "none"]
    assert "no single slope fits all changes" in said(relate([*noise, *blur], resamples=200))


def test_names_of_factors_have_no_strength() -> None:
    named = ["noise 0.05", "t2_like 1 moving", "borders own 16", "t2_like", "scale 1e-05", "blur_mm 4"]
    assert [factor_name(one) for one in named] == [
        "noise",
        "t2_like moving",
        "borders own",
        "t2_like",
        "scale",
        "blur_mm",
    ]


# -- what people read ---------------------------------------------------------------------------------


def test_tables_figures_and_pages_say_the_same() -> None:
    from rich.console import Console

    rows = [*data(4, within=0.5, between=0.5), *changed("noise", {"demons": 1.0}, 0.05)]
    relation = relate(rows, resamples=100)
    titles = [table.title for table in correlation_tables(relation)]
    assert titles[0].startswith("Over pairs: Dice with") and "Slopes on d0" in titles
    stream = io.StringIO()
    for width in (60, 120):
        print_relation(Console(file=stream, width=width, no_color=True), relation)
    for text in (stream.getvalue(), relation_markdown(relation), information_html({}, rows)):
        plain = " ".join(text.split())
        assert "0.886" in plain and "2408.05839" in plain and "demons" in plain and "resamples" in plain
    page = information_html({}, rows)
    assert page.lstrip().startswith("<h3>") and page.count("<figure") == 2 and 'alt="' in page
    assert information_html({}, [{**rows[0], "metrics": {"dice": {"mean": 0.5}}}]) == ""
    scatter, factors = scatter_plot(relation), factor_plot(relation)
    assert scatter is not None and factors is not None and scatter.png.startswith(b"\x89PNG")
    assert scatter.png == (scatter_plot(relate(rows, resamples=100)) or scatter).png
    assert str(PAPER["pearson"]) in scatter.description and str(PAPER["log"]) in scatter.description
    told = relation.as_json()
    assert told["resamples"] == 100 and told["paper"]["pearson"] == 0.886 and told["words"] == relation.words
