"""The files of a dataset: missing and surplus ones, content that occurs twice, and a checksum index.

An index is a text file of lines `SHA256  PATH`, paths relative to its folder, as `sha256sum` writes and checks it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from regbench.dataset_check.findings import Finding, shown
from regbench.dataset_check.survey import Surveyed
from regbench.datasets.folder_dataset import FolderDataset
from regbench.datasets.listing import IMAGE_SUFFIXES
from regbench.errors import DatasetError, StoreError
from regbench.files.atomic import replaced
from regbench.files.images import files_of

_DEEP = 5


def check_missing(scans: Sequence[Surveyed]) -> list[Finding]:
    """Warnings for parts that most scans have and some have not."""
    findings = []
    for part in ("labels", "mask", "landmarks"):
        having = [scan.name for scan in scans if part in scan.files]
        without = [scan.name for scan in scans if part not in scan.files and not scan.problem]
        if having and without:
            sentence = f"scans without {part} ({len(without)} of {len(scans)}): {shown(without)}"
            findings.append(Finding("warning", "files", sentence))
    return findings


def check_surplus(dataset: FolderDataset, scans: Sequence[Surveyed]) -> list[Finding]:
    """A note on image files below the folder that no scan uses with these parameters."""
    used = {path.resolve() for scan in scans for path in scan.files.values()}
    used |= {other for scan in dataset.scans.values() for p in scan.labels.values() for other in (p, p.resolve())}
    used |= {part.resolve() for path in list(used) for part in _parts(path)}
    found = []
    for path in sorted(dataset.folder.glob("**/*")):
        is_near = len(path.relative_to(dataset.folder).parts) <= _DEEP
        is_image = path.name.lower().endswith((*IMAGE_SUFFIXES, ".pkl")) and not path.name.startswith("._")
        if is_near and is_image and path.is_file() and path.resolve() not in used:
            found.append(str(path.relative_to(dataset.folder)))
    if not found:
        return []
    return [Finding("note", "files", f"image files not used with these parameters ({len(found)}): {shown(found)}")]


def hashes(scans: Sequence[Surveyed]) -> dict[Path, str]:
    """The sha256 of every file of the scans, headers and data that are kept apart each for itself."""
    return {part: _sha256(part) for scan in scans for path in scan.files.values() for part in _parts(path)}


def _parts(path: Path) -> list[Path]:
    if not path.is_file():
        return []
    try:
        return files_of(path)
    except DatasetError:
        # Raw volumes are called .img, too, and have no header.
        return [path]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_doubles(scans: Sequence[Surveyed], known: Mapping[Path, str]) -> list[Finding]:
    """Errors for one image content under the names of two subjects: it would be training and test data at once."""
    subjects: dict[tuple[str, ...], dict[str, Surveyed]] = defaultdict(dict)
    for scan in scans:
        parts = _parts(scan.files["image"]) if "image" in scan.files else []
        if parts:
            subjects[tuple(known[part] for part in parts)].setdefault(scan.subject, scan)
    findings = []
    for same in subjects.values():
        names = [scan.name for scan in same.values()]
        if len({scan.files["image"] for scan in same.values()}) > 1:
            sentence = f"different subjects with one and the same image: {shown(names)}"
            findings.append(Finding("error", "leakage", sentence))
    return findings


def check_leakage(scans: Sequence[Surveyed], doubles: Sequence[Finding] = ()) -> list[Finding]:
    """Errors for subjects in more than one of train, validation and test, and the doubles; a note if there is none."""
    parts: dict[str, set[str]] = defaultdict(set)
    for scan in scans:
        if scan.split:
            parts[scan.subject].add(scan.split)
    shared = [f"{subject} ({', '.join(sorted(found))})" for subject, found in parts.items() if len(found) > 1]
    if shared:
        return [Finding("error", "leakage", f"subjects in several parts: {shown(shared)}"), *doubles]
    if doubles:
        return list(doubles)
    splits = {split for found in parts.values() for split in found}
    return (
        [Finding("note", "leakage", f"no subject is in two of {', '.join(sorted(splits))}")] if len(splits) > 1 else []
    )


def check_index(index: Path, known: Mapping[Path, str]) -> list[Finding]:
    """Errors for files that differ from a checksum index, warnings for those that it lacks or has in vain."""
    expected = read_index(index)
    found = {path.resolve(): digest for path, digest in known.items()}
    changed = [path.name for path, digest in expected.items() if path in found and found[path] != digest]
    gone = [path.name for path in expected if path not in found and not path.exists()]
    new = [path.name for path in found if path not in expected]
    findings = []
    if changed:
        findings.append(Finding("error", "integrity", f"files that differ from {index}: {shown(changed)}"))
    if gone:
        findings.append(Finding("error", "integrity", f"files of {index} that are gone: {shown(gone)}"))
    if new:
        findings.append(Finding("warning", "integrity", f"files that are not in {index}: {shown(new)}"))
    return findings or [Finding("note", "integrity", f"all {len(found)} files are as in {index}")]


def read_index(index: Path) -> dict[Path, str]:
    """The hashes of a checksum index by absolute path; DatasetError if it is none."""
    try:
        lines = [line for line in index.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise DatasetError(f"{index}: no such file; write it with --write-index") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{index}: cannot be read ({error}); write it again with --write-index") from None
    found = {}
    for number, line in enumerate(lines, start=1):
        digest, _, path = line.partition(" ")
        if len(digest) != 64 or not path.strip():
            raise DatasetError(f"{index}: line {number} is not a sha256 and a path; write it with --write-index")
        found[(index.parent / path.strip().removeprefix("*")).resolve()] = digest
    return found


def write_index(index: Path, known: Mapping[Path, str]) -> None:
    """Writes a checksum index of files below its folder; StoreError if one lies elsewhere or it cannot be written."""
    root = index.absolute().parent.resolve()
    try:
        lines = [f"{digest}  {path.resolve().relative_to(root).as_posix()}" for path, digest in known.items()]
    except ValueError as error:
        raise StoreError(f"{index}: {error}; write the index into the folder of the data or above it") from None
    with replaced(index) as temporary:
        temporary.write_text("\n".join(sorted(lines, key=lambda line: line[66:])) + "\n", encoding="utf-8")
