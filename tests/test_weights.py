"""Weights of released networks: a complete table, and files that arrive whole, checked, or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from regbench.cli import invoke
from regbench.errors import ConfigError, StoreError
from regbench.methods.table import CARDS
from regbench.methods.weights_table import WEIGHTS, weights
from regbench.weights import WeightFile, fetch, fetched_path

CONTENT = b"weights of no network" * 1000


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGBENCH_CACHE", str(tmp_path / "cache"))


class _Server(http.server.ThreadingHTTPServer):
    asked: list[str]


@pytest.fixture
def server() -> Iterator[_Server]:
    """A web server that has `/good.pth` and `/other.pth`, and keeps what it was asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            content = {"/good.pth": CONTENT, "/other.pth": CONTENT[:-1]}.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    served = _Server(("127.0.0.1", 0), Handler)
    served.asked = []
    thread = threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield served
    served.shutdown()
    served.server_close()


def _row(*addresses: str) -> WeightFile:
    return WeightFile(
        name="toy",
        suffix=".pth",
        n_bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        source="https://example.org/toy",
        licence="MIT",
        citation="nobody",
        addresses=addresses,
    )


def _at(server: _Server, *names: str) -> WeightFile:
    return _row(*(f"http://127.0.0.1:{server.server_address[1]}/{name}" for name in names))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("row", WEIGHTS.values(), ids=list(WEIGHTS))
def test_rows_are_complete(row: WeightFile) -> None:
    assert WEIGHTS[row.name] is row
    assert re.fullmatch(r"[0-9a-f]{64}", row.sha256)
    assert 0 < row.n_bytes < 5_000_000
    assert row.source.startswith("https://github.com/") and row.licence and row.citation
    repository = row.source.removeprefix("https://github.com/")
    for address in row.addresses:
        # A branch would move on; a commit stays.
        assert re.match(rf"https://raw\.githubusercontent\.com/{re.escape(repository)}/[0-9a-f]{{40}}/", address)
        assert address.endswith(row.suffix) and " " not in address


def test_no_two_rows_are_one_file() -> None:
    assert len({row.sha256 for row in WEIGHTS.values()}) == len({row.path for row in WEIGHTS.values()}) == len(WEIGHTS)


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown weights 'symnet'; did you mean 'symnet-oasis'\?; known: symnet-o"):
        weights("symnet")


def test_a_file_is_fetched_once(server: _Server) -> None:
    row, told = _at(server, "good.pth"), []
    assert fetched_path(row) is None
    path = fetch(row, told.append)
    assert path == fetched_path(row) == row.path
    assert path.read_bytes() == CONTENT
    assert told == list(row.addresses)
    fetch(row)
    assert server.asked == ["/good.pth"]


def test_a_damaged_file_is_fetched_again(server: _Server) -> None:
    row = _at(server, "good.pth")
    row.path.parent.mkdir(parents=True)
    row.path.write_bytes(CONTENT[:100])
    assert fetch(row).read_bytes() == CONTENT


def test_the_next_address_is_tried(server: _Server) -> None:
    fetch(_at(server, "gone.pth", "other.pth", "good.pth"))
    assert server.asked == ["/gone.pth", "/other.pth", "/good.pth"]


def test_another_content_is_refused_and_not_kept(server: _Server, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"weights toy: the downloaded file is not the one on record") as caught:
        fetch(_at(server, "other.pth"))
    assert "\n" not in str(caught.value) and "https://example.org/toy" in str(caught.value)
    assert not (tmp_path / "cache" / "weights").exists()


def test_another_content_leaves_what_was_there(server: _Server) -> None:
    row = _at(server, "other.pth")
    row.path.parent.mkdir(parents=True)
    row.path.write_bytes(b"before")
    with pytest.raises(StoreError, match="not the one on record"):
        fetch(row)
    assert _files(row.path.parent) == [row.path]
    assert row.path.read_bytes() == b"before"


def test_no_server_and_no_file_are_one_sentence(server: _Server, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{unused.getsockname()[1]}/good.pth"
    with pytest.raises(StoreError, match=r"^weights toy: the server cannot be reached \(\w+\); try again later"):
        fetch(_row(nowhere))
    with pytest.raises(StoreError, match=r"^weights toy: the server answered 404; try again later"):
        fetch(_at(server, "gone.pth"))
    with pytest.raises(StoreError, match=r"no address of the file is on record; get it from https://example.org/toy"):
        fetch(_row())
    assert _files(tmp_path) == []


def test_no_place_is_one_sentence(server: _Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match=r"the file cannot be written"):
        fetch(_at(server, "good.pth"))


def test_the_command_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    WEIGHTS["symnet-oasis"].path.parent.mkdir(parents=True)
    WEIGHTS["symnet-oasis"].path.touch()
    assert invoke(["weights"]) == 0
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line}
    assert lines["symnet-oasis"] == ["3.5", "MIT", "yes"]
    assert lines["lapirn-disp-oasis"] == ["3.7", "MIT", "no"]
    assert set(WEIGHTS) <= set(lines)


def test_the_command_fetches(
    server: _Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = _at(server, "good.pth")
    monkeypatch.setitem(WEIGHTS, "toy", row)
    assert invoke(["weights", "fetch", "toy"]) == 0
    told = capsys.readouterr()
    assert told.out == f"{row.path}\n"
    assert "licence MIT" in told.err and row.addresses[0] in told.err
    monkeypatch.setitem(WEIGHTS, "toy", dataclasses.replace(row, sha256="0" * 64))
    assert invoke(["weights", "fetch", "toy"]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.splitlines()[-1].startswith("regbench: weights toy: the downloaded file is not")
    assert row.path.read_bytes() == CONTENT
    assert invoke(["weights", "fetch", "toys"]) == 2
    assert "did you mean 'toy'" in capsys.readouterr().err


def test_released_networks_are_in_both_tables() -> None:
    released = [card for card in CARDS.values() if card.weights in WEIGHTS]
    assert {"symnet-oasis", "lapirn-disp-oasis", "lapirn-diff-oasis", "clapirn-oasis"} <= {c.name for c in released}
    for card in released:
        assert card.paradigm == "learned" and card.trained_on["dataset"] and card.trained_on["subjects"]
        assert WEIGHTS[str(card.weights)].licence in card.licence
