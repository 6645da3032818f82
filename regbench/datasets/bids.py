"""`bids`: scans in the Brain Imaging Data Structure, with label maps among its derivatives.

    root/dataset_description.json, participants.tsv
    root/sub-01/anat/sub-01_T1w.nii.gz           root/sub-01/ses-pre/anat/sub-01_ses-pre_T1w.nii.gz
    root/derivatives/NAME/sub-01/anat/sub-01_desc-aseg_dseg.nii.gz, sub-01_space-T1w_dseg.nii.gz
                     NAME/sub-01/anat/sub-01_desc-brain_mask.nii.gz
                     NAME/sub-01/anat/sub-01_label-lesion_mask.nii.gz (or _roi, also beside the raw image)
                     NAME/dseg.tsv or sub-01_..._dseg.tsv         columns index, name

`suffix` is the contrast (T1w), `session` keeps one session, `derivative` the folder of the labels where there are
several, and `space` the entity space of images and labels: without one, raw images, and labels without a space or in
that of the raw image (orig, T1w, ...); with one, preprocessed images of the derivative
(`sub-01_space-MNI_desc-preproc_T1w`). Several runs of a session: the first. `label_table: freesurfer` says which
names labels have. Masks whose label or desc says `lesion` are excluded from scores. A scan is called 01, or 01-pre
with sessions. Pairs: any protocol.

Licence and citation: those of your data; for the layout Gorgolewski et al., Scientific Data 3 (2016) 160044.
Own reader, because pybids reads all of a dataset into a database before it lists it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from regbench.datasets.folder_dataset import FolderDataset
from regbench.datasets.label_sets import LabelSet, check_table
from regbench.datasets.listing import Layout, ListedScan, files_in, folders_in, images_in
from regbench.errors import DatasetError
from regbench.files.atomic import stem_of

_RAW_SPACES = ("", "orig", "T1w", "T2w", "scanner", "individual")
_MODALITIES = ("anat", "ct", "dwi", "func", "pet", "perf")


@dataclass(frozen=True)
class Bids(FolderDataset):
    """The data set; see `regbench.datasets.folder_dataset` for the parameters of all folders."""

    suffix: str = "T1w"
    session: str | None = None
    derivative: str | None = None
    space: str | None = None

    label_table: str | None = None

    layout: ClassVar = Layout(name="bids", looks_for="sub-01/anat/sub-01_T1w.nii.gz")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_table(self.label_table, self._where("label_table"))

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        """The folder of the subjects; `suffix` is that of an image there is, T1w before others."""
        for subject in folders_in(folder):
            if not subject.name.startswith("sub-"):
                continue
            names = [_suffix(path) for path in _images(subject)]
            if names:
                chosen = "T1w" if "T1w" in names else names[0]
                return {"path": str(folder)} | ({} if chosen == "T1w" else {"suffix": chosen})
        return None

    def _table(self) -> str | None:
        return self.label_table

    def _listed(self) -> list[ListedScan]:
        derivatives = self._derivatives()
        scans = []
        for subject in folders_in(self.folder):
            if not subject.name.startswith("sub-"):
                continue
            derived = [path for root in derivatives for path in _images(root / subject.name)]
            sources = derived if self.space else _images(subject)
            for session, image in self._chosen(sources).items():
                number = subject.name.removeprefix("sub-")
                scans.append(
                    ListedScan(
                        f"{number}-{session}" if session else number,
                        image,
                        self._labels(derived, session),
                        mask=self._mask(derived, session),
                        excluded=self._lesion([*_images(subject), *derived], session),
                        subject=number,
                        tags={"modality": self.suffix} | ({"session": session} if session else {}),
                    )
                )
        return scans

    def _derivatives(self) -> list[Path]:
        roots = folders_in(self.folder / "derivatives")
        if self.derivative is None:
            return roots
        found = [root for root in roots if root.name == self.derivative]
        if not found:
            known = ", ".join(root.name for root in roots) or "none"
            raise DatasetError(f"{self.folder}: has no derivative '{self.derivative}'; there are: {known}")
        return found

    def _chosen(self, images: Sequence[Path]) -> dict[str, Path]:
        """The first image of the wanted kind by session."""
        found: dict[str, Path] = {}
        for path in images:
            entities = _entities(path)
            session = entities.get("ses", "")
            is_wanted = _suffix(path) == self.suffix and entities.get("space", "") == (self.space or "")
            if is_wanted and (self.session is None or session == self.session):
                found.setdefault(session, path)
        return found

    def _labels(self, derived: Sequence[Path], session: str) -> dict[str, Path]:
        """The label maps of a session by what they are called: the derivative, or its desc or atlas."""
        found: dict[str, Path] = {}
        for path in self._of_session(derived, session, "dseg"):
            entities = _entities(path)
            name = entities.get("desc") or entities.get("atlas") or entities.get("seg") or "dseg"
            found.setdefault(name, path)
        return found

    def _mask(self, derived: Sequence[Path], session: str) -> Path | None:
        found = (path for path in self._of_session(derived, session, "mask") if not _is_of_lesion(path))
        return next(found, None)

    def _lesion(self, images: Sequence[Path], session: str) -> Path | None:
        masks = (path for suffix in ("mask", "roi") for path in self._of_session(images, session, suffix))
        return next((path for path in masks if _is_of_lesion(path)), None)

    def _of_session(self, derived: Sequence[Path], session: str, suffix: str) -> list[Path]:
        spaces = (self.space,) if self.space else _RAW_SPACES
        return [
            path
            for path in derived
            if _suffix(path) == suffix
            and _entities(path).get("ses", session) == session
            and _entities(path).get("space", "") in spaces
        ]

    @cached_property
    def _label_set(self) -> tuple[str, LabelSet]:
        name, chosen = super()._label_set
        return name, chosen if chosen.names else replace(chosen, names=self._names_of_labels(name))

    def _names_of_labels(self, name: str) -> Mapping[int, str]:
        """The names in the table beside the first label map, or in the folder of the derivative."""
        for scan in self.scans.values():
            path = scan.labels.get(name) if name else next(iter(scan.labels.values()), None)
            if path is None:
                continue
            beside = path.with_name(stem_of(path) + ".tsv")
            tables = [beside, *(parent / "dseg.tsv" for parent in path.parents)]
            table = next((table for table in tables if table.is_file()), None)
            return _label_names(table) if table else {}
        return {}


def _images(folder: Path) -> list[Path]:
    """The images of a subject, of all sessions, in the folders of modalities."""
    sessions = [inner for inner in folders_in(folder) if inner.name.startswith("ses-")]
    found = []
    for place in (folder, *sessions):
        for modality in _MODALITIES:
            found += [path for path in images_in(place / modality) if path.name.startswith("sub-")]
    return found


def _suffix(path: Path) -> str:
    return stem_of(path).rpartition("_")[2]


def _is_of_lesion(path: Path) -> bool:
    entities = _entities(path)
    return any("lesion" in entities.get(key, "").lower() for key in ("label", "desc"))


def _entities(path: Path) -> dict[str, str]:
    """The key-value pairs in a file name: {'sub': '01', 'ses': 'pre'}."""
    return dict(re.findall(r"(?:^|_)([A-Za-z0-9]+)-([A-Za-z0-9+]+)", stem_of(path)))


def _label_names(table: Path) -> dict[int, str]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        names = {int(row["index"]): row["name"] for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        raise DatasetError(f"{table}: cannot be read; it needs the columns index and name, separated by tabs") from None
    return {value: name for value, name in names.items() if value > 0}


def participants(folder: Path) -> list[str]:
    """The subjects that participants.tsv lists, without `sub-`; [] if there is no such file."""
    path = folder / "participants.tsv"
    if path not in files_in(folder):
        return []
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = csv.DictReader(stream, delimiter="\t")
        return [str(row.get("participant_id", "")).removeprefix("sub-") for row in rows]
