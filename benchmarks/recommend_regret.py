"""Does `regbench recommend` advise well? Made worlds with a known truth, and real runs with one data set left out.

    python benchmarks/recommend_regret.py                      # made worlds: errors, abstentions and regret
    python benchmarks/recommend_regret.py RUN RUN ...          # also: verdict from all data sets but one, scored on it

A world draws true scores of six methods (two classical, two unsupervised, one supervised, one hybrid), subjects that
matter to methods differently, noise, a design of pairs, and a situation; its result rows go through the real
`recommend`. A verdict is wrong if what it names is truly worse than the best allowed method by more than the margin.
The regret of a rule is what it loses against the best allowed method, in Dice points; for images of which nothing is
known, it is the larger of the losses with and without the shift, above the smallest that any method has.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from regbench.analysis.recommend import Recommendation, Situation, recommend
from regbench.analysis.recommend.rule import rule_verdict
from regbench.leaks import is_left_out

METHODS: dict[str, tuple[str, str]] = {
    "classical-a": ("classical", "none"),
    "classical-b": ("classical", "none"),
    "network-a": ("learned", "image"),
    "network-b": ("learned", "image"),
    "supervised": ("learned", "labels"),
    "hybrid": ("hybrid", "image"),
}
NAMES = list(METHODS)
SIZES = (6, 12, 20, 42, 90)
DESIGNS = ("disjoint", "consecutive", "all ordered")
FAMILIES = ("ties", "near the margin", "moderate", "large", "shift", "leaks", "failures", "limits")
CONDITIONS = ("none", "gamma 2")
_SUBJECTS_OF_ALL_ORDERED = {6: 3, 12: 4, 20: 5, 42: 7, 90: 10}
_UNREGISTERED = 45.0


@dataclass(frozen=True)
class World:
    """A made world: true mean scores (methods by conditions, Dice points), its rows and the situation.

    `out` are methods that the situation truly rules out.
    """

    family: str
    truth: np.ndarray
    rows: list[dict[str, Any]]
    situation: Situation
    out: frozenset[str] = frozenset()

    @property
    def allowed(self) -> list[str]:
        return [name for name in NAMES if name not in self.out]

    def regrets(self) -> dict[str, float]:
        """Returns what each allowed method truly loses in this situation, in Dice points."""
        columns = {"same": [0], "shifted": [1], "unknown": [0, 1]}[self.situation.deploy]
        scores = np.array([self.truth[NAMES.index(name)][columns] for name in self.allowed])
        lost = (scores.max(axis=0) - scores).max(axis=1)
        return dict(zip(self.allowed, (lost - lost.min()).tolist(), strict=True))


def pairs_of(design: str, n: int) -> list[tuple[int, int]]:
    """Returns (fixed, moving) subjects of n pairs."""
    if design == "disjoint":
        return [(2 * i, 2 * i + 1) for i in range(n)]
    if design == "consecutive":
        return [(i, i + 1) for i in range(n)]
    return [pair for pair in itertools.product(range(_SUBJECTS_OF_ALL_ORDERED[n]), repeat=2) if pair[0] != pair[1]]


def draw(family: str, design: str, n: int, random: np.random.Generator) -> World:
    """Returns a world of a family with n pairs of a design."""
    truth, failing, leaked, slow = _truth(family, random)
    pairs = pairs_of(design, n)
    deploy = str(random.choice(["same", "shifted", "unknown"]))
    labels = int(random.choice([0, 50, 400])) if family != "shift" else 400
    limit = 10.0 if family == "limits" else None
    situation = Situation(deploy=deploy, training_labels=labels, max_seconds=limit)  # type: ignore[arg-type]
    out = set(slow if limit else ()) | ({"supervised"} if labels == 0 else set())
    observed, inflated = _observed(truth, pairs, leaked, random)
    failed = random.random((len(NAMES), len(CONDITIONS), len(pairs))) < failing[:, None, None]
    rows = [*_rows(observed, failed, pairs, inflated, slow)]
    expected = truth * (1 - failing[:, None]) + _UNREGISTERED * failing[:, None]
    return World(family, expected, rows, situation, frozenset(out))


def _truth(family: str, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, str | None, tuple[str, ...]]:
    """Returns true scores, failure rates, the method with leaked pairs, and the slow methods."""
    spread = {"ties": 0.0, "near the margin": 0.5, "moderate": 1.5, "large": 4.0}.get(family, 1.5)
    gains = spread * random.standard_normal(len(NAMES))
    truth = 72.0 + np.stack(
        [gains, gains - 3.0 + (0.3 if spread else 0.0) * random.standard_normal(len(NAMES))], axis=1
    )
    failing, leaked, slow = np.zeros(len(NAMES)), None, ()
    best = int(truth[:, 0].argmax())
    if family == "shift":
        learned = [NAMES.index(name) for name in ("network-a", "network-b", "supervised")]
        truth[NAMES.index("supervised"), 0] = truth[:, 0].max() + random.uniform(0.5, 5)
        truth[learned, 1] -= random.uniform(1, 8)
    elif family == "leaks":
        leaked = str(random.choice(["network-a", "supervised"]))
        truth[NAMES.index(leaked)] = truth[best] - random.uniform(0.7, 3)
    elif family == "failures":
        failing[best] = random.uniform(0.1, 0.3)
    elif family == "limits":
        slow = (NAMES[best],)
    return truth, failing, leaked, slow


def _observed(
    truth: np.ndarray, pairs: Sequence[tuple[int, int]], leaked: str | None, random: np.random.Generator
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns scores (method, condition, pair), and which pairs of a method are leaks; they score higher."""
    n_subjects = 1 + max(max(pair) for pair in pairs)
    fixed, moving = (np.array([pair[role] for pair in pairs]) for role in (0, 1))
    common = 3.0 * random.standard_normal(n_subjects)
    share, noise = random.uniform(0.2, 1.0), random.uniform(0.4, 2.0)
    own = share * random.standard_normal((len(NAMES), n_subjects))
    difficulty = common[fixed] + common[moving] + 1.5 * random.standard_normal(len(pairs))
    per_pair = (own[:, fixed] + own[:, moving])[:, None, :] + difficulty
    scores = truth[:, :, None] + per_pair + noise * random.standard_normal((len(NAMES), len(CONDITIONS), len(pairs)))
    if leaked is None:
        return scores, {}
    seen = random.random(n_subjects) < random.choice([0.15, 0.6])
    marks = seen[fixed] | seen[moving]
    scores[NAMES.index(leaked)] += 5.0 * marks
    return scores, {leaked: marks}


