"""A survey whose files are valid at any moment, and that goes on where it was interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from regbench.datasets.label_sets import LabelChoice
from regbench.datasets.protocol import Dataset
from regbench.information.record import Survey, unfinished, write_surveys
from regbench.information.sources import own_name, tasks
from regbench.information.subject import Settings, SubjectInformation
from regbench.information.survey import survey

# Between two writings of the files of a survey that is under way.
KEPT_EVERY_S = 10.0


@dataclass(frozen=True)
class Asked:
    """What is surveyed: a dataset under a name, label sets by name (none: its own), the first `limit` subjects; by so
    many processes, in which folder, and whether what is there already is measured again."""

    dataset: Dataset
    name: str
    labels: Sequence[tuple[str, LabelChoice]] = ()
    limit: int | None = None
    workers: int = 1
    folder: Path | None = None
    fresh: bool = False

    @property
    def label_sets(self) -> list[str]:
        """The names of the label sets."""
        return [name for name, _ in self.labels] or [own_name(self.dataset)]


@dataclass(frozen=True)
class Outcome:
    """A survey per label set, and of how many subjects it was known before; not complete if it was interrupted."""

    surveys: Sequence[Survey]
    n_before: int

    @property
    def complete(self) -> bool:
        return all(one.complete for one in self.surveys)


def keep_survey(
    asked: Asked,
    settings: Settings,
    told: Callable[[int, int, str], None] = lambda done, of, subject: None,
    every_s: float = KEPT_EVERY_S,
) -> Outcome:
    """Every subject of a dataset, measured, and kept in a folder if one is given.

    Ctrl-C ends it early with valid files; `told` hears how many subjects of how many are done, and the last one.
    """
    order = [subject for task in tasks(asked.dataset, asked.limit) for subject in task.subjects]
    earlier = []
    if asked.folder is not None and not asked.fresh:
        earlier = unfinished(asked.folder, asked.name, asked.label_sets, settings)
    found = [one for one in earlier if one.subject in set(order)]
    known = {one.subject for one in found}
    stream = survey(
        asked.dataset,
        workers=asked.workers,
        told=lambda done, of, subject: told(len(known) + done, len(known) + of, subject),
        labels=asked.labels,
        limit=asked.limit,
        done=known,
        settings=settings,
    )
    complete, kept_at = True, time.monotonic()
    try:
        for one in stream:
            found.append(one)
            if asked.folder is not None and time.monotonic() - kept_at > every_s:
                write_surveys(asked.folder, _surveys(asked, settings, order, found, complete=False))
                kept_at = time.monotonic()
    except KeyboardInterrupt:
        stream.close()
        complete = False
    surveys = _surveys(asked, settings, order, found, complete)
    if asked.folder is not None and found:
        write_surveys(asked.folder, surveys)
    return Outcome(surveys, len(known))


def _surveys(
    asked: Asked, settings: Settings, order: Sequence[str], found: Sequence[SubjectInformation], complete: bool
) -> list[Survey]:
    """What was found by label set, in the order of the subjects; only subjects of which all label sets are there."""
    place = {subject: number for number, subject in enumerate(order)}
    by_set = {
        name: sorted((one for one in found if one.label_set == name), key=lambda one: place[one.subject])
        for name in asked.label_sets
    }
    everywhere = set.intersection(*({one.subject for one in those} for those in by_set.values()))
    return [
        Survey(asked.name, name, settings, [one for one in those if one.subject in everywhere], complete)
        for name, those in by_set.items()
    ]
