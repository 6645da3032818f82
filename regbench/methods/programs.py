"""Registration programs of other people, run on files in a private folder.

Nothing goes through a shell: a command is a list of arguments. A program runs inside the process group of the
worker, so whatever ends the worker ends the program; a time limit of its own ends the program with all that it has
started. What it prints goes to the log of the method, the last lines of it into the reason of a failure.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from regbench.errors import ConfigError, MethodDeclined, MethodError

_KEPT_LINES = 4
_LONGEST_LINE = 200
_PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
)


@contextmanager
def private_folder(program: str) -> Iterator[Path]:
    """An empty folder for the files of one call, removed with its content at the end."""
    with tempfile.TemporaryDirectory(prefix=f"regbench-{program}-") as name:
        yield Path(name)


def find_program(name: str, hint: str = "") -> str:
    """The path of a program on PATH, or of a file; MethodDeclined, with a hint how to get it, if there is none."""
    found = shutil.which(name)
    if found is None:
        raise MethodDeclined(f"the program '{name}' is not on PATH" + (f"; {hint}" if hint else ""))
    return found


def fingerprint(files: Iterable[str]) -> str:
    """A short hash of the content of files, which belongs to the version of a method that reads them; "" for none."""
    contents = [Path(name).expanduser().read_bytes() for name in files]
    return hashlib.sha256(b"".join(contents)).hexdigest()[:12] if contents else ""


def check_files(files: Iterable[str], where: str) -> None:
    """Raises ConfigError, beginning with `where`, for a file that does not exist."""
    for name in files:
        if not Path(name).expanduser().is_file():
            raise ConfigError(f"{where}: file {name} does not exist")


def threads_of_worker() -> int:
    """The number of threads that this worker may use."""
    return int(os.environ.get("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1"))


def run_program(
    command: Sequence[str],
    folder: Path,
    timeout_s: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Runs a command in a folder and waits for it; MethodError where it cannot start, fails or takes too long.

    Its environment is that of the worker as far as programs need it (PATH, HOME, locale, threads), and what
    `environment` adds.
    """
    tail: deque[str] = deque(maxlen=_KEPT_LINES)
    try:
        process = subprocess.Popen(  # noqa: S603  a list, no shell
            list(command),
            cwd=folder,
            env={**_environment(), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise MethodError(f"{command[0]} cannot be started: {error.strerror or error}") from None
    reader = threading.Thread(target=_log, args=(process, tail), daemon=True)
    reader.start()
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        raise MethodError(f"{Path(command[0]).name} was stopped after {timeout_s:g} s") from None
    finally:
        if process.poll() is None:
            _kill(process.pid)
            process.wait()
        reader.join(1.0)
    if code:
        raise MethodError(f"{Path(command[0]).name} ended with {_ending(code)}{_told(tail)}")


def output_file(folder: Path, name: str, program: str) -> Path:
    """A file that a program was to write; MethodError, naming what is there instead, if it is missing."""
    path = folder / name
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in folder.iterdir())) or "nothing"
        raise MethodError(f"{program} wrote no {name}; its folder has {there}")
    return path


def _environment() -> dict[str, str]:
    kept = {name for name in os.environ if name.endswith("_NUM_THREADS") or name.startswith("ITK_GLOBAL_DEFAULT")}
    kept |= set(_PASSED_ON)
    return {name: value for name, value in os.environ.items() if name in kept}


def _log(process: subprocess.Popen[str], tail: deque[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        sys.stderr.write(line)
        if line.strip():
            tail.append(line.strip()[:_LONGEST_LINE])


def _ending(code: int) -> str:
    if code > 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"


def _told(tail: Sequence[str]) -> str:
    return f": {' | '.join(tail)}" if tail else ""


def _kill(pid: int) -> None:
    """Kills a process and all that it has started; each is stopped before its children are listed, to miss none."""
    family = [pid]
    for member in family:
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGSTOP)
        for children in Path(f"/proc/{member}/task").glob("*/children"):
            with suppress(OSError):
                family += [int(child) for child in children.read_text().split()]
    for member in family:
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
