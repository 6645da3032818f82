"""How often regbench finds differences between methods that do not differ.

Simulates results of methods with equal means on pairs of subjects, and counts false alarms of

- `rank`: any two of four methods told apart in one table of the paired scheme (Holm's correction within);
- `compare`: two methods, a difference beyond a tolerance of zero and `paired_test` below alpha;
- a paired t-test over pairs, which takes pairs for independent, for comparison.

Pairs are disjoint (1-2, 3-4, ...), consecutive (1-2, 2-3, ...) or all ordered ones of N subjects. A value is the sum of
an effect of either subject on this method, with the given share of the variance, and of noise; all are normal. Error
rates are binomial: the table says how large their standard error is. `-` stands for too few pairs or subjects: no test.

    python benchmarks/type_one_error.py --simulations 2000
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regbench.analysis.rank_scores import comparisons_of
from regbench.analysis.significance import paired_test

DESIGNS = ("disjoint", "consecutive", "all ordered")
SUBJECTS = (6, 8, 12, 20, 40)
SHARES = (0.0, 0.5, 0.9)
ALPHAS = (0.05, 0.01)
N_METHODS = 4
# All ordered pairs of 40 subjects take much longer than all the rest, and are known well after fewer.
_LARGE, _OF_LARGE = 500, 0.2

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rates:
    """Shares of simulations with a false alarm, one for each alpha; None where there is no test."""

    rank: tuple[float, ...] | None
    compare: tuple[float, ...] | None
    naive: tuple[float, ...]


def pairs_of(design: str, n_subjects: int) -> list[tuple[int, int]]:
    """Returns the (fixed, moving) subjects of a design."""
    if design == "disjoint":
        return [(i, i + 1) for i in range(0, n_subjects - 1, 2)]
    if design == "consecutive":
        return [(i, i + 1) for i in range(n_subjects - 1)]
    return list(itertools.permutations(range(n_subjects), 2))


def simulated(pairs: Sequence[tuple[int, int]], share: float, generator: np.random.Generator) -> Floats:
    """Returns values of methods that do not differ on pairs, shape (methods, pairs), of variance one."""
    fixed, moving = np.array(pairs).T
    effects = generator.normal(size=(N_METHODS, int(max(fixed.max(), moving.max())) + 1)) * math.sqrt(share / 2)
    noise = generator.normal(size=(N_METHODS, len(pairs))) * math.sqrt(1 - share)
    found: Floats = effects[:, fixed] + effects[:, moving] + noise
    return found


def rates(pairs: Sequence[tuple[int, int]], share: float, n_simulated: int, seed: int) -> Rates:
    """Returns the shares of false alarms at all levels."""
    generator = np.random.default_rng(seed)
    alarms = np.zeros((3, len(ALPHAS)))
    is_tested = True
    for _ in range(n_simulated):
        values = simulated(pairs, share, generator)
        compared = comparisons_of({str(i): row.tolist() for i, row in enumerate(values)}, pairs)
        difference = values[0] - values[1]
        test, naive = paired_test(difference.tolist(), pairs), naive_p(difference)
        is_tested = is_tested and test.p is not None
        for i, alpha in enumerate(ALPHAS):
            alarms[:, i] += (
                any(c.winner and c.adjusted is not None and c.adjusted < alpha for c in compared),
                test.p is not None and test.p < alpha and abs(test.interval.mean) > 0,
                naive < alpha,
            )
    rank, compare, t_test = (tuple(map(float, found)) for found in alarms / n_simulated)
    return Rates(rank if is_tested else None, compare if is_tested else None, t_test)


def naive_p(difference: Floats) -> float:
    """Returns the p-value of the t-test that takes pairs for independent."""
    from scipy.special import stdtr

    error = difference.std(ddof=1) / math.sqrt(len(difference))
    return 2 * float(stdtr(len(difference) - 1, -abs(difference.mean()) / error))


def table(n_simulated: int, seed: int, subjects: Sequence[int] = SUBJECTS) -> Iterator[str]:
    """Yields the lines of the table as Markdown."""
    names = [f"{name} {alpha:g}" for name in ("rank", "compare", "paired t") for alpha in ALPHAS]
    yield f"| pairs | N | n | subjects' share | {' | '.join(names)} |"
    yield f"|---|{'---:|' * (3 + len(names))}"
    for design, n_subjects, share in itertools.product(DESIGNS, subjects, SHARES):
        pairs = pairs_of(design, n_subjects)
        n = round(n_simulated * _OF_LARGE) if len(pairs) > _LARGE else n_simulated
        found = rates(pairs, share, n, seed)
        cells = [cell for rate in (found.rank, found.compare, found.naive) for cell in _percent(rate)]
        yield f"| {design} | {n_subjects} | {len(pairs)} | {share:g} | {' | '.join(cells)} |"


def _percent(rate: Sequence[float] | None) -> list[str]:
    return ["-"] * len(ALPHAS) if rate is None else [f"{100 * value:.1f} %" for value in rate]


def main() -> None:
    parser = argparse.ArgumentParser(description="False alarms of rank and compare where methods do not differ.")
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--subjects", type=int, nargs="+", default=list(SUBJECTS))
    asked = parser.parse_args()
    for line in table(asked.simulations, asked.seed, asked.subjects):
        print(line, flush=True)
    errors = [100 * math.sqrt(alpha * (1 - alpha) / asked.simulations) for alpha in ALPHAS]
    n = asked.simulations
    print(
        f"\n{n} simulations a line ({round(n * _OF_LARGE)} for more than {_LARGE} pairs), seed {asked.seed}; "
        f"standard error {errors[0]:.1f} points at .05, {errors[1]:.1f} at .01 where a test is exact."
    )


if __name__ == "__main__":
    main()
