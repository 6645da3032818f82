"""`regbench compare --timing-in-one-run`: the configs of two run folders, run alternately for their times."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regbench.analysis.comparison.sides import Sides
    from regbench.config import RunConfig


def timed_sides(base: Path, new: Path, *, python: str | None, limit: int | None) -> Sides:
    """The two sides with times that were taken here and now; tells of its progress on stderr."""
    from regbench.analysis.comparison.sides import Sides, side_of_rows
    from regbench.cli.console import messages
    from regbench.cli.progress import listener_for
    from regbench.interleaved import time_alternately, with_python

    first, second = _config(base), _config(new)
    if python is not None:
        first = with_python(first, python)
    notes = messages()
    with listener_for(notes, set) as listener:
        timed = time_alternately(first, second, limit=limit, listener=listener)
    return Sides(side_of_rows(timed.base, timed.run, name=str(base)), side_of_rows(timed.new, timed.run, name=str(new)))


def _config(folder: Path) -> RunConfig:
    """The config that a run folder recorded, as it was resolved."""
    from pydantic import ValidationError

    from regbench.config import RunConfig
    from regbench.errors import ConfigError
    from regbench.store import read_run

    if not folder.is_dir():
        raise ConfigError(f"{folder} is no run folder; --timing-in-one-run takes the configs that two of them recorded")
    try:
        return RunConfig.model_validate(read_run(folder).run.get("config"))
    except ValidationError as error:
        where = ".".join(str(step) for step in error.errors()[0]["loc"])
        raise ConfigError(f"{folder}: its config cannot be run by this regbench ({where}); run it again") from None
