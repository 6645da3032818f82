"""What a training remembers: network, optimiser, the best weights so far, and every row of its log.

A checkpoint takes the place of the earlier one in one step, so a training that is killed at any moment finds a whole
one. The log (training.csv) goes on from the rows in the checkpoint: steps that are done again are not logged twice.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from regbench.errors import StoreError
from regbench.files.atomic import replaced

Row = dict[str, float]


@dataclass
class State:
    """All that changes while a training runs.

    `running` are the terms of the steps since the last row of the log, `since_best` counts validations, `stopped` says
    why a training that is over did not use all of its steps.
    """

    network: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    step: int = 0
    seconds: float = 0.0
    best_score: float = -math.inf
    best_step: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    best_scores: dict[str, dict[str, float]] = field(default_factory=dict)
    since_best: int = 0
    stopped: str = ""
    running: list[Row] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Writes the checkpoint; StoreError if it cannot be written, and the earlier one stays."""
        temporary = path.with_suffix(".tmp")
        try:
            torch.save({**self._with_states(), **self._plain()}, temporary)
            temporary.replace(path)
        except (OSError, RuntimeError) as error:  # torch's writer tells of a full disk by a RuntimeError
            temporary.unlink(missing_ok=True)
            raise StoreError(f"{path}: the checkpoint cannot be written; free some space and start again") from error

    def load(self, path: Path) -> None:
        """Reads a checkpoint; StoreError if it cannot be read or is one of another training."""
        try:
            content = torch.load(path, weights_only=True, map_location="cpu")
            for name in self._with_states():
                getattr(self, name).load_state_dict(content.pop(name))
            values = {name: content[name] for name in self._plain()}
        except Exception as error:  # whatever torch raises for a file that is torn or not its own
            raise StoreError(f"{path}: cannot be read; delete it to start this training again") from error
        for name, value in values.items():
            setattr(self, name, value)

    def _with_states(self) -> dict[str, Any]:
        return {name: getattr(self, name).state_dict() for name in ("network", "optimiser", "scaler")}

    def _plain(self) -> dict[str, Any]:
        names = [f.name for f in dataclasses.fields(self)]
        return {name: getattr(self, name) for name in names if name not in ("network", "optimiser", "scaler")}


def write_log(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Writes the whole log; a value that there is not stays empty. StoreError if it cannot be written."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    with replaced(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")
