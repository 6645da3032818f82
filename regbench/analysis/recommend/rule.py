"""The rule of Jena et al. (NeurIPS 2024, arXiv 2408.05839, section 7), as a policy of its own.

It asks two things, whether there is a large labelled data set to train on and whether the images to come have the same
distribution, and nothing about the user's results. "Large" was never defined; the paper trained on 364 images.
"""

from __future__ import annotations

from dataclasses import replace

from regbench.analysis.recommend.outcome import Recommendation, Rule, Verdict
from regbench.analysis.recommend.situation import Situation

LARGE = 364
QUOTE = (
    "a practitioner should choose predictive DLIR methods only if they have access to a large labeled dataset, and "
    "their application is limited to the same dataset distribution. In all other cases, classical optimization-based "
    "methods are the more accurate and reliable choice, even if labeled data exists but is not representative of the "
    "test data."
)
CITATION = "Jena et al., NeurIPS 2024, arXiv 2408.05839, section 7"


def rule_verdict(situation: Situation) -> Verdict:
    """Returns what the rule says of a situation; it knows no third answer."""
    is_large = (situation.training_labels or 0) >= LARGE
    return "learned (supervised)" if is_large and situation.deploy == "same" else "classical"


def rule_reason(situation: Situation) -> str:
    """Returns which of the two conditions of the rule hold, in a sentence."""
    labels = situation.training_labels
    if labels is None:
        large = "it was not said how many labelled subjects there are to train on, so none are assumed"
    elif labels >= LARGE:
        large = f"{labels} labelled subjects count as a large data set"
    else:
        large = f"{labels} labelled subjects do not count as a large data set"
    same = {
        "same": "images to come are like those of the training",
        "shifted": "images to come are not like those of the training",
        "unknown": "nothing says that images to come are like those of the training",
    }[situation.deploy]
    return (
        f"{large[0].upper()}{large[1:]}, and {same}. The paper never says what 'large' is; {LARGE} are the images that "
        "it trained on."
    )


def compared_with(recommendation: Recommendation) -> Rule:
    """Returns the rule's answer beside a verdict of the evidence, and what the difference is."""
    situation, verdict = recommendation.situation, rule_verdict(recommendation.situation)
    family = verdict.split(" ")[0]
    if recommendation.policy == "prior":
        agrees, told = None, f"The rule says {verdict}; there is no evidence yet to compare that with."
    elif recommendation.verdict == "undecided":
        agrees, told = None, f"The rule says {verdict}; the evidence does not decide."
    elif recommendation.verdict.split(" ")[0] == family:
        agrees, told = True, f"The rule says {verdict} as well."
    else:
        agrees = False
        told = f"The rule disagrees: it says {verdict}, the evidence says {recommendation.verdict}."
    return Rule(verdict, rule_reason(situation), QUOTE, agrees, told)


def by_the_rule(evidence: Recommendation) -> Recommendation:
    """Returns the rule's verdict as a recommendation of its own, with the evidence's findings beside it.

    The rule names no method: the best one of its paradigm in the evidence is told, if there is one.
    """
    verdict = rule_verdict(evidence.situation)
    family = verdict.split(" ")[0]
    measured = [option for option in evidence.options if option.excluded is None and option.kind.startswith(family)]
    same = [option for option in measured if option.kind == verdict] or measured
    best = max(same, key=lambda option: (option.means.get("dice", 0.0), option.method), default=None)
    rule = compared_with(evidence)
    if evidence.is_empty or not evidence.options:
        rule = replace(rule, agrees=None, comparison="There is no evidence here to compare the rule with.")
    elif evidence.verdict == "undecided":
        rule = replace(rule, comparison=f"The evidence does not decide: {evidence.summary}")
    else:
        name = evidence.method or ", ".join(evidence.shortlist)
        rule = replace(
            rule, comparison=f"The evidence {'agrees' if rule.agrees else 'disagrees'}: {evidence.verdict} ({name})."
        )
    return replace(
        evidence,
        policy="jena2024",
        verdict=verdict,
        summary=f"By the rule of the paper, whatever the results: {verdict}. {rule.comparison}",
        method=best.method if best else None,
        settings=evidence.settings if best and best.method == evidence.to_use else {},
        shortlist=(),
        provisional=None,
        changes=(f"{LARGE} or more labelled subjects and --deploy same: learned (supervised).",)
        if verdict == "classical"
        else ("Fewer labelled subjects, or images that are not like those of the training: classical.",),
        experiments=(),
        rule=rule,
        is_empty=False,
    )
