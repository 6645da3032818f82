"""Tiny data sets and configs for tests of the engine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import regbench
from regbench.config import RunConfig
from regbench.files.images import write_image, write_labels
from regbench.plan import Case
from regbench.volume import Grid, Image, Labels

METHODS_FILE = Path(__file__).with_name("support_methods.py")
SHAPE = (16, 12)
# For Python processes that a test starts: finds regbench and the tests' own modules, installed or not.
PYTHON_PATH = os.pathsep.join([str(Path(regbench.__file__).parent.parent), str(Path(__file__).parent)])


def blob(centre: tuple[float, float]) -> np.ndarray:
    """A smooth blob on the tiny grid, from 0 to 1."""
    rows, columns = np.indices(SHAPE)
    return np.exp(-((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / 18.0)


def write_pairs(folder: Path, names: Sequence[str], shift_voxels: float = 1.0) -> Path:
    """A CSV of tiny 2-D pairs of the given names with one label each; the moving blob lies further along axis 0."""
    grid = Grid.from_spacing(SHAPE, 2.0)
    lines = ["id,fixed,moving,fixed_labels,moving_labels"]
    for index, name in enumerate(names):
        files = []
        for side, offset in (("fixed", 0.0), ("moving", shift_voxels)):
            array = blob((7.0 + offset, 5.5)) + 0.001 * index
            write_image(folder / f"{name}_{side}.nii.gz", Image(array, grid))
            write_labels(folder / f"{name}_{side}_labels.nii.gz", Labels((array > 0.5).astype(np.uint8), grid))
            files.append(side)
        lines.append(
            ",".join([name, *(f"{name}_{s}.nii.gz" for s in files), *(f"{name}_{s}_labels.nii.gz" for s in files)])
        )
    path = folder / "pairs.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def own(name: str, label: str | None = None, **parameters: Any) -> dict[str, Any]:
    """A config entry for a class of support_methods.py."""
    return {"name": f"{METHODS_FILE}:{name}", "label": label or name.lower(), "parameters": parameters}


def tiny_config(csv: Path, methods: Sequence[Any], **others: Any) -> RunConfig:
    """A config of a CSV and some methods with few metrics and short limits."""
    engine: Mapping[str, Any] = {"threads": 1, "timeout_s": 30.0, **others.pop("engine", {})}
    settings = {"name": "tiny", "metrics": ["dice", "fold_percent"], "keep": {"pictures": 0}, **others}
    dataset = {"name": "csv", "label": "tiny", "parameters": {"path": str(csv)}}
    return RunConfig.model_validate({"datasets": [dataset], "methods": list(methods), "engine": engine, **settings})


class Recorder:
    """A listener that remembers what it was told."""

    def __init__(self) -> None:
        self.n_planned = self.n_done = 0
        self.started: list[Case] = []
        self.rows: list[dict[str, Any]] = []
        self.messages: list[str] = []

    def plan_ready(self, plan: Any, n_done: int) -> None:
        self.n_planned, self.n_done = len(plan.cases), n_done

    def case_started(self, case: Case) -> None:
        self.started.append(case)

    def case_finished(self, case: Case, row: Mapping[str, Any]) -> None:
        self.rows.append(dict(row))

    def message(self, text: str) -> None:
        self.messages.append(text)
