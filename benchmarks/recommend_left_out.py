"""One data set left out: the verdict of `recommend` from all other data sets, scored on the one that it never saw.

What a method is worth on the left-out data set is its mean there, over the pairs that all methods finished without a
leak; the regret is what the named method loses there against the best one. With few pairs the best one is best by
chance as well, so a regret counts as sure only if the interval of the loss lies beyond the margin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regbench.analysis.recommend import Situation, recommend
from regbench.analysis.recommend.scores import Stratum, compared, gather, kind_of, tabulate
from regbench.analysis.recommend.together import together
from regbench.store import read_run

Row = dict[str, Any]
_SITUATION = Situation(deploy="same")


@dataclass(frozen=True)
class LeftOut:
    """What the verdict from other data sets is worth on this one.

    `regrets` has the method of each rule and its regret, None where it was not run on this data set.
    """

    dataset: str
    n_pairs: int
    verdict: str
    best: str
    regrets: dict[str, tuple[str, float | None]]
    is_surely_wrong: bool


def left_out_table(folders: Sequence[Path]) -> str:
    """Returns the table as Markdown, with the mean regret of each rule over the data sets."""
    found = left_out(folders)
    if not found:
        return "No data set can be left out: there must be two with two paradigms each."
    rules = list(found[0].regrets)
    lines = [f"| left out | pairs | verdict from the others | best there | {' | '.join(rules)} |"]
    lines.append("| --- |" * 1 + " --- |" * (len(rules) + 3))
    for one in found:
        cells = [f"{method}: {_points(regret)}" for method, regret in one.regrets.values()]
        verdict = one.verdict + (" (surely wrong there)" if one.is_surely_wrong else "")
        lines.append(f"| {one.dataset} | {one.n_pairs} | {verdict} | {one.best} | {' | '.join(cells)} |")
    means = []
    for rule in rules:
        known = [regret for one in found if (regret := one.regrets[rule][1]) is not None]
        means.append(f"mean {np.mean(known):.2f} over {len(known)}" if known else "-")
    decided = sum(one.verdict != "undecided" for one in found)
    wrong = sum(one.is_surely_wrong for one in found)
    lines.append(f"| all | | {decided} decided, {wrong} surely wrong | | {' | '.join(means)} |")
    return "\n".join(lines)


def _points(regret: float | None) -> str:
    return "not run there" if regret is None else f"{regret:.2f}"


def left_out(folders: Sequence[Path]) -> list[LeftOut]:
    """Returns the result for every data set that has at least two paradigms, where others have too."""
    records = [read_run(folder) for folder in folders]
    rows = together([(record.folder.name, record.rows) for record in records])
    runs = [record.run for record in records]
    results = []
    for dataset in dict.fromkeys(str(row["dataset"]) for row in rows):
        inside = [row for row in rows if row["dataset"] == dataset]
        table = _table(inside)
        if table is None:
            continue
        # The question is which of the methods that can be had there to use.
        methods = {*table.gains, *(row["method"] for row in inside if row["paradigm"] == "none")}
        outside = [row for row in rows if row["dataset"] != dataset and row["method"] in methods]
        made = recommend(outside, _SITUATION, runs=runs, explore=False)
        if made.to_use:
            results.append(_scored(dataset, table, made.verdict, made.to_use, outside))
    return results


def _table(rows: Sequence[Row]) -> Stratum | None:
    """Returns the scores of one data set, None without two paradigms."""
    scores = gather(rows, _SITUATION, {})
    if scores is None:
        return None
    tabulate(scores, list(scores.labels), _SITUATION)
    kinds = {kind_of(scores.labels[method]) for method in compared(scores)}
    return scores.blocks[0].strata[0] if len(kinds) > 1 else None


def _scored(dataset: str, table: Stratum, verdict: str, to_use: str, outside: Sequence[Row]) -> LeftOut:
    means = {method: float(values.mean()) for method, values in table.gains.items()}
    best = max(means, key=lambda method: means[method])
    chosen = {"recommend": to_use, **_simple(outside, set(means))}
    regrets = {rule: (m, means[best] - means[m] if m in means else None) for rule, m in chosen.items()}
    wrong = False
    if verdict != "undecided" and to_use in means:
        low = table.lead(best, to_use, 0.95).low
        wrong = low is not None and low > _SITUATION.margin
    return LeftOut(dataset, len(table.subjects), verdict, best, regrets, wrong)


def _simple(outside: Sequence[Row], there: set[str]) -> dict[str, str]:
    """Returns what simple rules take from the other data sets: by mean Dice of finished cases, whatever the pairs."""
    scores: dict[str, list[float]] = {}
    paradigms: dict[str, str] = {}
    for row in outside:
        dice = (row.get("metrics") or {}).get("dice") or {}
        if (
            row["status"] != "ok"
            or row["condition"] != "none"
            or row["paradigm"] == "none"
            or row["method"] not in there
        ):
            continue
        value = dice.get("mean") if isinstance(dice, dict) else dice
        if isinstance(value, float) and math.isfinite(value):
            scores.setdefault(row["method"], []).append(value)
            paradigms[row["method"]] = row["paradigm"]
    means = {method: float(np.mean(values)) for method, values in scores.items()}

    def best(*wanted: str) -> str:
        own = [m for m in means if paradigms[m] in wanted]
        return max(own, key=lambda m: means[m], default="-")

    return {
        "always classical": best("classical"),
        "always learned": best("learned", "hybrid"),
        "highest mean": best("classical", "learned", "hybrid"),
    }
