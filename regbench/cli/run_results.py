"""What is shown of a finished run: the table, its meaning, the files, the failures; and the exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regbench.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from regbench.store import RunRecord

Rows = Sequence[Mapping[str, Any]]

_TOLD_REASONS = 8
_RETRY = "To run failed cases again, add --retry-failed to the same command."
_MEND_FIELDS = "Once the fields are there and whole, give the same command again; all of them are then scored anew."


def show_run(record: RunRecord) -> None:
    """Writes the derived files of a run, then prints its table, what it means, where the files are, and failures."""
    from regbench.analysis.headline import headline
    from regbench.analysis.takeaway import takeaway
    from regbench.cli.console import messages, output, say
    from regbench.reports.derived import method_order, write_derived
    from regbench.reports.terminal import print_summary

    console, notes = output(), messages()
    folder, rows = record.folder, record.rows
    with notes.status("Writing tables, figures and the report"):
        write_derived(folder)
    if any(row["status"] == "ok" for row in rows):
        console.print()
        print_summary(console, rows, method_order(record.run))
        answer = headline(rows)
        if answer:
            console.print(f"\n{answer}", markup=False, style="bold")
        console.print(f"\n{takeaway(rows)}\n", markup=False)
    for what, name in (("report", "report.html"), ("numbers", "results.csv"), ("run folder", "")):
        if (folder / name).exists():
            say(console, f"{what:<12}{folder / name}")
    again = _MEND_FIELDS if "fields" in record.run else _RETRY
    for sentence in failure_sentences(rows, folder, again):
        say(notes, sentence)


def exit_code(n_ok: int, n_failed: int) -> ExitCode:
    """FAILED if any case failed, NOTHING_DONE if none was run at all, else OK; skipped cases are no failures."""
    if n_failed:
        return ExitCode.FAILED
    return ExitCode.OK if n_ok else ExitCode.NOTHING_DONE


def failure_sentences(rows: Rows, folder: Path, again: str = _RETRY) -> list[str]:
    """One sentence per reason of the cases that are not ok: which methods, where, why, and their logs.

    Beyond the first reasons only their number is told; the last sentence, `again`, is how to try again.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["status"] != "ok":
            reason = (row.get("reason") or "no reason given").splitlines()[0]
            groups.setdefault((row["status"], reason), []).append(row)
    sentences = []
    for (status, reason), found in groups.items():
        methods = list(dict.fromkeys(row["method"] for row in found))
        pairs = list(dict.fromkeys(row["pair"]["id"] for row in found))
        where = pairs[0] + (f" and {_count(len(pairs) - 1, 'more pair')}" if len(pairs) > 1 else "")
        sentences.append(f"{status}: {', '.join(methods)} on {where}: {reason}{_logs(methods, status, folder)}")
    if len(sentences) > _TOLD_REASONS:
        more = _count(len(sentences) - _TOLD_REASONS, "more reason")
        sentences = [*sentences[:_TOLD_REASONS], f"... and {more}; {folder / 'results.jsonl'} has them all"]
    if any(status != "skipped" for status, _ in groups):
        sentences.append(again)
    return sentences


def _logs(methods: Sequence[str], status: str, folder: Path) -> str:
    """Where the logs of methods are, in brackets; nothing for logs that say nothing."""
    from regbench.store import LOGS, file_name

    logs = [folder / LOGS / f"{file_name(method)}.log" for method in methods]
    logs = [log for log in logs if status != "skipped" and log.exists() and log.stat().st_size]
    return f" (log: {', '.join(str(log) for log in logs)})" if logs else ""


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
