"""A method that runs in another interpreter, for the worker to which it is a method like any other.

The other interpreter is a child in the worker's process group, so that what ends the worker ends it too; it stays
alive between pairs, and what it says goes into the same log. It gets regbench's own source by a link in a private
folder, and finds nothing else of regbench's interpreter. What it measures of itself (seconds, memory, GPU) is what
counts; the way of images and fields there and back is not part of it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import regbench
from regbench import errors
from regbench.displacement import Displacement
from regbench.environments import interpreter_environment
from regbench.errors import MethodCrashed, MethodError, RegbenchError
from regbench.lodging.luggage import pack_pair, pack_parameters, unpack_displacement
from regbench.pair import BlindPair

_GRACE_S = 2.0


class LodgedMethod:
    """A method in another interpreter: `load`, `set_up`, then `register` as often as wanted; `close` ends it.

    Raises what the method raises: errors of regbench as themselves, others by name as a RuntimeError. If the
    interpreter dies, that is a MethodCrashed, or a MemoryError where the kernel has killed it; `is_alive` is False
    then, and `load` starts another.
    """

    def __init__(self, python: str, name: str, threads: int = 1) -> None:
        self.python, self.name, self.threads = python, name, threads
        self._process: subprocess.Popen[bytes] | None = None
        self._told: dict[str, Any] = {}

    def __enter__(self) -> LodgedMethod:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_alive(self) -> bool:
        return self._process is not None

    # -- a method's life ------------------------------------------------------------------------------

    def load(self) -> float:
        """Starts the interpreter and imports the method; the seconds of the import."""
        if self._process is None:
            self._start()
        return float(self._ask({"do": "load", "method": self.name})["seconds"])

    def set_up(self, parameters: Mapping[str, Any]) -> float:
        """Builds the method from checked parameters and prepares it; the seconds that this took."""
        told = pack_parameters(parameters, f"methods.{self.name}")
        answer = self._ask({"do": "set up", "parameters": told, "threads": self.threads})
        self._model_size = answer["model_size"]
        return float(answer["seconds"])

    def register(self, pair: BlindPair) -> Displacement:
        """The displacement that the method returned there."""
        self._told = {}
        with tempfile.TemporaryDirectory(prefix="regbench-pair-", dir=self._folder.name) as name:
            told = pack_pair(pair, Path(name))
            request = {"do": "register", "pair": told, "folder": name, "threads": self.threads}
            return unpack_displacement(self._ask(request)["displacement"])

    def measurement(self, timing: dict[str, float | None], memory: dict[str, int | None]) -> MeasuredThere:
        """A block around `register` that fills in what the other interpreter measured of it."""
        return MeasuredThere(self, timing, memory)

    @property
    def model_size(self) -> Any:
        """What a learned method says of its size; AttributeError for a method that says nothing."""
        size = self._model_size
        if size is None:
            raise AttributeError("model_size")
        return lambda: tuple(size)

    def close(self) -> None:
        """Ends the interpreter; does nothing if it has ended."""
        if self._process is not None:
            self._process = None
            self._finalizer()

    # -- the process ----------------------------------------------------------------------------------

    def _start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="regbench-lodging-")
        source = Path(regbench.__file__).resolve().parent
        (Path(self._folder.name) / "regbench").symlink_to(source, target_is_directory=True)
        requests, self._requests = os.pipe()
        to_us, answers = os.pipe()
        command = [self.python, "-m", "regbench.lodging.guest", str(requests), str(answers)]
        try:
            self._process = subprocess.Popen(  # noqa: S603  a list, no shell
                command,
                stdin=subprocess.DEVNULL,
                # The standard output of the command line is no place for what engines say.
                stdout=2,
                stderr=2,
                pass_fds=(requests, answers),
                env=guest_environment(os.environ, Path(self._folder.name)),
            )
        except OSError as error:
            os.close(self._requests)
            os.close(to_us)
            self._folder.cleanup()
            raise MethodError(f"{self.python} cannot be started: {error.strerror or error}") from None
        finally:
            os.close(requests)
            os.close(answers)
        self._stream = os.fdopen(to_us, "rb")
        self._finalizer = weakref.finalize(self, _end, self._process, self._requests, self._stream, self._folder)
        if not self._stream.readline():
            code = self._process.wait()
            self.close()
            raise MethodError(
                f"{self.python} ended with {_ending(code)} before it could load {self.name}; it needs Python 3.11 or "
                "later and numpy, see the log"
            )

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if self._process is None:
            raise MethodError(f"{self.name} is not loaded")
        line = json.dumps(request).encode("ascii") + b"\n"
        with suppress(BrokenPipeError):
            while line:
                line = line[os.write(self._requests, line) :]
        answered = self._stream.readline()
        if not answered.endswith(b"\n"):
            self._died()
        answer: dict[str, Any] = json.loads(answered)
        self._told = answer
        if "error" in answer:
            raise error_of(answer["error"])
        return answer

    def _died(self) -> None:
        """Raises what the end of the interpreter says."""
        assert self._process is not None
        try:
            code = self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self.close()
            raise MethodCrashed(f"the interpreter of {self.name} closed its pipe and went on running") from None
        self.close()
        if code == -signal.SIGKILL:
            raise MemoryError(f"the interpreter of {self.name} was killed, most likely by the out-of-memory killer")
        raise MethodCrashed(f"the interpreter of {self.name} ended with {_ending(code)}")


class MeasuredThere:
    """A measured block, as `resources.Measurement`, with the numbers of another interpreter."""

    def __init__(self, method: LodgedMethod, timing: dict[str, float | None], memory: dict[str, int | None]) -> None:
        self._method, self._timing, self._memory = method, timing, memory
        self.device = "cpu"

    def __enter__(self) -> MeasuredThere:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        told = self._method._told
        self._timing |= told.get("timing", {})
        self._memory |= told.get("memory", {})
        self.device = told.get("device", self.device)


def guest_environment(parent: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment variables of the other interpreter: those of the worker, and `folder` to find regbench in."""
    return {
        **interpreter_environment(parent),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), parent.get("PYTHONPATH", "")])),
        # As for the worker: the folder that it runs in is no place to import from.
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }


def error_of(told: Mapping[str, Any]) -> BaseException:
    """The exception that the other interpreter described, of the same class where it is regbench's own."""
    name, message = str(told["class"]), str(told["message"])
    known = getattr(errors, name, None) if told["is_ours"] else None
    if isinstance(known, type) and issubclass(known, RegbenchError):
        return known(message)
    if name == "MemoryError":
        return MemoryError(message)
    # Classes of packages that are not here: the name is what is reported, and what memory is told from.
    foreign: type[RuntimeError] = type(name, (RuntimeError,), {})
    return foreign(message)


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


def _end(process: subprocess.Popen[bytes], requests: int, stream: Any, folder: Any) -> None:
    """Ends an interpreter that is no longer needed, and removes its private folder."""
    with suppress(OSError):
        os.close(requests)
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
    stream.close()
    folder.cleanup()
