"""`check_dataset`: every check of a dataset, and whether a benchmark may start on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from regbench.dataset_check import files
from regbench.dataset_check.findings import Finding, shown
from regbench.dataset_check.pairing import check_pairing
from regbench.dataset_check.survey import Surveyed, survey
from regbench.datasets.folder_dataset import FolderDataset, overlap_in_world
from regbench.datasets.protocol import Dataset
from regbench.errors import RegbenchError

_MANY_LABELS = 12


@dataclass(frozen=True)
class Checked:
    """The result: scans as surveyed, facts for a table, and findings; nothing starts if one of these is an error."""

    scans: Sequence[Surveyed]
    facts: dict[str, str]
    findings: Sequence[Finding]

    @property
    def may_start(self) -> bool:
        """Whether a benchmark may start."""
        return all(finding.severity != "error" for finding in self.findings)


def check_dataset(
    dataset: Dataset,
    limit: int | None = None,
    index: Path | None = None,
    new_index: Path | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> Checked:
    """Everything that can be found out about a dataset; `told` hears which scan is being read."""
    try:
        refs = list(dataset.pair_refs())
    except RegbenchError as error:
        return Checked([], {}, [Finding("error", "pairs", str(error))])
    scans = []
    for scan in survey(dataset, limit):
        told(scan.name)
        scans.append(scan)
    findings = [Finding("error", "reading", scan.problem) for scan in scans if scan.problem]
    findings += _grids(scans) + _labels(scans) + _landmarks(scans) + _overlap(scans)
    findings += files.check_missing(scans)
    if isinstance(dataset, FolderDataset):
        findings += files.check_surplus(dataset, scans)
    known = files.hashes(scans)
    findings += files.check_leakage(scans, files.check_doubles(scans, known))
    if index is not None:
        findings += files.check_index(index, known)
    if new_index is not None:
        files.write_index(new_index, known)
    told("pairing of images and labels")
    findings += check_pairing(scans)
    if limit is not None and len(scans) == limit:
        findings.append(Finding("note", "reading", f"only the first {limit} scans were looked at"))
    order = {"error": 0, "warning": 1, "note": 2}
    return Checked(scans, _facts(scans, len(refs)), sorted(findings, key=lambda finding: order[finding.severity]))


def _facts(scans: Sequence[Surveyed], n_pairs: int) -> dict[str, str]:
    grids = [scan.grid for scan in scans if scan.grid is not None]
    splits = Counter(scan.split for scan in scans if scan.split)
    labels = sorted({value for scan in scans for value in scan.labels or {}})
    return {
        "scans": str(len(scans)),
        "subjects": str(len({scan.subject for scan in scans})),
        "pairs": str(n_pairs),
        "parts": ", ".join(f"{split} {n}" for split, n in splits.items()),
        "shapes": _counted(["x".join(map(str, grid.shape)) for grid in grids]),
        "spacings (mm)": _counted(["x".join(f"{s:.3g}" for s in grid.spacing_mm) for grid in grids]),
        "orientations": _counted([grid.orientation for grid in grids]),
        "labels": f"{len(labels)}: {shown([str(v) for v in labels], _MANY_LABELS)}" if labels else "none",
        "excluded": _excluded(scans),
        "landmarks": _counted([str(scan.n_landmarks) for scan in scans if scan.n_landmarks]),
    }


def _excluded(scans: Sequence[Surveyed]) -> str:
    shares = [scan.excluded_percent for scan in scans if scan.excluded_percent is not None]
    return f"in {len(shares)} scans, up to {max(shares):.2g} % of the voxels" if shares else ""


def _counted(words: Sequence[str]) -> str:
    found = Counter(words).most_common()
    if len(found) == 1:
        return found[0][0]
    return shown([f"{word} ({n})" for word, n in found])


def _grids(scans: Sequence[Surveyed]) -> list[Finding]:
    wrong = [
        scan
        for scan in scans
        if scan.grid is not None and scan.label_grid is not None and not scan.grid.matches(scan.label_grid, 1e-2)
    ]
    findings = [
        Finding(
            "error",
            "grids",
            f"'{scan.name}': the labels are on another grid than the image ({scan.label_grid.describe()} against "
            f"{scan.grid.describe()})",
        )
        for scan in wrong
        if scan.grid is not None and scan.label_grid is not None
    ]
    findings += [Finding("error", "grids", scan.excluded_problem) for scan in scans if scan.excluded_problem]
    findings += [
        Finding("error", "grids", f"'{scan.name}': all of the image is excluded from scores; check its mask")
        for scan in scans
        if scan.excluded_percent == 100
    ]
    orientations = {scan.grid.orientation for scan in scans if scan.grid is not None}
    if len(orientations) > 1:
        names = ", ".join(sorted(orientations))
        sentence = f"scans are stored in {len(orientations)} orientations ({names}); some networks need one"
        findings.append(Finding("warning", "grids", sentence))
    return findings


def _labels(scans: Sequence[Surveyed]) -> list[Finding]:
    labelled = [scan for scan in scans if scan.labels is not None]
    if not labelled:
        return [Finding("note", "labels", "no scan has labels; overlap cannot be scored")]
    empty = [scan.name for scan in labelled if not scan.labels]
    everything = sorted({value for scan in labelled for value in scan.labels or {}})
    findings = []
    if empty:
        findings.append(Finding("error", "labels", f"maps without any: {shown(empty)}"))
    missing = {v: [s.name for s in labelled if v not in (s.labels or {})] for v in everything}
    rare = [f"{v} ({len(names)})" for v, names in missing.items() if names]
    if rare:
        which = f"{len(rare)} of {len(everything)} are not in all scans (in brackets how many lack them)"
        sentence = f"{which}: {shown(rare, _MANY_LABELS)}"
        findings.append(Finding("warning", "labels", sentence))
    names = {value: name for scan in labelled for value, name in scan.label_names.items()}
    unnamed = [str(value) for value in everything if names and value not in names]
    if unnamed:
        sentence = (
            f"not in the table of names: {shown(unnamed, _MANY_LABELS)}; "
            "if the files follow another table, the names of the others are wrong, too"
        )
        findings.append(Finding("warning", "labels", sentence))
    return findings


def _landmarks(scans: Sequence[Surveyed]) -> list[Finding]:
    outside = [f"{scan.name} ({scan.n_outside} of {scan.n_landmarks})" for scan in scans if scan.n_outside]
    if not outside:
        return []
    return [Finding("warning", "landmarks", f"landmarks outside of their image are left out: {shown(outside)}")]


def _overlap(scans: Sequence[Surveyed]) -> list[Finding]:
    grids = [(scan.name, scan.grid) for scan in scans if scan.grid is not None]
    apart = [
        name for name, grid in grids[1:] if grid.ndim == grids[0][1].ndim and not overlap_in_world(grids[0][1], grid)
    ]
    if not apart:
        return []
    sentence = (
        f"scans that do not meet '{grids[0][0]}' in world coordinates: {shown(apart)}; "
        "set prealign: moments, rigid or affine"
    )
    return [Finding("warning", "overlap", sentence)]
