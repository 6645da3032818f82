"""Rankings repeated on resampled subjects: how far ranks would move with other subjects.

Subjects are drawn with replacement, not pairs: pairs with a common subject come and go together. A pair counts as often
as both its subjects were drawn, multiplied; two subjects that meet only each other are one unit, and a subject that is
in every pair (an atlas) is always there. Where pairs share subjects this errs to the wide side: differences between
pairs that no subject explains are drawn in both roles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regbench.analysis.statistics import SubjectPair

N_DRAWS = 2000
# Scores that agree to this many digits of the largest are equal: a sum in another order is no better rank.
_TIE_DIGITS = 10

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RankSpread:
    """The ranks that hold the middle 95 % of the draws, and the share of draws (0 to 1) with rank one.

    Where several share the first place in a draw, each has its part of it.
    """

    low: float
    high: float
    first: float


def pair_weights(subjects: Mapping[str, SubjectPair], seed: Sequence[int], n_draws: int = N_DRAWS) -> dict[str, Floats]:
    """Returns how often each pair counts in each draw, by name of the pair; shape (n_draws,)."""
    units = _units(subjects)
    names = {unit: i for i, unit in enumerate(dict.fromkeys(unit for found in units.values() for unit in found))}
    generator = np.random.default_rng(list(seed))
    n_units = max(len(names), 1)
    counts = generator.multinomial(n_units, np.full(n_units, 1 / n_units), size=n_draws).astype(np.float64)
    return {pair: np.prod(counts[:, [names[unit] for unit in found]], axis=1) for pair, found in units.items()}


def _units(subjects: Mapping[str, SubjectPair]) -> dict[str, list[Hashable]]:
    """Returns what is drawn, for every pair the units that it belongs to."""
    counts = Counter(subject for pair in subjects.values() for subject in dict.fromkeys(pair))
    found: dict[str, list[Hashable]] = {}
    for name in sorted(subjects):
        pair = tuple(dict.fromkeys(subjects[name]))
        varying = [subject for subject in pair if counts[subject] < len(subjects)]
        is_alone = all(counts[subject] == 1 for subject in varying)
        found[name] = [("pair", name)] if is_alone else [("subject", subject) for subject in varying]
    return found


def ranks_of(scores: Floats) -> Floats:
    """Returns ranks along the last axis, 1 for the highest score; equal scores share the mean of their ranks."""
    from scipy.stats import rankdata

    largest = float(np.abs(scores).max(initial=0.0)) or 1.0
    return np.asarray(rankdata(-np.round(scores / largest, _TIE_DIGITS), axis=-1), dtype=np.float64)


def spreads(ranks: Floats) -> list[RankSpread]:
    """Returns the spread of each method from its ranks in the draws, shape (draws, methods)."""
    low, high = np.quantile(ranks, [0.025, 0.975], axis=0, method="closest_observation")
    best = ranks == ranks.min(axis=1, keepdims=True)
    first = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return [RankSpread(*map(float, spread)) for spread in zip(low, high, first, strict=True)]
