"""The evaluator against peers that do the same work: time, memory and agreement.

    python benchmarks/evaluator_peers.py [--shape N N N] [--labels N] [--repeats N] [--data made|real] [-o FILE.json]

In every round each contender runs once, in a fresh process on one thread, one after the other and every second round
in reverse, so that what disturbs the machine disturbs all alike. Ratios are taken within a round. Agreement compares
results with those of regbench; where a peer measures by another definition both values are printed. Peers that are
not installed are left out with the reason (`pip install 'regbench[benchmark]'`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from brain_case import N_LABELS, SHAPE, Case, make_case, real_case, save_case
from contenders import STAGES_OF_SET, missing_package
from measured_process import Measured, measure

from regbench.provenance import host

OURS = "regbench"
# The official Learn2Reg numbers by regbench, which are compared with the restatement of the official evaluator.
COMPAT, RESTATED = "regbench compat", "learn2reg restated"
PEERS = (RESTATED, "monai", "simpleitk", "surface-distance", "scikit")
# The Learn2Reg set of metrics in one call; it moves landmarks by the field read linearly.
WHOLE = "regbench learn2reg"
THE_SET = "learn2reg set"
# Stages that a peer defines otherwise; their values stand side by side.
OTHER_DEFINITION = {
    ("monai", "hd95"): "voxel borders, plain percentile",
    ("simpleitk", "hd95"): "voxel borders, plain percentile",
    (RESTATED, "tre"): "cubic splines, regbench: linear",
    (COMPAT, "tre"): "cubic splines, regbench: linear",
    ("scikit", "mutual information"): "bins between quantiles, equal voxels fall otherwise",
    ("scikit", "ssim"): "reflects at the faces",
}


@dataclass
class Line:
    """One stage of one contender: seconds and MiB of each round, ratios to ours, and how the results agree."""

    stage: str
    contender: str
    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    peak_mib: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    agreement: str = ""
    difference: float | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=3, default=list(SHAPE))
    parser.add_argument("--labels", type=int, default=N_LABELS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", choices=["made", "real"], default="made", help="real: below $REGBENCH_DATA")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("-o", "--output", type=Path, help="write all numbers as JSON")
    options = parser.parse_args()
    case = real_case(Path(os.environ["REGBENCH_DATA"])) if options.data == "real" else made(options)
    title = f"{options.data} pair, {case[0].fixed.grid.describe()}, {options.repeats} rounds, {machine()}"
    present, absent = installed(options.peers)
    rounds, maps = run_rounds(case, [OURS, WHOLE, COMPAT, *present], options.repeats)
    lines = tabulate(rounds, maps)
    print(title)
    print(as_text(lines))
    for peer, reason in absent.items():
        print(f"left out: {peer}: {reason}")
    if options.output:
        found = {"title": title, "absent": absent, "lines": [vars(line) for line in lines]}
        options.output.write_text(json.dumps(found, indent=1) + "\n")


def made(options: argparse.Namespace) -> Case:
    return make_case(tuple(options.shape), options.labels)


def machine() -> str:
    return f"{host()['cpu']}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}"


def installed(peers: list[str]) -> tuple[list[str], dict[str, str]]:
    """The peers that can run, and why the others cannot."""
    missing = {peer: missing_package(peer) for peer in peers}
    present = [peer for peer, package in missing.items() if package is None]
    return present, {peer: f"package {package} is not installed" for peer, package in missing.items() if package}


def run_rounds(
    case: Case, contenders: list[str], repeats: int
) -> tuple[list[dict[str, Measured]], dict[str, np.ndarray]]:
    """Per round what each contender measured, and the warped label maps of those that warp."""
    rounds, maps = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "case"
        folder.mkdir()
        save_case(case, folder)
        del case
        for number in range(repeats):
            measured = {}
            for contender in contenders if number % 2 == 0 else contenders[::-1]:
                path = Path(name) / "labels.npy"
                measured[contender] = measure(contender, folder, label_map=None if contender in maps else path)
                if path.is_file():
                    maps[contender] = np.load(path)
                    path.unlink()
            rounds.append(measured)
    return rounds, maps


def tabulate(rounds: list[dict[str, Measured]], maps: dict[str, np.ndarray]) -> list[Line]:
    """One line for each stage and contender, ours first, and lines for the Learn2Reg set."""
    lines = []
    for stage in rounds[0][OURS]:
        for contender, measured in sorted(rounds[0].items(), key=lambda item: item[0] != OURS):
            if stage in measured:
                line = _line(stage, contender, [r[contender][stage] for r in rounds], [r[OURS][stage] for r in rounds])
                line.agreement, line.difference = agreement(stage, contender, rounds[0], maps)
                lines.append(line)
    return lines + set_lines(rounds)


def set_lines(rounds: list[dict[str, Measured]]) -> list[Line]:
    """The Learn2Reg set: ours in one call, and as stages where the official numbers are asked for; the restated one."""
    ours = {WHOLE: [measured[WHOLE][THE_SET] for measured in rounds]}
    ours[COMPAT] = [_sum_of_stages(measured[COMPAT]) for measured in rounds]
    lines = []
    for contender, costs in ours.items():
        lines.append(_line(THE_SET, contender, costs, costs))
        if RESTATED in rounds[0]:
            peer = [_sum_of_stages(measured[RESTATED]) for measured in rounds]
            lines.append(_line(f"{THE_SET} against {contender}", RESTATED, peer, costs))
    return lines


def _sum_of_stages(measured: Measured) -> dict[str, Any]:
    stages = [measured[stage] for stage in STAGES_OF_SET]
    total = {name: sum(stage[name] for stage in stages) for name in ("cpu_s", "wall_s")}
    return {**total, "peak_mib": max(stage["peak_mib"] for stage in stages)}


def _line(stage: str, contender: str, costs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> Line:
    ratios = [cost["cpu_s"] / max(own["cpu_s"], 1e-6) for cost, own in zip(costs, ours, strict=True)]
    cpu, wall, peak = ([float(cost[name]) for cost in costs] for name in ("cpu_s", "wall_s", "peak_mib"))
    return Line(stage, contender, cpu, wall, peak, ratios)


def agreement(
    stage: str, contender: str, measured: dict[str, Measured], maps: dict[str, np.ndarray]
) -> tuple[str, float | None]:
    """How a result differs, in words and as a number: the largest difference over labels, or voxels that differ.

    From ours; the official numbers by regbench from those of the restated evaluator.
    """
    if contender == OURS:
        return _summary(measured[OURS][stage].get("result")), None
    other = RESTATED if contender == COMPAT and RESTATED in measured else OURS
    named = f" from {other}" if other != OURS else ""
    if stage == "warp labels":
        differing = int(np.count_nonzero(maps[contender] != maps[other]))
        return f"{differing} of {maps[other].size} voxels differ{named}", float(differing)
    reference, result = measured[other][stage]["result"], measured[contender][stage]["result"]
    difference = largest_difference(reference, result)
    if (contender, stage) in OTHER_DEFINITION and other == OURS:
        return f"{_summary(result)} ({OTHER_DEFINITION[contender, stage]})", difference
    return f"{_summary(result)}, differs by {difference:.2g}{named}", difference


def largest_difference(ours: Any, theirs: Any) -> float:
    """The largest absolute difference of two results; NaN only agrees with NaN, infinite only with infinite."""
    if not isinstance(ours, dict):
        ours, theirs = {"": ours}, {"": theirs}
    labels = [label for label in ours if label in theirs or not np.isnan(ours[label])]
    a, b = (np.array([values.get(label, np.nan) for label in labels], float) for values in (ours, theirs))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    differences = np.where(same, 0.0, np.abs(np.where(same, 0.0, a) - np.where(same, 0.0, b)))
    return float(np.where(np.isnan(differences), np.inf, differences).max(initial=0.0))


def _summary(result: Any) -> str:
    if isinstance(result, dict):
        finite = [value for value in result.values() if np.isfinite(value)]
        return f"mean {statistics.fmean(finite):.6g}" if finite else "no label"
    return "" if result is None else f"{result:.6g}"


def as_text(lines: list[Line]) -> str:
    """The table: CPU seconds (least, median), least wall, largest memory, ratio to ours with its range, agreement."""
    heads = ("stage", "contender", "CPU s min", "median", "wall s", "peak MiB", "ratio to ours", "agreement")
    rows = [heads]
    for line in lines:
        low, middle, high = min(line.ratios), statistics.median(line.ratios), max(line.ratios)
        rows.append(
            (
                line.stage,
                line.contender,
                f"{min(line.cpu_s):.3f}",
                f"{statistics.median(line.cpu_s):.3f}",
                f"{min(line.wall_s):.3f}",
                f"{max(line.peak_mib):.0f}",
                "" if low == high == 1 else f"{middle:.1f} ({low:.1f}-{high:.1f})",
                line.agreement,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


if __name__ == "__main__":
    main()
