"""Live progress of a training: a bar with the loss and the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from regbench.cli.progress import seconds


class TrainingProgress:
    """What is shown of a training while its `with` block lasts: `message` for lines, `show` for every step."""

    # A slow refresh on purpose: the display shares its cores with the training.
    _REFRESHES_PER_S = 2

    def __init__(self, console: Console) -> None:
        self._console = console
        self._now: Any = None
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(
                console=console, refresh_per_second=self._REFRESHES_PER_S, get_renderable=self._table, transient=False
            )

    def __enter__(self) -> TrainingProgress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def message(self, text: str) -> None:
        """One line, above the bar if there is one."""
        self._console.print(text, markup=False, soft_wrap=True)

    def show(self, now: Any) -> None:
        """How far the training is (a `training.loop.Progress`)."""
        self._now = now

    def _table(self) -> Table:
        outer = Table.grid()
        now = self._now
        if now is None:
            outer.add_row("[dim]reading the data[/dim]")
            return outer
        row = Table.grid(padding=(0, 1))
        left = f"{seconds(now.left_s)} left" if now.left_s and now.step < now.steps else ""
        width = min(max(self._console.width - 50, 6), 30)
        row.add_row(ProgressBar(total=now.steps, completed=now.step, width=width), f"{now.step}/{now.steps}", left)
        outer.add_row(row)
        for title, values in (("loss", now.terms), ("validation", now.validation)):
            if values:
                words = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
                best = f"  (best: step {now.best_step})" if title == "validation" else ""
                outer.add_row(f"[dim]{escape(f'{title}  {words}{best}')}[/dim]")
        return outer
