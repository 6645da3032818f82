"""`regbench show`: the pictures of one case, kept, from a kept field, or registered again; in 2-D and in 3-D."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support_runs import own, tiny_config, write_pairs

from regbench.alignment import Alignment
from regbench.case_again import find_case, with_pictures
from regbench.cli import invoke
from regbench.displacement import Displacement
from regbench.errors import ConfigError, DatasetError, MethodError
from regbench.pair import Pair
from regbench.pictures import save_pictures
from regbench.reports.case_pictures import KINDS, kinds_of, write_case
from regbench.reports.slices import read_slices
from regbench.runner import run
from regbench.store import read_run
from regbench.volume import Grid, Image, Labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("show")
    csv = write_pairs(place, ["a", "b", "bad"])
    config = tiny_config(
        csv, ["identity", own("Steady"), own("Misbehaving", "raises", how="raises")], keep={"pictures": 1}
    )
    run(config, place / "run")
    return place / "run"


def shown(folder: Path, out: Path, pair: str, method: str, *more: str) -> list[str]:
    assert invoke(["show", str(folder), "--pair", pair, "--method", method, "-o", str(out), *more]) == 0
    return sorted(path.name for path in out.iterdir())


ALL = sorted(["overview.png", *(f"{kind}.png" for kind in KINDS)])


def test_kept_pictures_are_drawn_as_they_are(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(folder, tmp_path / "out", "a", "steady") == ALL
    assert "as kept by the run" in capsys.readouterr().out
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "out").iterdir())


def test_what_was_not_kept_is_registered_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path for path in folder.rglob("*") if path.is_file()}
    record = read_run(folder)
    found: list[Any] = []
    told: list[str] = []
    origin = with_pictures(
        record, find_case(record, pair="b", method="steady"), lambda path: found.extend(read_slices(path)), told.append
    )
    assert origin == "registered again" and "registers it again" in told[0]
    assert len(found) == 1 and found[0].shift is not None and found[0].before is not None
    assert {path for path in folder.rglob("*") if path.is_file()} == before, "the run folder stays as it is"


def test_a_case_that_is_not_there_is_told_in_one_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = read_run(folder)
    for asked, said in (
        ({"pair": "x", "method": "steady"}, "no pair 'x'"),
        ({"pair": "a", "method": "stedy"}, "did you mean 'steady'"),
        ({"pair": "a", "method": "steady", "condition": "gamma"}, "no condition 'gamma'"),
        ({"pair": "bad", "method": "raises"}, "nothing to draw"),
    ):
        with pytest.raises(ConfigError, match=said):
            find_case(record, **asked)
    assert invoke(["show", str(folder), "--pair", "x", "--method", "steady"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_other_data_or_a_method_that_fails_now_are_told(folder: Path) -> None:
    record = read_run(folder)
    row = dict(find_case(record, pair="b", method="steady"))
    with pytest.raises(DatasetError, match="have changed since this run"):
        with_pictures(record, {**row, "fingerprint": "other"}, print, print)
    failing = next(row for row in record.rows if row["pair"]["id"] == "bad" and row["method"] == "raises")
    with pytest.raises(MethodError, match="registering it again ended as failed"):
        with_pictures(record, failing, print, print)


def test_a_kept_field_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    csv = write_pairs(tmp_path, ["a"])
    run(tiny_config(csv, ["identity"], keep={"pictures": 0, "fields": True}), tmp_path / "run")
    record = read_run(tmp_path / "run")
    monkeypatch.setattr("regbench.case_again._register", None)
    origin = with_pictures(record, find_case(record, pair="a", method="identity"), lambda path: None, print)
    assert "displacement field" in origin


def test_three_planes_of_an_oblique_volume_show_the_shift(tmp_path: Path) -> None:
    """The moving image is the fixed one moved by whole voxels along one axis; two of the planes show it."""
    rng = np.random.default_rng(0)
    affine = np.diag([2.0, 1.0, 1.5, 1.0])
    affine[:3, :3] = affine[:3, [1, 0, 2]]
    grid = Grid((9, 10, 11), affine)
    array = rng.random(grid.shape).astype(np.float32)
    step_mm = grid.linear @ np.array([0.0, 3.0, 0.0])
    field = Displacement(np.broadcast_to(step_mm, (*grid.shape, 3)).astype(np.float32), grid)
    labels = Labels((array > 0.5).astype(np.uint8), grid)
    pair = Pair(
        "p", Image(array, grid), Image(np.roll(array, 3, axis=1), grid), fixed_labels=labels, moving_labels=labels
    )
    save_pictures(tmp_path / "p.npz", Alignment(pair, field))
    slices = read_slices(tmp_path / "p.npz")
    assert len(slices) == 3 and kinds_of(slices) == list(KINDS)
    sizes = [np.abs(tile.shift).reshape(-1, 2).max(axis=0) for tile in slices if tile.shift is not None]
    assert [sorted(size.tolist()) for size in sizes] == [[0, 3], [0, 0], [0, 3]]
    for tile in slices[::2]:
        assert tile.before is not None
        error_after = np.abs(tile.moved - tile.fixed)
        assert (
            np.count_nonzero(error_after < 1e-5) > 0.6 * error_after.size > np.count_nonzero(tile.before == tile.fixed)
        )
    assert len(write_case(tmp_path / "p.npz", tmp_path / "out")) == len(ALL)
