"""What is shipped with the program is in order: configs are valid, networks are small, honest and work."""

from pathlib import Path

import numpy as np
import pytest

from regbench.alignment import Alignment
from regbench.config import check_config
from regbench.datasets.mni_cohort import SPLITS, MniCohort
from regbench.displacement import Displacement
from regbench.methods.table import CARDS, build
from regbench.methods.trained import read_facts, weight_file
from regbench.metrics.evaluate import evaluate

ROOT = Path(__file__).parent.parent
LEARNED = [card for card in CARDS.values() if card.name.startswith("voxelmorph-cohort")]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configs_have_no_problem(path, monkeypatch, tmp_path):
    monkeypatch.setenv("REGBENCH_DATA", str(tmp_path))
    assert check_config(path)[1] == []


@pytest.mark.parametrize("card", LEARNED, ids=lambda card: card.name)
@pytest.mark.parametrize("ndim", [2, 3])
def test_shipped_networks_are_small_and_know_what_they_were_trained_on(card, ndim):
    path = weight_file(card.weights, ndim)
    assert path is not None
    assert path.stat().st_size <= 3_000_000
    facts = read_facts(path)
    assert facts["network"]["ndim"] == ndim
    assert facts["supervision"] == card.supervision
    trained_on = facts["trained_on"]
    if card.supervision == "synthetic":
        assert trained_on["subjects"] == []
        return
    assert trained_on["dataset"] == "mni-cohort"
    assert set(trained_on["subjects"]) == {f"train-{i:03d}" for i in range(SPLITS["train"])}
    assert facts["start"]["trained_on"]["subjects"][0] == "train-000"
    assert not [name for name in facts["start"]["trained_on"]["subjects"] if not name.startswith("train-")]


@pytest.mark.slow
@pytest.mark.parametrize(("ndim", "spacing_mm"), [(2, 2.0), (3, 3.0)])
def test_shipped_networks_beat_identity_on_a_held_out_pair(ndim, spacing_mm):
    cohort = MniCohort(ndim=ndim, spacing_mm=spacing_mm, pairs="disjoint:1")
    pair = cohort.load(cohort.pair_refs()[0])

    def dice(displacement):
        return evaluate(Alignment(pair, displacement), ["dice"])["dice"]["mean"]

    before = dice(Displacement.identity(pair.fixed.grid))
    for card in LEARNED:
        displacement = build(card.name, {}).register(pair.blind())
        assert dice(displacement) > before + 0.10, card.name
        assert np.isfinite(displacement.vectors_mm).all()
