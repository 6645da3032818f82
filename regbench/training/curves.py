"""The curves of a training as a picture: every term of the loss, and what validation says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from regbench.files.atomic import replaced

_NO_CURVES = ("step", "seconds", "learning_rate")
_VALIDATION = "validation_"


def draw_curves(path: Path, title: str, rows: Sequence[Mapping[str, float]], best_step: int) -> None:
    """Writes the picture (its suffix says which format); StoreError if it cannot be written."""
    from matplotlib.figure import Figure

    names = [name for name in dict.fromkeys(key for row in rows for key in row) if name not in _NO_CURVES]
    figure = Figure(figsize=(8, 6), layout="constrained")
    losses, validation = figure.subplots(2, 1, sharex=True)
    for name in names:
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        axes = validation if name.startswith(_VALIDATION) else losses
        dashed = "--" if name.endswith("_before") else "-"
        marker = "." if len(points) < 60 else ""
        axes.plot(*zip(*points, strict=True), dashed, marker=marker, label=name.removeprefix(_VALIDATION))
    for axes, word in ((losses, "terms of the loss"), (validation, "validation")):
        axes.set_ylabel(word)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(fontsize="small")
    validation.set_xlabel("step")
    if best_step:
        validation.axvline(best_step, color="grey", linewidth=1)
    figure.suptitle(title)
    with replaced(path) as temporary:
        figure.savefig(temporary)
