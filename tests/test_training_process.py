"""A training that is killed, stopped, out of disk, or no longer finite: nothing is lost, nothing is done twice."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from support_training import ring, write_recipe, write_scans  # noqa: E402

import regbench  # noqa: E402
from regbench.errors import ConfigError, StoreError  # noqa: E402
from regbench.methods.trained import load_network  # noqa: E402
from regbench.training.loop import Diverged, Training, train_from_config  # noqa: E402


@pytest.fixture(autouse=True)
def _no_picture(monkeypatch):
    monkeypatch.setattr("regbench.training.loop.draw_curves", lambda *_: None)


def quiet(_text: str) -> None: ...


def log(folder: Path) -> list[dict[str, str]]:
    """The rows of the log without what depends on the clock."""
    with (folder / "training.csv").open() as stream:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)]


def same_weights(first: Path, second: Path) -> bool:
    a, b = (load_network(path).network.state_dict() for path in (first, second))
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_killed_process_ends_with_the_log_and_the_weights_of_an_undisturbed_one(tmp_path):
    write_scans(tmp_path, ring(6))
    recipe = write_recipe(
        tmp_path,
        dataset="pairs.csv",
        spacing_mm=1,
        loss={"dice": 1.0},
        schedule={"steps": 60, "validate_every": 25, "checkpoint_minutes": 0.002},
        augmentation={"affine": {"rotation_degrees": 5}, "noise": 0.05},
    )
    whole = train_from_config(recipe, tmp_path / "whole", quiet)
    folder = tmp_path / "killed"
    environment = {**os.environ, "PYTHONPATH": str(Path(regbench.__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "regbench", "train", str(recipe), "-o", str(folder)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (folder / "checkpoint.pt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the process was to be killed while it trained"
    assert not (folder / "model.safetensors").exists()
    told: list[str] = []
    resumed = train_from_config(recipe, folder, told.append)
    assert any(text.startswith("going on from step") for text in told)
    assert log(folder) == log(tmp_path / "whole")
    assert [int(row["step"]) for row in log(folder)] == list(range(1, 61))
    assert same_weights(whole, resumed)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_saves_a_checkpoint_before_it_stops(tmp_path, name):
    recipe = write_recipe(tmp_path, schedule={"checkpoint_minutes": 60})
    whole = train_from_config(recipe, tmp_path / "whole", quiet)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def interrupt(now):
        if now.step == 4:
            os.kill(os.getpid(), getattr(signal, name))

    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        train_from_config(recipe, tmp_path / "stopped", told.append, interrupt)
    assert told[-1].startswith(f"stopped at step 4 by {name}")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    again: list[str] = []
    assert same_weights(whole, train_from_config(recipe, tmp_path / "stopped", again.append))
    assert "going on from step 4" in again
    assert log(tmp_path / "stopped") == log(tmp_path / "whole")


def test_a_loss_that_is_not_finite_stops_with_the_step_and_keeps_the_last_good_weights(tmp_path, monkeypatch):
    terms = Training._terms_now

    def broken(self):
        if self.state.step < 4:
            return terms(self)
        return lambda *_: {"similarity": torch.tensor(float("nan"), requires_grad=True)}

    monkeypatch.setattr(Training, "_terms_now", broken)
    with pytest.raises(Diverged, match="step 5: the loss is not finite") as caught:
        train_from_config(write_recipe(tmp_path), tmp_path / "run", quiet)
    assert "learning_rate" in str(caught.value)
    assert "the weights of step 3" in str(caught.value)
    assert "\n" not in str(caught.value)
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert card["stopped"] == "diverged"
    weights = load_network(tmp_path / "run" / "model.safetensors").network.state_dict()
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(tmp_path, monkeypatch):
    def infinite(self):
        weights = list(self.state.network.parameters())
        return lambda *_: {"similarity": (weights[0].sum() * 0) ** 0.5}

    monkeypatch.setattr(Training, "_terms_now", infinite)
    seen: list[Training] = []
    monkeypatch.setattr(Training, "run", lambda self, run=Training.run: (seen.append(self), run(self))[1])
    with pytest.raises(Diverged, match="step 1"):
        train_from_config(write_recipe(tmp_path), tmp_path / "run", quiet)
    assert all(torch.isfinite(value).all() for value in seen[0].state.network.state_dict().values())


def test_a_full_disk_is_one_sentence_and_the_earlier_checkpoint_stays(tmp_path, monkeypatch):
    recipe, folder = write_recipe(tmp_path), tmp_path / "run"
    save, calls = torch.save, []

    def full(content, path):
        calls.append(path)
        if len(calls) < 3:
            return save(content, path)
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StoreError, match=r"checkpoint\.pt") as caught:
        train_from_config(recipe, folder, quiet)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    told: list[str] = []
    resumed = train_from_config(recipe, folder, told.append)
    assert "going on from step 2" in told
    assert same_weights(train_from_config(recipe, tmp_path / "whole", quiet), resumed)
    assert not list(folder.glob("*.tmp"))


def test_a_torn_checkpoint_is_one_sentence(tmp_path):
    recipe = write_recipe(tmp_path)
    train_from_config(recipe, tmp_path / "run", quiet)
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"torn")
    with pytest.raises(StoreError, match="delete it to start"):
        train_from_config(recipe, tmp_path / "run", quiet)


def test_patience_stops_a_training_that_no_longer_gets_better(tmp_path):
    recipe = write_recipe(
        tmp_path, schedule={"steps": 50, "validate_every": 2, "patience": 3, "learning_rate": 1e-30}, loss={"dice": 1.0}
    )
    told: list[str] = []
    path = train_from_config(recipe, tmp_path / "run", told.append)
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert (card["best_step"], card["steps"]) == (2, 8)
    assert "no better score in 3 validations" in card["stopped"]
    stamp = path.stat().st_mtime_ns
    train_from_config(recipe, tmp_path / "run", told.append)
    assert told[-1].startswith("best step 2")
    assert len(log(tmp_path / "run")) == 8
    assert path.stat().st_mtime_ns >= stamp


def test_a_time_limit_leaves_weights_and_a_longer_one_goes_on(tmp_path):
    whole = train_from_config(write_recipe(tmp_path), tmp_path / "whole", quiet)
    folder = tmp_path / "run"
    short, longer = ({"minutes": minutes, "checkpoint_minutes": 60} for minutes in (1e-9, 60))
    early = train_from_config(write_recipe(tmp_path, schedule=short), folder, quiet)
    assert json.loads((folder / "card.json").read_text())["steps"] == 1
    assert load_network(early).grid.shape == (16, 16)
    told: list[str] = []
    assert same_weights(whole, train_from_config(write_recipe(tmp_path, schedule=longer), folder, told.append))
    assert "going on from step 1" in told
    assert log(folder) == log(tmp_path / "whole")


def test_what_changes_the_result_is_another_recipe(tmp_path):
    train_from_config(write_recipe(tmp_path), tmp_path / "run", quiet)
    for changes in ({"schedule": {"learning_rate": 1e-3}}, {"loss": {"diffusion": 0.1}}):
        with pytest.raises(ConfigError, match="another recipe"):
            train_from_config(write_recipe(tmp_path, **changes), tmp_path / "run", quiet)


def test_progress_tells_the_step_the_loss_and_the_time_left(tmp_path):
    seen = []
    train_from_config(write_recipe(tmp_path), tmp_path / "run", quiet, seen.append)
    assert [now.step for now in seen] == list(range(1, 7))
    assert seen[-1].left_s == 0
    assert all(now.left_s > 0 for now in seen[:-1])
    assert not seen[1].validation
    assert {"similarity", "dice"} <= set(seen[-1].validation)
    rows = log(tmp_path / "run")
    assert np.isclose(seen[3].terms["similarity"], np.mean([float(row["similarity"]) for row in rows[:4]]))
