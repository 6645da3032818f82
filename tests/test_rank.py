"""Rankings: orders that are known, tests by hand, Learn2Reg's scores restated, draws of subjects."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from support_rows import failure, row, table

from regbench.analysis.groups import group_rows
from regbench.analysis.learn2reg_ranks import PooledMetric, pooled_metric, rank_scores
from regbench.analysis.rank import rank_rows
from regbench.analysis.rank_scores import comparisons_of
from regbench.analysis.rank_tables import CombinedStanding, MetricRanking, Standing, sets_not_told_apart
from regbench.analysis.significance import holm, signed_rank_p
from regbench.analysis.subject_draws import pair_weights, ranks_of, spreads
from regbench.errors import ConfigError

DICE = {"identity": 0.40, "affine": 0.52, "demons": 0.70, "vxm": 0.70, "vxm-sup": 0.75}


def only_metric(rows: Sequence[Mapping[str, Any]], metric: str = "dice", scheme: str = "paired") -> MetricRanking:
    ranking = rank_rows(rows, scheme, [metric])
    assert len(ranking.groups) == 1
    return ranking.groups[0].metrics[0]


def names(standings: Sequence[Standing | CombinedStanding]) -> list[str]:
    return [standing.name for standing in standings]


# -- the paired scheme --------------------------------------------------------------------------------


def test_methods_stand_in_order_and_equal_ones_are_not_told_apart() -> None:
    found = only_metric(table(14, DICE, conditions=["none"]))
    assert names(found.standings)[0] == "vxm-sup"
    assert names(found.standings)[3:] == ["affine", "identity"]
    assert found.groups[0] == ("vxm-sup",)
    assert {frozenset(members) for members in found.groups} >= {frozenset({"demons", "vxm"}), frozenset({"identity"})}
    best = found.standings[0]
    assert (len(best.better_than), len(best.worse_than), best.letters) == (4, 0, "a")
    assert (found.n_pairs, found.n_subjects, found.is_decidable) == (14, 28, True)


def test_lower_is_better_where_the_metric_table_says_so() -> None:
    rows = table(12, DICE, conditions=["none"])
    assert names(only_metric(rows, "hd95_mm").standings)[0] == "vxm-sup"
    assert only_metric(rows, "hd95_mm").standings[0].better_than
    by_time = only_metric(rows, "register_s")
    assert names(by_time.standings)[0] == "identity"
    assert by_time.comparisons[0].winner == "identity"


def test_the_order_is_that_of_means() -> None:
    """One method is better on the mean and worse on its worst pair."""
    values = {"demons": [0.70] * 9, "vxm": [0.80] * 8 + [0.30]}
    rows = [row(method, i, dice=value) for method, found in values.items() for i, value in enumerate(found)]
    found = only_metric(rows)
    assert [(standing.name, standing.rank) for standing in found.standings] == [("vxm", 1.0), ("demons", 2.0)]


def test_a_metric_with_a_target_is_compared_by_the_distance_to_it() -> None:
    values = {"affine": -0.01, "demons": 0.3, "vxm": -0.5}
    rows = [
        row(method, i, metrics={"volume_similarity": {"mean": value + 0.001 * i}})
        for method, value in values.items()
        for i in range(8)
    ]
    found = only_metric(rows, "volume_similarity")
    assert names(found.standings) == ["affine", "demons", "vxm"]
    assert found.standings[1].mean.mean == pytest.approx(0.3035)
    assert found.standings[2].worse_than == ("affine", "demons")


def test_p_values_are_signed_rank_with_holm_over_the_table() -> None:
    rows = table(9, {"affine": 0.5, "demons": 0.503, "vxm": 0.506}, conditions=["none"], noise=0.004)
    found = only_metric(rows)
    values = {
        method: np.array([r["metrics"]["dice"]["mean"] for r in rows if r["method"] == method])
        for method in ("affine", "demons", "vxm")
    }
    expected = [signed_rank_p(values[c.method] - values[c.other]) for c in found.comparisons]
    assert [c.p for c in found.comparisons] == pytest.approx(expected)
    assert [c.adjusted for c in found.comparisons] == pytest.approx(holm(expected))
    assert len(found.comparisons) == 3


def test_shared_subjects_are_counted() -> None:
    """All ordered pairs of few subjects whose effects make the difference: a test over pairs would be sure."""
    pairs = list(itertools.permutations(range(6), 2))
    effects = [1.6, -0.5, 0.9, 1.2, -0.4, 0.3]
    values = {"a": [effects[i] + effects[j] for i, j in pairs], "b": [0.0] * len(pairs)}
    independent = [(f"f{i}", f"m{i}") for i in range(len(pairs))]
    assert comparisons_of(values, independent)[0].winner == "a"
    assert comparisons_of(values, pairs)[0].winner is None


def test_where_ranks_and_mean_disagree_nobody_is_ahead() -> None:
    """One pair far on one side, all others a little on the other: the test is sure of the ranks, the mean is not."""
    differences = [-100.0] + [1.0 + i / 100 for i in range(19)]
    pairs = [(i, -i - 1) for i in range(20)]
    compared = comparisons_of({"a": differences, "b": [0.0] * 20}, pairs)[0]
    assert compared.adjusted is not None and compared.adjusted < 0.05
    assert compared.difference.mean < 0 and compared.winner is None


def test_few_pairs_have_no_p_values_and_say_so() -> None:
    ranking = rank_rows(table(4, DICE, conditions=["none"]))
    found = ranking.groups[0].metrics[0]
    assert not ranking.is_decidable
    assert found.groups == () and all(c.p is None for c in found.comparisons)
    assert all(standing.spread is None for standing in found.standings)
    assert "4 pairs are too few" in found.notes[0]


def test_six_pairs_of_many_methods_say_how_many_would_do() -> None:
    found = only_metric(table(6, DICE, conditions=["none"]))
    # Ten comparisons: 10 x 2^(1 - n) is below .05 from n = 9 on.
    assert not found.is_decidable and "9 pairs could do it" in found.notes[0]
    assert only_metric(table(9, DICE, conditions=["none"])).is_decidable
    few = {name: DICE[name] for name in ("affine", "demons")}
    assert only_metric(table(6, few, conditions=["none"])).is_decidable


def test_failures_lower_coverage_and_leave_their_pairs_out() -> None:
    rows = [r for r in table(12, DICE, conditions=["none"]) if (r["method"], r["pair"]["id"]) != ("vxm", "p03")]
    rows.append(failure("vxm", 3))
    found = only_metric(rows)
    assert found.n_pairs == 11
    vxm = next(standing for standing in found.standings if standing.name == "vxm")
    assert (vxm.n_failed, vxm.coverage) == (1, 11 / 12)
    assert all(standing.coverage == 1 for standing in found.standings if standing.name != "vxm")


def test_only_some_methods_as_if_no_other_had_run() -> None:
    rows = [r for r in table(12, DICE, conditions=["none"]) if (r["method"], r["pair"]["id"]) != ("vxm", "p03")]
    rows.append(failure("vxm", 3))
    ranking = rank_rows(rows, only=["demons", "affine"])
    assert names(ranking.groups[0].metrics[0].standings) == ["demons", "affine"]
    assert ranking.groups[0].metrics[0].n_pairs == 12
    with pytest.raises(ConfigError, match=r"--only syn: no such method.*affine"):
        rank_rows(rows, only=["syn"])


def test_metrics_that_cannot_be_ranked_by() -> None:
    rows = table(8, DICE, conditions=["none"])
    for metric, message in {
        "dicee": "did you mean 'dice'",
        "tre_mm": "not measured in this run; measured: dice, fold_percent",
        "dice30": "quantile over pairs.*rank by dice",
    }.items():
        with pytest.raises(ConfigError, match=message):
            rank_rows(rows, metrics=[metric])


def test_nothing_to_rank() -> None:
    assert rank_rows([]).groups == ()
    alone = rank_rows(table(8, {"demons": 0.7}, conditions=["none"]))
    assert alone.groups == () and "1 method finished a pair" in alone.notes[-1]


# -- several metrics and conditions -------------------------------------------------------------------


def test_metrics_are_combined_by_the_geometric_mean_of_ranks() -> None:
    rows = table(10, DICE, conditions=["none"])
    group = rank_rows(rows, metrics=["dice", "register_s"]).groups[0]
    for standing in group.combined:
        by_metric = [next(s.rank for s in metric.standings if s.name == standing.name) for metric in group.metrics]
        assert standing.parts == tuple(by_metric)
        assert standing.score == pytest.approx(math.sqrt(by_metric[0] * by_metric[1]))
    assert [standing.score for standing in group.combined] == sorted(standing.score for standing in group.combined)


def test_regularity_takes_part_only_where_asked_for() -> None:
    rows = table(8, DICE, conditions=["none"])
    assert [m.metric for m in rank_rows(rows).groups[0].metrics] == ["dice", "hd95_mm"]


def test_conditions_are_ranked_apart_and_over_all_only_where_the_same_methods_ran() -> None:
    shifted = {**DICE, "vxm-sup": 0.42}
    rows = table(10, DICE, shifted)
    ranking = rank_rows(rows)
    assert [group.condition for group in ranking.groups] == ["none", "gamma"]
    assert names(ranking.groups[0].metrics[0].standings)[0] == "vxm-sup"
    assert names(ranking.groups[1].metrics[0].standings)[3] == "vxm-sup"
    assert len(ranking.overall) == 5
    scores = {s.name: s.score for s in ranking.overall}
    assert scores["vxm-sup"] == pytest.approx(2.0)
    fewer = rank_rows([r for r in rows if (r["method"], r["condition"]) != ("vxm", "gamma")])
    assert fewer.overall == () and "not the same methods" in fewer.notes[-1]


# -- draws of subjects --------------------------------------------------------------------------------


def test_ranks_share_the_mean_of_equal_places() -> None:
    assert ranks_of(np.array([0.3, 0.9, 0.3, 0.1])).tolist() == [2.5, 1.0, 2.5, 4.0]
    assert ranks_of(np.array([0.1 + 0.2, 0.3])).tolist() == [1.5, 1.5]


def test_shared_first_places_are_divided() -> None:
    found = spreads(np.array([[1.0, 2.0], [1.5, 1.5]]))
    assert [spread.first for spread in found] == [0.75, 0.25]


def test_pairs_that_share_nothing_are_drawn_like_pairs() -> None:
    weights = pair_weights({f"p{i}": (f"f{i}", f"m{i}") for i in range(10)}, [0], 4000)
    counts = np.stack(list(weights.values()), axis=1)
    assert np.all(counts.sum(axis=1) == 10)
    assert counts.var() == pytest.approx(0.9, abs=0.05)


def test_pairs_of_a_subject_come_and_go_together() -> None:
    subjects = {f"{i}-{j}": (str(i), str(j)) for i, j in itertools.permutations(range(6), 2)}
    weights = pair_weights(subjects, [0], 2000)
    assert np.array_equal(weights["0-1"], weights["1-0"])
    # With both subjects of 0-1 and of 2-3, those of 0-2 are there too; a subject that is not takes all its pairs along.
    both = (weights["0-1"] > 0) & (weights["2-3"] > 0)
    assert both.any() and np.all(weights["0-2"][both] > 0)
    without = np.all([weights[f"0-{j}"] == 0 for j in range(1, 6)], axis=0)
    assert np.mean(without) == pytest.approx((5 / 6) ** 6, abs=0.04)


def test_an_atlas_is_always_there() -> None:
    weights = pair_weights({f"p{i}": ("atlas", f"m{i}") for i in range(8)}, [0], 500)
    assert np.all(np.stack(list(weights.values())).sum(axis=0) == 8)


def test_clear_ranks_stay_and_unclear_ones_move() -> None:
    found = only_metric(table(12, DICE, conditions=["none"]))
    by_name = {standing.name: standing for standing in found.standings}
    best, tied = by_name["vxm-sup"].spread, by_name["vxm"].spread
    assert best is not None and (best.low, best.high, best.first) == (1, 1, 1.0)
    assert tied is not None and (tied.low, tied.high) == (2, 3)


def test_the_seed_decides_and_nothing_else() -> None:
    rows = table(10, {"demons": 0.7, "vxm": 0.7005}, conditions=["none"], noise=0.01)
    assert rank_rows(rows, seed=3) == rank_rows(rows, seed=3)
    shares = {rank_rows(rows, seed=seed).groups[0].metrics[0].standings[0].spread for seed in range(3)}
    assert len(shares) > 1


# -- sets of methods ----------------------------------------------------------------------------------


def test_sets_are_the_largest_ones_and_need_not_be_neighbours() -> None:
    apart = [("a", "b"), ("a", "d"), ("b", "d"), ("c", "d")]
    assert sets_not_told_apart("abcd", apart) == (("a", "c"), ("b", "c"), ("d",))
    assert sets_not_told_apart("abc", []) == (("a", "b", "c"),)
    assert sets_not_told_apart("abc", itertools.combinations("abc", 2)) == (("a",), ("b",), ("c",))


# -- Learn2Reg's scheme -------------------------------------------------------------------------------


def restated_scores(vectors: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Losses by rank-sum tests, placed on linspace(.1, 1), equal numbers averaged: written out step by step."""
    from scipy.stats import ranksums

    better = np.array(
        [[(r := ranksums(a, b)).statistic > 0 and r.pvalue < 0.05 for b in vectors.values()] for a in vectors.values()]
    )
    losses = better.sum(0)
    steps = np.linspace(0.1, 1, len(vectors))
    order = sorted(range(len(losses)), key=lambda i: -losses[i])
    place = {i: [steps[k] for k in range(len(order)) if losses[order[k]] == losses[i]] for i in order}
    return {name: float(np.mean(place[i])) for i, name in enumerate(vectors)}


