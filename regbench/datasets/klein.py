"""`klein2009`: LPBA40, IBSR18, CUMC12 and MGH10 as prepared for the comparison of Klein et al.

    root/CUMC12/Heads, Brains, BrainMasks, Atlases/m1.hdr, m1.img ... m12      (or .nii.gz)
    root/MGH10/  ... g1 ... g10        root/LPBA40/ ... l1 ... l40        root/IBSR18/ ... c1 ... c18
    root/LPBA40/registered_pairs/l1_to_l2.hdr, .img        l1 brought affinely onto l2
                registered_label_pairs/l1_to_l2.hdr, .img  its labels

Brains are the images (`image: heads` the ones with skull), Atlases the labels, BrainMasks the masks. Subjects are in
the order of their numbers: m2 comes before m10. `set` names one of the four where a folder holds several.
Labels: LPBA40 56 numbers from 21 to 182, see `lpba40`; CUMC12 127 numbers from 3 to 133 (not 31, 32, 66, 84), MGH10 106
numbers in 4 to 69 and 104 to 169, IBSR18 numbers from 2 to 120: their names are not on record here, so choose labels by
number. Pairs: any protocol; Klein et al. and Jena et al. use all ordered pairs.

The sets are in their native orientation with headers that do not always agree between subjects; use `prealign: affine`,
or `registered: true`, with which the moving image of a pair, and its labels, are those of `registered_pairs`.

How to obtain: https://www.synapse.org/Synapse:syn3217707 (Mindboggle). Licence: that of each set, for research.
Citation: Klein et al., NeuroImage 46 (2009) 786-802.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from regbench.datasets.folder_dataset import FolderDataset
from regbench.datasets.listing import Layout, ListedScan, files_in, matching
from regbench.errors import ConfigError, DatasetError

_LETTERS = {"LPBA40": "l", "IBSR18": "c", "CUMC12": "m", "MGH10": "g"}
_SUFFIX = r"(?:\.nii\.gz|\.nii|\.img\.gz|\.img)"
_Set = Literal["LPBA40", "IBSR18", "CUMC12", "MGH10"]


@dataclass(frozen=True)
class Klein2009(FolderDataset):
    """The data set; see `regbench.datasets.folder_dataset` for the parameters of all folders."""

    pairs: str = "all-ordered"
    set: _Set | None = None
    image: Literal["brains", "heads"] = "brains"
    registered: bool = False

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

    @cached_property
    def _scans_of_pairs(self) -> dict[str, tuple[ListedScan, ListedScan]]:
        found = super()._scans_of_pairs
        if not self.registered:
            return found
        name = next(scan.tags["set"] for scan in self.scans.values())
        root = _sets_in(self.folder)[name]
        images, labels = (_registered(root / part, name) for part in ("registered_pairs", "registered_label_pairs"))
        return {pair: (fixed, _moved(root, moving, fixed, images, labels)) for pair, (fixed, moving) in found.items()}

    def _reading(self) -> list[Any]:
        return ["registered"] if self.registered else []

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


def _registered(folder: Path, name: str) -> dict[tuple[str, str], Path]:
    """The files l1_to_l2 of a folder by subject and the one that it was registered to."""
    letter = _LETTERS[name]
    found = matching(files_in(folder), rf"({letter}\d{{1,2}})_to_({letter}\d{{1,2}}){_SUFFIX}")
    return {(match[1].lower(), match[2].lower()): path for path, match in found}


def _moved(
    root: Path,
    moving: ListedScan,
    fixed: ListedScan,
    images: Mapping[tuple[str, str], Path],
    labels: Mapping[tuple[str, str], Path],
) -> ListedScan:
    """The moving scan of a pair as it was registered to the fixed one; DatasetError if there is no such file."""
    pair = (moving.name, fixed.name)
    if pair not in images:
        raise DatasetError(
            f"{root / 'registered_pairs'}: has no image {moving.name}_to_{fixed.name}; leave out registered: true"
        )
    return replace(moving, image=images[pair], labels={"atlas": labels[pair]} if pair in labels else {}, mask=None)
