"""Tiny data in the layouts that users have on disk: real names, headers and byte orders, invented contents.

Every scan tells who it is: voxel (i, j, k) of scan n holds 1000 n + i + 10 j + 100 k.
"""

from __future__ import annotations

import gzip
import json
import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

SHAPE = (5, 6, 7)
LIA = np.array([[-1.0, 0, 0, 2], [0, 0, 1, -3], [0, -1, 0, 2], [0, 0, 0, 1]])


def scan(n: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """The image of scan n, int16."""
    index = np.indices(shape)
    return (1000 * n + sum(10**axis * index[axis] for axis in range(len(shape)))).astype(np.int16)


def labels(values: tuple[int, ...] = (1, 2), shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A label map with one slab of each value along the first axis, from its second voxel on."""
    found = np.zeros(shape, np.int16)
    for place, value in enumerate(values, start=1):
        found[place] = value
    return found


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 1.5, 2.0, 1.0]) if affine is None else affine), path)
    return path


def write_analyze(path: Path, array: np.ndarray, compressed: bool = True, trailing: bool = True) -> None:
    """An Analyze 7.5 pair as LONI writes it: `path` without suffix, a fourth axis of one, int16, no magic."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dims = [4 if trailing else 3, *array.shape, 1, 0, 0, 0]
    header = bytearray(348)
    struct.pack_into("<i", header, 0, 348)
    header[38:39] = b"r"
    struct.pack_into("<8h", header, 40, *dims)
    struct.pack_into("<hh", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 0, 0.859375, 1.5, 0.859375, 1, 0, 0, 0)
    path.with_name(path.name + ".hdr").write_bytes(bytes(header))
    data = array.astype("<i2").tobytes(order="F")
    end = ".img.gz" if compressed else ".img"
    path.with_name(path.name + end).write_bytes(gzip.compress(data) if compressed else data)


def neurite(root: Path) -> None:
    for n in (1, 2, 404):
        folder = root / f"OASIS_OAS1_{n:04d}_MR1"
        write_nifti(folder / "aligned_norm.nii.gz", scan(n % 9).astype(np.float32), LIA)
        write_nifti(folder / "aligned_seg35.nii.gz", labels((8, 27)).astype(np.uint8), LIA)
        write_nifti(folder / "slice_norm.nii.gz", scan(n % 9)[:, :, 3:4].astype(np.float32), LIA)
        write_nifti(folder / "slice_seg24.nii.gz", labels((6, 19))[:, :, 3:4].astype(np.uint8), LIA)
        write_nifti(folder / "slice_seg4.nii.gz", labels((2, 3))[:, :, 3:4].astype(np.uint8), LIA)
    (root / "subjects.txt").write_text("OASIS_OAS1_0001_MR1\n")


def slices(root: Path) -> None:
    neurite(root)
    for path in root.glob("*/aligned_*"):
        path.unlink()


def _l2r_image(root: Path, part: str, stem: str, n: int, with_labels: bool = True) -> str:
    write_nifti(root / f"images{part}" / f"{stem}.nii.gz", scan(n))
    if with_labels:
        write_nifti(root / f"labels{part}" / f"{stem}.nii.gz", labels((7, 8)))
    return f"./images{part}/{stem}.nii.gz"


def learn2reg(root: Path) -> None:
    paths = [_l2r_image(root, "Tr", f"OASIS_{n:04d}_0000", n) for n in (1, 2, 3, 4)]
    pair = {"fixed": paths[2], "moving": paths[3]}
    task = {"name": "OASIS", "training": [{"image": p} for p in paths], "registration_val": [pair]}
    (root / "OASIS_dataset.json").write_text(json.dumps(task))


def lumir(root: Path) -> None:
    train = [_l2r_image(root, "Tr", f"LUMIRMRI_{n:04d}_0000", n, False) for n in (1, 2)]
    val = [_l2r_image(root, "Val", f"LUMIRMRI_{n:04d}_0000", n) for n in (3, 4)]
    task = {"name": "LUMIR", "license": "x", "training": train, "validation": [{"fixed": val[0], "moving": val[1]}]}
    (root / "LUMIR25_dataset.json").write_text(json.dumps(task))


def psma(root: Path) -> None:
    entry = {"subject": "psma_7"}
    for n, (visit, prefix) in enumerate((("00", ""), ("01", "Follow-up 01 ")), start=3):
        for kind in ("CT", "PET"):
            name = f"psma_7_{visit}_{kind}.nii.gz"
            write_nifti(root / "imagesVal" / name, scan(n))
            entry[f"{prefix}{kind}"] = f"./imagesVal/{name}"
        write_nifti(root / "labelsVal" / f"seg_{visit}.nii.gz", labels())
        entry[f"{prefix}CT Label"] = f"./labelsVal/seg_{visit}.nii.gz"
    (root / "PSMAReg_dataset.json").write_text(json.dumps({"name": "PSMAReg", "validation_paired": [entry]}))


def lpba40(root: Path) -> None:
    for n in (2, 10):
        folder = root / "LPBA40/delineation_space" / f"S{n:02d}"
        write_analyze(folder / f"S{n:02d}.delineation.skullstripped", scan(n))
        write_analyze(folder / f"S{n:02d}.delineation.structure.label", labels((161, 182)))


def klein(root: Path) -> None:
    for n in (1, 2, 10):
        for part, array in (("Brains", scan(n)), ("Heads", scan(n) + 1), ("Atlases", labels((3, 133)))):
            write_analyze(root / "CUMC12" / part / f"m{n}", array, compressed=False, trailing=False)


def ibsr(root: Path) -> None:
    for n in (1, 2):
        folder = root / "IBSR_nifti_stripped" / f"IBSR_{n:02d}"
        write_nifti(folder / f"IBSR_{n:02d}_ana_strip.nii.gz", scan(n)[..., None])
        write_nifti(folder / f"IBSR_{n:02d}_ana.nii.gz", scan(n)[..., None] + 1)
        write_nifti(folder / f"IBSR_{n:02d}_seg_ana.nii.gz", labels((11, 72))[..., None])
        write_nifti(folder / f"IBSR_{n:02d}_segTRI_ana.nii.gz", labels((1, 3))[..., None])


def ibsr_of_old(root: Path) -> None:
    for n in (1, 2):
        folder = root / f"IBSR_{n:02d}"
        write_analyze(folder / "images/analyze" / f"IBSR_{n:02d}_ana", scan(n), compressed=False)
        write_analyze(folder / "segmentation/analyze" / f"IBSR_{n:02d}_seg_ana", labels((11, 72)), compressed=False)


def mindboggle(root: Path) -> None:
    for n in (1, 2, 10):
        folder = root / "OASIS-TRT-20_volumes" / f"OASIS-TRT-20-{n}"
        for end in ("", ".MNI152"):
            write_nifti(folder / f"t1weighted_brain{end}.nii.gz", scan(n))
            write_nifti(folder / f"labels.DKT31.manual{end}.nii.gz", labels((1002, 2035)))
            write_nifti(folder / f"labels.DKT31.manual+aseg{end}.nii.gz", labels((11, 1002)))


def _points(rows: list[tuple[float, ...]]) -> str:
    return "\n".join("\t".join(f"{value:g}" for value in row) for row in rows) + "\n"


def dirlab_4dct(root: Path) -> None:
    """Cases 1, 2 and 8 with the names that they really have; of one slab of slices, see `small_cases`."""
    images = {1: "case1_{}_s.img", 2: "case2_{}-ssm.img", 8: "case8_{}.img"}
    folders = {
        1: ("Case1Pack", "ExtremePhases"),
        2: ("Case2Pack", "ExtremePhases"),
        8: ("Case8Deploy", "extremePhases"),
    }
    points = {1: "Case1_300_{}_xyz.txt", 2: "Case2_300_{}_xyz.txt", 8: "case8_dirLab300_{}_xyz.txt"}
    for case, name in images.items():
        pack, inner = folders[case]
        for n, phase in enumerate(("T00", "T50")):
            (root / pack / "Images").mkdir(parents=True, exist_ok=True)
            (root / pack / inner).mkdir(exist_ok=True)
            data = (scan(n) + 1024).astype("<i2").tobytes(order="F")
            (root / pack / "Images" / name.format(phase)).write_bytes(data)
            rows = [(1, 1, 1), (SHAPE[0], SHAPE[1], SHAPE[2] - n)]
            (root / pack / inner / points[case].format(phase)).write_text(_points(rows))


def dirlab_copd(root: Path) -> None:
    for case in (1, 10):
        folder = root / f"copd{case}" / f"copd{case}"
        folder.mkdir(parents=True)
        for n, phase in enumerate(("iBH", "eBH")):
            data = (scan(n) + 1024).astype("<i2").tobytes(order="F")
            (folder / f"copd{case}_{phase}CT.img").write_bytes(data)
            (folder / f"copd{case}_300_{phase}_xyz_r1.txt").write_text(_points([(1, 2, 3 + n), (4, 5, 6)]))


def _pickled(path: Path, *arrays: np.ndarray, protocol: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(arrays, protocol=protocol))


def transmorph_ixi(root: Path) -> None:
    atlas = (scan(9).astype(np.float32), labels((2, 255)))
    _pickled(root / "atlas.pkl", *atlas)
    for part, numbers in (("Train", (0, 10)), ("Val", (2,)), ("Test", (1, 3))):
        for n in numbers:
            _pickled(root / part / f"subject_{n}.pkl", scan(n).astype(np.float32), labels((2, 255)), protocol=2)


def transmorph_oasis(root: Path) -> None:
    for n in (1, 2):
        _pickled(root / "All" / f"p_{n:04d}.pkl", scan(n).astype(np.float32), labels((1, 35)))
    x, y = scan(5).astype(np.float32), scan(4).astype(np.float32)
    _pickled(root / "Test/p_0438_0439.pkl", x, y, labels((5, 6)), labels((4, 3)))


def voxelmorph(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    np.savez(root / "test_scan.npz", vol=scan(1) / 1.0, seg=labels((2, 41)) / 1.0)
    np.savez(root / "subject_1_vol.npz", vol_data=scan(2) / 1.0)
    np.savez(root / "subject_1_seg.npz", vol_data=labels((2, 41)) / 1.0)
    np.savez(root / "atlas.npz", vol=scan(3), seg=labels((2, 41)), train_avg=scan(4))
    np.savez(root / "atlas_norm_2d.npz", vol=scan(3)[..., 0], seg=labels()[..., 0])
    np.savez(root / "labels.npz", labels=np.array([2, 41]))


def decathlon(root: Path) -> None:
    for n in (1, 3, 10):
        write_nifti(root / f"imagesTr/brain_{n:03d}.nii.gz", np.stack([scan(n), scan(n + 10)], axis=-1))
        write_nifti(root / f"labelsTr/brain_{n:03d}.nii.gz", labels())
        (root / f"imagesTr/._brain_{n:03d}.nii.gz").write_bytes(b"Mac OS X")
    write_nifti(root / "imagesTs/brain_002.nii.gz", scan(2))
    (root / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "edema", "2": "tumour"}}))


