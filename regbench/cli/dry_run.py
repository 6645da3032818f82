"""What `regbench run --dry-run` shows: the plan, what is done of it, and what would be skipped. Writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from regbench.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from regbench.config import RunConfig
    from regbench.plan import Case


def show_plan(
    config: RunConfig, folder: Path, only: list[str] | None, limit: int | None, *, fresh: bool, retry_failed: bool
) -> ExitCode:
    """Prints a line per dataset, condition and method with its cases; NOTHING_DONE for an empty plan."""
    from regbench.cli.console import messages, output, say, table
    from regbench.leaks import leak_sentences
    from regbench.plan import make_plan

    plan = make_plan(config, only=only, limit=limit)
    if not plan.cases:
        say(messages(), "regbench: the plan is empty: no case to run")
        return ExitCode.NOTHING_DONE
    done = set() if fresh else _done_keys(folder, retry_failed)
    groups: dict[tuple[str, str, str], list[Case]] = {}
    conditions = list(dict.fromkeys((case.dataset, case.condition) for case in plan.cases))
    # The plan is method by method; people read it condition by condition.
    for case in sorted(plan.cases, key=lambda case: conditions.index((case.dataset, case.condition))):
        groups.setdefault((case.dataset, case.condition, case.method), []).append(case)
    result = table("dataset", "condition", "method", "cases", "done", "to do", numbers=("cases", "done", "to do"))
    for group, cases in groups.items():
        n_done = sum(case.key in done for case in cases)
        result.add_row(*group, str(len(cases)), str(n_done), str(len(cases) - n_done))
    console = output()
    console.print(result, "")
    for sentence in [*_foreseen(plan.cases, done), *leak_sentences(plan.cases, config.leaks)]:
        say(console, sentence)
    n_pairs = len({(case.dataset, case.pair["id"]) for case in plan.cases})
    n_to_do = sum(case.key not in done for case in plan.cases)
    say(console, f"{len(plan.cases)} cases on {n_pairs} pairs, {n_to_do} to do; run folder: {folder}")
    return ExitCode.OK


def _foreseen(cases: Iterable[Case], done: set[str]) -> list[str]:
    """A sentence for each reason why cases will not run, with their number."""
    counts = Counter(
        (case.verdict[0], case.method if case.verdict[0] == "skipped" else "every method", case.verdict[1])
        for case in cases
        if case.verdict and case.key not in done
    )
    return [f"{status} without running: {method}, {n} cases: {why}" for (status, method, why), n in counts.items()]


def _done_keys(folder: Path, retry_failed: bool) -> set[str]:
    """The keys of the cases that need not run again; reads the run folder without opening it for writing."""
    from regbench.store import RunStore

    return RunStore(folder, None).finished_keys(retry_failed) if folder.is_dir() else set()
