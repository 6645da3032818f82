"""A run folder: what a run writes, how it survives a crash, and how it is read again.

    run.json        what was run, with what, where; replaced as a whole (written aside, then renamed)
    results.jsonl   one row per line, appended and synced one by one; of one key the newest row counts
    prealign.jsonl  shared pre-alignments, the same way
    run.lock        held by the process that writes

A line counts when it ends in a newline: a crash leaves at most one torn line, which is cut off on the next
opening, with a warning. JSON is strict: NaN and infinity become null.
"""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from regbench.errors import StoreError
from regbench.leaks import marked_rows

logger = logging.getLogger(__name__)

SCHEMA = 1
STATUSES = ("ok", "failed", "invalid", "timeout", "crashed", "oom", "skipped")
FIELDS, PICTURES, LOGS = "fields", "pictures", "logs"
_RESULTS, _PREALIGN, _RUN, _LOCK = "results.jsonl", "prealign.jsonl", "run.json", "run.lock"
_DERIVED = ("results.csv", "summary.csv", "report.html")
# What regbench itself writes into the sub-folders; anything else there belongs to the user and stays.
_WRITTEN = {FIELDS: (".npz", ".nii.gz"), PICTURES: (".npz",), LOGS: (".log",), "figures": (".png", ".svg", ".pdf")}


def plain_json(value: Any) -> Any:
    """The value as strict JSON data: NaN and infinity to None, tuples to lists, numpy scalars to numbers."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if isinstance(value, bool | int | str | type(None)):
        return value
    if hasattr(value, "tolist"):
        return plain_json(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def one_line(value: Mapping[str, Any]) -> bytes:
    """A JSON object as one line with its newline, in ASCII, so that no text can break a line or an encoding."""
    return json.dumps(plain_json(value), allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


def write_whole(path: Path, content: bytes) -> None:
    """Replaces a file as a whole and syncs it; on any error the old file is as it was. Raises StoreError."""
    aside = path.with_name(path.name + ".tmp")
    try:
        with aside.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise StoreError(f"{path} cannot be written: {reason_of(error)}") from None


def reason_of(error: OSError) -> str:
    """The system's words for an error, with advice where there is some."""
    text = (error.strerror or str(error) or type(error).__name__).lower()
    return text + ("; free some space and run again, finished cases are kept" if error.errno in (28, 122) else "")


class LineFile:
    """A file of JSON lines that only grows. Opening it cuts off a torn last line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._repair()
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            self._size = os.fstat(self._descriptor).st_size
        except OSError as error:
            raise StoreError(f"{path} cannot be opened for writing: {reason_of(error)}") from None

    def _repair(self) -> None:
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return
        with self.path.open("r+b") as stream:
            whole = _end_of_whole_lines(stream.read())
            if whole < size:
                logger.warning(
                    "%s: the last line was torn by a crash (%d bytes); it is cut off", self.path, size - whole
                )
                stream.truncate(whole)
                os.fsync(stream.fileno())

    def append(self, value: Mapping[str, Any]) -> None:
        """Adds one line and waits until it is on the disk; StoreError if it is not, and then no part of it stays."""
        line = one_line(value)
        try:
            written = 0
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
            os.fsync(self._descriptor)
        except OSError as error:
            self._cut_back()
            raise StoreError(f"{self.path}: a result cannot be written: {reason_of(error)}") from None
        self._size += len(line)

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            logger.warning("%s: a torn line could not be cut off; the next run repairs it", self.path)

    def close(self) -> None:
        os.close(self._descriptor)


def _end_of_whole_lines(content: bytes) -> int:
    """The length up to and including the last line that is complete: JSON, ended by a newline."""
    end = content.rfind(b"\n") + 1
    start_of_last = content.rfind(b"\n", 0, max(end - 1, 0)) + 1
    # A power cut may leave a last line of the right length whose blocks never reached the disk.
    return start_of_last if end and _parsed(content[start_of_last:end]) is None else end


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a line file, oldest first; broken lines are left out with a warning."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {reason_of(error)}") from None
    lines = content.split(b"\n")
    if lines[-1]:
        logger.warning("%s: the last line is torn; it is left out", path)
    for number, line in enumerate(lines[:-1], 1):
        value = _parsed(line)
        if value is None:
            logger.warning("%s: line %d is not JSON; it is left out", path, number)
        else:
            yield value


def newest_per_key(lines: Iterator[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Rows by key, the newest of each, in the order in which the keys first appear."""
    rows: dict[str, dict[str, Any]] = {}
    for row in lines:
        if isinstance(row.get("key"), str):
            rows[row["key"]] = row
    return rows


@dataclass(frozen=True)
class RunRecord:
    """A run as it was recorded: `run` is run.json; `rows` are the rows of its latest plan, one per case."""

    folder: Path
    run: dict[str, Any]
    rows: list[dict[str, Any]]


def read_run(folder: Path | str) -> RunRecord:
    """The record of a run folder; rows that the latest plan no longer has are left out. Raises StoreError.

    Rows of leaked pairs have the mark and the policy of the latest plan.
    """
    folder = Path(folder)
    run = _read_run_json(folder)
    if run is None:
        raise StoreError(f"{folder} is not a run folder: it has no {_RUN}")
    rows = newest_per_key(read_lines(folder / _RESULTS))
    keys = run.get("plan_keys")
    kept = list(rows.values()) if keys is None else [rows[key] for key in keys if key in rows]
    return RunRecord(folder, run, marked_rows(run, kept))