def test_three_clearly_ordered_methods() -> None:
    assert rank_scores(np.array([0, 1, 2])).tolist() == pytest.approx([1.0, 0.55, 0.1])
    assert rank_scores(np.array([0, 0, 2])).tolist() == pytest.approx([0.775, 0.775, 0.1])
    assert rank_scores(np.array([1, 1, 1])).tolist() == pytest.approx([0.55] * 3)


def test_scores_are_those_of_the_challenge() -> None:
    rows = table(12, {"affine": 0.5, "demons": 0.53, "vxm": 0.545, "vxm-sup": 0.56}, conditions=["none"], noise=0.02)
    group = rank_rows(rows, "l2r", ["dice", "hd95_mm", "register_s"]).groups[0]
    for metric in group.metrics:
        sign = 1 if metric.metric == "dice" else -1
        vectors = {name: sign * np.array(pooled_by_hand(rows, name, metric.metric)) for name in names(metric.standings)}
        expected = restated_scores(vectors)
        assert {s.name: s.score for s in metric.standings} == pytest.approx(expected)
    combined = {s.name: s.score for s in group.combined}
    for name, score in combined.items():
        parts = [next(s.score or 0.0 for s in metric.standings if s.name == name) for metric in group.metrics]
        assert score == pytest.approx(math.prod(parts) ** (1 / 3))
    assert names(group.combined)[0] == max(combined, key=lambda name: combined[name])


