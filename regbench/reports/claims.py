"""The claims of "Magic or Mirage?" held against a run, as a part of the report and as lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from regbench.analysis.claims import SOURCE, Claim, Holds, claims
from regbench.analysis.groups import Row
from regbench.reports.page import environment

_ORDER: tuple[Holds, ...] = ("holds", "does not hold", "undecided")


def claims_html(run: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Returns the section of the report, or nothing where a run has no networks beside classical methods."""
    found = claims(run, rows)
    if not found:
        return ""
    shown = [{"claim": claim, "counts": _counts(claim)} for claim in found]
    return environment().get_template("_claims.html.j2").render(shown=shown, source=SOURCE)


def claim_lines(run: Mapping[str, Any], rows: Sequence[Row]) -> Iterator[str]:
    """Yields one line per claim: what the paper says, whether it holds here, and in how many groups."""
    for claim in claims(run, rows):
        yield f"claim       {claim.expected}: {claim.holds} here ({_counts(claim)})"


def _counts(claim: Claim) -> str:
    counts = Counter(finding.holds for finding in claim.findings)
    if len(claim.findings) == 1:
        return claim.findings[0].where
    return ", ".join(f"{word} in {counts[word]}" for word in _ORDER if counts[word]) + f" of {len(claim.findings)}"