def _rows(
    scores: np.ndarray, failed: np.ndarray, pairs: Sequence[tuple[int, int]], leaked: dict[str, np.ndarray],
    slow: Sequence[str],
) -> list[dict[str, Any]]:  # fmt: skip
    rows = []
    for p, (fixed, moving) in enumerate(pairs):
        pair = {"id": f"{fixed}_{moving}", "fixed": f"s{fixed}", "moving": f"s{moving}", "tags": {}}
        for c, condition in enumerate(CONDITIONS):
            base = {
                "schema": 1,
                "run": "made",
                "dataset": "made",
                "condition": condition,
                "pair": pair,
                "device": "cpu",
            }
            still = {"dice": {"mean": _UNREGISTERED / 100}}
            rows.append({**base, "method": "identity", "paradigm": "none", "status": "ok", "metrics": still})
            for m, (name, (paradigm, supervision)) in enumerate(METHODS.items()):
                row = {**base, "method": name, "paradigm": paradigm, "supervision": supervision, "params": {}}
                if failed[m, c, p]:
                    rows.append({**row, "status": "timeout", "metrics": {}, "timing": {}})
                    continue
                mark = {"reason": "trained on it", "certain": True} if name in leaked and leaked[name][p] else None
                seconds = 40.0 if name in slow else 5.0 if paradigm == "classical" else 1.0
                dice = {"dice": {"mean": float(scores[m, c, p]) / 100}}
                timing = {"register_s": seconds}
                rows.append({**row, "status": "ok", "metrics": dice, "timing": timing, "leaked": mark})
    return rows


# -- rules --------------------------------------------------------------------------------------------

Chooser = Callable[[World, "Tables"], str]


@dataclass(frozen=True)
class Tables:
    """Naive means, as a table of results shows them: finished cases without a shift, leaked ones among them."""

    means: dict[str, float]
    scores: dict[str, dict[str, float]]

    @classmethod
    def of(cls, world: World) -> Tables:
        scores: dict[str, dict[str, float]] = {}
        for row in world.rows:
            if row["status"] == "ok" and row["condition"] == "none" and row["method"] in world.allowed:
                scores.setdefault(row["method"], {})[row["pair"]["id"]] = 100 * row["metrics"]["dice"]["mean"]
        return cls({name: float(np.mean(list(found.values()))) for name, found in scores.items()}, scores)

    def best(self, *paradigms: str) -> str:
        names = [name for name in self.means if METHODS[name][0] in paradigms] or list(self.means)
        return max(names, key=lambda name: self.means[name])


