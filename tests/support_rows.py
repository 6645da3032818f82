"""Result rows made up for tests: known means, exact noise, the format of results.jsonl."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

METHODS: dict[str, tuple[str, str, float, float]] = {
    # label: paradigm, supervision, Dice, seconds
    "identity": ("none", "none", 0.40, 0.0001),
    "affine": ("classical", "none", 0.52, 2.1),
    "demons": ("classical", "none", 0.70, 6.2),
    "vxm": ("learned", "image", 0.70, 0.3),
    "vxm-sup": ("learned", "labels", 0.75, 0.3),
}


def row(
    method: str = "demons", pair: int = 0, *, dice: float | None = 0.7, condition: str = "none", **changes: Any
) -> dict[str, Any]:
    """One ok row; pairs share no subjects. Changes replace or add keys."""
    paradigm, supervision, _, seconds = METHODS[method]
    metrics: dict[str, Any] = {"fold_percent": 0.0, "ndv_percent": 0.002}
    if dice is not None:
        metrics["dice"] = {"mean": dice, "per_label": {"1": dice + 0.05, "2": dice - 0.05}}
        metrics["hd95_mm"] = {"mean": 8 * (1 - dice), "per_label": {"1": 2.0, "2": None}, "n_lost": 1}
    made = {
        "schema": 1,
        "key": f"sha256:{changes.get('dataset', 'cohort')}/{condition}/{method}/{pair}/{changes.get('repeat', 0)}",
        "run": "test-run",
        "dataset": "cohort",
        "condition": condition,
        "pair": {"id": f"p{pair:02d}", "fixed": f"f{pair}", "moving": f"m{pair}", "tags": {}},
        "method": method,
        "paradigm": paradigm,
        "supervision": supervision,
        "method_version": "regbench 0.1.0",
        "params": {},
        "repeat": 0,
        "seed": 0,
        "status": "ok",
        "reason": None,
        "metrics": metrics,
        "timing": {"setup_s": 0.1, "register_s": seconds, "gpu_s": None},
        "memory": {"rss_peak_mib": 300 + pair, "gpu_peak_mib": None},
        "threads": 2,
        "device": "cpu",
        "host": "test-host",
        "started": "2026-01-01T00:00:00Z",
        "metric_versions": {"dice": 1, "hd95_mm": 1, "fold_percent": 1, "ndv_percent": 1},
    }
    return made | changes


def failure(method: str, pair: int = 0, *, status: str = "timeout", **changes: Any) -> dict[str, Any]:
    reason = "stopped after 900 s <limit>"
    return row(method, pair, status=status, reason=reason, metrics={}, timing={}, memory={}, **changes)


def table(
    n: int = 12,
    dice: Mapping[str, float] | None = None,
    shifted: Mapping[str, float] | None = None,
    *,
    noise: float = 0.002,
    dataset: str = "cohort",
    conditions: Sequence[str] = ("none", "gamma"),
) -> list[dict[str, Any]]:
    """Rows of methods with these Dice values, without and with a shift; pairs differ, methods nearly not."""
    dice = dice or {name: facts[2] for name, facts in METHODS.items()}
    random_numbers = random.Random(7)
    difficulty = [random_numbers.gauss(0, 0.03) for _ in range(n)]
    made = []
    for condition in conditions:
        values = dice if condition == "none" else (shifted or dice)
        for method, mean in values.items():
            for i in range(n):
                value = mean + difficulty[i] + random_numbers.gauss(0, noise)
                made.append(row(method, i, dice=value, condition=condition, dataset=dataset))
    return made


def write_run(folder: Path, rows: Sequence[Mapping[str, Any]], **facts: Any) -> Path:
    """A run folder with these rows."""
    folder.mkdir(parents=True, exist_ok=True)
    run = {"schema": 1, "run": "test-run", "name": "test", "versions": {"regbench": "0.1.0"}, "threads": 2, **facts}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rows))
    return folder
