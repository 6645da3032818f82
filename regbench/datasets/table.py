"""All datasets by name, as plain data; nothing of them is imported before it is used.

A dataset is one module with a frozen dataclass of parameters (see `protocol.Dataset`) and one row here.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from regbench.datasets.protocol import Dataset
from regbench.errors import ConfigError
from regbench.parameters import check_parameters, nearest


@dataclass(frozen=True)
class DatasetCard:
    """The facts of a dataset that tables and reports need; `target` is 'module:Class'.

    `looks_for` says by what its folder is recognised; "" for datasets that are not in a folder.
    """

    name: str
    target: str
    summary: str
    licence: str
    citation: str
    dimensions: tuple[int, ...] = (2, 3)
    knows_truth: bool = False
    looks_for: str = ""


_ROWS = (
    DatasetCard(
        name="mni-cohort",
        target="regbench.datasets.mni_cohort:MniCohort",
        summary="simulated subjects on the MNI152 anatomy with known correspondence; nothing is downloaded",
        licence="template: free use with the ICBM copyright notice; the generated images are yours",
        citation="Fonov et al., NeuroImage 54 (2011) 313-327; Fonov et al., NeuroImage 47 (2009) S102",
        knows_truth=True,
    ),
    DatasetCard(
        name="csv",
        target="regbench.datasets.csv_pairs:CsvPairs",
        summary="your own pairs: a CSV of image paths, with labels, landmarks and masks where you have them",
        licence="that of your data",
        citation="none",
    ),
    DatasetCard(
        name="learn2reg",
        target="regbench.datasets.learn2reg:Learn2RegTask",
        summary="a task in the Learn2Reg layout, by its TASK_dataset.json; finds labels, masks and points beside it",
        licence="that of the task",
        citation="Hering et al., IEEE TMI 42 (2023) 697-712",
        looks_for="TASK_dataset.json",
    ),
    DatasetCard(
        name="described",
        target="regbench.datasets.described:Described",
        summary="any layout, by patterns of file names in a YAML file",
        licence="that of your data",
        citation="none",
        looks_for="regbench.yaml",
    ),
    DatasetCard(
        name="neurite-oasis",
        target="regbench.datasets.neurite_oasis:NeuriteOasis",
        summary="414 brains of OASIS-1 with 35 structures, aligned; or slices of them",
        licence="data use agreement of OASIS",
        citation="Marcus et al., J. Cognitive Neuroscience 19 (2007) 1498-1507; Hoopes et al., IPMI 2021",
        looks_for="OASIS_OAS1_NNNN_MR1/aligned_norm.nii.gz",
    ),
    DatasetCard(
        name="transmorph-ixi",
        target="regbench.datasets.transmorph:TransMorphIxi",
        summary="576 brains of IXI and an atlas, as pickles of TransMorph",
        licence="CC BY-SA 3.0",
        citation="Chen et al., Medical Image Analysis 82 (2022) 102615",
        dimensions=(3,),
        looks_for="atlas.pkl and Test/subject_N.pkl",
    ),
    DatasetCard(
        name="transmorph-oasis",
        target="regbench.datasets.transmorph:TransMorphOasis",
        summary="the brains of OASIS-1 as pickles of TransMorph, single and in pairs",
        licence="data use agreement of OASIS",
        citation="Chen et al., Medical Image Analysis 82 (2022) 102615",
        dimensions=(3,),
        looks_for="All/p_NNNN.pkl",
    ),
    DatasetCard(
        name="lpba40",
        target="regbench.datasets.lpba40:Lpba40",
        summary="40 brains with 56 structures drawn by hand, as LONI offers them",
        licence="LONI terms, for research",
        citation="Shattuck et al., NeuroImage 39 (2008) 1064-1080",
        dimensions=(3,),
        looks_for="S01/S01.delineation.skullstripped.hdr",
    ),
    DatasetCard(
        name="klein2009",
        target="regbench.datasets.klein:Klein2009",
        summary="LPBA40, IBSR18, CUMC12 and MGH10 as compared by Klein et al.",
        licence="that of each set, for research",
        citation="Klein et al., NeuroImage 46 (2009) 786-802",
        dimensions=(3,),
        looks_for="Brains/m1.img",
    ),
    DatasetCard(
        name="ibsr18",
        target="regbench.datasets.ibsr18:Ibsr18",
        summary="18 brains with structures drawn by hand, as NITRC offers them",
        licence="CC BY-NC-SA, see NITRC",
        citation="Center for Morphometric Analysis, Massachusetts General Hospital, http://www.cma.mgh.harvard.edu/ibsr/",
        dimensions=(3,),
        looks_for="IBSR_01/IBSR_01_ana_strip.nii.gz",
    ),
    DatasetCard(
        name="mindboggle101",
        target="regbench.datasets.mindboggle:Mindboggle101",
        summary="101 brains with the cortex labelled by hand (DKT)",
        licence="CC BY-NC-SA 3.0 and others by cohort",
        citation="Klein and Tourville, Frontiers in Neuroscience 6 (2012) 171",
        dimensions=(3,),
        looks_for="OASIS-TRT-20-1/t1weighted_brain.MNI152.nii.gz",
    ),
    DatasetCard(
        name="dirlab-4dct",
        target="regbench.datasets.dirlab:DirLab4dct",
        summary="10 breathing lungs in CT with 300 landmarks each",
        licence="for research, see DIR-Lab",
        citation="Castillo et al., Phys. Med. Biol. 54 (2009) 1849-1870",
        dimensions=(3,),
        looks_for="case1_T00_s.img",
    ),
    DatasetCard(
        name="dirlab-copd",
        target="regbench.datasets.dirlab:DirLabCopd",
        summary="10 lungs with COPD at inhale and exhale in CT, with 300 landmarks each",
        licence="for research, see DIR-Lab",
        citation="Castillo et al., Phys. Med. Biol. 58 (2013) 2861-2877",
        dimensions=(3,),
        looks_for="copd1_iBHCT.img",
    ),
    DatasetCard(
        name="brats-reg",
        target="regbench.datasets.brats_reg:BratsReg",
        summary="brain tumours before and after treatment with landmarks, four contrasts",
        licence="for research, see Synapse",
        citation="Baheti et al., arXiv:2112.06979",
        dimensions=(3,),
        looks_for="BraTSReg_002/BraTSReg_002_00_0000_t1ce.nii.gz",
    ),
    DatasetCard(
        name="voxelmorph-npz",
        target="regbench.datasets.voxelmorph_npz:VoxelMorphNpz",
        summary="npz files with vol and seg, as VoxelMorph shares them",
        licence="Apache-2.0 (test_scan.npz)",
        citation="Balakrishnan et al., IEEE TMI 38 (2019) 1788-1800",
        looks_for="*.npz with vol and seg",
    ),
    DatasetCard(
        name="decathlon",
        target="regbench.datasets.decathlon:Decathlon",
        summary="a task of the Medical Segmentation Decathlon",
        licence="CC BY-SA 4.0",
        citation="Antonelli et al., Nature Communications 13 (2022) 4128",
        looks_for="imagesTr and labelsTr with files of one name",
    ),
    DatasetCard(
        name="bids",
        target="regbench.datasets.bids:Bids",
        summary="scans in the Brain Imaging Data Structure, with label maps of a derivative",
        licence="that of your data",
        citation="Gorgolewski et al., Scientific Data 3 (2016) 160044",
        looks_for="sub-01/anat/sub-01_T1w.nii.gz",
    ),
    DatasetCard(
        name="folders",
        target="regbench.datasets.plain_folders:PlainFolders",
        summary="images and labels in plain folders, matched by their names",
        licence="that of your data",
        citation="none",
        looks_for="images/ and labels/, *_seg beside images, or a folder per subject",
    ),
)

DATASETS: dict[str, DatasetCard] = {row.name: row for row in _ROWS}


def dataset_class(name: str) -> type:
    """The class of a dataset, imported; ConfigError with the nearest known name if there is none."""
    if name not in DATASETS:
        known = list(DATASETS)
        raise ConfigError(f"datasets: unknown dataset '{name}'{nearest(name, known)}; known: {', '.join(known)}")
    module, _, attribute = DATASETS[name].target.partition(":")
    found: type = getattr(importlib.import_module(module), attribute)
    return found


def build_dataset(name: str, parameters: Mapping[str, Any]) -> Dataset:
    """A dataset with its parameters checked, missing ones at their defaults; opens no image. Raises ConfigError."""
    cls = dataset_class(name)
    dataset: Dataset = cls(**check_parameters(cls, parameters, f"datasets.{name}"))
    return dataset
