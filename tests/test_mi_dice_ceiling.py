"""The ceiling of Dice: honest about what facts predict, and silent where nothing was measured."""

from __future__ import annotations

import math

import numpy as np
import pytest

from regbench.analysis.ceiling import CeilingPoint, calibrations, feature_values, measured_points, predict
from regbench.information.record import Survey
from regbench.information.subject import Settings, SubjectInformation


def subject(mi: float, ratio: float = 0.3, size: float = 3.0) -> dict[str, object]:
    voxels = 10 * math.exp(3 * size)
    told = {"mi_nats": mi, "mi_ratio": ratio, "label_entropy_nats": 2.0, "voxels": voxels, "n_labels": 10}
    return {**told, "shape": [9, 9, 9], "border_visible_share": 0.3, "mi_all_ratio": 0.4}


def world(useful: bool, n_families: int = 8, seed: int = 0) -> list[CeilingPoint]:
    """Points whose Dice follows the information, or does not."""
    rng = np.random.default_rng(seed)
    points = []
    for family in range(n_families):
        level = rng.normal(0, 0.05 if useful else 0.8)
        for number in range(4):
            mi = float(rng.uniform(0.2, 1.0))
            facts = feature_values([subject(mi, float(rng.uniform(0.1, 0.6)), float(rng.uniform(2, 4)))])
            logit = 0.5 + level + (2.0 * (mi - 0.6) if useful else 0.0) + 0.05 * rng.standard_normal()
            points.append(CeilingPoint(f"f{family}", f"f{family}-{number}", facts, 1 / (1 + math.exp(-logit))))
    return points


def test_useful_information_is_used_and_makes_a_narrow_interval() -> None:
    points = world(useful=True)
    low, high = predict([subject(0.3)], points), predict([subject(0.9)], points)
    assert low.dice is not None and high.dice is not None and low.calibration is not None
    assert any(name in ("mi_nats", "log_mi") for name in low.calibration.features)
    assert low.dice == pytest.approx(1 / (1 + math.exp(0.1)), abs=0.04)
    assert high.dice == pytest.approx(1 / (1 + math.exp(-1.1)), abs=0.04)
    assert low.high is not None and low.low is not None and low.high - low.low < 0.15
    assert low.calibration.error < 0.03 and low.calibration.coverage > 0.8


def test_a_useless_fact_makes_a_wide_interval_and_is_not_used() -> None:
    found = predict([subject(0.5)], world(useful=False))
    assert found.calibration is not None and found.calibration.features == ()
    assert found.high is not None and found.low is not None and found.high - found.low > 0.4
    assert "better than their mean" in found.words


@pytest.mark.parametrize("seed", range(3))
def test_families_that_are_left_out_lie_inside_as_often_as_told(seed: int) -> None:
    points = world(useful=False, n_families=20, seed=seed)
    fitted = calibrations(points[:40])[0]
    fresh = predict([subject(0.5)], points[:40])
    low, high = fresh.low, fresh.high
    assert low is not None and high is not None
    inside = np.mean([low <= point.dice <= high for point in points[40:]])
    assert inside >= 0.8 and fitted.coverage >= 0.8


def test_leaving_out_families_is_harder_than_leaving_out_label_sets() -> None:
    points = world(useful=False, n_families=5)
    by_family, by_set = calibrations(points)[0], calibrations(points, by="name")[0]
    assert by_family.error > 1.05 * by_set.error and by_family.n_families == 5 and by_set.n_families == 20


def test_nothing_is_said_beyond_what_was_measured() -> None:
    points = world(useful=True)
    far = predict([subject(3.0)], points)
    assert far.dice is None and "lies outside of what was measured" in far.words
    few = predict([subject(0.5)], [p for p in points if p.family in ("f0", "f1")])
    assert few.dice is None and "fewer than three families" in few.words
    assert predict([], points).dice is None
    assert predict([{"subject": "a", "mi_nats": None}], points).dice is None


def test_a_survey_its_json_and_its_subjects_are_the_same_information() -> None:
    one = SubjectInformation(
        "s1", "labels", (8, 8, 8), voxels=300, n_labels=5, mi_nats=0.5, mi_ratio=0.3, label_entropy_nats=1.5,
        mi_all_ratio=0.4, border_visible_share=0.3,
    )  # fmt: skip
    survey = Survey("mine", "labels", Settings(), [one])
    told = {predict(form).words for form in (survey, survey.as_json(), survey.as_json()["subjects"], [one])}
    assert len(told) == 1 and "measured points" in told.pop()


def test_the_shipped_points_are_sound_and_bring_their_errors() -> None:
    points = measured_points()
    assert len({point.family for point in points}) >= 3 and all(0 < point.dice < 1 for point in points)
    assert all(math.isfinite(value) for point in points for value in point.features.values())
    found = predict([subject(0.6)])
    assert found.calibration is not None and found.by_label_set is not None
    assert 0 < found.calibration.error < 0.5 and "left out one by one" in found.words
