"""The side of a method in another interpreter: takes requests as JSON lines on one pipe, answers on another.

    python -m regbench.lodging.guest REQUESTS_FD ANSWERS_FD

It says {"ready": true}, then answers one line to each request:

    {"do": "load", "method": NAME}                              imports the method and the packages of its card
    {"do": "set up", "parameters": {...}, "threads": N}         builds and prepares it
    {"do": "register", "pair": {...}, "folder": F, "threads": N}

An answer has `seconds` or what was measured, and what came of it, or `error` with the class and the message. All that
is imported here and in the modules of methods is numpy, so that the interpreter needs nothing else, besides what its
methods import themselves. Standard output and error are the log of the worker.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regbench import resources, targets
from regbench.displacement import Displacement
from regbench.errors import DatasetError, InvalidDisplacement, MethodDeclined, RegbenchError
from regbench.lodging.luggage import pack_displacement, unpack_pair, unpack_parameters
from regbench.methods.card import Method


def main(arguments: list[str]) -> None:
    """Serves requests until their pipe closes; never returns."""
    requests, answers = (int(argument) for argument in arguments[:2])
    for descriptor in (requests, answers):
        os.set_inheritable(descriptor, False)
    faulthandler.enable()
    # Ctrl-C is for the host, which ends this process by closing its pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lines = _lines(requests)
    guest = Guest()
    _answer(answers, {"ready": True})
    while True:
        _answer(answers, guest.serve(json.loads(lines.get())))


def _lines(requests: int) -> queue.SimpleQueue[bytes]:
    """The requests as they come; the process ends with their pipe, even if a method is at work then."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        with os.fdopen(requests, "rb") as stream:
            for line in stream:
                lines.put(line)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _answer(descriptor: int, message: Mapping[str, Any]) -> None:
    line = json.dumps(message).encode("ascii") + b"\n"
    while line:
        line = line[os.write(descriptor, line) :]


class Guest:
    """A method from its import to its calls, and answers about it."""

    def __init__(self) -> None:
        self._name = ""
        self._method: Method | None = None

    def serve(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request; whatever a method raises is part of it."""
        answer: dict[str, Any] = {}
        failed = False
        work = {"load": self._load, "set up": self._set_up, "register": self._register}[request["do"]]
        try:
            work(request, answer)
        except BaseException as error:  # a method may raise anything, SystemExit included
            answer["error"] = {
                "class": "MemoryError" if isinstance(error, MemoryError) else type(error).__name__,
                "message": str(error),
                "is_ours": isinstance(error, RegbenchError),
            }
            if not isinstance(error, DatasetError | MethodDeclined | InvalidDisplacement):
                traceback.print_exc(file=sys.stderr)
            failed = True
        # The frames of an exception may hold images in cycles, which would count as memory of the next case.
        if failed:
            gc.collect()
        sys.stdout.flush()
        return answer

    def _load(self, request: Mapping[str, Any], answer: dict[str, Any]) -> None:
        self._name = request["method"]
        start = time.perf_counter()
        targets.method_class(self._name)
        for package in targets.method_card(self._name).packages:
            importlib.import_module(package.module)
        answer["seconds"] = time.perf_counter() - start

    def _set_up(self, request: Mapping[str, Any], answer: dict[str, Any]) -> None:
        self._method = None
        parameters = unpack_parameters(request["parameters"])
        start = time.perf_counter()
        resources.limit_torch_threads(request["threads"])
        method = targets.build_method(self._name, parameters)
        getattr(method, "prepare", lambda: None)()
        answer["seconds"] = time.perf_counter() - start
        size = getattr(method, "model_size", None)
        answer["model_size"] = None if size is None else list(size())
        self._method = method

    def _register(self, request: Mapping[str, Any], answer: dict[str, Any]) -> None:
        assert self._method is not None
        pair = unpack_pair(request["pair"])
        resources.limit_torch_threads(request["threads"])
        answer |= {"timing": {}, "memory": {}}
        try:
            with resources.Measurement(answer["timing"], answer["memory"]) as measurement:
                found = self._method.register(pair)
        finally:
            answer["device"] = measurement.device
        if not isinstance(found, Displacement):
            raise InvalidDisplacement(f"register returned {type(found).__name__}, not a Displacement")
        answer["displacement"] = pack_displacement(found, Path(request["folder"]))


if __name__ == "__main__":
    main(sys.argv[1:])