def _read_run_json(folder: Path) -> dict[str, Any] | None:
    path = folder / _RUN
    try:
        run = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {reason_of(error)}") from None
    except ValueError:
        raise StoreError(f"{path} is not valid JSON; move it away, or choose another folder") from None
    if not isinstance(run, dict) or "schema" not in run:
        raise StoreError(f"{path} was not written by regbench; choose another folder")
    if run["schema"] != SCHEMA:
        raise StoreError(f"{path} has schema {run['schema']}, this regbench reads schema {SCHEMA}")
    return run


class RunStore:
    """A run folder that is open for writing, by one process at a time."""

    def __init__(self, folder: Path, lock: int | None) -> None:
        self.folder = folder
        self._lock = lock
        self._results: LineFile | None = None
        self._prealign: LineFile | None = None

    @classmethod
    def open(cls, folder: Path | str, fresh: bool = False) -> RunStore:
        """The run folder, made if it is not there; with `fresh` what earlier runs wrote is put aside.

        Raises StoreError for a folder that cannot be written, that another run is writing to, or that holds
        files but no run.
        """
        folder = Path(folder)
        try:
            _refuse_foreign(folder)
            folder.mkdir(parents=True, exist_ok=True)
            store = cls(folder, _lock(folder))
        except OSError as error:
            raise StoreError(f"run folder {folder} cannot be made or written: {reason_of(error)}") from None
        try:
            if fresh:
                _put_aside(folder)
            store._results = LineFile(folder / _RESULTS)
        except BaseException:
            store.close()
            raise
        return store

    # -- results --------------------------------------------------------------------------------------

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds a row; it is on the disk when this returns."""
        assert self._results is not None, "the store is closed"
        self._results.append(row)

    def rows(self) -> list[dict[str, Any]]:
        """All rows, the newest of each key."""
        return list(newest_per_key(read_lines(self.folder / _RESULTS)).values())

    def finished_keys(self, retry_failed: bool = False) -> set[str]:
        """The keys that need not run again: those of all rows, or only of `ok` rows where failures are retried."""
        return {row["key"] for row in self.rows() if row.get("status") == "ok" or not retry_failed}

    def prealignments(self) -> dict[str, dict[str, Any]]:
        """The shared pre-alignments that were computed already, by key."""
        return newest_per_key(read_lines(self.folder / _PREALIGN))

    def append_prealignment(self, record: Mapping[str, Any]) -> None:
        """Adds a shared pre-alignment; it is on the disk when this returns."""
        if self._prealign is None:
            self._prealign = LineFile(self.folder / _PREALIGN)
        self._prealign.append(record)

    def replace_rows(self, rows: list[dict[str, Any]]) -> Path:
        """Replaces results.jsonl as a whole; the path of the copy of the old file. Raises StoreError."""
        path = self.folder / _RESULTS
        backup = path.with_name("results.before-evaluate.jsonl")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {reason_of(error)}") from None
        write_whole(backup, content)
        write_whole(path, b"".join(one_line(row) for row in rows))
        if self._results is not None:
            self._results.close()
        self._results = LineFile(path)
        return backup

    # -- run.json -------------------------------------------------------------------------------------

    def run_json(self) -> dict[str, Any] | None:
        """The record of this or the last run in the folder, or None for a new folder."""
        return _read_run_json(self.folder)

    def write_run_json(self, run: Mapping[str, Any]) -> None:
        """Replaces run.json as a whole."""
        text = json.dumps(plain_json({"schema": SCHEMA, **run}), allow_nan=False, indent=1)
        write_whole(self.folder / _RUN, text.encode("ascii") + b"\n")

    def subfolder(self, name: str) -> Path:
        """A sub-folder of the run folder, made if it is not there."""
        path = self.folder / name
        try:
            path.mkdir(exist_ok=True)
        except OSError as error:
            raise StoreError(f"{path} cannot be made: {reason_of(error)}") from None
        return path

    def close(self) -> None:
        """Closes the files and gives the folder free."""
        for file in (self._results, self._prealign):
            if file is not None:
                file.close()
        self._results = self._prealign = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> RunStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def new_run_id(name: str) -> str:
    """An id for a run: its name, the time, and four random characters."""
    return f"{name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(2)}"


def file_name(*parts: str) -> str:
    """The parts joined by '__', with every character that is unsafe in a file name replaced by '-'."""
    safe = ("".join(c if c.isalnum() or c in "._+=@-" else "-" for c in part).strip(".") or "-" for part in parts)
    return "__".join(safe)


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file, not a folder; choose another one with -o")
    ours = {_LOCK, _RUN + ".tmp", _RESULTS, _PREALIGN, LOGS}
    if folder.is_dir() and _read_run_json(folder) is None and any(p.name not in ours for p in folder.iterdir()):
        raise StoreError(f"{folder} has files in it but no run; choose an empty or a new folder with -o")


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock until it is closed, or the process ends in whatever way."""
    import fcntl

    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StoreError(f"{folder}: another run (process {holder}) is writing there; wait for it") from None
    except OSError as error:
        logger.warning("%s cannot be locked (%s); take care that only one run writes there", folder, reason_of(error))
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _put_aside(folder: Path) -> None:
    """Renames the rows of earlier runs to *.old.jsonl and removes what regbench derived from them."""
    for name in (_RESULTS, _PREALIGN):
        if (folder / name).exists():
            (folder / name).replace(folder / name.replace(".jsonl", ".old.jsonl"))
    for name in _DERIVED:
        (folder / name).unlink(missing_ok=True)
    for name, endings in _WRITTEN.items():
        if (folder / name).is_dir():
            for path in (folder / name).iterdir():
                if path.name.endswith(endings) and path.is_file():
                    path.unlink()
