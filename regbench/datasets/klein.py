"""`klein2009`: LPBA40, IBSR18, CUMC12 and MGH10 as prepared for the comparison of Klein et al.

    root/CUMC12/Heads, Brains, BrainMasks, Atlases/m1.hdr, m1.img ... m12      (or .nii.gz)
    root/MGH10/  ... g1 ... g10        root/LPBA40/ ... l1 ... l40        root/IBSR18/ ... c1 ... c18

Brains are the images (`image: heads` the ones with skull), Atlases the labels, BrainMasks the masks. Subjects are in
the order of their numbers: m2 comes before m10. `set` names one of the four where a folder holds several.
Labels: LPBA40 56 numbers from 21 to 182, see `lpba40`; CUMC12 up to 128 numbers from 3 to 133, MGH10 106 numbers from
4 to 169, IBSR18 84 numbers from 2 to 120: their names are not on record here. Pairs: any protocol; Klein et al. and
Jena et al. use all ordered pairs.

The sets are in their native orientation with headers that do not always agree between subjects; use `prealign: affine`.

How to obtain: https://www.synapse.org/Synapse:syn3217707 (Mindboggle). Licence: that of each set, for research.
Citation: Klein et al., NeuroImage 46 (2009) 786-802.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from regbench.datasets.folder_dataset import FolderDataset
from regbench.datasets.listing import Layout, ListedScan, files_in, matching
from regbench.errors import ConfigError

_LETTERS = {"LPBA40": "l", "IBSR18": "c", "CUMC12": "m", "MGH10": "g"}
_SUFFIX = r"(?:\.nii\.gz|\.nii|\.img\.gz|\.img)"
_Set = Literal["LPBA40", "IBSR18", "CUMC12", "MGH10"]


@dataclass(frozen=True)
class Klein2009(FolderDataset):
    """The data set; see `regbench.datasets.folder_dataset` for the parameters of all folders."""

    pairs: str = "all-ordered"
    set: _Set | None = None
    image: Literal["brains", "heads"] = "brains"

    layout: ClassVar = Layout(
        name="klein2009",
        looks_for="Brains/m1.img and Atlases/m1.img (m, g, l or c by set)",
    )

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        """The folder of a set, or the folder that holds several."""
        if _sets_in(folder):
            return {"path": str(folder)}
        return None

    def _listed(self) -> list[ListedScan]:
        sets = _sets_in(self.folder)
        if self.set is None and len(sets) > 1:
            raise ConfigError(f"{self._where('set')}: {self.folder} holds {', '.join(sets)}; name one of them")
        name: str = self.set or next(iter(sets), "")
        if name not in sets:
            return []
        root = sets[name]
        labels, masks = _files(root, "Atlases", name), _files(root, "BrainMasks", name)
        return [
            ListedScan(
                subject,
                path,
                {"atlas": labels[subject]} if subject in labels else {},
                mask=masks.get(subject),
                tags={"set": name},
            )
            for subject, path in _files(root, self.image.capitalize(), name).items()
        ]

    def _table(self) -> str | None:
        is_lpba40 = any(scan.tags.get("set") == "LPBA40" for scan in self.scans.values())
        return "lpba40" if is_lpba40 else None


def _sets_in(folder: Path) -> dict[str, Path]:
    """The sets whose folder this is, or that lie in it, by name."""
    found = {}
    for name in _LETTERS:
        for root in (folder / name, folder):
            if _files(root, "Brains", name) or _files(root, "Heads", name):
                found[name] = root
                break
    return found


def _files(root: Path, part: str, name: str) -> dict[str, Path]:
    """The files of one part of a set by subject, such as m1; in the order of their numbers."""
    pattern = rf"({_LETTERS[name]}\d{{1,2}}){_SUFFIX}"
    return {match[1].lower(): path for path, match in matching(files_in(root / part), pattern)}
