"""What a check found, in sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """A finding: an error keeps a benchmark from starting, a warning should be understood first, a note is a fact."""

    severity: Severity
    check: str
    sentence: str


def shown(names: list[str], most: int = 4) -> str:
    """Names for a sentence: the first ones, and how many there are more."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
