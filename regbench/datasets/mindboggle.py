"""`mindboggle101`: 101 brains with the cortex labelled by hand in the DKT protocol.

    OASIS-TRT-20_volumes/OASIS-TRT-20-1/t1weighted_brain.nii.gz, t1weighted.nii.gz
                                        labels.DKT31.manual.nii.gz, labels.DKT31.manual+aseg.nii.gz, labels.DKT25.manual
                                        t1weighted_brain.MNI152.nii.gz, labels.DKT31.manual.MNI152.nii.gz, ...
    MMRR-21_volumes, NKI-RS-22_volumes, NKI-TRT-20_volumes, Extra-18_volumes (HLN-12, Twins-2, ...) in the same way

`space: mni` (default) reads the images in MNI152 space (182x218x182, 1 mm), `space: native` the others. A subject is
called as its folder. Labels: `DKT31` (default: 31 areas per side, FreeSurfer numbers 1002 ... 2035), `DKT31+aseg`
(with the subcortical structures) and `DKT25`. Pairs: any protocol. The 20 subjects of OASIS-TRT-20 are second visits
of OASIS-1.

How to obtain: https://osf.io/yhkde (Mindboggle-101). Licence: CC BY-NC-SA 3.0 and others by cohort, see there.
Citation: Klein and Tourville, Frontiers in Neuroscience 6 (2012) 171.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from regbench.datasets.folder_dataset import FolderDataset
from regbench.datasets.listing import Layout, ListedScan, folders_in, walked

_LABELS = {"DKT31": "labels.DKT31.manual", "DKT31+aseg": "labels.DKT31.manual+aseg", "DKT25": "labels.DKT25.manual"}


@dataclass(frozen=True)
class Mindboggle101(FolderDataset):
    """The data set; see `regbench.datasets.folder_dataset` for the parameters of all folders."""

    image: Literal["brain", "head"] = "brain"
    space: Literal["mni", "native"] = "mni"

    layout: ClassVar = Layout(
        name="mindboggle101",
        looks_for="OASIS-TRT-20-1/t1weighted_brain.MNI152.nii.gz and labels.DKT31.manual.MNI152.nii.gz",
        table="freesurfer",
    )

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        """The folder of a cohort, or one above some; `space: native` if nothing is in MNI152 space."""
        for inner in walked(folder, 2):
            for space, end in (("mni", ".MNI152"), ("native", "")):
                if (inner / f"t1weighted_brain{end}.nii.gz").is_file():
                    root = inner.parent if inner == folder else folder
                    return {"path": str(root)} | ({"space": space} if space == "native" else {})
        return None

    def _listed(self) -> list[ListedScan]:
        end = ".MNI152.nii.gz" if self.space == "mni" else ".nii.gz"
        stem = "t1weighted_brain" if self.image == "brain" else "t1weighted"
        folders = [inner for outer in folders_in(self.folder) for inner in (outer, *folders_in(outer))]
        scans = []
        for folder in folders:
            image = folder / (stem + end)
            if image.is_file():
                labels = {key: folder / (what + end) for key, what in _LABELS.items()}
                present = {key: path for key, path in labels.items() if path.is_file()}
                cohort = folder.name.rpartition("-")[0]
                scans.append(ListedScan(folder.name, image, present, tags={"cohort": cohort}))
        return scans

    def _table_of(self, name: str) -> str | None:
        return self.layout.table
