"""`voxelmorph-npz`: a folder of npz files as VoxelMorph reads and shares them.

    root/subject_1.npz           keys vol, seg
    root/subject_1_vol.npz, subject_1_seg.npz            keys vol_data
    root/atlas.npz               keys vol, seg (and train_avg): the atlas of the protocol `atlas`
    root/labels.npz              the labels that are evaluated; not a scan

Volumes are 160x192x224, 1 mm, affinely aligned, in [0, 1]; the files hold no geometry, so axes are taken as in the
neurite-OASIS files (LIA). Labels are FreeSurfer numbers; `labels: voi30` are the thirty of labels.npz. Files whose name
ends in _2d are left out. A file without seg has no labels. Subjects are called as their files. Pairs: any protocol.

How to obtain: https://github.com/voxelmorph/voxelmorph (data/). Licence: Apache-2.0 (test_scan.npz).
Citation: Balakrishnan et al., IEEE TMI 38 (2019) 1788-1800.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from regbench.datasets.folder_dataset import FolderDataset
from regbench.datasets.listing import Layout, ListedScan, files_in
from regbench.errors import DatasetError
from regbench.volume import Grid, Image, Labels

_LIA = np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
_IMAGES = ("vol", "vol_data")
_LABELS = ("seg", "vol_data")
_NO_SCANS = ("labels",)


@dataclass(frozen=True)
class VoxelMorphNpz(FolderDataset):
    """The data set; see `regbench.datasets.folder_dataset` for the parameters of all folders."""

    pairs: str = "all-ordered"

    layout: ClassVar = Layout(
        name="voxelmorph-npz",
        looks_for="*.npz with vol and seg",
        table="freesurfer",
    )

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        """The folder with npz files of which one has the keys of VoxelMorph."""
        files = files_in(folder, (".npz",))
        return {"path": str(folder)} if any(set(_keys(path)) & {"vol", "vol_data"} for path in files[:3]) else None

    def _listed(self) -> list[ListedScan]:
        files = {path.name.removesuffix(".npz"): path for path in files_in(self.folder, (".npz",))}
        scans = []
        for name, path in files.items():
            # Two-dimensional atlases lie beside volumes; their names say so.
            if name in _NO_SCANS or name.endswith(("_seg", "_2d")):
                continue
            stem = name.removesuffix("_vol")
            seg = files.get(f"{stem}_seg", path if stem == name else None)
            scans.append(ListedScan(stem, path, {"seg": seg} if seg else {}))
        return scans

    def _atlas(self) -> str | None:
        return next((name for name in self.scans if name.startswith("atlas")), None)

    def _image_of(self, scan: ListedScan) -> Image:
        array = _array(scan.image, _IMAGES)
        return Image(array, _grid(array, scan.image))

    def _labels_of(self, scan: ListedScan, path: Path) -> Labels:
        array = _array(path, _LABELS)
        return Labels(array, _grid(array, path))


def _grid(array: np.ndarray, path: Path) -> Grid:
    if array.ndim == 2:
        return Grid.from_spacing((array.shape[0], array.shape[1]))
    if array.ndim != 3:
        raise DatasetError(f"{path}: holds an array of shape {array.shape}; a volume has three axes")
    affine = np.eye(4)
    affine[:3, :3] = _LIA
    affine[:3, 3] = -_LIA @ ((np.array(array.shape) - 1) / 2)
    return Grid(array.shape, affine)


def _keys(path: Path) -> list[str]:
    """The names of the arrays in an npz file; only its list of contents is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile):
        return []


def _array(path: Path, keys: tuple[str, ...]) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as stored:
            for key in keys:
                if key in stored:
                    found: np.ndarray = np.squeeze(stored[key])
                    return found
            raise DatasetError(f"{path}: holds {', '.join(stored)}; expected is {' or '.join(keys)}")
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); copy it again") from None