def brats_reg(root: Path) -> None:
    affine = np.array([[-1.0, 0, 0, 4], [0, -1, 0, 5], [0, 0, 1, 0], [0, 0, 0, 1]])
    for subject in ("002", "010"):
        folder = root / f"BraTSReg_{subject}"
        for n, visit in enumerate(("00_0000", "01_0262")):
            for c, contrast in enumerate(("t1", "t1ce", "t2", "flair")):
                write_nifti(folder / f"BraTSReg_{subject}_{visit}_{contrast}.nii.gz", scan(n + 2 * c), affine)
            rows = ["Landmark,X,Y,Z", f"2,-3.0,-4.0,{n}.0", "1,-4.0,-5.0,6.0"]
            (folder / f"BraTSReg_{subject}_{visit}_landmarks.csv").write_text("\n".join(rows))


def bids(root: Path) -> None:
    (root / "derivatives/fs").mkdir(parents=True)
    (root / "dataset_description.json").write_text("{}")
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t3\nsub-02\t4\nsub-10\t5\n")
    (root / "derivatives/fs/dseg.tsv").write_text("index\tname\n0\tnone\n1\tleft\n2\tright\n")
    for n in (1, 2, 10):
        subject = f"sub-{n:02d}"
        write_nifti(root / subject / f"anat/{subject}_T1w.nii.gz", scan(n))
        write_nifti(root / subject / f"anat/{subject}_T2w.nii.gz", scan(n) + 1)
        place = root / "derivatives/fs" / subject / "anat"
        write_nifti(place / f"{subject}_desc-aseg_dseg.nii.gz", labels())
        write_nifti(place / f"{subject}_space-MNI_desc-aseg_dseg.nii.gz", labels((1,)))
        write_nifti(place / f"{subject}_space-MNI_desc-preproc_T1w.nii.gz", scan(n) + 2)
        write_nifti(place / f"{subject}_desc-brain_mask.nii.gz", (scan(n) > 0).astype(np.uint8))


