"""Shared pre-alignment: one world affine per pair, computed once and given to every method alike.

The moving image is resampled through the matrix onto the fixed grid for the method's eyes only; the method's
field u and the matrix T are then composed, x -> T(x + u(x)), and scores come from the ORIGINAL moving image
and labels, resampled once. The time of the pre-alignment is recorded beside the method's, not in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from regbench import targets
from regbench.errors import MethodError
from regbench.pair import BlindPair, Pair
from regbench.parameters import as_plain
from regbench.plan import Case, condition_version, content_key, prealign_version
from regbench.volume import Grid, Labels, Landmarks
from regbench.warp import resample


@dataclass(frozen=True)
class Prealignment:
    """A shared world affine (ndim+1, ndim+1), fixed mm -> moving mm, and the seconds that it took."""

    kind: str
    seconds: float
    matrix: np.ndarray

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Prealignment | None:
        """The pre-alignment in a request or a record; None for None."""
        if data is None:
            return None
        return cls(str(data["kind"]), float(data["seconds"]), np.array(data["matrix"], dtype=np.float64))

    def as_json(self) -> dict[str, Any]:
        """Plain JSON data for rows and records."""
        return {"kind": self.kind, "seconds": self.seconds, "matrix": self.matrix.tolist()}


def prealign_key(case: Case) -> str:
    """The key under which the pre-alignment of a case is recorded; the same for all methods and repeats."""
    shift = [case.condition_name, case.condition_parameters, case.condition_seed]
    parts = ["prealign", case.fingerprint, shift, case.prealign, prealign_version(case.prealign)]
    return content_key([*parts, *condition_version(case)])


def prealign_cases(cases: Iterable[Case]) -> dict[str, Case]:
    """One case per pre-alignment that the given cases need, by key: the affine method on the pair of the case."""
    needed: dict[str, Case] = {}
    for case in cases:
        if case.prealign == "none" or case.verdict is not None:
            continue
        key = prealign_key(case)
        if key not in needed:
            parameters = as_plain(targets.method_parameters(case.prealign, {}, "prealign"))
            label = f"prealign {case.prealign}"
            needed[key] = dataclasses.replace(
                case, key=key, method=label, method_name=case.prealign, params=parameters, prealign="none", python=None
            )
    return needed


def checked_matrix(matrix: Any, ndim: int) -> np.ndarray:
    """The estimate of an affine method as a world affine; MethodError if it is none."""
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.shape != (ndim + 1, ndim + 1) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-9:
        raise MethodError("pre-alignment: the estimate is not a finite, invertible world affine")
    return matrix


def prealigned(pair: Pair, prealignment: Prealignment | None) -> BlindPair:
    """What a method sees: the blind pair, its moving side brought onto the fixed grid if there is a pre-alignment."""
    blind = pair.blind()
    if prealignment is None:
        return blind
    grid, matrix = pair.fixed.grid, prealignment.matrix
    moving = pair.moving
    # Beyond the border lies what is darkest: 0 would be bright in images with negative values, such as CT.
    return dataclasses.replace(
        blind,
        moving=resample(moving, grid, matrix, outside=float(moving.array.min())),
        moving_mask=_resampled_mask(blind.moving_mask, grid, matrix),
        moving_keypoints=_pulled_back(blind.moving_keypoints, matrix),
    )


def _resampled_mask(mask: Labels | None, grid: Grid, matrix: np.ndarray) -> Labels | None:
    return None if mask is None else resample(mask, grid, matrix)


def _pulled_back(points: Landmarks | None, matrix: np.ndarray) -> Landmarks | None:
    """Points of the moving image where they appear in the pre-aligned one."""
    if points is None:
        return None
    inverse = np.linalg.inv(matrix)
    return Landmarks(points.points_mm @ inverse[:-1, :-1].T + inverse[:-1, -1])
