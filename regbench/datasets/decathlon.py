"""`decathlon`: a task of the Medical Segmentation Decathlon; segmentations stand in for correspondence.

    Task04_Hippocampus/imagesTr/hippocampus_001.nii.gz, labelsTr/hippocampus_001.nii.gz, imagesTs/, dataset.json

Images with several contrasts are 4-D; `channel` says which one to take. Files called `._*`, which archives made on
macOS hold, are left out. Only the training part has labels; imagesTs is the split `test`. Without dataset.json, which
gives names to labels and nothing else here, the folders suffice. Scans of a task are not aligned to each other, and
where their places in the world do not overlap, `prealign` is needed. Pairs: any protocol.

How to obtain: http://medicaldecathlon.com. Licence: CC BY-SA 4.0.
Citation: Antonelli et al., Nature Communications 13 (2022) 4128.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from regbench.datasets.folder_dataset import FolderDataset
from regbench.datasets.label_sets import LabelSet
from regbench.datasets.listing import Layout, ListedScan, images_in
from regbench.errors import DatasetError
from regbench.files.atomic import stem_of
from regbench.volume import Image


@dataclass(frozen=True)
class Decathlon(FolderDataset):
    """The data set; see `regbench.datasets.folder_dataset` for the parameters of all folders."""

    channel: int = 0

    layout: ClassVar = Layout(
        name="decathlon",
        looks_for="imagesTr/NAME_001.nii.gz and labelsTr/NAME_001.nii.gz",
    )

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        """The folder of a task."""
        if not (folder / "labelsTr").is_dir() or any(folder.glob("*_dataset.json")):
            return None
        names = {path.name for path in images_in(folder / "labelsTr")}
        is_task = any(path.name in names for path in images_in(folder / "imagesTr"))
        return {"path": str(folder)} if is_task else None

    def _listed(self) -> list[ListedScan]:
        scans = []
        for part, split in (("imagesTr", "train"), ("imagesTs", "test")):
            labels = {path.name: path for path in images_in(self.folder / part.replace("images", "labels"))}
            for path in images_in(self.folder / part):
                found = {"labels": labels[path.name]} if path.name in labels else {}
                scans.append(ListedScan(stem_of(path), path, found, split=split))
        return scans

    def subjects(self, split: str | None = None) -> list[str]:
        """The scans of a part; without one those of the training part, which has labels."""
        return super().subjects(split or self.split or ("" if self.held_out else "train"))

    def _image_of(self, scan: ListedScan) -> Image:
        return channel_of(scan.image, self.channel)

    def _reading(self) -> list[Any]:
        return [self.channel]

    @cached_property
    def _label_set(self) -> tuple[str, LabelSet]:
        name, chosen = super()._label_set
        return name, chosen if chosen.names else replace(chosen, names=self._names_of_labels())

    def _names_of_labels(self) -> Mapping[int, str]:
        try:
            listed = json.loads((self.folder / "dataset.json").read_bytes()).get("labels", {})
        except (OSError, ValueError, AttributeError):
            return {}
        return {int(v): str(name) for v, name in listed.items() if str(v).isdecimal() and int(v) > 0}


def channel_of(path: Path, channel: int) -> Image:
    """The image in a file, or that contrast of a 4-D file; DatasetError if it has fewer."""
    from regbench.files.images import check_exists, flattened, read_image
    from regbench.files.nifti import NIFTI_SUFFIXES, Volume, read_nifti

    if not path.name.lower().endswith(NIFTI_SUFFIXES):
        return read_image(path)
    check_exists(path)
    try:
        volume = read_nifti(path)
    except Exception as error:  # parsers raise anything on a damaged file
        raise DatasetError(f"{path}: cannot be read ({error}); copy it again") from None
    array = volume.array
    if array.ndim == 4:
        if not 0 <= channel < array.shape[3]:
            raise DatasetError(f"{path}: has {array.shape[3]} contrasts, there is no number {channel} (from 0)")
        array = array[..., channel]
    flat, grid = flattened(Volume(array, volume.affine))
    return Image(flat, grid)
