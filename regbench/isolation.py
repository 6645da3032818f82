"""The supervisor of one worker process: gives it work, holds it to its limits, and says how it died.

A worker leads its own session and process group. Whatever ends it - a result, the time limit, a signal - is
told as an `Outcome`; nothing that a method does reaches the supervisor otherwise. The time limit covers the
method's own phases (import, set-up, register) together; reading and evaluating have a limit of their own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regbench.errors import StoreError
from regbench.phases import OWN_PHASES, READING, STARTING
from regbench.resources import largest_mib, worker_environment
from regbench.store import reason_of
from regbench.worker import TEMPORARY_PREFIX

_SIGNAL_MEANINGS = {
    signal.SIGSEGV: "a memory access violation in native code",
    signal.SIGABRT: "native code aborted",
    signal.SIGBUS: "a bus error in native code",
    signal.SIGFPE: "an arithmetic error in native code",
    signal.SIGILL: "an instruction that this CPU does not have",
}
_MEMORY_CHECK_S = 0.1
_GRACE_S = 2.0


@dataclass(frozen=True)
class Limits:
    """The limits of a case: seconds for the method's own work, seconds for reading and evaluating, memory in MiB."""

    method_s: float = 900.0
    side_s: float = 1800.0
    memory_mib: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How a piece of work ended: the worker's own result, or the status and reason that the supervisor gave it."""

    status: str
    reason: str | None = None
    result: Mapping[str, Any] | None = None
    exit: str | None = None


@dataclass(frozen=True)
class WorkerPlace:
    """Where a worker runs and writes: the run folder, its log, its number of threads and the seed of the run."""

    folder: Path
    log: Path
    threads: int = 1
    seed: int = 0


