"""The contract suite in a process of its own, so that a method may hang, crash or exit without taking it along.

    python -m regbench.contract.trial ANSWERS_FD < request.json

The child makes the checks and tells each on the pipe as a JSON line: {"begins": SUBJECT, "ndim": N} before it, and
{"finding": {...}} for what came of it. The parent holds every check to a time limit and tells how the child died.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regbench.contract.judging import Finding, one_line
from regbench.errors import ConfigError, RegbenchError

_KEPT_LINES = 3


@dataclass(frozen=True)
class Candidate:
    """A method to be tried: its label, the plug-in, checked parameters as plain data, and its own interpreter."""

    label: str
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    python: str | None = None


def candidate(name: str, config: Path | None = None) -> Candidate:
    """The method of that name with its defaults, or the one that a config has under that label.

    Raises ConfigError if there is none, and says what it needs if that is missing.
    """
    from regbench import targets
    from regbench.config import load_config
    from regbench.environments import home_of
    from regbench.parameters import as_plain

    plugin, given, python = name, {}, None
    if config is not None:
        entries = load_config(config).methods
        entry = next((entry for entry in entries if entry.label == name), None)
        if entry is None:
            raise ConfigError(f"{config}: has no method '{name}'; it has {', '.join(e.label for e in entries)}")
        plugin, given, python = entry.name, entry.parameters, entry.python
    plugin = targets.absolute_target(plugin, Path.cwd())
    targets.method_card(plugin)
    parameters = as_plain(targets.method_parameters(plugin, given, f"methods.{name}"))
    home = home_of(plugin, python, parameters)
    if home.missing:
        hints = "; ".join(dict.fromkeys(need.install_hint for need in home.missing))
        raise ConfigError(f"{name} needs {', '.join(need.name for need in home.missing)}, which is missing: {hints}")
    return Candidate(name, plugin, parameters, home.python)


@dataclass(frozen=True)
class Subject:
    """What is being tried now."""

    name: str
    ndim: int


def try_candidate(
    tried: Candidate, ndims: tuple[int, ...] = (), timeout_s: float = 600.0, threads: int = 1
) -> Iterator[Subject | Finding]:
    """What is being tried and what was found, as it comes; `ndims` narrows the dimensions of the card.

    A check that takes longer than `timeout_s`, and a method that ends its process, are findings as well.
    """
    from regbench.resources import worker_environment

    request = {**dataclasses.asdict(tried), "ndims": ndims, "threads": threads}
    with tempfile.TemporaryDirectory(prefix="regbench-trial-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        answers, to_parent = os.pipe()
        with (folder / "log").open("wb") as log, (folder / "request").open("w+") as requested:
            json.dump(request, requested)
            requested.seek(0)
            child = subprocess.Popen(  # noqa: S603  our own module
                [sys.executable, "-P", "-m", "regbench.contract.trial", str(to_parent)],
                stdin=requested,
                stdout=log,
                stderr=log,
                pass_fds=(to_parent,),
                start_new_session=True,
                cwd=folder,
                env=worker_environment(os.environ, threads, 0, folder),
            )
        os.close(to_parent)
        try:
            yield from _heard(child, answers, folder / "log", timeout_s)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            os.close(answers)


def _heard(child: subprocess.Popen[bytes], answers: int, log: Path, timeout_s: float) -> Iterator[Subject | Finding]:
    """What the child tells, until it is done, has died, or takes too long."""
    subject, buffer = Subject("starting", 0), bytearray()
    deadline = time.monotonic() + timeout_s
    while True:
        readable, _, _ = select.select([answers], [], [], max(deadline - time.monotonic(), 0.0))
        if not readable:
            words = f"it was not done after {timeout_s:g} s; give it quicker settings, or more time with --timeout"
            yield Finding(f"finishes in time ({subject.name})", subject.ndim, "wrong", words)
            return
        part = os.read(answers, 1 << 16)
        if not part:
            yield Finding(f"lives through it ({subject.name})", subject.ndim, "wrong", _death(child, log))
            return
        buffer += part
        while b"\n" in buffer:
            line, _, rest = bytes(buffer).partition(b"\n")
            buffer = bytearray(rest)
            message = json.loads(line)
            if "done" in message:
                return
            if "begins" in message:
                subject = Subject(message["begins"], message["ndim"])
                deadline = time.monotonic() + timeout_s
                yield subject
            else:
                yield Finding(**message["finding"])


def _death(child: subprocess.Popen[bytes], log: Path) -> str:
    code = child.wait()
    how = f"exit code {code}" if code >= 0 else f"{signal.Signals(-code).name}"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    said = " | ".join(lines[-_KEPT_LINES:])
    return f"it ended its whole process with {how}" + (f"; its last words: {said}" if said else "")


# -- in the child -------------------------------------------------------------------------------------


def main(arguments: list[str]) -> None:
    """Makes all checks of the request on standard input; never returns."""
    answers = int(arguments[0])
    os.set_inheritable(answers, False)
    request = json.load(sys.stdin)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def tell(message: Mapping[str, Any]) -> None:
        line = json.dumps(message).encode("ascii") + b"\n"
        while line:
            line = line[os.write(answers, line) :]

    tried = Candidate(**{spec.name: request[spec.name] for spec in dataclasses.fields(Candidate)})
    _try_all(tried, tuple(request["ndims"]), int(request["threads"]), tell)
    tell({"done": True})
    os._exit(0)


def _try_all(tried: Candidate, ndims: tuple[int, ...], threads: int, tell: Callable[[Mapping[str, Any]], None]) -> None:
    from regbench import targets
    from regbench.contract.checks import checks_of
    from regbench.contract.paperwork import read_papers

    before = set(sys.modules)
    cls = targets.method_class(tried.name)
    imported = set(sys.modules) - before
    card = targets.method_card(tried.name, tried.parameters)
    tell({"begins": "class and card", "ndim": 0})
    for finding in read_papers(card, cls, imported):
        tell({"finding": dataclasses.asdict(finding)})
    with ExitStack() as stack:
        tell({"begins": "imports and preparation", "ndim": 0})
        start = time.perf_counter()
        try:
            method = _prepared(tried, card.packages, threads, stack)
        except (Exception, SystemExit) as error:
            words = (
                one_line(error) if isinstance(error, RegbenchError) else f"{type(error).__name__}: {one_line(error)}"
            )
            tell({"finding": dataclasses.asdict(Finding("is built and prepared", 0, "wrong", words))})
            return
        words = f"in {time.perf_counter() - start:.1f} s"
        tell({"finding": dataclasses.asdict(Finding("is built and prepared", 0, words=words))})
        for ndim in ndims or card.dimensions:
            for subject, check in checks_of(card, method, ndim):
                tell({"begins": subject, "ndim": ndim})
                for finding in check():
                    tell({"finding": dataclasses.asdict(finding)})


def _prepared(tried: Candidate, packages: tuple[Any, ...], threads: int, stack: ExitStack) -> Any:
    """The method, ready to register, here or in its own interpreter."""
    from regbench import resources, targets
    from regbench.lodging.host import LodgedMethod

    parameters = targets.method_parameters(tried.name, tried.parameters, f"methods.{tried.label}")
    if tried.python is not None:
        lodged = stack.enter_context(LodgedMethod(tried.python, tried.name, threads))
        lodged.load()
        lodged.set_up(parameters)
        return lodged
    for package in packages:
        importlib.import_module(package.module)
    resources.limit_torch_threads(threads)
    method = targets.build_method(tried.name, parameters)
    getattr(method, "prepare", lambda: None)()
    return method


if __name__ == "__main__":
    main(sys.argv[1:])
