"""Methods that behave as methods should not, for tests of the engine; and one that leaves a trace of its calls."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import MethodDeclined, MethodError
from regbench.pair import BlindPair
from regbench.volume import Grid


@dataclass(frozen=True)
class Steady:
    """The identity, which notes each call in a file, takes a while if told to, and has a seed."""

    trace: str = ""
    seconds: float = 0.0
    seed: int = 0

    def register(self, pair: BlindPair) -> Displacement:
        if self.trace:
            with Path(self.trace).open("a") as stream:
                stream.write(f"{pair.name} {os.getpid()}\n")
        time.sleep(self.seconds)
        return Displacement.identity(pair.fixed.grid)


@dataclass(frozen=True)
class Misbehaving:
    """The identity, except for pairs that are called like a way to misbehave, and for `bad`, which does `how`."""

    how: str = ""

    def register(self, pair: BlindPair) -> Any:
        how = self.how if pair.name == "bad" else pair.name
        misbehave = getattr(self, f"_{how}", None)
        return Displacement.identity(pair.fixed.grid) if misbehave is None else misbehave(pair)

    def _raises(self, pair: BlindPair) -> Any:
        raise ValueError("no such\nluck")

    def _fails(self, pair: BlindPair) -> Any:
        raise MethodError("the optimiser did not converge; use more iterations")

    def _declines(self, pair: BlindPair) -> Any:
        raise MethodDeclined("wants cubic voxels")

    def _exits_python(self, pair: BlindPair) -> Any:
        sys.exit(7)

    def _exits_at_once(self, pair: BlindPair) -> Any:
        os._exit(7)

    def _segfaults(self, pair: BlindPair) -> Any:
        return ctypes.string_at(0)

    def _aborts(self, pair: BlindPair) -> Any:
        os.abort()

    def _is_killed(self, pair: BlindPair) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    def _sleeps(self, pair: BlindPair) -> Any:
        time.sleep(60)

    def _holds_the_gil(self, pair: BlindPair) -> Any:
        ctypes.PyDLL(None).sleep(60)

    def _leaves_a_child(self, pair: BlindPair) -> Any:
        subprocess.Popen(["sleep", "61.25"])
        time.sleep(60)

    def _wants_too_much(self, pair: BlindPair) -> Any:
        return np.ones(1 << 50)

    def _grows(self, pair: BlindPair) -> Any:
        held = []
        while True:
            held.append(np.ones(4 << 20))
            time.sleep(0.02 if len(held) < 8 else 60)

    def _gives_nan(self, pair: BlindPair) -> Any:
        return Displacement(np.full((*pair.fixed.grid.shape, pair.ndim), np.nan), pair.fixed.grid)

    def _gives_another_grid(self, pair: BlindPair) -> Any:
        return Displacement.identity(Grid.from_spacing((4,) * pair.ndim))

    def _gives_an_array(self, pair: BlindPair) -> Any:
        return np.zeros((*pair.fixed.grid.shape, pair.ndim))

    def _writes_into_its_input(self, pair: BlindPair) -> Any:
        pair.fixed.array[...] = 0

    def _talks(self, pair: BlindPair) -> Any:
        print("said in Python")
        os.system("echo said by a program")  # noqa: S605
        os.write(1, b"said to descriptor 1\n")
        return Displacement.identity(pair.fixed.grid)


@dataclass(frozen=True)
class FailsOn:
    """The identity, except for the pair of one name, on which it gives up."""

    pair: str

    def register(self, pair: BlindPair) -> Displacement:
        if pair.name == self.pair:
            raise MethodError("gave up")
        return Displacement.identity(pair.fixed.grid)


@dataclass(frozen=True)
class SlowToPrepare:
    """A method with a set-up of its own, which it does once."""

    seconds: float = 0.2

    def prepare(self) -> None:
        time.sleep(self.seconds)

    def register(self, pair: BlindPair) -> Displacement:
        return Displacement.identity(pair.fixed.grid)


@dataclass(frozen=True)
class Translation:
    """Moves everything by a vector in mm along the first axis."""

    by_mm: float = 1.0

    def register(self, pair: BlindPair) -> Displacement:
        return _translation(pair.fixed.grid, self.by_mm)


@dataclass
class UsesMemory:
    """Touches some memory for the time of a call, for pairs whose name begins with `on`."""

    mib: int = 100
    on: str = ""

    def register(self, pair: BlindPair) -> Displacement:
        if pair.name.startswith(self.on):
            np.ones(self.mib << 17).sum()
        return Displacement.identity(pair.fixed.grid)


class NotADataclass:
    """Has no fields, so its parameters cannot be checked."""

    def register(self, pair: BlindPair) -> Displacement:
        return Displacement.identity(pair.fixed.grid)


@dataclass(frozen=True)
class BothWays:
    """A translation that comes with its inverse, which is `slip_mm` off."""

    by_mm: float = 2.0
    slip_mm: float = 0.0

    def register(self, pair: BlindPair) -> Displacement:
        back = _translation(pair.moving.grid, self.slip_mm - self.by_mm)
        return replace(_translation(pair.fixed.grid, self.by_mm), inverse=back)


@dataclass(frozen=True)
class Sized:
    """The identity with a network of a known size."""

    def model_size(self) -> tuple[int, float]:
        return 1234, 0.5

    def register(self, pair: BlindPair) -> Displacement:
        return Displacement.identity(pair.fixed.grid)


def _translation(grid: Grid, by_mm: float) -> Displacement:
    vectors = np.zeros((*grid.shape, grid.ndim), np.float32)
    vectors[..., 0] = by_mm
    return Displacement(vectors, grid)
