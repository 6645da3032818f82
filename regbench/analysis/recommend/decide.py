"""The decision: which methods are surely within the margin of the best one, whichever that is.

The regret of a method is what the best method of a block has over it; where the user may meet two blocks, it is the
larger of the two. A method may be named if, against every rival, the interval excludes that its regret is more than a
margin above the rival's. Two levels keep the choice among many methods from being optimistic:

- The method that looks best needs intervals that hold together for its contenders: of level 1 - 0.05 / m, with m rivals
  that the usual 95 % intervals do not put behind it. It must pass against all rivals at once. Simulated with normal
  scores, 2 to 20 methods and all gaps and noises, a wrong one passes in at most 2.7 %; without the correction it would
  be 12 % with 12 methods.
- Any other method, which may be named because it asks less of the user, needs intervals that hold for all methods
  together, with the level 1 - 0.05 / (blocks x (methods - 1)): whichever method is truly best, only the comparisons
  with that one must hold (Hsu, Annals of Statistics 9 (1981) 1026-1034).

A paradigm may be named, without one method of it, if a method of it is so against all methods of the other paradigms.
`benchmarks/recommend_regret.py` measures how often all this is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from regbench.analysis.recommend.outcome import KINDS, Kind
from regbench.analysis.recommend.scores import Block

ERROR_RATE = 0.05
USUAL_LEVEL = 0.95


@dataclass(frozen=True)
class Decision:
    """What the intervals allow: methods and paradigms that may be named, and the regrets behind that.

    `usual[i, j]` is the most by which the regret of method i can exceed that of j by 95 % intervals, in the unit of
    gains; `strict` that by intervals that hold together for all methods, and `leading` that of the leader by those that
    hold together for its contenders, which have the level `leading_level`. All are infinite where the data are too few.
    `regrets` are the estimates.
    """

    methods: tuple[str, ...]
    kinds: tuple[Kind, ...]
    usual: np.ndarray
    strict: np.ndarray
    leading: np.ndarray
    leading_level: float
    regrets: dict[str, float]
    margin: float

    @property
    def leader(self) -> str:
        """Returns the method with the smallest estimated regret."""
        return min(self.methods, key=lambda m: (self.regrets[m], self.methods.index(m)))

    @property
    def namable(self) -> list[str]:
        """Returns the methods that are surely within the margin of the best one."""
        return [m for i, m in enumerate(self.methods) if self._is_within(i, range(len(self.methods)))]

    def paradigm_is_namable(self, kind: Kind) -> bool:
        """Returns whether the best method of a paradigm is surely within the margin of the best method of all."""
        rivals = [j for j, other in enumerate(self.kinds) if other != kind]
        return any(self._is_within(i, rivals) for i, own in enumerate(self.kinds) if own == kind)

    def worst_bound(self, method: str) -> float:
        """Returns the smallest margin with which a method could be named."""
        i = self.methods.index(method)
        bounds = self._bounds_of(i)
        return max((float(bounds[j]) for j in range(len(self.methods)) if j != i), default=0.0)

    def open_rivals(self, method: str) -> list[str]:
        """Returns the methods of which it is not excluded that they are better by more than the margin."""
        i = self.methods.index(method)
        bounds = self._bounds_of(i)
        return [m for j, m in enumerate(self.methods) if j != i and bounds[j] > self.margin]

    def is_surely_ahead(self, method: str) -> bool:
        """Returns whether a method is ahead of every other one."""
        i = self.methods.index(method)
        return all(bound <= 0 for j, bound in enumerate(self._bounds_of(i)) if j != i)

    def _bounds_of(self, i: int) -> np.ndarray:
        return self.leading if self.methods[i] == self.leader else self.strict[i]

    def _is_within(self, i: int, rivals: Sequence[int] | range) -> bool:
        bounds = self._bounds_of(i)
        return all(bounds[j] <= self.margin for j in rivals if j != i)

    def of(self, kind: Kind) -> list[str]:
        """Returns the methods of a paradigm, the one with the smallest estimated regret first."""
        own = [m for m, other in zip(self.methods, self.kinds, strict=True) if other == kind]
        return sorted(own, key=lambda m: (self.regrets[m], self.methods.index(m)))

    @property
    def paradigms(self) -> list[Kind]:
        """Returns the paradigms that were compared, from what asks least of the user to what asks most."""
        return [kind for kind in KINDS if kind in self.kinds]


def strict_level(n_methods: int, n_blocks: int) -> float:
    """Returns the level of intervals that hold together for all methods, whichever of them is best."""
    return 1 - ERROR_RATE / max(n_blocks * (n_methods - 1), 1)


def decide(blocks: Sequence[Block], methods: Sequence[str], kind_of: Callable[[str], Kind], margin: float) -> Decision:
    """Returns what may be said of these methods; the margin is in the unit of gains."""
    usual, strict = (
        _leads(blocks, methods, USUAL_LEVEL),
        _leads(blocks, methods, strict_level(len(methods), len(blocks))),
    )
    means = np.array([[block.mean(method) for method in methods] for block in blocks])
    regrets = (means.max(axis=1, keepdims=True) - means).max(axis=0)
    leader, together = int(regrets.argmin()), _bounds_together(*strict)
    level = _leading_level(usual[0][:, leader], leader)
    return Decision(
        tuple(methods),
        tuple(kind_of(method) for method in methods),
        usual[0].max(axis=0),
        np.minimum(strict[0].max(axis=0), together),
        np.minimum(_leading(blocks, methods, leader, level), together[leader]),
        level,
        {method: float(regret) for method, regret in zip(methods, regrets, strict=True)},
        margin,
    )


def _leading_level(usual: np.ndarray, leader: int) -> float:
    """Returns the level of intervals that hold together for the contenders of the leader.

    `usual` are the upper bounds of leads over the leader by block and rival: rivals above zero in any block contend.
    """
    contenders = int((np.delete(usual, leader, axis=1) >= 0).any(axis=0).sum())
    return 1 - ERROR_RATE / max(contenders, 1)


def _leading(blocks: Sequence[Block], methods: Sequence[str], leader: int, level: float) -> np.ndarray:
    """Returns the most by which every rival may be better than the leader in any block."""
    bounds = np.zeros(len(methods))
    for j, method in enumerate(methods):
        if j != leader:
            bounds[j] = max(sum(block.lead(method, methods[leader], level)) for block in blocks)
    return bounds


def _leads(blocks: Sequence[Block], methods: Sequence[str], level: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns upper and lower bounds of the lead of method j over i, as arrays (block, i, j)."""
    k = len(methods)
    upper, lower = np.zeros((len(blocks), k, k)), np.zeros((len(blocks), k, k))
    for b, block in enumerate(blocks):
        for i in range(k):
            for j in range(i + 1, k):
                mean, width = block.lead(methods[j], methods[i], level)
                upper[b, i, j], lower[b, i, j] = mean + width, mean - width
                upper[b, j, i], lower[b, j, i] = -mean + width, -mean - width
    return upper, lower


def _bounds_together(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Returns the most by which the regret of i can exceed that of j, where blocks are weighed against each other.

    The regret of i is at most what anything may lead it in any block, that of j at least what something surely leads j.
    This needs intervals that hold together, and says something only where there are two blocks.
    """
    if len(upper) < 2:
        return np.full(upper.shape[1:], np.inf)
    most, least = upper.max(axis=(0, 2)), np.maximum(lower.max(axis=(0, 2)), 0.0)
    return most[:, None] - least[None, :]
