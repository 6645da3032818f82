"""Live progress of a run: a bar per method on a terminal, one plain line per finished case elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

FAILURES = ("failed", "invalid", "timeout", "crashed", "oom")


class Listener(Protocol):
    """A listener of the runner that is shown while its `with` block lasts."""

    def __enter__(self) -> Listener: ...
    def __exit__(self, *exc: object) -> None: ...
    def plan_ready(self, plan: Any, n_done: int) -> None: ...
    def case_started(self, case: Any) -> None: ...
    def case_finished(self, case: Any, row: Mapping[str, Any]) -> None: ...
    def message(self, text: str) -> None: ...


def listener_for(console: Console, finished: Callable[[], set[str]] = set) -> Listener:
    """Bars where the console is a terminal, lines elsewhere.

    `finished` returns the keys of cases that were done earlier; it is asked when the plan is ready.
    """
    return BarListener(console, finished) if console.is_terminal else LineListener(console)


def seconds(value: float | None) -> str:
    """A duration for people: '<0.01 s', '0.42 s', '31 s', '4:10 min', '2:05 h'."""
    if value is None:
        return "-"
    if value < 0.01:
        return "<0.01 s"
    if value < 10:
        return f"{value:.2f} s"
    if value < 100:
        return f"{value:.0f} s"
    minutes = round(value / 60)
    return f"{int(value) // 60}:{int(value) % 60:02d} min" if value < 3600 else f"{minutes // 60}:{minutes % 60:02d} h"


def dice(row: Mapping[str, Any]) -> float | None:
    """The mean Dice of a row, if it has one."""
    value = (row.get("metrics") or {}).get("dice")
    return value.get("mean") if isinstance(value, Mapping) else value


def _place(case: Any) -> str:
    """The data of a case in one word: the dataset, and its condition unless that is `none`."""
    return str(case.dataset if case.condition == "none" else f"{case.dataset}+{case.condition}")


class LineListener:
    """One line per finished case, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._n_finished = 0
        self._n_planned = 0
        self._method_width = self._place_width = 0

    def __enter__(self) -> LineListener:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def plan_ready(self, plan: Any, n_done: int) -> None:
        self._n_planned = len(plan.cases) - n_done
        self._method_width = max((len(case.method) for case in plan.cases), default=0)
        self._place_width = max((len(_place(case)) for case in plan.cases), default=0)
        earlier = f" ({n_done} of {len(plan.cases)} were done before)" if n_done else ""
        self._print(f"{self._n_planned} cases to do{earlier}")

    def case_started(self, case: Any) -> None: ...

    def case_finished(self, case: Any, row: Mapping[str, Any]) -> None:
        self._n_finished += 1
        count = f"[{self._n_finished:>{len(str(self._n_planned))}}/{self._n_planned}]"
        status = f"{row['status']}: {row['reason']}" if row.get("reason") else row["status"]
        score, took = dice(row), (row.get("timing") or {}).get("register_s")
        numbers = [f"dice {score:.3f}"] if score is not None else []
        numbers += [f"{seconds(took):>8}"] if took is not None else []
        name = case.method.ljust(self._method_width)
        self._print("  ".join([count, name, _place(case).ljust(self._place_width), case.pair["id"], status, *numbers]))

    def message(self, text: str) -> None:
        self._print(text)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


class _MethodState:
    """How far one method is."""

    def __init__(self, n_cases: int, n_done: int) -> None:
        self.n_cases = n_cases
        self.n_before = n_done
        self.n_done = n_done
        self.n_failed = 0
        self.n_skipped = 0
        self.started: float | None = None
        self.last_finished = 0.0
        self.running = 0

    def remaining_s(self) -> float | None:
        """An estimate from the cases of this session; None before the first has finished."""
        n_timed = self.n_done - self.n_before
        if self.started is None or not n_timed:
            return None
        mean_s = (self.last_finished - self.started) / n_timed
        since_then_s = time.monotonic() - self.last_finished
        return max(mean_s * (self.n_cases - self.n_done) - since_then_s, 1.0)

    def words(self) -> str:
        if self.n_done == self.n_cases:
            return "done"
        left = self.remaining_s()
        if left is not None:
            return f"{seconds(left) if left >= 100 else f'{left:.0f} s'} left"
        return "running" if self.running else "waiting"


class BarListener:
    """One bar per method with failures and the time left; the case that is running below them."""

    # A slow refresh on purpose: the display shares its cores with what is being timed.
    _REFRESHES_PER_S = 2

    def __init__(self, console: Console, finished: Callable[[], set[str]]) -> None:
        self._console = console
        self._finished = finished
        self._states: dict[str, _MethodState] = {}
        self._current = ""
        self._live = Live(
            console=console, refresh_per_second=self._REFRESHES_PER_S, get_renderable=self._table, transient=False
        )

    def __enter__(self) -> BarListener:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._current = ""
        self._live.stop()

    def plan_ready(self, plan: Any, n_done: int) -> None:
        done = self._finished()
        for name in dict.fromkeys(case.method for case in plan.cases):
            cases = [case for case in plan.cases if case.method == name]
            self._states[name] = _MethodState(len(cases), sum(case.key in done for case in cases))
        if n_done:
            self.message(f"{n_done} of {len(plan.cases)} cases were done before and are kept")

    def case_started(self, case: Any) -> None:
        state = self._states[case.method]
        state.started = state.started or time.monotonic()
        state.running += 1
        self._current = f"{case.method}: {_place(case)} {case.pair['id']}"

    def case_finished(self, case: Any, row: Mapping[str, Any]) -> None:
        state = self._states[case.method]
        state.started = state.started or time.monotonic()
        state.running = max(state.running - 1, 0)
        state.last_finished = time.monotonic()
        state.n_done = min(state.n_done + 1, state.n_cases)
        state.n_failed += row["status"] in FAILURES
        state.n_skipped += row["status"] == "skipped"

    def message(self, text: str) -> None:
        self._console.print(text, markup=False)

    def _table(self) -> Table:
        bar_width = min(max(self._console.width - 60, 6), 24)
        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True, overflow="ellipsis")
        grid.add_column(width=bar_width)
        for _ in range(3):
            grid.add_column(justify="right", no_wrap=True)
        for name, state in self._states.items():
            failed = f"[red]{state.n_failed} failed[/red]" if state.n_failed else ""
            skipped = f"[yellow]{state.n_skipped} skipped[/yellow]" if state.n_skipped else ""
            grid.add_row(
                escape(name),
                ProgressBar(total=max(state.n_cases, 1), completed=state.n_done, width=bar_width),
                f"{state.n_done}/{state.n_cases}",
                f"[dim]{state.words()}[/dim]",
                " ".join(filter(None, (failed, skipped))),
            )
        outer = Table.grid()
        outer.add_row(grid)
        if self._current:
            outer.add_row(f"[dim]{escape(self._current)}[/dim]")
        return outer
