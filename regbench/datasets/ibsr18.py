"""`ibsr18`: the eighteen brains of the Internet Brain Segmentation Repository as NITRC offers them.

    IBSR_nifti_stripped/IBSR_01/IBSR_01_ana_strip.nii.gz      skull-stripped (`image: strip`); also _ana (`image: head`)
                                IBSR_01_seg_ana.nii.gz        84 structures (FreeSurfer numbers)
                                IBSR_01_segTRI_ana, segTRI_fill_ana, ana_brainmask .nii.gz
    older:  IBSR_01/images/analyze/IBSR_01_ana.img, IBSR_01/segmentation/analyze/IBSR_01_seg_ana.img

256x128x256 voxels of 0.84-1 x 1.5 x 0.84-1 mm, some with a fourth axis of one. Not aligned to each other. Labels: `seg`
(default), `tri` and `tri_fill` (1 CSF, 2 grey, 3 white matter); `labels: ibsr31` are the structures that all subjects
have. Subjects: 01 ... 18. Pairs: any protocol; papers use all ordered pairs.

How to obtain: https://www.nitrc.org/projects/ibsr. Licence: CC BY-NC-SA, see there.
Citation: "The MR brain data sets and their manual segmentations were provided by the Center for Morphometric Analysis
at Massachusetts General Hospital and are available at http://www.cma.mgh.harvard.edu/ibsr/."
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from regbench.datasets.folder_dataset import FolderDataset
from regbench.datasets.listing import Layout, ListedScan, existing, folders_in, matching

_SUFFIXES = (".nii.gz", ".nii", ".img", ".img.gz")
_INNER = ("", "images/analyze", "segmentation/analyze", "images/nifti", "segmentation/nifti")
_LABELS = {"seg": "seg_ana", "tri": "segTRI_ana", "tri_fill": "segTRI_fill_ana"}


@dataclass(frozen=True)
class Ibsr18(FolderDataset):
    """The data set; see `regbench.datasets.folder_dataset` for the parameters of all folders."""

    pairs: str = "all-ordered"
    image: Literal["strip", "head"] = "strip"

    layout: ClassVar = Layout(
        name="ibsr18",
        looks_for="IBSR_01/IBSR_01_ana_strip.nii.gz",
        family="ibsr18",
        table="freesurfer",
    )

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        """The folder of the subjects or the one above it; `image: head` if none is skull-stripped."""
        for root in (folder, folder / "IBSR_nifti_stripped"):
            for inner, match in matching(folders_in(root), r"IBSR_(\d{2})"):
                for image, what in (("strip", "ana_strip"), ("head", "ana")):
                    if _file(inner, f"IBSR_{match[1]}_{what}"):
                        return {"path": str(root)} | ({"image": image} if image == "head" else {})
        return None

    def _listed(self) -> list[ListedScan]:
        scans = []
        for folder, match in matching(folders_in(self.folder), r"IBSR_(\d{2})"):
            name = f"IBSR_{match[1]}"
            image = _file(folder, f"{name}_ana_strip" if self.image == "strip" else f"{name}_ana")
            if image is None:
                continue
            found = {key: _file(folder, f"{name}_{what}") for key, what in _LABELS.items()}
            labels = {key: path for key, path in found.items() if path is not None}
            mask = _file(folder, f"{name}_ana_brainmask")
            scans.append(ListedScan(match[1], image, labels, mask=mask))
        return scans


def _file(folder: Path, stem: str) -> Path | None:
    """The image with a name before its suffix, in the folder of a subject or where older archives have it."""
    places = [folder / inner for inner in _INNER]
    return next((path for place in places if (path := existing(place, *(stem + s for s in _SUFFIXES)))), None)
