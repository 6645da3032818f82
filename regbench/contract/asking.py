"""A method asked for a displacement while it is watched: what it returns, says, leaves behind and changes."""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import InvalidDisplacement
from regbench.methods.card import Method
from regbench.pair import BlindPair
from regbench.volume import Image, Labels


@dataclass(frozen=True)
class Answer:
    """What a method made of a pair: a checked displacement or an error, the seconds, what it said and left behind."""

    displacement: Displacement | None
    error: BaseException | None = None
    seconds: float = 0.0
    said: str = ""
    left_behind: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def asked(method: Method, pair: BlindPair) -> Answer:
    """The answer of a method to a pair, watched from outside; it gets images of its own, to do its worst to."""
    copies: dict[str, Any] = {name: _copied(volume) for name, volume in _volumes(pair)}
    given = dataclasses.replace(pair, **copies)
    found: Displacement | None = None
    failure: BaseException | None = None
    with _watched() as watch:
        start = time.perf_counter()
        try:
            found = _checked(method.register(given), pair)
        except (Exception, SystemExit) as error:
            failure = error
        seconds = time.perf_counter() - start
    changed = tuple(
        f"{name.replace('_', ' ')}{'' if name.endswith('mask') else ' image'}"
        for name, volume in _volumes(pair)
        if not np.array_equal(volume.array, getattr(given, name).array)
    )
    return Answer(found, failure, seconds, watch.said, watch.left_behind, changed)


def _checked(returned: object, pair: BlindPair) -> Displacement:
    if not isinstance(returned, Displacement):
        raise InvalidDisplacement(
            f"register returned {type(returned).__name__}, not a Displacement: "
            "`Displacement(vectors_mm, pair.fixed.grid)`, vectors in RAS mm with components last"
        )
    if not returned.grid.matches(pair.fixed.grid):
        raise InvalidDisplacement(
            f"displacement of shape {returned.vectors_mm.shape}, expected one on the fixed grid, "
            f"{pair.fixed.grid.describe()}"
        )
    return returned


@dataclass
class _Watch:
    said: str = ""
    left_behind: tuple[str, ...] = ()


@contextmanager
def _watched() -> Iterator[_Watch]:
    """Runs a block in an empty working folder with an empty folder for temporary files and its standard output kept.

    What it has written is told afterwards, and removed.
    """
    watch = _Watch()
    with tempfile.TemporaryDirectory(prefix="regbench-contract-") as name:
        folders = [Path(name) / "work", Path(name) / "tmp"]
        for folder in folders:
            folder.mkdir()
        # A method that leaves the working folder, or removes it, must not take the suite with it.
        place = Path.cwd()
        kept = tempfile.tempdir, os.environ.get("TMPDIR")
        os.chdir(folders[0])
        tempfile.tempdir = os.environ["TMPDIR"] = str(folders[1])
        try:
            with _standard_output_to(Path(name) / "said"):
                yield watch
        finally:
            os.chdir(place)
            tempfile.tempdir = kept[0]
            if kept[1] is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = kept[1]
            watch.said = (Path(name) / "said").read_text(errors="replace")
            watch.left_behind = tuple(sorted(path.name for folder in folders for path in _content(folder)))


def _content(folder: Path) -> list[Path]:
    with suppress(FileNotFoundError):
        return list(folder.iterdir())
    return []


@contextmanager
def _standard_output_to(path: Path) -> Iterator[None]:
    """Sends descriptor 1 to a file, so that programs and native code are heard as well as Python."""
    sys.stdout.flush()
    kept = os.dup(1)
    with path.open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        previous, sys.stdout = sys.stdout, os.fdopen(os.dup(1), "w", errors="replace")
        try:
            yield
        finally:
            sys.stdout.close()
            sys.stdout = previous
            os.dup2(kept, 1)
            os.close(kept)


def _volumes(pair: BlindPair) -> Iterator[tuple[str, Image | Labels]]:
    for name in ("fixed", "moving", "fixed_mask", "moving_mask"):
        volume = getattr(pair, name)
        if volume is not None:
            yield name, volume


def _copied(volume: Image | Labels) -> Image | Labels:
    return dataclasses.replace(volume, array=np.array(volume.array))