def _paper(world: World, tables: Tables) -> str:
    if rule_verdict(world.situation) == "classical":
        return tables.best("classical")
    return "supervised" if "supervised" in tables.means else tables.best("learned")


def _t_test(world: World, tables: Tables) -> str:
    """The best learned against the best classical by a paired t-test that takes pairs for independent."""
    from scipy.stats import ttest_rel

    learned, classical = tables.best("learned", "hybrid"), tables.best("classical")
    a, b = tables.scores[learned], tables.scores[classical]
    both = [pair for pair in a if pair in b]
    if len(both) < 2:
        return classical
    p = ttest_rel([a[pair] for pair in both], [b[pair] for pair in both]).pvalue
    return learned if p < 0.05 and tables.means[learned] > tables.means[classical] else classical


def _careful_mean(world: World, tables: Tables) -> str:
    """What `recommend` compares, without intervals: no leaks, failures not registered, the conditions asked about."""
    columns = {"same": ["none"], "shifted": ["gamma 2"], "unknown": list(CONDITIONS)}[world.situation.deploy]
    found: dict[str, dict[tuple[str, str], float]] = {}
    for row in world.rows:
        if row["method"] in world.allowed and row["condition"] in columns and not is_left_out(row):
            dice = row["metrics"].get("dice", {"mean": _UNREGISTERED / 100})["mean"]
            found.setdefault(row["method"], {})[row["condition"], row["pair"]["id"]] = 100 * dice
    most = max(len(values) for values in found.values())
    found = {name: values for name, values in found.items() if 2 * len(values) >= most}
    common = set.intersection(*(set(values) for values in found.values()))
    scores = np.array(
        [
            [np.mean([v for k, v in values.items() if k in common and k[0] == c]) for c in columns]
            for values in found.values()
        ]
    )
    return list(found)[int((scores.max(axis=0) - scores).max(axis=1).argmin())]


RULES: dict[str, Chooser] = {
    "always classical": lambda world, tables: tables.best("classical"),
    "always learned": lambda world, tables: tables.best("learned", "hybrid"),
    "highest mean": lambda world, tables: max(tables.means, key=lambda name: tables.means[name]),
    "the paper's rule": _paper,
    "naive paired t-test": _t_test,
    "(highest mean of what recommend compares)": _careful_mean,
}


# -- scoring ------------------------------------------------------------------------------------------