def pooled_by_hand(rows: Sequence[Mapping[str, Any]], method: str, metric: str) -> list[float]:
    chosen = [r for r in rows if r["method"] == method]
    if metric == "register_s":
        return [r["timing"][metric] for r in chosen]
    return [v for r in chosen for v in r["metrics"][metric]["per_label"].values() if v is not None]


def test_losses_count_and_wins_do_not() -> None:
    """The first is above the last and the one between is like both: two without a loss share the first score."""
    steps = np.arange(12, dtype=np.float64)
    values = {"first": (steps + 6.0,), "between": (steps + 3.0,), "last": (steps,)}
    pooled = PooledMetric("dice", ("p",), values, dict.fromkeys(values, 0.0))
    assert pooled.p_value("first", "last")[1] < 0.05 < pooled.p_value("first", "between")[1]
    assert pooled.scores().tolist() == pytest.approx([0.775, 0.775, 0.1])
    assert pooled.scores().tolist() == pytest.approx(
        list(restated_scores({k: v[0] for k, v in values.items()}).values())
    )


def test_the_hardest_part_is_chosen_by_the_values_before_registration() -> None:
    rows = table(10, {"identity": 0.4, "demons": 0.7}, conditions=["none"])
    group = group_rows(rows)[0]
    found = pooled_metric(group, rows, "dice30")
    assert found is not None
    initial = sorted(v for r in rows if r["method"] == "identity" for v in r["metrics"]["dice"]["per_label"].values())
    assert sorted(found.pooled("identity")) == pytest.approx(initial[:6])
    assert len(found.pooled("demons")) == 6
    without = rank_rows(
        [r for r in rows if r["method"] != "identity"] + table(10, {"vxm": 0.6}, conditions=["none"]), "l2r"
    )
    assert "dice30" not in [metric.metric for metric in without.groups[0].metrics]


