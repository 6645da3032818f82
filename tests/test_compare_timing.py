"""Two configs timed alternately: the order of the cases, what is left out, and the verdict on a slower method."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_runs import Recorder, own, tiny_config, write_pairs

from regbench.cli import invoke
from regbench.errors import ConfigError
from regbench.interleaved import time_alternately, with_python
from regbench.runner import run


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"), [f"p{i}" for i in range(6)])


def test_cases_run_in_turn_and_the_first_side_changes(csv: Path, tmp_path: Path) -> None:
    traces = [tmp_path / "base", tmp_path / "new"]
    first, second = (tiny_config(csv, [own("Steady", "mine", trace=str(trace))]) for trace in traces)
    recorder = Recorder()
    timed = time_alternately(first, second, limit=3, listener=recorder)
    order = [row["params"]["trace"] == str(traces[0]) for row in recorder.rows]
    assert order == [True, False, False, True, True, False]
    assert [row["pair"]["id"] for row in timed.base] == [row["pair"]["id"] for row in timed.new] == ["p0", "p1", "p2"]
    assert all(row["status"] == "ok" and row["timing"]["register_s"] > 0 for row in (*timed.base, *timed.new))
    assert not timed.base[0]["metrics"]
    for trace in traces:
        # A first call that is not counted, then one for each pair, all in one process.
        pairs, processes = zip(*(line.split() for line in trace.read_text().splitlines()), strict=True)
        assert pairs == ("p0", "p0", "p1", "p2")
        assert len(set(processes)) == 1


def test_the_same_thing_twice_is_not_timed(csv: Path) -> None:
    config = tiny_config(csv, [own("Steady", "mine")])
    with pytest.raises(ConfigError, match="same methods with the same parameters"):
        time_alternately(config, config)
    other = tiny_config(csv, [own("Steady", "theirs")])
    with pytest.raises(ConfigError, match="--timing-in-one-run"):
        time_alternately(config, other)


def test_another_interpreter_for_the_base(csv: Path, tmp_path: Path) -> None:
    config = tiny_config(csv, [own("Steady", "mine")])
    python = tmp_path / "python"
    python.touch()
    assert with_python(config, str(python)).methods[0].python == str(python)
    with pytest.raises(ConfigError, match="no such interpreter"):
        with_python(config, str(tmp_path / "nowhere"))


def test_a_slower_method_is_found_by_the_command(csv: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folders = [tmp_path / "base", tmp_path / "new"]
    for folder, seconds in zip(folders, (0.02, 0.1), strict=True):
        run(tiny_config(csv, [own("Steady", "mine", seconds=seconds)]), folder)
    capfd.readouterr()
    assert invoke(["compare", *map(str, folders), "--timing-in-one-run", "--metrics", "register_s"]) == 1
    shown = capfd.readouterr()
    assert "times as slow" in " ".join(shown.out.split())
    assert "[12/12]" in shown.err