@dataclass
class Score:
    """What became of the verdicts in some worlds."""

    worlds: int = 0
    decided: int = 0
    named: int = 0
    wrong: int = 0
    wrong_first: int = 0
    regrets: dict[str, list[float]] = field(default_factory=dict)
    wrong_rules: dict[str, int] = field(default_factory=dict)

    def add(self, other: Score) -> None:
        for name in ("worlds", "decided", "named", "wrong", "wrong_first"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name, values in other.regrets.items():
            self.regrets.setdefault(name, []).extend(values)
        for name, count in other.wrong_rules.items():
            self.wrong_rules[name] = self.wrong_rules.get(name, 0) + count

    def regret(self, name: str) -> float:
        values = self.regrets.get(name) or [math.nan]
        return float(np.mean(values))


# What a user does where the verdict is undecided (or names a paradigm only) decides what abstaining costs.
CONVENTIONS = {
    "recommend, else what its page says to use": "page",
    "recommend, else the best classical mean": "always classical",
    "recommend, else the paper's rule": "the paper's rule",
}
DECIDED_ONLY = "recommend, decided worlds only"


def score(world: World) -> Score:
    """Returns the score of one world."""
    made = recommend(world.rows, world.situation, explore=False)
    regrets, tables, margin = world.regrets(), Tables.of(world), world.situation.margin
    result = Score(worlds=1)
    chosen = {name: rule(world, tables) for name, rule in RULES.items()}
    for name, method in chosen.items():
        result.regrets[name] = [regrets[method]]
        result.wrong_rules[name] = int(regrets[method] > margin)
    to_use = made.to_use or chosen["always classical"]
    for name, convention in CONVENTIONS.items():
        used = to_use if convention == "page" or made.verdict != "undecided" else chosen[convention]
        result.regrets[name] = [regrets.get(used, math.inf)]
        result.wrong_rules[name] = int(regrets.get(used, math.inf) > margin)
    if made.verdict != "undecided":
        result.decided = 1
        result.named = int(made.method is not None)
        result.wrong = int(_lost(made, regrets) > margin)
        result.wrong_first = int(regrets.get(to_use, math.inf) > margin)
        result.regrets[DECIDED_ONLY] = [regrets.get(to_use, math.inf)]
    return result


def _lost(made: Recommendation, regrets: dict[str, float]) -> float:
    """Returns the regret of what a verdict claims: of its method, or of the best method of its paradigm."""
    if made.method is not None:
        return regrets.get(made.method, math.inf)
    from regbench.analysis.groups import MethodLabel
    from regbench.analysis.recommend.scores import kind_of

    own = [m for m in regrets if kind_of(MethodLabel(m, *METHODS[m])) == made.verdict]
    return min((regrets[m] for m in own), default=math.inf)


def simulate(
    worlds: int, seed: int = 0, sizes: Sequence[int] = SIZES, families: Sequence[str] = FAMILIES
) -> dict[tuple[str, str, int], Score]:
    """Returns scores by family, design and number of pairs, `worlds` worlds each."""
    found: dict[tuple[str, str, int], Score] = {}
    for number, (family, design, n) in enumerate(itertools.product(families, DESIGNS, sizes)):
        random = np.random.default_rng([seed, number])
        total = found.setdefault((family, design, n), Score())
        for _ in range(worlds):
            total.add(score(draw(family, design, n, random)))
    return found


def merged(found: dict[tuple[str, str, int], Score], axis: int | None, value: object = None) -> Score:
    """Returns the scores of one family (axis 0), design (1) or size (2) together; of all without an axis."""
    total = Score()
    for key, one in found.items():
        if axis is None or key[axis] == value:
            total.add(one)
    return total


def tables_of(found: dict[tuple[str, str, int], Score]) -> str:
    """Returns the tables as Markdown."""
    heads = (
        "worlds",
        "n",
        "undecided %",
        "one method named %",
        "wrong %",
        "wrong of the decided %",
        "first method wrong %",
    )
    lines = [f"| {' | '.join(heads)} |", "| --- |" + " --- |" * (len(heads) - 1)]
    for axis in (2, 1, 0):
        for value in dict.fromkeys(key[axis] for key in found):
            lines.append(_line(f"{value} pairs" if axis == 2 else str(value), merged(found, axis, value)))
    lines.append(_line("all", merged(found, None)))
    families = list(dict.fromkeys(key[0] for key in found))
    lines += ["", f"| mean regret, Dice points | all | {' | '.join(families)} | wrong by more than the margin % |"]
    lines.append("| --- |" + " --- |" * (len(families) + 2))
    everything, per_family = merged(found, None), [merged(found, 0, family) for family in families]
    for name in (*CONVENTIONS, DECIDED_ONLY, *RULES):
        cells = [f"{one.regret(name):.2f}" for one in (everything, *per_family)]
        wrong = everything.wrong_rules.get(name)
        cells.append("" if wrong is None else f"{100 * wrong / everything.worlds:.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _line(name: str, one: Score) -> str:
    undecided, n = one.worlds - one.decided, one.worlds
    shares = [f"{100 * count / n:.0f}" for count in (undecided, one.named)]
    shares += [f"{100 * one.wrong / of:.1f}" for of in (n, max(one.decided, 1))]
    cells = (n, *shares, f"{100 * one.wrong_first / n:.1f}")
    return f"| {name} | {' | '.join(map(str, cells))} |"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="run folders; each of their data sets is left out once")
    parser.add_argument("--worlds", type=int, default=20, help="worlds per family, design and size")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, help="write the scores as JSON")
    options = parser.parse_args(arguments)
    started = time.process_time()
    if options.worlds:
        found = simulate(options.worlds, options.seed)
        print(tables_of(found))
        print(f"\n{time.process_time() - started:.0f} CPU seconds", file=sys.stderr)
        if options.output:
            options.output.write_text(json.dumps({" | ".join(map(str, k)): v.__dict__ for k, v in found.items()}))
    if options.runs:
        from recommend_left_out import left_out_table

        print("\n" + left_out_table(options.runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
