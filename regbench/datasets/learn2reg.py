"""`learn2reg`: a task in the layout of the Learn2Reg challenges, read from its TASK_dataset.json.

    task/OASIS_dataset.json       {"registration_val": [{"fixed": "./imagesTr/OASIS_0395_0000.nii.gz", "moving": ...}]}
    task/imagesTr/OASIS_0395_0000.nii.gz      <task>_<case>_<modality>
    task/labelsTr/OASIS_0395_0000.nii.gz      masksTr, landmarksTr, keypointsTr the same way; points as .csv

`path` is the JSON, or the folder that holds it. Splits and the keys that hold their pairs: `val` registration_val or
validation (LUMIR24/25, images in imagesVal), `test` registration_test, `train` training_paired_images; PSMA26 lists
subjects with visits, see `learn2reg_psma`, of which `modality` (CT or PET) is taken. Without `split` the first of
val, test, train that has pairs is used. `pairs` is `official` (the pairs of the split) or, for tasks with one image
per case, a protocol over its images: `random:N`, `disjoint:N`, `consecutive`, `all-ordered`, `atlas:CASE`. Over
`train` it draws from the training images that neither val nor test uses. `jena-val49` and `jena-trainval413` run over
all training images of OASIS.

The case number is the subject, so it is known which pairs share one; the two images of a case (exhale and inhale,
CT and MR) are one subject. A pair is called `0395_0000-0396_0000`.

Points are voxel coordinates on the image's array, from 0, without a header. Landmarks (set by hand) are what TRE
is computed of. Where there are none, keypoints (found automatically) take their place and are not shown to methods;
the tag `points` of a row says which of the two they were. Keypoints of a pair of modalities are found as
`keypoints02Tr` and `keypoints00000002Tr`, too. Points outside of their image are counted and left out of the score.

`labels` chooses and merges labels, see `regbench.datasets.label_sets`; the 35 of OASIS have their names on record,
those of other tasks the names that their JSON gives.

How to obtain: https://learn2reg.grand-challenge.org. Licence: that of each task.
Citation: Hering et al., IEEE TMI 42 (2023) 697-712.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from regbench.datasets import learn2reg_psma
from regbench.datasets.contents import content_hash
from regbench.datasets.label_sets import LabelChoice, LabelSet, label_set
from regbench.datasets.pair_protocols import JENA, select_pairs
from regbench.datasets.protocol import PairRef
from regbench.errors import ConfigError, DatasetError
from regbench.pair import Pair
from regbench.parameters import expand_variables

Split = Literal["val", "validation", "test", "train"]

_KEYS = {
    "val": ("registration_val", "validation"),
    "test": ("registration_test", "test_paired_images"),
    "train": ("training_paired_images",),
}
_NAME = re.compile(r"_(\d+)_(\d{4})$")
_SIDES = ("fixed", "moving")
# With more points outside of the image than this share, they are coordinates of another kind.
_MOST_OUTSIDE = 0.5


@dataclass(frozen=True)
class _Scan:
    """An image by its path relative to the task's folder, with its case and its modality ("" if its name has none).

    `labels` is the path of its labels where the JSON names them.
    """

    path: str
    case: str
    modality: str
    labels: str = ""

    @classmethod
    def of(cls, path: str) -> _Scan:
        from regbench.files.atomic import stem_of

        stem = stem_of(Path(path))
        found = _NAME.search(stem)
        return cls(path, found[1], found[2]) if found else cls(path, stem, "")

    @property
    def name(self) -> str:
        return f"{self.case}_{self.modality}" if self.modality else self.case


@dataclass(frozen=True)
class Learn2RegTask:
    """The data set; `seed` is that of the protocols `random` and `disjoint`, `limit` keeps the first pairs."""

    path: str
    split: Split | None = None
    pairs: str = "official"
    seed: int = 0
    limit: int | None = None
    labels: LabelChoice = None
    modality: str = "CT"

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        """The JSON of a task in its folder."""
        found = sorted(path for path in folder.glob("*_dataset.json") if not path.name.startswith("."))
        return {"path": str(found[0])} if len(found) == 1 else None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"datasets.learn2reg.limit: is {self.limit}; it must be at least 1")

    def pair_refs(self) -> Sequence[PairRef]:
        """The pairs in their order; opens no image. DatasetError if the JSON cannot be used."""
        return [ref for ref, _ in self._pairs.values()][: self.limit]

    def load(self, ref: PairRef) -> Pair:
        """One pair from its files; DatasetError, naming the file, if one of them cannot be used."""
        from regbench.files.images import read_image, read_labels, read_landmarks

        files = self._files(ref)
        parts: dict[str, Any] = {side: read_image(files[side]) for side in _SIDES}
        for name, path in files.items():
            side, _, kind = name.partition("_")
            if kind in ("labels", "mask"):
                parts[name] = read_labels(path)
            elif kind:
                parts[name] = read_landmarks(path, parts[side].grid, most_outside=_MOST_OUTSIDE)
            if kind == "labels":
                parts[name] = self._label_set.apply(parts[name])
        tags = dict(ref.tags)
        if "fixed_landmarks" in parts:
            tags["points"] = "landmarks"
        elif "fixed_keypoints" in parts:
            # Points that are scored are never shown to a method.
            parts |= {f"{side}_landmarks": parts.pop(f"{side}_keypoints") for side in _SIDES}
            tags["points"] = "keypoints"
        return Pair(name=ref.id, fixed_id=ref.fixed, moving_id=ref.moving, tags=tags, **parts)

    def fingerprint(self, ref: PairRef) -> str:
        """The hash of the contents of all files of a pair; DatasetError, naming the file, if one is missing."""
        contents: dict[str, Any] = {name: content_hash(path) for name, path in sorted(self._files(ref).items())}
        if self.labels is not None:
            contents["label set"] = self._label_set.as_json()
        return hashlib.sha256(json.dumps(contents).encode()).hexdigest()

    def manifest(self) -> dict[str, Any]:
        """What identifies the data for the record: the JSON and its hash, the split and its pairs, the subjects."""
        refs = self.pair_refs()
        return {
            "json": self._json.name,
            "json_sha256": hashlib.sha256(self._json.read_bytes()).hexdigest(),
            "task": str(self._task.get("name", "")),
            "split": self._split,
            "pairs": self.pairs,
            "n_pairs": len(refs),
            "subjects": sorted({name for ref in refs for name in (ref.fixed, ref.moving)}),
            **({} if self.labels is None else {"labels": self._label_set.as_json() or self.labels}),
        }

    # -- the JSON -------------------------------------------------------------------------------------

    @property
    def _json(self) -> Path:
        try:
            path = Path(expand_variables(self.path)).expanduser()
        except ValueError as error:
            raise DatasetError(f"datasets.learn2reg.path: {error}; set it to the folder of the data") from None
        found = self.recognise(path) if path.is_dir() else None
        return Path(found["path"]) if found else path

    @cached_property
    def _label_set(self) -> LabelSet:
        """What is made of the labels of the files; names are given only to labels that were chosen."""
        where = "datasets.learn2reg.labels"
        if self.labels is None or self.labels == "none":
            return LabelSet({})
        name = str(self._task.get("name", ""))
        chosen = label_set(self.labels, "seg35" if name.upper() == "OASIS" else None, where)
        given = self._task.get("labels")
        if not isinstance(given, Mapping) or name.upper() == "OASIS" or not isinstance(self.labels, list):
            return chosen
        return replace(chosen, names={v: str(given.get(str(v), v)) for v in chosen.names})

    @cached_property
    def _task(self) -> dict[str, Any]:
        path = self._json
        try:
            task = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise DatasetError(f"{path}: no such file; give the TASK_dataset.json of a Learn2Reg task") from None
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
        except ValueError as error:
            raise DatasetError(f"{path}: is not valid JSON ({error}); copy it again") from None
        if not isinstance(task, dict):
            raise DatasetError(f"{path}: is no Learn2Reg task; give the file TASK_dataset.json")
        return task

    @cached_property
    def _split(self) -> str:
        """The split that is used: "val", "test" or "train"."""
        if self.split is not None:
            return "val" if self.split == "validation" else self.split
        for split in _KEYS:
            if self._official(split):
                return split
        if "eval_pairs" in self._task:
            raise DatasetError(f"{self._json}: is an evaluation config; give the TASK_dataset.json of its task")
        keys = ", ".join([*(key for names in _KEYS.values() for key in names), *learn2reg_psma.KEYS.values()])
        raise DatasetError(f"{self._json}: lists no pairs; looked for the keys {keys}")

    def _official(self, split: str) -> list[tuple[_Scan, _Scan]]:
        """The pairs (fixed, moving) that the JSON lists for a split."""
        for key in _KEYS[split]:
            entries = self._task.get(key)
            pairs = [entry for entry in entries if _is_pair(entry)] if isinstance(entries, list) else []
            if pairs:
                return [(_Scan.of(entry["fixed"]), _Scan.of(entry["moving"])) for entry in pairs]
        found = []
        entries = self._task.get(learn2reg_psma.KEYS[split])
        for entry in entries if isinstance(entries, list) else []:
            visits = learn2reg_psma.visits(entry, self.modality)
            scans = [_Scan(path, case, visit, labels) for case, visit, path, labels in visits]
            found += [(scans[0], scan) for scan in scans[1:]]
        return found

    @cached_property
    def _pairs(self) -> dict[str, tuple[PairRef, tuple[_Scan, _Scan]]]:
        found: dict[str, tuple[PairRef, tuple[_Scan, _Scan]]] = {}
        for fixed, moving in self._chosen():
            tags = {"split": self._split}
            if fixed.modality and moving.modality:
                tags |= {"fixed_modality": fixed.modality, "moving_modality": moving.modality}
            ref = PairRef(f"{fixed.name}-{moving.name}", fixed.case, moving.case, tags)
            if ref.id in found:
                raise DatasetError(f"{self._json}: lists the pair '{ref.id}' twice in {self._split}; keep it once")
            found[ref.id] = (ref, (fixed, moving))
        return found

    def _chosen(self) -> list[tuple[_Scan, _Scan]]:
        official = self._official(self._split)
        if self.pairs == "official":
            if not official:
                keys = " or ".join(_KEYS[self._split])
                raise DatasetError(f"{self._json}: has no pairs for the split '{self._split}' (key {keys})")
            return official
        if self.pairs in JENA:
            listed = [_Scan.of(path) for path in _listed_images(self._task.get("training"))]
            listed += [scan for pair in self._official("val") for scan in pair]
            scans = {scan.case: scan for scan in sorted(listed, key=lambda scan: scan.case)}
        else:
            scans = {scan.case: scan for scan in self._single_scans(official)}
        named = select_pairs(list(scans), self.pairs, self.seed, "datasets.learn2reg.pairs")
        return [(scans[fixed], scans[moving]) for fixed, moving in named]

    def _single_scans(self, official: Sequence[tuple[_Scan, _Scan]]) -> list[_Scan]:
        """The images of the split, one per case; ConfigError if cases have several, between which pairs are fixed."""
        if self._split == "train":
            held_out = {scan.case for split in ("val", "test") for pair in self._official(split) for scan in pair}
            listed = [_Scan.of(path) for path in _listed_images(self._task.get("training"))]
            scans = [scan for scan in listed if scan.case not in held_out]
        else:
            scans = [scan for pair in official for scan in pair]
        scans = list({scan.path: scan for scan in scans}.values())
        if len({scan.case for scan in scans}) < len(scans):
            raise ConfigError(
                f"datasets.learn2reg.pairs: '{self.pairs}' needs one image per case, and this task has several; "
                "use official"
            )
        return scans

    # -- the files of a pair --------------------------------------------------------------------------

    def _files(self, ref: PairRef) -> dict[str, Path]:
        """The files of a pair by the part of the pair that they hold; images are named whether they exist or not."""
        if ref.id not in self._pairs:
            raise DatasetError(f"{self._json}: has no pair '{ref.id}' in the split '{self._split}'")
        scans = dict(zip(_SIDES, self._pairs[ref.id][1], strict=True))
        folder = self._json.parent
        files = {side: folder / scan.path for side, scan in scans.items()}
        for kind, part in (("labels", "labels"), ("masks", "mask")):
            for side, scan in scans.items():
                if kind == "labels" and self.labels == "none":
                    continue
                told = scan.labels if kind == "labels" else ""
                path = folder / told if told else _beside(folder, scan, kind, Path(scan.path).name)
                if path is not None and path.is_file():
                    files[f"{side}_{part}"] = path
        for kind in ("landmarks", "keypoints"):
            files |= self._points(kind, scans)
        return files

    def _points(self, kind: str, scans: Mapping[str, _Scan]) -> dict[str, Path]:
        """The two files of corresponding points of a kind, from the first folder that has both; {} if none has."""
        from regbench.files.atomic import stem_of

        for name in _point_folders(kind, scans):
            paths = {
                side: _beside(self._json.parent, scan, name, f"{stem_of(Path(scan.path))}.csv")
                for side, scan in scans.items()
            }
            found = {f"{side}_{kind}": path for side, path in paths.items() if path is not None and path.is_file()}
            if len(found) == len(_SIDES):
                return found
        return {}


def _is_pair(entry: object) -> bool:
    return isinstance(entry, Mapping) and all(isinstance(entry.get(side), str) for side in _SIDES)


def _listed_images(entries: object) -> Iterator[str]:
    """The paths of a list of images: texts, or mappings with a path under `image`."""
    for entry in entries if isinstance(entries, list) else []:
        path = entry.get("image") if isinstance(entry, Mapping) else entry
        if isinstance(path, str):
            yield path


def _beside(folder: Path, scan: _Scan, kind: str, name: str) -> Path | None:
    """The file of another kind that goes with an image: labelsTr/... for imagesTr/...; None outside such folders."""
    images = Path(scan.path).parent
    if not images.name.startswith("images"):
        return None
    return folder / images.with_name(kind + images.name.removeprefix("images")) / name


def _point_folders(kind: str, scans: Mapping[str, _Scan]) -> list[str]:
    """The names (without Tr or Ts) under which tasks keep points: first those of the very pair of modalities."""
    modalities = sorted(scan.modality for scan in scans.values())
    if not all(modalities):
        return [kind]
    return [f"{kind}{''.join(modalities)}", f"{kind}{''.join(str(int(m)) for m in modalities)}", kind]
