"""Settings chosen on validation pairs: trials, the choice, the record, and the refusal to test on tuned subjects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support_runs import METHODS_FILE, Recorder, own, tiny_config, write_pairs

from regbench.cli import invoke
from regbench.config import RunConfig, load_config
from regbench.errors import ConfigError
from regbench.plan import make_plan
from regbench.runner import run
from regbench.store import read_run
from regbench.tuned import read_tuning
from regbench.tuning import RECORD, choose, trials_of, tune


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return write_pairs(tmp_path, ["a", "b"])


def _config(csv: Path, space: dict[str, list[Any]], **others: Any) -> RunConfig:
    tuning = {"parameters": {"translation": space}, **others}
    return tiny_config(csv, [own("Translation", by_mm=0.0), own("Steady")], metrics=["dice"], tune=tuning)


def test_trials_are_the_config_itself_and_every_combination(csv: Path) -> None:
    trials = trials_of(_config(csv, {"by_mm": [0.5, 2.0], "seed": [1, 2]}))
    assert [dict(trial.values) for trial in trials] == [
        {},
        {"by_mm": 0.5, "seed": 1},
        {"by_mm": 0.5, "seed": 2},
        {"by_mm": 2.0, "seed": 1},
        {"by_mm": 2.0, "seed": 2},
    ]
    assert [trial.label for trial in trials][:2] == ["translation@000", "translation@001"]


def test_a_number_of_trials_draws_different_ones(csv: Path) -> None:
    space = {"by_mm": [float(k) for k in range(50)]}
    drawn = [trial.values["by_mm"] for trial in trials_of(_config(csv, space, trials=8))[1:]]
    assert len(set(drawn)) == len(drawn) == 8
    assert drawn == [trial.values["by_mm"] for trial in trials_of(_config(csv, space, trials=8))[1:]]


def test_the_best_trial_is_recorded_with_all_others(tmp_path: Path, csv: Path) -> None:
    """The moving blob lies 2 mm further: of these values 2 is right."""
    outcome, found = tune(_config(csv, {"by_mm": [0.0, 2.0, 6.0]}), tmp_path / "run", Recorder())
    assert outcome.n_ok == 8 and found[0].best is not None
    assert found[0].best.trial.values == {"by_mm": 2.0} and found[0].best.mean == 1.0
    record = json.loads((tmp_path / "run" / RECORD).read_text())
    method = record["methods"]["translation"]
    assert method["n_trials"] == len(method["trials"]) == 4
    assert [pair["id"] for pair in record["pairs"]] == ["a", "b"]
    assert read_tuning(tmp_path / "run" / RECORD, "translation").values == {"by_mm": 2.0}


def test_a_trial_that_fails_on_a_pair_is_not_chosen() -> None:
    def row(label: str, pair: str, dice: float, status: str = "ok") -> dict[str, Any]:
        metrics = {"dice": {"mean": dice}} if status == "ok" else {}
        return {
            "method": label,
            "pair": {"id": pair},
            "status": status,
            "metrics": metrics,
            "timing": {"register_s": 1.0},
        }

    rows = [row("m@000", "a", 0.7), row("m@000", "b", 0.7), row("m@001", "a", 0.9), row("m@001", "b", 0.9, "failed")]
    from regbench.tuning import Trial

    trials = [Trial("m@000", "m", {}), Trial("m@001", "m", {"x": 1})]
    (found,) = choose(trials, rows)
    assert found.best is not None and found.best.trial.label == "m@000"
    assert (found.scores[1].n_ok, found.scores[1].n_cases) == (1, 2)


def test_lower_is_better_where_the_objective_says_so() -> None:
    from regbench.tuning import Trial

    rows = [
        {"method": f"m@{k}", "pair": {"id": "a"}, "status": "ok", "metrics": {"tre_mm": {"mean": tre}}, "timing": {}}
        for k, tre in enumerate((3.0, 1.0, 2.0))
    ]
    (found,) = choose([Trial(f"m@{k}", "m", {}) for k in range(3)], rows)
    assert found.objective == "tre_mm" and found.best is not None and found.best.trial.label == "m@1"


def _benchmark(folder: Path, csv: Path, record: Path) -> Path:
    path = folder / "benchmark.yaml"
    target = f"{METHODS_FILE}:Translation"
    path.write_text(
        f"datasets: ['{csv}']\nmethods:\n  - '{target}': {{tuned: '{record}', as: translation}}\n"
        "metrics: [dice]\nengine: {threads: 1}\n"
    )
    return path


def test_tuned_settings_are_used_and_told(tmp_path: Path, csv: Path) -> None:
    tune(_config(csv, {"by_mm": [0.0, 2.0]}), tmp_path / "tuning", Recorder())
    (tmp_path / "others").mkdir()
    others = write_pairs(tmp_path / "others", ["c", "d"], shift_voxels=1.0)
    # Other images: the same blobs a little brighter.
    config = load_config(_benchmark(tmp_path, _brighter(others), tmp_path / "tuning" / RECORD))
    assert config.methods[0].parameters == {"by_mm": 2.0}
    run(config, tmp_path / "run")
    record = read_run(tmp_path / "run")
    assert record.run["tuning"]["translation"]["n_trials"] == 3
    assert {row["params"]["by_mm"] for row in record.rows} == {2.0}


def _brighter(csv: Path) -> Path:
    from regbench.files.images import read_image, write_image
    from regbench.volume import Image

    for path in csv.parent.glob("*ing.nii.gz"):
        image = read_image(path)
        write_image(path, Image(image.array + 1.0, image.grid))
    return csv


def test_testing_on_tuned_subjects_is_refused(tmp_path: Path, csv: Path) -> None:
    tune(_config(csv, {"by_mm": [0.0, 2.0]}), tmp_path / "tuning", Recorder())
    config = load_config(_benchmark(tmp_path, csv, tmp_path / "tuning" / RECORD))
    with pytest.raises(ConfigError, match=r"methods\.translation: its settings .* were chosen on subjects"):
        make_plan(config)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no json", "is no record"),
        ('{"schema": 1, "methods": {"x": {}}}', "has no method 'Translation'"),
        (None, "cannot"),
    ],
)
def test_a_bad_record_is_one_sentence(tmp_path: Path, csv: Path, text: str | None, words: str) -> None:
    record = tmp_path / "record.json"
    if text is not None:
        record.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_tuning(record, "Translation")


def test_bad_tuning_is_one_sentence(tmp_path: Path, csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="has no method 'translation'"):
        trials_of(tiny_config(csv, [own("Steady")], tune={"parameters": {"translation": {"by_mm": [1.0]}}}))
    with pytest.raises(ConfigError, match="unknown parameter 'by_m'"):
        tune(_config(csv, {"by_m": [1.0]}), tmp_path / "x", Recorder())
    with pytest.raises(ConfigError, match="unknown metric 'dise'; did you mean 'dice'"):
        tune(_config(csv, {"by_mm": [1.0]}, objective="dise"), tmp_path / "x", Recorder())
    assert not (tmp_path / "x").exists()
    path = tmp_path / "c.yaml"
    path.write_text(f"datasets: ['{csv}']\nmethods: [identity]\ntune: {{parameters: {{identity: {{a: [1]}}}}}}\n")
    assert invoke(["run", str(path)]) == 2
    assert "regbench tune" in capsys.readouterr().err


def test_the_command_shows_trials_and_names_the_record(
    tmp_path: Path, csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        f"datasets: ['{csv}']\nmethods: ['{METHODS_FILE}:Translation']\nmetrics: [dice]\nengine: {{threads: 1}}\n"
        "keep: {pictures: 0}\ntune: {parameters: {Translation: {by_mm: [0.0, 2.0]}}}\n"
    )
    assert invoke(["tune", str(path), "-o", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "Translation@002" in out and RECORD in out
