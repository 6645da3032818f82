"""Which paradigm to use: classical, learned or hybrid, with reasons that a reviewer can check.

recommend(rows, Situation(deploy="same"))                      from results
recommend([], Situation(), informations=...)                   before any run, from published results
recommend(rows, situation, policy="jena2024")                  the rule of the paper
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from regbench.analysis.groups import Row
from regbench.analysis.recommend.advice import advise
from regbench.analysis.recommend.outcome import Evidence, Experiment, Option, Recommendation, Rule
from regbench.analysis.recommend.prior import advise_before
from regbench.analysis.recommend.rule import by_the_rule
from regbench.analysis.recommend.situation import Situation

__all__ = ["Evidence", "Experiment", "Option", "Recommendation", "Rule", "Situation", "recommend"]


def recommend(
    rows: Sequence[Row],
    situation: Situation,
    informations: Sequence[Mapping[str, Any]] | None = None,
    ceiling: str | None = None,
    *,
    policy: str = "evidence",
    runs: Sequence[Mapping[str, Any]] = (),
    explore: bool = True,
) -> Recommendation:
    """Returns a recommendation for a situation; the same arguments give the same one.

    `rows` are result rows of one or more runs and `runs` their run.json, which tell the parameters of conditions and
    data sets. Without rows the answer comes from published results and `informations`, the subjects of
    `information.json`. `ceiling` is a sentence on what Dice the intensities allow. `explore` also asks what other
    situations would give.
    """
    records = tuple(runs)
    if not rows and policy == "evidence":
        made = advise_before(situation, informations or ())
    else:
        made = advise(rows, situation, records, explore=explore)
    if policy == "jena2024":
        made = by_the_rule(made)
    return replace(made, notes=(*made.notes, ceiling)) if ceiling else made
