"""The engine that runs on this machine: worker processes under supervision, driven by one event loop.

Jobs of one group (a method) go to the same worker. With several workers, groups run side by side; where
there are fewer groups than workers, a group gets several.
"""

from __future__ import annotations

import selectors
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack

from regbench.engines.protocol import Job, Progress
from regbench.isolation import Limits, Supervisor, WorkerPlace

# How often the loop looks for an interruption, and for deaths that no pipe tells of.
_TICK_S = 0.25


class LocalEngine:
    """Up to `workers` worker processes at a time, all with the same limits."""

    def __init__(self, workers: int, limits: Limits) -> None:
        self._workers = workers
        self._limits = limits

    def run(self, jobs: Sequence[Job], progress: Progress, is_stopped: Callable[[], bool]) -> None:
        """Runs all jobs, telling their begin and end; returns early, work in flight killed, when stopped."""
        queues = _by_group(jobs)
        with ExitStack() as stack:
            slots = [_Slot(self._limits) for _ in range(min(self._workers, len(jobs)))]
            for slot in slots:
                stack.callback(slot.stop)
            while not is_stopped():
                for slot in slots:
                    if slot.job is None and (job := _next_job(slot, slots, queues)) is not None:
                        progress.started(job)
                        slot.take(job)
                    elif slot.job is None:
                        slot.end()
                busy = [slot for slot in slots if slot.job is not None]
                if not busy:
                    return
                _wait(busy)
                for slot in busy:
                    slot.report(progress)


class _Slot:
    """A place for one worker: its supervisor, the group that it serves, and the job in flight."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._place: WorkerPlace | None = None
        self.supervisor: Supervisor | None = None
        self.group: str | None = None
        self.job: Job | None = None

    def take(self, job: Job) -> None:
        if self.supervisor is None or self.group != job.group or self._place != job.place:
            self.end()
            self.supervisor = Supervisor(job.place, self._limits)
            self._place = job.place
        self.group, self.job = job.group, job
        self.supervisor.give(job.request)

    def report(self, progress: Progress) -> None:
        """Tells the end of the job in flight, if it has ended."""
        assert self.supervisor is not None and self.job is not None
        outcome = self.supervisor.check()
        if outcome is not None:
            job, self.job = self.job, None
            progress.finished(job, outcome)

    def end(self) -> None:
        """Lets the worker go."""
        if self.supervisor is not None:
            self.supervisor.stop()
        self.supervisor, self.group = None, None

    def stop(self) -> None:
        """Kills the worker with whatever it is doing."""
        if self.supervisor is not None:
            self.supervisor.stop(at_once=self.job is not None)


def _by_group(jobs: Iterable[Job]) -> dict[str, deque[Job]]:
    queues: dict[str, deque[Job]] = {}
    for job in jobs:
        queues.setdefault(job.group, deque()).append(job)
    return queues


def _next_job(slot: _Slot, slots: Sequence[_Slot], queues: dict[str, deque[Job]]) -> Job | None:
    """The next job for a free slot: of the group that it serves, else of the group that the fewest slots serve."""
    waiting = [group for group, queue in queues.items() if queue]
    if not waiting:
        return None
    if slot.group in waiting:
        return queues[slot.group].popleft()
    served = [other.group for other in slots if other.job is not None]
    return queues[min(waiting, key=served.count)].popleft()


def _wait(busy: Sequence[_Slot]) -> None:
    """Returns when a worker has said something, has reached a limit, or after a tick."""
    supervisors = [slot.supervisor for slot in busy if slot.supervisor is not None]
    seconds = min(_TICK_S, *(supervisor.seconds_to_limit() for supervisor in supervisors))
    with selectors.DefaultSelector() as selector:
        for supervisor in supervisors:
            if supervisor.fileno() >= 0:
                selector.register(supervisor, selectors.EVENT_READ)
        selector.select(seconds)
