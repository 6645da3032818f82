"""What tests of training share: a made-up source, a CSV of tiny scans, and recipes that take a second."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from regbench.training.sources import SOURCES, Batch
from regbench.volume import Grid

SOURCES["squares"] = "support_training:Squares"

SMALL = {
    "network": {"channels": [4, 4], "squarings": 3},
    "schedule": {
        "steps": 6,
        "batch": 2,
        "validate_every": 3,
        "log_every": 1,
        "threads": 1,
        "warmup": 0,
        "checkpoint_minutes": 1e-6,
    },
    "validation_pairs": 2,
}


@dataclass(frozen=True)
class Squares:
    """Bright squares that lie up to two voxels apart, or by `shift`: label 1; the truth is the shift, everywhere."""

    n: int = 16
    with_labels: bool = True
    shift: tuple[int, int] | None = None

    supervision = "synthetic"
    placement = "fixed"

    @property
    def grid(self) -> Grid:
        return Grid.from_spacing((self.n, self.n), 2.0)

    @property
    def label_values(self) -> np.ndarray:
        return np.array([1] if self.with_labels else [])

    def facts(self) -> dict[str, Any]:
        return {"dataset": "none (squares)", "subjects": []}

    def draw(self, rng: np.random.Generator, batch: int) -> Batch:
        pairs = [self._pair(rng) for _ in range(batch)]
        images, labels = (torch.from_numpy(np.stack([pair[k] for pair in pairs])) for k in (0, 1))
        truth = torch.from_numpy(np.stack([pair[2] for pair in pairs]))
        parts = [images[:, :1], images[:, 1:], *([labels[:, :1], labels[:, 1:]] if self.with_labels else [None, None])]
        return Batch(*parts, truth)

    def _pair(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        shift = rng.integers(-2, 3, 2) if self.shift is None else np.array(self.shift)
        labels = np.zeros((2, self.n, self.n), np.uint8)
        for side, (row, column) in enumerate([(5, 5), (5 + shift[0], 5 + shift[1])]):
            labels[side, row : row + 6, column : column + 6] = 1
        images = (0.2 + 0.6 * labels + 0.02 * rng.standard_normal(labels.shape)).astype(np.float32)
        truth = np.broadcast_to(shift[:, None, None], (2, self.n, self.n)).astype(np.float32)
        return images, labels, truth


def write_recipe(folder: Path, **changes: Any) -> Path:
    """A recipe on squares, or on what `dataset` names; mappings are merged into those of `SMALL`."""
    recipe: dict[str, Any] = {"name": "tiny", **SMALL}
    if "dataset" not in changes and "source" not in changes:
        recipe["source"] = {"squares": {}}
    for key, value in changes.items():
        old = recipe.get(key)
        recipe[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def write_scans(folder: Path, pairs: list[tuple[int, int]], name: str = "pairs.csv", labels: bool = True) -> Path:
    """A CSV of pairs of subjects s0, s1, ..., whose scans are blobs of 16 x 16 voxels with a label map."""
    rng = np.random.default_rng(0)
    for i in sorted({i for pair in pairs for i in pair}):
        centre = rng.uniform(6, 10, 2)
        radius = np.hypot(*(np.indices((16, 16)) - centre[:, None, None]))
        np.save(folder / f"s{i}.npy", np.exp(-((radius / 4) ** 2)).astype(np.float32))
        np.save(folder / f"l{i}.npy", (radius < 3).astype(np.uint8))
    more = ",fixed_labels,moving_labels" if labels else ""
    lines = [f"fixed,moving{more}"]
    lines += [f"s{f}.npy,s{m}.npy" + (f",l{f}.npy,l{m}.npy" if labels else "") for f, m in pairs]
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def ring(n: int) -> list[tuple[int, int]]:
    """All ordered pairs of n subjects."""
    return [(f, m) for f in range(n) for m in range(n) if f != m]