def test_drawn_scores_are_those_of_repeated_cases() -> None:
    generator = np.random.default_rng(8)
    pairs = tuple("abcdefg")
    values = {
        name: tuple(np.round(generator.normal(shift, 1, size=4), 1) for _ in pairs)
        for name, shift in (("x", 0.0), ("y", 0.7), ("z", 0.3))
    }
    pooled = PooledMetric("dice", pairs, values, dict.fromkeys(values, 0.0))
    weights = {pair: generator.integers(0, 4, size=30).astype(float) for pair in pairs}
    drawn = pooled.drawn_scores(weights)
    assert drawn is not None
    for i in range(30):
        repeated = {
            name: np.concatenate(
                [np.tile(found, int(weights[pair][i])) for pair, found in zip(pairs, lists, strict=True)]
            )
            for name, lists in values.items()
        }
        assert drawn[i].tolist() == pytest.approx(list(restated_scores(repeated).values()))


def test_a_method_without_the_metric_has_the_lowest_score() -> None:
    rows = table(8, DICE, conditions=["none"])
    for made in rows:
        if made["method"] == "affine":
            made["metrics"].pop("fold_percent")
        else:
            made["metrics"]["fold_percent"] = 0.1 * made["timing"]["register_s"]
    ranking = rank_rows(rows, "l2r", ["dice", "fold_percent"])
    affine = next(s for s in ranking.groups[0].combined if s.name == "affine")
    assert affine.parts[1] == 0.1
    assert any("affine not ranked by fold_percent" in note for note in ranking.notes)
    # The scheme of regbench has no number to make up: the method is left out of the combination.
    paired = rank_rows(rows, "paired", ["dice", "fold_percent"])
    assert "affine" not in names(paired.groups[0].combined)


def test_defects_are_named() -> None:
    assert len(rank_rows(table(8, DICE, conditions=["none"]), "l2r").caveats) >= 4
    assert rank_rows(table(8, DICE, conditions=["none"])).caveats == ()
