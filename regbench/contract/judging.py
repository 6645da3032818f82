"""Findings: what is wrong with an answer, or right, in words for whoever wrote the method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from regbench.contract import phantom
from regbench.contract.conventions import explain_shape, shape_in
from regbench.displacement import Displacement
from regbench.errors import InvalidDisplacement, MethodDeclined, RegbenchError
from regbench.pair import Pair
from regbench.volume import Grid

Verdict = Literal["ok", "note", "declined", "wrong"]
Task = Callable[[int], Pair]

# The share of the identity's error that may remain; where nothing has moved, the error itself.
_REMAINING, _REMAINING_ANATOMY, _UNMOVED_MM = 0.6, 0.8, 1.2
# Parts of a pair that only metrics see.
_HIDDEN = ("labels", "landmarks", "truth", "fixed_id", "moving_id", "tags")
_LONGEST = 300


@dataclass(frozen=True)
class Finding:
    """What a check has found: the promise, in how many dimensions, the verdict and the words to it."""

    promise: str
    ndim: int
    verdict: Verdict = "ok"
    words: str = ""


def failures(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that break the contract."""
    return [finding for finding in findings if finding.verdict == "wrong"]


def errors_mm(task: Task, displacement: Displacement, pair: Pair) -> tuple[float, float, float]:
    """The error of the identity, that of a field, and the largest that passes, in mm over the body."""
    before = phantom.error_mm(Displacement.identity(pair.fixed.grid), pair)
    after = phantom.error_mm(displacement, pair)
    if task is phantom.unmoved:
        return before, after, _UNMOVED_MM
    return before, after, before * (_REMAINING_ANATOMY if task is phantom.anatomy else _REMAINING)


def miss_words(task: Task, displacement: Displacement, pair: Pair, reason: str | None) -> str:
    """How far a field is off, and why: the `reason` if there is one."""
    assert pair.fixed_labels is not None
    before, after, _ = errors_mm(task, displacement, pair)
    moved = displacement.vectors_mm[pair.fixed_labels.array > 0]
    if task is phantom.unmoved:
        drift = float(np.linalg.norm(moved.mean(axis=0)) / pair.fixed.grid.spacing_mm.mean())
        return f"it moves things by {after:.1f} mm on average; all together by {drift:.1f} voxels in one direction"
    told = f"{after:.1f} mm of {before:.1f} mm remain"
    if reason:
        return f"{told}; {reason}"
    if np.linalg.norm(moved, axis=-1).mean() < 0.1 * before:
        return f"{told}; it hardly moves anything: are there enough iterations, and does it get the images as they are?"
    if task is phantom.anatomy:
        return f"{told} of a simulated brain (mni-cohort), which is expected of methods that know brains only"
    return (
        f"{told}; no usual mix-up explains it (LPS, voxels, positions, order of axes or components, push for pull were "
        "tried), so look at its settings: these images have fewer than 31 voxels along each axis"
    )


def refusal(error: BaseException, grids: tuple[Grid, Grid]) -> tuple[Verdict, str]:
    """Verdict and words where a method gave up a hard image: a sentence is honest, any other exception is a note."""
    if isinstance(error, InvalidDisplacement):
        return "wrong", error_words(error, grids)
    if isinstance(error, RegbenchError):
        return "declined", one_line(error)
    return (
        "note",
        f"it ends with {type(error).__name__}: {one_line(error)}; raise MethodDeclined with a sentence instead",
    )


def failure(error: BaseException, grids: tuple[Grid, Grid]) -> tuple[Verdict, str]:
    """Verdict and words where a method gave up an image that it should manage."""
    return ("declined" if isinstance(error, MethodDeclined) else "wrong"), error_words(error, grids)


def error_words(error: BaseException, grids: tuple[Grid, Grid]) -> str:
    """What an error says, and what is behind it; `grids` are those of the fixed and the moving image."""
    told = one_line(error)
    if isinstance(error, InvalidDisplacement):
        shape = shape_in(told)
        looks = explain_shape(shape, *grids) if shape else None
        return told + (f"; {looks}" if looks else "")
    if isinstance(error, RegbenchError):
        return told
    if isinstance(error, AttributeError) and "BlindPair" in told and any(word in told for word in _HIDDEN):
        return f"{told}: a method sees images, masks and keypoints only, never labels or the truth"
    if isinstance(error, ValueError) and "read-only" in told:
        return f"it writes into its input ({told}): work on a copy, `np.array(pair.fixed.array)`"
    return f"register raised {type(error).__name__}: {told}"


def one_line(error: BaseException) -> str:
    """The message of an error on one line, not too long."""
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."
