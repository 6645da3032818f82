"""`neurite-oasis`: the 414 brains of OASIS-1 as neurite offers them, in 3-D or as coronal slices.

    root/OASIS_OAS1_0001_MR1/aligned_norm.nii.gz      160x192x224, 1 mm, skull-stripped, affinely aligned, in [0, 1]
                             aligned_orig.nii.gz      the same before the intensities were corrected
                             aligned_seg35.nii.gz, aligned_seg4.nii.gz
                             norm, orig, seg35, seg4 .nii.gz               native space, 256^3
                             slice_norm, slice_orig, slice_seg24, slice_seg4 .nii.gz      slice 109 of aligned_*
    root/subjects.txt, seg35_labels.txt, ...

`ndim: 2` reads the slices. Subjects are called 0001 ... 0457, with gaps. Splits: `train` the first 364, `validation`
the last 50, as in Jena et al., NeurIPS 2024; they are told from the place of a subject among all 414, so a part of
the data keeps them. Labels: 35 structures (seg35) in 3-D, 24 (seg24) in slices; `seg4` are four tissues, read from
its file or, where that is missing, merged from the others (cerebral structures as measured on the slices of two
subjects). Pairs: `consecutive`, `jena-val49`, `jena-trainval413`, and all others.

How to obtain: https://github.com/adalca/medical-datasets, neurite-oasis.md (a tar of 6.6 GB).
Licence: the data use agreement of OASIS (https://sites.wustl.edu/oasisbrains/).
Citation: Marcus et al., J. Cognitive Neuroscience 19 (2007) 1498-1507; Hoopes et al., IPMI 2021 (HyperMorph).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from regbench.datasets.folder_dataset import FolderDataset
from regbench.datasets.listing import Layout, ListedScan, existing, folders_in

_FOLDER = re.compile(r"(?:OASIS_)?OAS1_(\d{4})_MR1")
_PREFIX = {(3, "aligned"): "aligned_", (3, "native"): "", (2, "aligned"): "slice_"}
_DEFAULT_LABELS = {3: "seg35", 2: "seg24"}
# The numbers of the last fifty subjects begin here: the 365th of 414 is 0404.
_FIRST_OF_VALIDATION = 404


@dataclass(frozen=True)
class NeuriteOasis(FolderDataset):
    """The data set; see `regbench.datasets.folder_dataset` for the parameters of all folders."""

    ndim: Literal[2, 3] = 3
    image: Literal["norm", "orig"] = "norm"
    space: Literal["aligned", "native"] = "aligned"

    layout: ClassVar = Layout(
        name="neurite-oasis",
        looks_for="OASIS_OAS1_NNNN_MR1/aligned_norm.nii.gz or slice_norm.nii.gz",
        family="neurite-oasis",
    )

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        """The folder that holds the subjects; `ndim: 2` if there are slices only."""
        subjects = [inner for inner in folders_in(folder) if _FOLDER.fullmatch(inner.name)]
        for ndim, names in ((3, ("aligned_norm", "norm")), (2, ("slice_norm",))):
            for name in names:
                if any(existing(subject, f"{name}.nii.gz") for subject in subjects[:3]):
                    given = {"path": str(folder)} | ({"ndim": 2} if ndim == 2 else {})
                    return given | ({"space": "native"} if name == "norm" else {})
        return None

    def _listed(self) -> list[ListedScan]:
        prefix = _PREFIX.get((self.ndim, self.space), "slice_")
        scans = []
        for folder in folders_in(self.folder):
            match = _FOLDER.fullmatch(folder.name)
            image = folder / f"{prefix}{self.image}.nii.gz"
            if not match or not image.is_file():
                continue
            labels = {name: folder / f"{prefix}{name}.nii.gz" for name in (_DEFAULT_LABELS[self.ndim], "seg4")}
            present = {name: path for name, path in labels.items() if path.is_file()}
            split = "validation" if int(match[1]) >= _FIRST_OF_VALIDATION else "train"
            scans.append(ListedScan(match[1], image, present, split=split))
        return scans

    def _table(self) -> str | None:
        default = _DEFAULT_LABELS[self.ndim]
        has_default = any(default in scan.labels for scan in self.scans.values())
        return default if has_default else "seg4"
