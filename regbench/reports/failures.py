"""What failed or was skipped in a run, cases with the same reason together, with the end of a log of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from regbench.analysis.groups import Row, pair_of
from regbench.store import LOGS, file_name

# Of every log so many bytes are read, and of its case so many lines are shown.
_READ_BYTES = 1 << 19
_SHOWN_LINES = 25
_SHOWN_CHARACTERS = 4000
_LONGEST_LINE = 300
# More reasons than this are a list that nobody reads; the rows have them all.
MOST_REASONS = 60
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Failure:
    """Cases that ended alike: status, method, place, reason, pairs, and the end of the log of the first of them."""

    status: str
    method: str
    where: str
    reason: str
    pairs: list[str]
    log: str

    @property
    def pairs_text(self) -> str:
        """Returns the first pairs and the number of the others."""
        more = f" and {len(self.pairs) - 5} more" if len(self.pairs) > 5 else ""
        return ", ".join(self.pairs[:5]) + more


def failures(rows: Sequence[Row], folder: Path | None = None) -> list[Failure]:
    """Returns failures before skips; logs are those of the run folder, if given."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row.get("status") != "ok":
            reason = str(row.get("reason") or "no reason given")
            key = *(str(row.get(name)) for name in ("status", "dataset", "condition", "method")), reason
            found.setdefault(key, []).append(row)
    made = [
        Failure(
            status,
            method,
            f"{dataset}, {'no shift' if condition == 'none' else condition}",
            reason,
            [pair_of(row)[0] for row in members],
            "" if folder is None or status == "skipped" or i >= MOST_REASONS else log_end(folder, members[0]),
        )
        for i, ((status, dataset, condition, method, reason), members) in enumerate(found.items())
    ]
    return sorted(made, key=lambda failure: failure.status == "skipped")


def log_end(folder: Path, row: Row) -> str:
    """Returns the last lines that a case wrote to its method's log; '' where it wrote nothing or there is no log."""
    path = folder / LOGS / f"{file_name(str(row.get('method')))}.log"
    try:
        with path.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - _READ_BYTES))
            text = stream.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    place = f"{row.get('dataset')} / {row.get('condition')} / {pair_of(row)[0]} / "
    own: list[str] = []
    is_own = False
    for line in text.splitlines():
        if line.startswith("--- "):
            is_own = place in line
            # A case that was tried again stands there twice; the last time counts.
            own = [] if is_own else own
        elif is_own:
            own.append(_CONTROL.sub("", line)[:_LONGEST_LINE])
    while own and not own[-1].strip():
        own.pop()
    return "\n".join(own[-_SHOWN_LINES:])[-_SHOWN_CHARACTERS:]
