"""`lpba40`: forty brains of the LONI Probabilistic Brain Atlas with 56 structures drawn by hand.

    root/LPBA40/delineation_space/S01/S01.delineation.skullstripped.hdr, .img.gz
                                      S01.delineation.structure.label.hdr, .img.gz
    root/LPBA40/native_space/S01/S01.native.brain.bfc.hdr, .img.gz                       no labels
    root/label/S01.delineation.structure.label.nii.gz, ...                                repackaged flat

Files are Analyze 7.5 with a fourth axis of one (256x124x256x1), 0.86 x 1.5 x 0.86 mm; also unpacked (`.img`) or
converted (`.nii.gz`). The data are not aligned to each other beyond their orientation. Labels: 56 numbers from 21 to
182, odd on the left. Their places show that x runs to the right in the Analyze files, whose headers do not say so.
Subjects: S01 ... S40. Pairs: any protocol; papers use all ordered pairs.

How to obtain: https://resource.loni.usc.edu, "LPBA40 Subjects Delineation Space: MRI and label files".
Licence: LONI terms, for research.
Citation: Shattuck et al., NeuroImage 39 (2008) 1064-1080.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from regbench.datasets.folder_dataset import FolderDataset
from regbench.datasets.listing import Layout, ListedScan, existing, files_in, folders_in, matching, walked
from regbench.volume import Grid, Image, Labels

_SUBJECT = r"S(\d{2})"
_SUFFIXES = (".nii.gz", ".nii", ".hdr")
_IMAGES = {"delineation": "delineation.skullstripped", "native": "native.brain.bfc"}
_LABELS = "delineation.structure.label"
_FOLDERS = {"delineation": "delineation_space", "native": "native_space"}


@dataclass(frozen=True)
class Lpba40(FolderDataset):
    """The data set; see `regbench.datasets.folder_dataset` for the parameters of all folders."""

    space: Literal["delineation", "native"] = "delineation"

    layout: ClassVar = Layout(
        name="lpba40",
        looks_for="S01/S01.delineation.skullstripped.hdr",
        family="lpba40",
        table="lpba40",
    )

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        """The folder of a space, or one above it; delineation space before native space."""
        for space, name in _FOLDERS.items():
            for inner in walked(folder, 2):
                is_space = inner.name.lower() == name or inner == folder
                if is_space and any(_files(inner, _IMAGES[space])):
                    return {"path": str(inner)} | ({"space": space} if space == "native" else {})
        return None

    def _image_of(self, scan: ListedScan) -> Image:
        image = super()._image_of(scan)
        return Image(image.array, _running_right(image.grid)) if scan.image.suffix == ".hdr" else image

    def _labels_of(self, scan: ListedScan, path: Path) -> Labels:
        labels = super()._labels_of(scan, path)
        return Labels(labels.array, _running_right(labels.grid)) if path.suffix == ".hdr" else labels

    def _reading(self) -> list[Any]:
        return ["Analyze runs to the right"]

    def _listed(self) -> list[ListedScan]:
        labels = _files(self.folder, _LABELS)
        images = _files(self.folder, _IMAGES[self.space])
        return [
            ListedScan(subject, path, {"structures": labels[subject]} if subject in labels else {})
            for subject, path in images.items()
        ]


def _running_right(grid: Grid) -> Grid:
    """The grid with its first world axis reversed: Analyze files are read as running to the left otherwise."""
    affine = np.array(grid.affine)
    affine[0] = -affine[0]
    return Grid(grid.shape, affine)


def _files(folder: Path, what: str) -> dict[str, Path]:
    """The files S01.WHAT.* by subject, in folders of the subjects or all in one."""
    found: dict[str, Path] = {}
    for inner, match in matching(folders_in(folder), _SUBJECT):
        names = [f"S{match[1]}.{what}{suffix}" for suffix in _SUFFIXES]
        path = existing(inner, *names)
        if path:
            found[f"S{match[1]}"] = path
    if not found:
        pattern = rf"{_SUBJECT}\.{what}(?:\.nii\.gz|\.nii|\.hdr)".replace(".delin", r"\.delin")
        flat = [path for part in (folder, folder / "label", folder / "labels") for path in files_in(part)]
        found = {f"S{match[1]}": path for path, match in reversed(matching(flat, pattern))}
        found = dict(reversed(found.items()))
    return found
