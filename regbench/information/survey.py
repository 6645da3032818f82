"""All subjects of a dataset, measured one after the other by some processes, in constant memory.

A process holds one subject at a time, and results come in the order of the subjects, whatever the number of
processes, which changes no digit of them. What cannot be read is told as the `problem` of its subject.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context

from regbench.datasets.label_sets import LabelChoice
from regbench.datasets.protocol import Dataset
from regbench.errors import DatasetError, RegbenchError
from regbench.information.sources import Reading, Task, read, readings, tasks
from regbench.information.subject import SENSITIVITY_BINS, Mask, Settings, SubjectInformation, measure
from regbench.metrics.information import BINS

Told = Callable[[int, int, str], None]
# Subjects on their way per process: enough that none waits, few enough that nothing piles up.
_AHEAD = 2


def survey(
    dataset: Dataset,
    *,
    bins: int = BINS,
    mask: Mask = "fg",
    workers: int = 1,
    told: Told = lambda done, of, subject: None,
    labels: Sequence[tuple[str, LabelChoice]] = (),
    limit: int | None = None,
    done: Collection[str] = (),
    settings: Settings | None = None,
) -> Generator[SubjectInformation]:
    """What the image of every subject tells of its labels, subject by subject and for each label set.

    `labels` are label sets by name (default: the dataset's own); subjects in `done` are left out; `settings` go before
    `bins` and `mask`. `told` hears how many subjects of how many are done, and which was the last.
    """
    chosen = settings or Settings(bins=bins, compared_bins=SENSITIVITY_BINS, mask=mask)
    asked = readings(dataset, labels)
    todo = [task for task in tasks(dataset, limit) if not set(task.subjects) <= set(done)]
    n_done, n_all = 0, sum(len(task.subjects) for task in todo)
    for task, found in _results(asked, todo, chosen, workers):
        n_done += len(task.subjects)
        told(n_done, n_all, task.subjects[-1])
        yield from (one for one in found if one.subject not in done)


def _results(
    asked: Sequence[Reading], todo: Sequence[Task], settings: Settings, workers: int
) -> Iterator[tuple[Task, list[SubjectInformation]]]:
    if workers <= 1 or len(todo) <= 1:
        for task in todo:
            yield task, measure_task(asked, task, settings)
        return
    # Fresh processes: forking one that draws its progress in a thread may hang.
    pool = ProcessPoolExecutor(
        min(workers, len(todo)), get_context("spawn"), initializer=_begin, initargs=(asked, settings)
    )
    waiting: deque[tuple[Task, Future[list[SubjectInformation]]]] = deque()
    try:
        for task in todo:
            waiting.append((task, _submitted(pool, task)))
            if len(waiting) >= _AHEAD * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    except BrokenProcessPool:
        raise DatasetError(
            "a process of the survey has died, perhaps for lack of memory; run it again with fewer (-j 1)"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _submitted(pool: ProcessPoolExecutor, task: Task) -> Future[list[SubjectInformation]]:
    """A task handed over; processes that begin with it never hear of Ctrl-C, not even while they begin."""
    if not hasattr(signal, "pthread_sigmask"):
        return pool.submit(_work, task)
    # Held back, not ignored: what arrives meanwhile is heard afterwards.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(_work, task)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Process:
    """What a process of the pool is told once, at its beginning."""

    asked: Sequence[Reading] = ()
    settings = Settings()


def _begin(asked: Sequence[Reading], settings: Settings) -> None:
    # Ctrl-C goes to all processes; the first one decides what becomes of the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _Process.asked, _Process.settings = asked, settings


def _work(task: Task) -> list[SubjectInformation]:
    return measure_task(_Process.asked, task, _Process.settings)


def measure_task(asked: Sequence[Reading], task: Task, settings: Settings) -> list[SubjectInformation]:
    """What the images of a task tell of their labels, in every label set."""
    return [one for reading in asked for one in _measure_reading(reading, task, settings)]


def _measure_reading(reading: Reading, task: Task, settings: Settings) -> Iterator[SubjectInformation]:
    try:
        scans = {scan.subject: scan for scan in read(reading.dataset, task)}
    except RegbenchError as error:
        yield from (one for subject in task.subjects for one in _problems(subject, reading, error))
        return
    for subject in task.subjects:
        try:
            found = list(measure(scans[subject], reading.sets, settings))
        except RegbenchError as error:
            found = _problems(subject, reading, error)
        yield from map(_said_empty, found)


def _problems(subject: str, reading: Reading, error: Exception) -> list[SubjectInformation]:
    return [SubjectInformation(subject, named.name, problem=str(error)) for named in reading.sets]


def _said_empty(one: SubjectInformation) -> SubjectInformation:
    """The same, with a problem if its label map has no label."""
    if one.problem or one.n_labels:
        return one
    return replace(one, problem=f"'{one.subject}' has a label map without any label of the set '{one.label_set}'")
