"""`folders`: scans in plain folders, found by the names of files and folders; nothing has to be converted or listed.

    root/images/a.nii.gz, b.nii.gz       root/labels/a.nii.gz, b.nii.gz       also masks/, landmarks/ (.csv), keypoints/
    root/a.nii.gz, a_seg.nii.gz          one folder, labels marked by a word: seg, label, labels, mask, ...
    root/S01/brain.nii.gz, seg.nii.gz    one folder per subject; the shortest name without such a word is the image
    root/fixed.nii.gz, train/, test/, label/       the atlas, parts, and labels of all of them

Folders may be called images, imgs, Atlases, scans, volumes; labels, label, seg, segmentations, Labels; in any case.
Labels belong to the image of the same name, else to the one whose name they contain word by word (`A_slice118` and
`A_DKT31_labels_slice118`). Subjects are called as their files, or as their folders. Pairs: any protocol; `atlas` is
the scan fixed or atlas, if there is one. Landmarks are those of `csv`: voxel indices from 0, or x_mm,y_mm,z_mm.

`label_table: freesurfer` (or seg35, lpba40, ...) says which names the labels have, for `labels: common` and the like.
For everything else: a CSV of pairs (`csv`), or a description of file names (`described`).
Licence and citation: those of your data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from regbench.datasets.folder_dataset import FolderDataset, split_name
from regbench.datasets.label_sets import check_table
from regbench.datasets.listing import Layout, ListedScan, files_in, folders_in, images_in
from regbench.errors import DatasetError
from regbench.files.atomic import stem_of

_IMAGES = ("images", "image", "imgs", "img", "scans", "volumes", "atlases", "brains", "imagestr")
_LABELS = ("labels", "label", "seg", "segs", "segmentations", "segmentation", "parcellations", "labelstr")
_MASKS = ("masks", "mask", "maskstr")
_POINTS = {"landmarks": ("landmarks", "landmarkstr"), "keypoints": ("keypoints", "keypointstr")}
_SPLITS = ("train", "training", "val", "validation", "test", "testing")
_ATLAS = ("atlas", "fixed")
_LABEL_WORDS = {"seg", "label", "labels", "segmentation", "aseg", "parc", "parcellation", "gt", "dseg", "manual"}
_MASK_WORDS = {"mask", "brainmask"}
_WORDS = re.compile(r"[_.\s]+")


@dataclass(frozen=True)
class PlainFolders(FolderDataset):
    """The data set; see `regbench.datasets.folder_dataset` for the parameters of all folders."""

    label_table: str | None = None

    layout: ClassVar = Layout(
        name="folders",
        looks_for="images/ and labels/, image files with *_seg beside them, or one folder of such files per subject",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_table(self.label_table, self._where("label_table"))

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        """The folder, if at least two images are found in it."""
        try:
            return {"path": str(folder)} if len(_scans(folder)) > 1 else None
        except DatasetError:
            return None

    def _table(self) -> str | None:
        return self.label_table

    def _listed(self) -> list[ListedScan]:
        return _scans(self.folder)

    def _atlas(self) -> str | None:
        return next((name for name in _ATLAS if name in self.scans), None)

    def subjects(self, split: str | None = None) -> list[str]:
        """The scans of a part; an atlas stands in all of them."""
        found = super().subjects(split)
        atlas = self._atlas()
        is_part = atlas is not None and (split or self.split) and atlas not in found
        return [atlas, *found] if is_part and atlas and self.pairs == "atlas" else found


def _scans(root: Path) -> list[ListedScan]:
    """The scans of a folder in the first of the arrangements that it fits."""
    by_name = {inner.name.lower(): inner for inner in folders_in(root)}
    images = next((by_name[name] for name in _IMAGES if name in by_name), None)
    if images is not None:
        return _beside(images_in(images), by_name)
    parts = [by_name[name] for name in _SPLITS if name in by_name]
    if parts:
        atlases = [path for path in images_in(root) if stem_of(path).lower() in _ATLAS]
        scans = _beside(atlases, by_name)
        for part in parts:
            inner = {sub.name.lower(): sub for sub in folders_in(part)}
            found = next((images_in(inner[name]) for name in _IMAGES if name in inner), images_in(part))
            scans += _beside(found, {**by_name, **inner}, split=split_name(part.name))
        return scans
    if images_in(root):
        return _flat(images_in(root))
    return [scan for inner in folders_in(root) if (scan := _of_subject(inner)) is not None]


def _beside(images: Sequence[Path], folders: dict[str, Path], split: str = "") -> list[ListedScan]:
    """Scans whose labels, masks and points lie in folders of their own."""

    def partner(path: Path, names: Iterable[str], suffixes: tuple[str, ...] = ()) -> Path | None:
        for name in names:
            if name in folders:
                files = files_in(folders[name], suffixes) if suffixes else images_in(folders[name])
                return matched(path, files)
        return None

    scans = []
    for path in images:
        labels = partner(path, _LABELS)
        landmarks, keypoints = (partner(path, _POINTS[part], (".csv",)) for part in ("landmarks", "keypoints"))
        found = {"labels": labels} if labels else {}
        scans.append(ListedScan(stem_of(path), path, found, partner(path, _MASKS), landmarks, keypoints, split=split))
    return scans


def matched(image: Path, files: Sequence[Path]) -> Path | None:
    """The file that goes with an image: of the same name, else the only one that has all words of its name in order."""
    stem = stem_of(image)
    same = [path for path in files if stem_of(path) == stem]
    if same:
        return same[0]
    words = _words(stem)
    containing = [path for path in files if _contains(_words(stem_of(path)), words)]
    if len(containing) > 1:
        names = ", ".join(path.name for path in containing[:3])
        raise DatasetError(f"{image}: {names} in {containing[0].parent} could all belong to it; rename them")
    return containing[0] if containing else None


def _words(stem: str) -> list[str]:
    return [word for word in _WORDS.split(stem.lower()) if word]


def _contains(words: list[str], wanted: list[str]) -> bool:
    remaining = iter(words)
    return all(word in remaining for word in wanted)


def _flat(paths: Sequence[Path]) -> list[ListedScan]:
    """Scans of one folder, whose labels and masks are marked by a word in their names."""
    images = [path for path in paths if not _marks(path)]
    labels = [path for path in paths if _marks(path) == "labels"]
    masks = [path for path in paths if _marks(path) == "mask"]
    scans = []
    for path in images:
        own = matched(path, labels)
        scans.append(ListedScan(stem_of(path), path, {"labels": own} if own else {}, matched(path, masks)))
    return scans


def _marks(path: Path) -> str:
    words = set(_words(stem_of(path)))
    return "labels" if words & _LABEL_WORDS else "mask" if words & _MASK_WORDS else ""


def _of_subject(folder: Path) -> ListedScan | None:
    """The scan in the folder of a subject; None if it holds no image."""
    paths = images_in(folder)
    images = sorted((path for path in paths if not _marks(path)), key=lambda path: (len(path.name), path.name))
    if not images:
        return None
    labels = [path for path in paths if _marks(path) == "labels"]
    masks = [path for path in paths if _marks(path) == "mask"]
    named = {stem_of(path): path for path in labels}
    return ListedScan(folder.name, images[0], named, masks[0] if masks else None)