def folders(root: Path) -> None:
    for n in (1, 2, 10):
        write_nifti(root / f"Atlases/A-{n}_slice118.nii.gz", scan(n))
        write_nifti(root / f"Labels/A-{n}_DKT31_CMA_labels_slice118.nii.gz", labels())


def one_folder(root: Path) -> None:
    for n in (1, 2, 10):
        write_nifti(root / f"brain{n}.nii.gz", scan(n))
        write_nifti(root / f"brain{n}_seg.nii.gz", labels())


def folder_per_subject(root: Path) -> None:
    for n in (1, 2, 10):
        write_nifti(root / f"P{n}/t1.nii.gz", scan(n))
        write_nifti(root / f"P{n}/t1_aseg.nii.gz", labels())


def parts_and_atlas(root: Path) -> None:
    write_nifti(root / "fixed.nii.gz", scan(9))
    for part, numbers in (("train", (1, 2)), ("test", (3, 10))):
        for n in numbers:
            write_nifti(root / part / f"S{n}.nii.gz", scan(n))
    for name in ("fixed", "S1", "S2", "S3", "S10"):
        write_nifti(root / f"label/{name}.nii.gz", labels())


def described(root: Path) -> None:
    for n in (1, 2, 10):
        for visit in ("a", "b"):
            write_nifti(root / f"data/site1/p{n}/{visit}/T1_x.nii.gz", scan(n + (visit == "b")))
            write_nifti(root / f"seg/p{n}_{visit}.nii.gz", labels())
    lines = [
        "root: data",
        'image: "{site}/p{subject}/{visit}/T1_*.nii.gz"',
        'labels: {mine: "../seg/p{subject}_{visit}.nii.gz"}',
        "label_names: {1: left, 2: right}",
        "pairs: all-ordered",
    ]
    (root / "regbench.yaml").write_text("\n".join(lines))


