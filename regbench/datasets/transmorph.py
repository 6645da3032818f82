"""`transmorph-ixi` and `transmorph-oasis`: the pickles that the authors of TransMorph share.

    IXI_data/atlas.pkl                          (image, labels)                    160x192x224, 1 mm
             Train/subject_N.pkl  Val/  Test/   (image, labels)                    403, 58 and 115 subjects
    OASIS_L2R_2021_task03/All/p_0001.pkl        (image, labels)
                          Test/p_0438_0439.pkl  (x, y, labels of x, labels of y)

Images lie in [0, 1]. The files hold no geometry: voxels are 1 mm, axes as in the neurite-OASIS files (LIA).
Pickles can run code when they are loaded; here they are read by a loader that builds arrays and nothing else.

IXI: labels are FreeSurfer numbers; `labels: voi30` are the thirty that the authors evaluate. Pairs: `official` moves
the atlas onto each subject of the split (default test); protocols run over the subjects.
OASIS: labels are seg35, numbers in file names are those of OASIS-1. Pairs: `official` are the files below Test, in
which x moves onto y; as Learn2Reg names a pair fixed_moving, y is taken to be the first number. Protocols run over
All.

How to obtain: links in the repository junyuchen245/TransMorph_Transformer_for_Medical_Image_Registration.
Licence: IXI CC BY-SA 3.0; OASIS its data use agreement.
Citation: Chen et al., Medical Image Analysis 82 (2022) 102615; data https://brain-development.org/ixi-dataset/,
Marcus et al., J. Cognitive Neuroscience 19 (2007) 1498-1507.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from regbench.datasets.folder_dataset import FolderDataset, split_name
from regbench.datasets.listing import Layout, ListedScan, files_in, matching
from regbench.datasets.restricted_pickle import read_pickled_arrays
from regbench.errors import DatasetError
from regbench.volume import Grid, Image, Labels

_LIA = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
# How many arrays a file of a scan, and a file of a pair, holds.
_OF_SCAN, _OF_PAIR = 2, 4


def _grid(array: np.ndarray, path: Path) -> Grid:
    if array.ndim != 3:
        raise DatasetError(f"{path}: holds an array of shape {array.shape}; a volume has three axes")
    affine = _LIA.copy()
    # The middle of the volume at the origin, so that volumes of one size overlap.
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(array.shape) - 1) / 2)
    return Grid(array.shape, affine)


class _Pickles(FolderDataset):
    """Reading of scans in pickles; `member` of a scan's tags says which array of a file of a pair is its image."""

    def _image_of(self, scan: ListedScan) -> Image:
        array = self._array(scan, scan.image, of_labels=False)
        return Image(array, _grid(array, scan.image))

    def _labels_of(self, scan: ListedScan, path: Path) -> Labels:
        array = self._array(scan, path, of_labels=True)
        return Labels(array, _grid(array, path))

    def _array(self, scan: ListedScan, path: Path, of_labels: bool) -> np.ndarray:
        arrays = read_pickled_arrays(path)
        is_moving = scan.name.endswith(_X)
        expected = _OF_PAIR if scan.name.endswith((_X, _Y)) else _OF_SCAN
        if len(arrays) != expected:
            raise DatasetError(f"{path}: holds {len(arrays)} arrays; expected are {expected}")
        if expected == _OF_SCAN:
            return arrays[int(of_labels)]
        return arrays[2 * int(of_labels) + int(not is_moving)]


_X, _Y = " x", " y"


@dataclass(frozen=True)
class TransMorphIxi(_Pickles):
    """The data set; see `regbench.datasets.folder_dataset` for the parameters of all folders."""

    split: str | None = "test"
    pairs: str = "official"

    layout: ClassVar = Layout(
        name="transmorph-ixi",
        looks_for="atlas.pkl beside Train, Val, Test/subject_N.pkl",
        family="ixi",
        table="freesurfer",
    )

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        """The folder with the atlas and the parts."""
        if (folder / "atlas.pkl").is_file() and any((folder / part).is_dir() for part in ("Train", "Val", "Test")):
            return {"path": str(folder)}
        return None

    def _listed(self) -> list[ListedScan]:
        atlas = self.folder / "atlas.pkl"
        scans = [ListedScan("atlas", atlas, {"labels": atlas})] if atlas.is_file() else []
        for part in ("Train", "Val", "Test"):
            for path, match in matching(files_in(self.folder / part), r"subject_(\d+)\.pkl"):
                scans.append(ListedScan(match[1], path, {"labels": path}, split=split_name(part)))
        return scans

    def _atlas(self) -> str | None:
        return "atlas" if "atlas" in self.scans else None

    def subjects(self, split: str | None = None) -> list[str]:
        """The subjects of a part; the atlas is in none."""
        return [name for name in super().subjects(split) if name != "atlas"]

    def _official(self, scans: Mapping[str, ListedScan]) -> list[tuple[str, str]]:
        return [(name, "atlas") for name in scans] if "atlas" in self.scans else []


@dataclass(frozen=True)
class TransMorphOasis(_Pickles):
    """The data set; see `regbench.datasets.folder_dataset` for the parameters of all folders."""

    pairs: str = "official"

    layout: ClassVar = Layout(
        name="transmorph-oasis",
        looks_for="All/p_NNNN.pkl, Test/p_NNNN_NNNN.pkl",
        family="neurite-oasis",
        table="seg35",
    )

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        """The folder with All or Test in it."""
        found = [path for part in ("All", "Test") for path in files_in(folder / part)]
        return {"path": str(folder)} if matching(found[:50], r"p_\d{4}(_\d{4})?\.pkl") else None

    def _listed(self) -> list[ListedScan]:
        scans = []
        for path, match in matching(files_in(self.folder / "All"), r"p_(\d+)\.pkl"):
            scans.append(ListedScan(match[1], path, {"labels": path}, split="train"))
        for path, match in matching(files_in(self.folder / "Test"), r"p_(\d+)_(\d+)\.pkl"):
            for which, number in ((_Y, match[1]), (_X, match[2])):
                # One subject is in two files, fixed in one and moving in the other.
                name = f"{match[1]}-{match[2]}{which}"
                scans.append(ListedScan(name, path, {"labels": path}, subject=number, split="test"))
        return scans

    def subjects(self, split: str | None = None) -> list[str]:
        """The scans of a part; without one those below All."""
        return super().subjects(split or self.split or ("test" if self.pairs == "official" else "train"))

    def _official(self, scans: Mapping[str, ListedScan]) -> list[tuple[str, str]]:
        return [(name, name.removesuffix(_Y) + _X) for name in scans if re.fullmatch(r"\d+-\d+ y", name)]

    def _pair_name(self, fixed: ListedScan, moving: ListedScan) -> str:
        return f"{fixed.of}_{moving.of}"
