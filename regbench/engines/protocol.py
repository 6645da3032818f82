"""What an engine is: something that runs jobs in workers and tells how each ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from regbench.isolation import Outcome, WorkerPlace


@dataclass(frozen=True, eq=False)
class Job:
    """A request for a worker; jobs of one group may share a worker, one after another."""

    key: str
    group: str
    place: WorkerPlace
    request: Mapping[str, Any]


class Progress(Protocol):
    """Who is told of jobs; calls come from one thread, one at a time."""

    def started(self, job: Job) -> None:
        """A job was given to a worker."""

    def finished(self, job: Job, outcome: Outcome) -> None:
        """A job has ended, in whatever way."""


class Engine(Protocol):
    """Runs jobs: each ends in exactly one `finished`, unless the engine is stopped before."""

    def run(self, jobs: Sequence[Job], progress: Progress, is_stopped: Callable[[], bool]) -> None:
        """Runs all jobs; returns early when `is_stopped` says so, and then leaves nothing running."""