@dataclass(frozen=True)
class Example:
    """A layout: how it is written, what it is recognised as, and its first pair (fixed, moving) with scan numbers."""

    write: Callable[[Path], None]
    name: str
    n_pairs: int
    first: tuple[str, str]
    numbers: tuple[int, int]
    values: tuple[int, ...] = (1, 2)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    below: str = ""


EXAMPLES: dict[str, Example] = {
    "neurite": Example(neurite, "neurite-oasis", 2, ("0001", "0002"), (1, 2), (8, 27)),
    "slices": Example(slices, "neurite-oasis", 2, ("0001", "0002"), (1, 2), (6, 19), {"ndim": 2}),
    "learn2reg": Example(learn2reg, "learn2reg", 1, ("0003", "0004"), (3, 4), (7, 8)),
    "lumir": Example(lumir, "learn2reg", 1, ("0003", "0004"), (3, 4), (7, 8)),
    "psma": Example(psma, "learn2reg", 1, ("psma_7", "psma_7"), (3, 4)),
    "lpba40": Example(lpba40, "lpba40", 1, ("S02", "S10"), (2, 10), (161, 182), below="LPBA40/delineation_space"),
    "klein": Example(klein, "klein2009", 6, ("m1", "m2"), (1, 2), (3, 133), below="CUMC12"),
    "ibsr": Example(ibsr, "ibsr18", 2, ("01", "02"), (1, 2), (11, 72), below="IBSR_nifti_stripped"),
    "ibsr-old": Example(ibsr_of_old, "ibsr18", 2, ("01", "02"), (1, 2), (11, 72), {"image": "head"}),
    "mindboggle": Example(mindboggle, "mindboggle101", 2, ("OASIS-TRT-20-1", "OASIS-TRT-20-2"), (1, 2), (1002, 2035)),
    "dirlab-4dct": Example(dirlab_4dct, "dirlab-4dct", 3, ("case1", "case1"), (0, 1), ()),
    "dirlab-copd": Example(dirlab_copd, "dirlab-copd", 2, ("copd1", "copd1"), (0, 1), ()),
    "ixi": Example(transmorph_ixi, "transmorph-ixi", 2, ("1", "atlas"), (1, 9), (2, 255)),
    "oasis-pickles": Example(transmorph_oasis, "transmorph-oasis", 1, ("0438", "0439"), (4, 5), (3, 4)),
    "voxelmorph": Example(voxelmorph, "voxelmorph-npz", 6, ("atlas", "subject_1"), (3, 2), (2, 41)),
    "decathlon": Example(decathlon, "decathlon", 2, ("brain_001", "brain_003"), (1, 3)),
    "brats-reg": Example(brats_reg, "brats-reg", 2, ("002", "002"), (2, 3), ()),
    "bids": Example(bids, "bids", 2, ("01", "02"), (1, 2)),
    "folders": Example(folders, "folders", 2, ("A-1_slice118", "A-2_slice118"), (1, 2)),
    "one-folder": Example(one_folder, "folders", 2, ("brain1", "brain2"), (1, 2)),
    "folder-per-subject": Example(folder_per_subject, "folders", 2, ("P1", "P2"), (1, 2)),
    "parts": Example(parts_and_atlas, "folders", 4, ("fixed", "S1"), (9, 1)),
    "described": Example(described, "described", 30, ("1", "1"), (1, 2)),
}
