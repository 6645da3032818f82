"""The worker process: takes cases as JSON lines on one pipe, answers with phases and results on another.

    python -m regbench.worker REQUESTS_FD ANSWERS_FD PARENT_PID FOLDER

Requests: {"do": "run" | "estimate", "case": {...}, "prealign": {...} | null}.
Answers:  {"phase": "..."} any number of times, then {"result": {...}} or {"store_error": "..."}.

Standard output and error are the log of the method. The worker ends when the request pipe closes. If the
program that started it dies without a word, the kernel kills the worker, and a guard process kills whatever
the method had started besides.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_GRACE_S = 0.5
TEMPORARY_PREFIX = "regbench-worker-"


def main(arguments: list[str]) -> None:
    """Serves requests until their pipe closes; never returns."""
    requests, answers, parent = (int(argument) for argument in arguments[:3])
    for descriptor in (requests, answers):
        os.set_inheritable(descriptor, False)
    _die_with(parent)
    _start_guard(requests, answers)
    faulthandler.enable()
    _serve(requests, answers, Path(arguments[3]))
    sys.stdout.flush()
    sys.stderr.flush()
    # Without the exit handlers of whatever the method loaded: they may hang, and nothing of theirs is needed.
    os._exit(0)


def _die_with(parent: int) -> None:
    """Has the kernel kill this process when its parent dies (Linux)."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have died before the call above.
    if os.getppid() != parent:
        os._exit(1)


def _start_guard(requests: int, answers: int) -> None:
    """Leaves a process behind that kills this process group once the request pipe has lost its writer.

    It is forked twice, so that it is no child of the worker: a method that waits for "any child" must not get it.
    """
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    if os.fork():
        os._exit(0)
    try:
        # The supervisor takes the end of the answer pipe for the end of the worker.
        os.close(answers)
        waiting = select.poll()
        waiting.register(requests, 0)
        while not any(event & (select.POLLHUP | select.POLLERR) for _, event in waiting.poll()):
            time.sleep(_GRACE_S)
        time.sleep(_GRACE_S)
        _remove_temporary_folder()
    finally:
        os.killpg(0, signal.SIGKILL)


def _remove_temporary_folder() -> None:
    """Removes the private folder that the supervisor made for this worker, and no other."""
    folder = Path(os.environ.get("TMPDIR", ""))
    if folder.name.startswith(TEMPORARY_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)


def _serve(requests: int, answers: int, folder: Path) -> None:
    # Imported here: the guard was forked before, and stays small.
    from regbench.errors import StoreError
    from regbench.execution import Session
    from regbench.plan import Case
    from regbench.prealign import Prealignment
    from regbench.store import one_line

    def answer(message: dict[str, Any]) -> None:
        line = one_line(message)
        while line:
            line = line[os.write(answers, line) :]

    session = Session(folder, lambda phase: answer({"phase": phase}))
    with os.fdopen(requests, "rb") as lines:
        for line in lines:
            request = json.loads(line)
            case = Case.from_json(request["case"])
            print(f"--- {' / '.join(str(part) for part in case.place)}", file=sys.stderr, flush=True)
            try:
                if request["do"] == "estimate":
                    result = session.estimate(case)
                else:
                    result = session.run(case, Prealignment.from_json(request["prealign"]))
            except StoreError as error:
                answer({"store_error": str(error)})
            else:
                answer({"result": vars(result)})


if __name__ == "__main__":
    main(sys.argv[1:])