class Supervisor:
    """One worker at a time, started when there is work, and again after it died."""

    def __init__(self, place: WorkerPlace, limits: Limits) -> None:
        self._place = place
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._temporary: Path | None = None
        self._buffer = bytearray()
        self._outcome: Outcome | None = None
        self._memory_checked = 0.0
        self.n_starts = 0

    @property
    def is_running(self) -> bool:
        return self._process is not None

    # -- work -----------------------------------------------------------------------------------------

    def give(self, request: Mapping[str, Any]) -> None:
        """Hands a piece of work to the worker, which is started if need be; `check` tells how it ends."""
        self._outcome = None
        self._request, self._is_untouched = request, self._process is not None
        self._phase, self._phase_start, self._own_s = READING, time.monotonic(), 0.0
        if self._process is None:
            self._phase = STARTING
            try:
                self._start()
            except OSError as error:
                self._outcome = Outcome("crashed", f"the worker could not be started: {reason_of(error)}")
                return
        line = json.dumps(request).encode("ascii") + b"\n"
        # A worker that is dead already is noticed by `check`.
        with contextlib.suppress(BrokenPipeError):
            while line:
                line = line[os.write(self._requests, line) :]

    def fileno(self) -> int:
        """The descriptor that becomes readable when `check` has something to read, or -1."""
        return self._answers if self._process is not None else -1

    def seconds_to_limit(self) -> float:
        """Seconds until a limit is reached if nothing happens before."""
        if self._outcome is not None:
            return 0.0
        left = self._deadline() - time.monotonic()
        return max(min(left, _MEMORY_CHECK_S) if self._limits.memory_mib else left, 0.0)

    def check(self) -> Outcome | None:
        """How the work ended, or None while it goes on. Never waits. StoreError if the worker reports one."""
        if self._outcome is None:
            gone = self._read()
            if self._outcome is None and (gone or self._has_exited()):
                if self._is_untouched:
                    # The worker had died of its last case, after that one's result: this case is not to blame.
                    self.stop(at_once=True)
                    self.give(self._request)
                    return self._outcome
                self._outcome = self._death()
            elif self._outcome is None:
                self._outcome = self._over_limit()
            if self._outcome is not None and (self._outcome.result is None or self._outcome.status == "oom"):
                # After an exhausted memory a worker may hold on to what it could get.
                self.stop(at_once=True)
        return self._outcome

    # -- life and death -------------------------------------------------------------------------------

    def _start(self) -> None:
        self._temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX))
        request_read, self._requests = os.pipe()
        self._answers, answer_write = os.pipe()
        os.set_blocking(self._answers, False)
        place = self._place
        command = [sys.executable, "-P", "-m", "regbench.worker", str(request_read), str(answer_write)]
        try:
            with place.log.open("ab") as log:
                self._process = subprocess.Popen(  # noqa: S603 - our own module
                    [*command, str(os.getpid()), str(place.folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(request_read, answer_write),
                    start_new_session=True,
                    env=worker_environment(os.environ, place.threads, place.seed, self._temporary),
                )
        except OSError:
            os.close(self._requests)
            os.close(self._answers)
            self._remove_temporary()
            raise
        finally:
            os.close(request_read)
            os.close(answer_write)
        self._buffer.clear()
        self.n_starts += 1

    def stop(self, at_once: bool = False) -> None:
        """Ends the worker and all of its process group; one without work is given a moment to end itself."""
        process, self._process = self._process, None
        if process is None:
            return
        os.close(self._requests)
        if not at_once:
            deadline = time.monotonic() + _GRACE_S
            while not _exited(process) and time.monotonic() < deadline:
                time.sleep(0.002)
        # Before the leader is reaped its group id cannot be given to anyone else.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        os.close(self._answers)
        # A process in an uninterruptible system call outlives SIGKILL for a while; it is not waited for.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5 * _GRACE_S)
        self._remove_temporary()

    def _remove_temporary(self) -> None:
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def _has_exited(self) -> bool:
        return self._process is not None and _exited(self._process)

    def _death(self) -> Outcome:
        """What the end of the worker says, read from its exit status without reaping it."""
        assert self._process is not None
        deadline = time.monotonic() + _GRACE_S
        while not _exited(self._process) and time.monotonic() < deadline:
            time.sleep(0.001)
        if not _exited(self._process):
            return Outcome("crashed", f"the worker closed its pipe while {self._phase} and went on running")
        info = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        assert info is not None
        return describe_death(info.si_status, info.si_code == os.CLD_EXITED, self._phase, self._place.log)

    # -- pipe and limits ------------------------------------------------------------------------------

    def _read(self) -> bool:
        """Takes in what the worker has sent; whether the pipe has ended."""
        while True:
            try:
                part = os.read(self._answers, 1 << 16)
            except BlockingIOError:
                return False
            if not part:
                return True
            self._buffer += part
            while self._outcome is None and b"\n" in self._buffer:
                line, _, rest = self._buffer.partition(b"\n")
                self._buffer = bytearray(rest)
                self._take(bytes(line))
            if self._outcome is not None:
                return False

    def _take(self, line: bytes) -> None:
        self._is_untouched = False
        try:
            message = json.loads(line)
            if "phase" in message:
                self._enter(str(message["phase"]))
            elif "store_error" in message:
                raise StoreError(str(message["store_error"]))
            else:
                result = message["result"]
                self._outcome = Outcome(result["status"], result["reason"], result)
        except (ValueError, KeyError, TypeError):
            self._outcome = Outcome("crashed", f"the worker sent something that is no message while {self._phase}")

    def _enter(self, phase: str) -> None:
        now = time.monotonic()
        if self._phase in OWN_PHASES:
            self._own_s += now - self._phase_start
        self._phase, self._phase_start = phase, now

    def _deadline(self) -> float:
        allowed = self._limits.method_s - self._own_s if self._phase in OWN_PHASES else self._limits.side_s
        return self._phase_start + allowed

    def _over_limit(self) -> Outcome | None:
        now = time.monotonic()
        if now >= self._deadline():
            if self._phase in OWN_PHASES:
                reason = f"the method was still {self._phase} at the time limit of {self._limits.method_s:g} s"
            else:
                reason = f"{self._phase} took longer than {self._limits.side_s:g} s"
            return Outcome("timeout", reason, exit="killed at the time limit")
        limit = self._limits.memory_mib
        if limit is None or now - self._memory_checked < _MEMORY_CHECK_S or self._process is None:
            return None
        self._memory_checked = now
        used = largest_mib(self._process.pid)
        if used is None or used <= limit:
            return None
        reason = f"the worker used {used} MiB while {self._phase}, more than the limit of {limit} MiB"
        return Outcome("oom", reason, exit="killed at the memory limit")


def _exited(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has ended; it is not reaped, so its id stays its own."""
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def describe_death(code: int, is_exit: bool, phase: str, log: Path) -> Outcome:
    """The outcome of a worker that ended by itself: by an exit with a code, or by a signal that we did not send."""
    where = f"{log.parent.name}/{log.name}"
    if is_exit:
        reason = f"the worker exited with code {code} while {phase}; see {where}"
        return Outcome("crashed", reason, exit=f"code {code}")
    try:
        name = signal.Signals(code).name
    except ValueError:
        name = f"signal {code}"
    if code == signal.SIGKILL:
        reason = f"the worker was killed by SIGKILL while {phase}, most likely by the kernel's out-of-memory killer"
        return Outcome("oom", reason, exit=name)
    meaning = _SIGNAL_MEANINGS.get(signal.Signals(code)) if name.startswith("SIG") else None
    reason = f"the worker was killed by {name}{f' ({meaning})' if meaning else ''} while {phase}; see {where}"
    return Outcome("crashed", reason, exit=name)
