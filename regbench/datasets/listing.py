"""What a folder of scans holds, by names alone: listing opens no image, however many there are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regbench.datasets.pair_protocols import order_key
from regbench.errors import DatasetError

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".img", ".img.gz", ".mgz", ".mha", ".mhd", ".nrrd", ".nhdr", ".npz", ".npy")


@dataclass(frozen=True)
class ListedScan:
    """A scan as it is listed: its name, whose it is, and the files that belong to it.

    `labels` are label files by the name of their label set, the first being the default. Scans of one subject
    (breathing phases, visits) share `subject`, which is the name of the scan where it is not given. `excluded` is a
    mask of what takes no part in scores, such as a lesion.
    """

    name: str
    image: Path
    labels: Mapping[str, Path] = field(default_factory=dict)
    mask: Path | None = None
    landmarks: Path | None = None
    keypoints: Path | None = None
    excluded: Path | None = None
    subject: str = ""
    split: str = ""
    tags: Mapping[str, Any] = field(default_factory=dict)

    @property
    def of(self) -> str:
        """The id of the subject."""
        return self.subject or self.name


@dataclass(frozen=True)
class Layout:
    """The facts of a folder layout: what marks it, whose scans it holds, and the table of its labels.

    `looks_for` is said to users whose folder fits no layout; `family` is the name under which leaks are found.
    """

    name: str
    looks_for: str
    family: str | None = None
    table: str | None = None


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, by number; hidden ones and those of macOS archives are left out."""
    return _entries(folder, wants_folders=True)


def files_in(folder: Path, suffixes: Sequence[str] = ()) -> list[Path]:
    """The files in a folder, by number, with one of the suffixes if given; `._*` and hidden files are left out."""
    found = _entries(folder, wants_folders=False)
    return [path for path in found if path.name.lower().endswith(tuple(suffixes))] if suffixes else found


def images_in(folder: Path) -> list[Path]:
    """The image files in a folder, by number; of Analyze pairs the `.img`."""
    return files_in(folder, IMAGE_SUFFIXES)


def _entries(folder: Path, wants_folders: bool) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [
                entry.name
                for entry in entries
                if entry.is_dir() == wants_folders and not entry.name.startswith((".", "__MACOSX"))
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from None
    return [folder / name for name in sorted(names, key=order_key)]


def walked(folder: Path, depth: int) -> Iterator[Path]:
    """The folder and the folders below it, down to `depth` levels, each before what it holds."""
    yield folder
    if depth > 0:
        for inner in folders_in(folder):
            yield from walked(inner, depth - 1)


def matching(paths: Iterable[Path], pattern: str) -> list[tuple[Path, re.Match[str]]]:
    """The paths whose file name matches a regular expression as a whole, letters of either case, with the match."""
    compiled = re.compile(pattern, re.IGNORECASE)
    return [(path, match) for path in paths if (match := compiled.fullmatch(path.name))]


def existing(folder: Path, *names: str) -> Path | None:
    """The first of the files in a folder that exists; a name of an Analyze header stands for its pair."""
    for name in names:
        path = folder / name
        if path.is_file():
            return path
    return None
