"""The registration methods: one card each, and what can be asked of them by name.

A row is plain data; listing it imports no engine. A method is one file and one row. Further methods come from other
packages (`regbench.methods.plugins`) and as `path/to/file.py:Class` in a config (`regbench.targets`).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from regbench import __version__
from regbench.errors import ConfigError
from regbench.methods.card import Card, Environment, Method, Package, Program
from regbench.methods.plugins import plugin_card, plugin_cards, plugin_names
from regbench.methods.weights_table import WEIGHTS
from regbench.parameters import check_parameters, nearest

SIMPLEITK = Package("SimpleITK", "SimpleITK")
ANTSPYX = Package("ants", "antspyx")
TORCH = Package("torch", "'torch>=2.6,<2.14'")
H5PY = Package("h5py", "h5py")
SAFETENSORS = Package("safetensors", "safetensors")

PICSL_GREEDY = Package("picsl_greedy", "picsl-greedy")
CONVEXADAM = Package("convexAdam", "convexAdam")
FIREANTS = Package("fireants", "fireants")
# The package pins an old SimpleITK, of which it needs images in memory only, and wants more for its scripts alone.
_FIREANTS_ENVIRONMENT = Environment(
    "fireants",
    same_as_here=("torch", "SimpleITK", "numpy", "scipy"),
    requirements=("tqdm>=4.60",),
    alone=("fireants==1.5.0",),
)
_GET_ELASTIX = "apt install elastix, or github.com/SuperElastix/elastix/releases"
ELASTIX = Program("elastix", _GET_ELASTIX)
TRANSFORMIX = Program("transformix", _GET_ELASTIX)

_SYN = "Avants et al., Medical Image Analysis 12 (2008) 26-41"
_GREEDY = "Yushkevich et al., Alzheimer's & Dementia 12 (2016) P126-P127"
_SYMMETRIC_DEMONS = "Vercauteren et al., MICCAI 2007, LNCS 4792, 319-326"
_ELASTIX = "Klein et al., IEEE Transactions on Medical Imaging 29 (2010) 196-205"
_MATTES = "Mattes et al., IEEE Transactions on Medical Imaging 22 (2003) 120-128"
_FIREANTS = "Jena et al., FireANTs: adaptive Riemannian optimization for diffeomorphic registration, arXiv 2404.01249"
_VOXELMORPH = "Balakrishnan et al., IEEE Transactions on Medical Imaging 38 (2019) 1788-1800"
_COHORT = {"dataset": "mni-cohort", "subjects": "train-000 ... train-255"}
_ALL_OASIS = {"dataset": "neurite-oasis", "subjects": "OASIS_OAS1_0001_MR1 ... OASIS_OAS1_0457_MR1"}
# The first 255 of the 414 subjects in the order of their names.
_FIRST_OASIS = {"dataset": "neurite-oasis", "subjects": "OASIS_OAS1_0001_MR1 ... OASIS_OAS1_0283_MR1"}
# The authors name OASIS-1 and no subjects, so any of them may be among these.
_SOME_OASIS = {**_ALL_OASIS, "note": "OASIS-1; which of its subjects is not stated"}
# The authors' list of training subjects; 0221 to 0233 chose the checkpoint.
_LISTED_OASIS = {"dataset": "neurite-oasis", "subjects": "OASIS_OAS1_0001_MR1 ... OASIS_OAS1_0220_MR1"}
_IXI = {"dataset": "IXI, as prepared for TransMorph", "subjects": "the 403 of its folder Train"}
_BEFORE_2018 = {
    "dataset": "ADNI, OASIS, ABIDE, ADHD200, MCIC, PPMI, HABS and Harvard GSP",
    "subjects": "7329 scans, which of them is not stated",
}
_ABDOMEN = {
    "dataset": "Learn2Reg AbdomenCTCT",
    "subjects": "0002 0003 0005 0006 0008 0009 0021 0022 0024 0025 0027 0028 0030 0031 0033 0034 0036 0037 0039 0040",
}
_LUNGS = {"dataset": "DIR-Lab COPD (10 cases), Learn2Reg LungCT", "subjects": "all of COPD, the 12 of Train"}
_SAME_BITS = "yes on the CPU, for a fixed number of threads"

_ANTS_FINE = {"shrink": (8, 4, 2, 1), "iterations": (100, 70, 50, 20), "smoothing_voxels": (3.0, 2.0, 1.0, 0.0)}
_ANTS_PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"metric": "mattes", "shrink": (4, 2, 1), "iterations": (40, 20, 0), "smoothing_voxels": (2.0, 1.0, 0.0)},
    "full": {"metric": "cc", "radius_voxels": 2, "step": 0.2, **_ANTS_FINE},
    "script": {"metric": "cc", "radius_voxels": 4, "step": 0.1, **_ANTS_FINE},
}

_ROWS = (
    Card(
        name="identity",
        target="regbench.methods.identity:Identity",
        summary="no registration: what every other method is compared with",
        paradigm="none",
        supervision="none",
        transformation="none",
        citation="none",
        licence="Apache-2.0",
    ),
    Card(
        name="moments",
        target="regbench.methods.linear:Moments",
        summary="translation that puts the centres of the foreground onto each other",
        paradigm="classical",
        supervision="none",
        transformation="rigid",
        citation="Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9 (1979) 62-66 (foreground)",
        licence="Apache-2.0",
    ),
    Card(
        name="rigid",
        target="regbench.methods.linear:Rigid",
        summary="rotation and translation by mutual information, coarse to fine (SimpleITK)",
        paradigm="classical",
        supervision="none",
        transformation="rigid",
        citation=_MATTES,
        licence="Apache-2.0 (SimpleITK)",
        packages=(SIMPLEITK,),
        versioned_by="SimpleITK",
    ),
    Card(
        name="affine",
        target="regbench.methods.linear:Affine",
        summary="all linear maps by mutual information, coarse to fine, from a rigid start (SimpleITK)",
        paradigm="classical",
        supervision="none",
        transformation="affine",
        citation=_MATTES,
        licence="Apache-2.0 (SimpleITK)",
        packages=(SIMPLEITK,),
        versioned_by="SimpleITK",
    ),
    Card(
        name="demons",
        target="regbench.methods.demons:Demons",
        summary="diffeomorphic demons, coarse to fine, after matching the histograms (SimpleITK)",
        paradigm="classical",
        supervision="none",
        transformation="diffeomorphic",
        citation="Vercauteren et al., NeuroImage 45 (2009) S61-S72",
        licence="Apache-2.0 (SimpleITK)",
        packages=(SIMPLEITK,),
        versioned_by="SimpleITK",
        notes="For images of one modality. There is no linear stage: align first. Masks are not used.",
    ),
    Card(
        name="demons-symmetric",
        target="regbench.methods.demons:SymmetricDemons",
        summary="demons with fast symmetric forces, coarse to fine, after matching the histograms (SimpleITK)",
        paradigm="classical",
        supervision="none",
        transformation="deformable",
        citation=_SYMMETRIC_DEMONS,
        licence="Apache-2.0 (SimpleITK)",
        packages=(SIMPLEITK,),
        versioned_by="SimpleITK",
        notes="For images of one modality. There is no linear stage: align first. Its fields may fold.",
    ),
    Card(
        name="demons-jena",
        target="regbench.methods.demons:JenaDemons",
        summary="the call of arXiv 2408.05839: fast symmetric forces, 200 iterations on one level (SimpleITK)",
        paradigm="classical",
        supervision="none",
        transformation="deformable",
        citation=f"{_SYMMETRIC_DEMONS}; settings of Jena et al. 2024 (arXiv 2408.05839)",
        licence="Apache-2.0 (SimpleITK)",
        packages=(SIMPLEITK,),
        versioned_by="SimpleITK",
        notes="The paper calls it symmetric log-domain demons; its published script runs this filter, which is not "
        "in the log domain.",
    ),
    Card(
        name="ants-syn",
        target="regbench.methods.ants_syn:AntsSyn",
        summary="symmetric normalisation with local correlation, from an affine start (ANTs)",
        paradigm="classical",
        supervision="none",
        transformation="diffeomorphic",
        citation=_SYN,
        licence="Apache-2.0 (ANTs, antspyx, SimpleITK)",
        packages=(ANTSPYX, SIMPLEITK),
        versioned_by="antspyx",
        presets=_ANTS_PRESETS,
        deterministic="yes, for one seed and number of threads",
        notes=(
            "The affine start is regbench's own. The default makes a few iterations at full resolution; "
            "quick: mutual information, none at full resolution; full: more of all, nearly three times as long "
            "(113 s against 41 s for a brain at 2 mm on two threads); "
            "script: the deformable stage of antsRegistrationSyN.sh (radius 4, step 0.1), slower still."
        ),
    ),
    Card(
        name="ants-quick",
        target="regbench.methods.ants_syn:AntsQuick",
        summary="SyN with mutual information, nothing at full resolution: the quick recipe of antspyx (SyNOnly)",
        paradigm="classical",
        supervision="none",
        transformation="diffeomorphic",
        citation=_SYN,
        licence="Apache-2.0 (ANTs, antspyx, SimpleITK)",
        packages=(ANTSPYX, SIMPLEITK),
        versioned_by="antspyx",
        deterministic="yes, for one seed and number of threads",
        notes="From regbench's affine start. Much weaker than ants-syn: do not quote it as ANTs.",
    ),
    Card(
        name="ants-syn-cc",
        target="regbench.methods.ants_syn:AntsSynCc",
        summary="SyN as antspyx runs antsRegistrationSyN[so]: local correlation of radius 2, step 0.2, no linear start",
        paradigm="classical",
        supervision="none",
        transformation="diffeomorphic",
        citation=_SYN,
        licence="Apache-2.0 (ANTs, antspyx, SimpleITK)",
        packages=(ANTSPYX, SIMPLEITK),
        versioned_by="antspyx",
        deterministic="yes, for one seed and number of threads",
        notes="Align first. About three CPU minutes for a brain at 2 mm, half an hour at 1 mm.",
    ),
    Card(
        name="ants-so-jena",
        target="regbench.methods.ants_syn:JenaAntsSyn",
        summary="the call of arXiv 2408.05839, antsRegistrationSyN.sh -t so: radius 4, step 0.1, centre-of-mass start",
        paradigm="classical",
        supervision="none",
        transformation="diffeomorphic",
        citation=f"{_SYN}; settings of Jena et al. 2024 (arXiv 2408.05839)",
        licence="Apache-2.0 (ANTs, antspyx, SimpleITK)",
        packages=(ANTSPYX, SIMPLEITK),
        versioned_by="antspyx",
        deterministic="yes, for one seed and number of threads",
        notes="In double precision, as the script. About nine CPU minutes for a brain at 2 mm, over an hour at 1 mm. "
        "Later versions of the script have a step of 0.2.",
    ),
    Card(
        name="greedy",
        target="regbench.methods.greedy:Greedy",
        summary="greedy diffeomorphic registration with local correlation, from an affine start (Greedy of ITK-SNAP)",
        paradigm="classical",
        supervision="none",
        transformation="diffeomorphic",
        citation=_GREEDY,
        licence="Apache-2.0 (picsl-greedy, SimpleITK)",
        packages=(PICSL_GREEDY, SIMPLEITK),
        versioned_by="picsl-greedy",
        presets={"full": {"iterations": (100, 100, 40)}},
        deterministic="yes, for one seed",
        notes="The affine start is regbench's own.",
    ),
    Card(
        name="greedy-jena",
        target="regbench.methods.greedy:JenaGreedy",
        summary="the call of arXiv 2408.05839: WNCC of radius 2, 100x100x40, smoothing 1.5 and 0.5 mm, no linear start",
        paradigm="classical",
        supervision="none",
        transformation="diffeomorphic",
        citation=f"{_GREEDY}; settings of Jena et al. 2024 (arXiv 2408.05839)",
        licence="Apache-2.0 (picsl-greedy, SimpleITK)",
        packages=(PICSL_GREEDY, SIMPLEITK),
        versioned_by="picsl-greedy",
        deterministic="yes, for one seed (the published call has none)",
        notes="Smoothing in mm is meant for images of 1 mm: on a coarser grid it smooths too little.",
    ),
    Card(
        name="elastix-bspline",
        target="regbench.methods.elastix:ElastixBspline",
        summary="B-splines with mutual information and stochastic gradient descent, four levels (elastix)",
        paradigm="classical",
        supervision="none",
        transformation="deformable",
        citation=_ELASTIX,
        licence="Apache-2.0 (elastix)",
        programs=(ELASTIX, TRANSFORMIX),
        version_command=("elastix", "--version"),
        deterministic="yes, for one seed",
        notes="There is no linear stage: align first, or take elastix-affine-bspline. Its first steps are half a voxel "
        "long at most, not one voxel as elastix has it: on brains at 3 mm that folds less and errs less.",
    ),
    Card(
        name="elastix-affine-bspline",
        target="regbench.methods.elastix:ElastixAffineBspline",
        summary="the same after an affine stage, or any stages of the user's own parameter files (elastix)",
        paradigm="classical",
        supervision="none",
        transformation="deformable",
        citation=_ELASTIX,
        licence="Apache-2.0 (elastix)",
        programs=(ELASTIX, TRANSFORMIX),
        version_command=("elastix", "--version"),
        deterministic="yes, for one seed",
    ),
    Card(
        name="fireants-greedy",
        target="regbench.methods.fireants:FireantsGreedy",
        summary="greedy diffeomorphic registration by Adam with local correlation, from an affine start (FireANTs)",
        paradigm="classical",
        supervision="none",
        transformation="diffeomorphic",
        citation=_FIREANTS,
        licence="FireANTs License 1.0, (c) Rohit Jena (an installed package; no code of it is part of regbench)",
        packages=(FIREANTS, TORCH, SIMPLEITK),
        environment=_FIREANTS_ENVIRONMENT,
        versioned_by="fireants",
        presets={
            "jena": {
                "initial": "none",
                "iterations": (250, 200, 100),
                "kernel_voxels": 7,
                "learning_rate": 0.25,
                "beta1": 0.1,
                "smoothing_voxels": (1.0, 0.25),
            }
        },
        deterministic="yes on the CPU",
        notes="The affine start is regbench's own, masks are used by it only. The settings are those published with "
        "arXiv 2408.05839; jena is their call as it was, for images that are aligned already. `device: cuda` runs it "
        "on a GPU.",
    ),
    Card(
        name="fireants-syn",
        target="regbench.methods.fireants:FireantsSyn",
        summary="symmetric diffeomorphic registration by Adam with local correlation, from an affine start (FireANTs)",
        paradigm="classical",
        supervision="none",
        transformation="diffeomorphic",
        citation=_FIREANTS,
        licence="FireANTs License 1.0, (c) Rohit Jena (an installed package; no code of it is part of regbench)",
        packages=(FIREANTS, TORCH, SIMPLEITK),
        environment=_FIREANTS_ENVIRONMENT,
        versioned_by="fireants",
        presets={
            "jena": {
                "initial": "none",
                "iterations": (200, 100, 50),
                "kernel_voxels": 5,
                "learning_rate": 0.1,
                "beta1": 0.9,
                "smoothing_voxels": (0.5, 0.25),
            }
        },
        deterministic="yes on the CPU",
        notes="The affine start is regbench's own, masks are used by it only. The settings are those published with "
        "arXiv 2408.05839; jena is their call as it was, for images that are aligned already. `device: cuda` runs it "
        "on a GPU.",
    ),
    Card(
        name="convexadam",
        target="regbench.methods.convexadam:ConvexAdam",
        summary="discrete search over MIND features, made smooth by convex optimisation, then Adam on the pair",
        paradigm="classical",
        supervision="none",
        transformation="deformable",
        citation="Siebert et al., IEEE Transactions on Medical Imaging 44 (2025) 738-748",
        licence="Apache-2.0 (convexAdam)",
        dimensions=(3,),
        packages=(TORCH, CONVEXADAM),
        versioned_by="convexAdam",
        deterministic="yes on the CPU",
        notes="For images of any modality. There is no linear stage: align first. `device: cuda` runs it on a GPU.",
    ),
    Card(
        name="command",
        target="regbench.methods.command:Command",
        summary="any registration program, described in the config by its command lines and the form of its result",
        paradigm="classical",
        supervision="none",
        transformation="deformable",
        citation="that of the program",
        licence="that of the program",
        deterministic="as the program is",
        notes="Give it a name of its own: {my-tool: {command: [...], output: itk-warp, version: '1.2'}}.",
    ),
    Card(
        name="voxelmorph-cohort",
        target="regbench.methods.voxelmorph:VoxelMorph",
        summary="small U-Net with a velocity field, trained by regbench on simulated brains with an image loss",
        paradigm="learned",
        supervision="image",
        transformation="diffeomorphic",
        citation=_VOXELMORPH,
        licence="Apache-2.0",
        packages=(TORCH, SAFETENSORS),
        trained_on=_COHORT,
        weights="voxelmorph-cohort",
        grids="any; images must lie roughly in MNI space",
        notes="Small, trained on two CPU cores in under an hour on 256 simulated subjects (one template under smooth "
        "deformations), 3-D at 3 mm: not meant for clinical scans. Held-out subjects, configs/quickstart.yaml: "
        "Dice .736 (identity .488) in 3-D and .787 (.355) in 2-D; .700 and .751 with gamma 3.",
        deterministic="yes, for a fixed number of threads",
    ),
    Card(
        name="voxelmorph-cohort-sup",
        target="regbench.methods.voxelmorph:SupervisedVoxelMorph",
        summary="the same network, the last part of its training with labels (parcels) as well",
        paradigm="learned",
        supervision="labels",
        transformation="diffeomorphic",
        citation=_VOXELMORPH,
        licence="Apache-2.0",
        packages=(TORCH, SAFETENSORS),
        trained_on=_COHORT,
        weights="voxelmorph-cohort-sup",
        grids="any; images must lie roughly in MNI space",
        notes="As voxelmorph-cohort; the last 3000 (3-D) or 5000 (2-D) steps with soft Dice of the parcels beside the "
        "image loss. Held-out subjects, configs/quickstart.yaml: Dice .739 (identity .488) in 3-D and .794 (.355) in "
        "2-D; .700 and .748 with gamma 3.",
        deterministic="yes, for a fixed number of threads",
    ),
    Card(
        name="symnet-oasis",
        target="regbench.methods.symnet:SymnetOasis",
        summary="SYMNet as released: both images are led to their middle by velocities, so both directions are known",
        paradigm="learned",
        supervision="image",
        transformation="diffeomorphic",
        citation=WEIGHTS["symnet-oasis"].citation,
        licence=f"{WEIGHTS['symnet-oasis'].licence} (weights)",
        dimensions=(3,),
        packages=(TORCH,),
        trained_on=_FIRST_OASIS,
        weights="symnet-oasis",
        grids="any; read at 1 mm in LIA, every axis padded to a multiple of 16",
        notes="For skull-stripped T1 brains in the affine space of neurite-OASIS. Reproduces the released code to 2e-5 "
        "voxels. Dice of 35 labels, 0002 to 0001 of neurite-OASIS (trained on): .767 (identity .459).",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="lapirn-disp-oasis",
        target="regbench.methods.lapirn:LapirnDisp",
        summary="LapIRN as released: a pyramid of three networks that adds up displacements",
        paradigm="learned",
        supervision="image",
        transformation="deformable",
        citation=WEIGHTS["lapirn-disp-oasis"].citation,
        licence=f"{WEIGHTS['lapirn-disp-oasis'].licence} (weights)",
        dimensions=(3,),
        packages=(TORCH,),
        trained_on=_SOME_OASIS,
        weights="lapirn-disp-oasis",
        grids="any; read at 1 mm on the middle 160x192x144 voxels",
        notes="For skull-stripped T1 brains in the affine space of neurite-OASIS. Reproduces the released code to 2e-6 "
        "voxels. Dice of 35 labels, 0002 to 0001 of neurite-OASIS: .802 on its crop (identity .460); on whole brains "
        ".800 in LIA, .807 with `orientation: LAS` (identity .459).",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="lapirn-diff-oasis",
        target="regbench.methods.lapirn:LapirnDiff",
        summary="LapIRN as released: a pyramid of three networks that adds up velocities and integrates them",
        paradigm="learned",
        supervision="image",
        transformation="diffeomorphic",
        citation=WEIGHTS["lapirn-diff-oasis"].citation,
        licence=f"{WEIGHTS['lapirn-diff-oasis'].licence} (weights)",
        dimensions=(3,),
        packages=(TORCH,),
        trained_on=_SOME_OASIS,
        weights="lapirn-diff-oasis",
        grids="any; read at 1 mm on the middle 160x192x144 voxels",
        notes="For skull-stripped T1 brains in the affine space of neurite-OASIS. Reproduces the released code to 2e-6 "
        "voxels. Dice of 35 labels, 0002 to 0001 of neurite-OASIS: .729 on its crop (identity .460); on whole brains "
        ".727 in LIA, .720 with `orientation: LAS` (identity .459).",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="clapirn-oasis",
        target="regbench.methods.lapirn:ConditionalLapirn",
        summary="conditional LapIRN (lite) as released: the weight of the regularisation is an input",
        paradigm="learned",
        supervision="image",
        transformation="deformable",
        citation=WEIGHTS["clapirn-oasis"].citation,
        licence=f"{WEIGHTS['clapirn-oasis'].licence} (weights)",
        dimensions=(3,),
        packages=(TORCH,),
        trained_on=_ALL_OASIS,
        weights="clapirn-oasis",
        grids="any; read at 1 mm in LIA on the middle 160x192x224 voxels",
        notes="For skull-stripped T1 brains in the affine space of neurite-OASIS. Reproduces the released code to 1e-6 "
        "voxels. Dice of 35 labels, 0002 to 0001 of neurite-OASIS (trained on), regularisation 0.1: .794 (identity "
        ".459).",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="lku-net",
        target="regbench.methods.lku_net:LkuNetIxi",
        summary="LKU-Net as released for IXI: a U-Net with large kernels in its encoder, and a velocity",
        paradigm="learned",
        supervision="image",
        transformation="diffeomorphic",
        citation=WEIGHTS["lku-net-3d-ixi"].citation,
        licence=f"{WEIGHTS['lku-net-3d-ixi'].licence} (weights)",
        dimensions=(3,),
        packages=(TORCH,),
        trained_on=_IXI,
        weights="lku-net-3d-ixi",
        grids="any; read at 1 mm in LIA on the middle 160x192x224 voxels",
        notes="For skull-stripped T1 brains in the affine space of neurite-OASIS; trained to register an atlas with "
        "subjects. Reproduces the released code to 2e-6 voxels. Dice of 35 labels, 0002 to 0001 of neurite-OASIS: .672 "
        "(identity .459). For slices: lku-net-2d.",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="lku-net-2d",
        target="regbench.methods.lku_net:LkuNetOasis2d",
        summary="LKU-Net as released for slices of neurite-OASIS",
        paradigm="learned",
        supervision="image",
        transformation="deformable",
        citation=WEIGHTS["lku-net-2d-oasis-0.05"].citation,
        licence=f"{WEIGHTS['lku-net-2d-oasis-0.05'].licence} (weights)",
        dimensions=(2,),
        packages=(TORCH,),
        trained_on=_LISTED_OASIS,
        weights="lku-net-2d-oasis-0.05",
        grids="any; read at 1 mm on the middle 160x192 pixels, first axis to the left, second downwards",
        notes="For coronal slices of skull-stripped T1 brains as in neurite-OASIS. Reproduces the released code to "
        "3e-5 voxels. Dice, 0002 to 0001 of neurite-OASIS (trained on): .802 for 0.05, .782 for 0.1 (identity .458); "
        ".701 and .684 if the 3 of 24 labels that only one slice has count 0. Its fields may fold.",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="fourier-net",
        target="regbench.methods.fourier_net:FourierNet",
        summary="Fourier-Net as released for slices of neurite-OASIS: the low frequencies of a displacement",
        paradigm="learned",
        supervision="image",
        transformation="deformable",
        citation=WEIGHTS["fourier-net-2d-oasis"].citation,
        licence=f"{WEIGHTS['fourier-net-2d-oasis'].licence} (weights)",
        dimensions=(2,),
        packages=(TORCH,),
        trained_on=_LISTED_OASIS,
        weights="fourier-net-2d-oasis",
        grids="any; read at 1 mm on the middle 160x192 pixels, first axis to the left, second downwards",
        notes="For coronal slices of skull-stripped T1 brains as in neurite-OASIS. Reproduces the released code to "
        "1e-6 voxels. Dice, 0002 to 0001 of neurite-OASIS (trained on): .785 (identity .458); .687 if the 3 of 24 "
        "labels that only one slice has count 0.",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="fourier-net-diff",
        target="regbench.methods.fourier_net:FourierNetDiff",
        summary="Fourier-Net as released for slices of neurite-OASIS: the low frequencies of a velocity",
        paradigm="learned",
        supervision="image",
        transformation="diffeomorphic",
        citation=WEIGHTS["fourier-net-2d-oasis-diff"].citation,
        licence=f"{WEIGHTS['fourier-net-2d-oasis-diff'].licence} (weights)",
        dimensions=(2,),
        packages=(TORCH,),
        trained_on=_LISTED_OASIS,
        weights="fourier-net-2d-oasis-diff",
        grids="any; read at 1 mm on the middle 160x192 pixels, first axis to the left, second downwards",
        notes="For coronal slices of skull-stripped T1 brains as in neurite-OASIS. Reproduces the released code to "
        "3e-4 voxels. Dice, 0002 to 0001 of neurite-OASIS (trained on): .764 (identity .458); .669 if the 3 of 24 "
        "labels that only one slice has count 0.",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="lessnet",
        target="regbench.methods.lessnet:LessNet",
        summary="LessNet as released for IXI: a decoder alone, on pooled copies of the images",
        paradigm="learned",
        supervision="image",
        transformation="deformable",
        citation=WEIGHTS["lessnet-3d-ixi-16"].citation,
        licence=f"{WEIGHTS['lessnet-3d-ixi-16'].licence} (weights)",
        dimensions=(3,),
        packages=(TORCH,),
        trained_on=_IXI,
        weights="lessnet-3d-ixi-16",
        grids="any; read at 1 mm in LIA on the middle 160x192x224 voxels",
        notes="For skull-stripped T1 brains in the affine space of neurite-OASIS; trained to register an atlas with "
        "subjects. Reproduces the released code to 2e-6 voxels. Dice of 35 labels, 0002 to 0001 of neurite-OASIS: .611 "
        "with 16 channels, .534 with 8 (identity .459). Sensitive to the scale of intensities.",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="lessnet-diff",
        target="regbench.methods.lessnet:LessNetDiff",
        summary="LessNet as released for IXI, whose field is a velocity",
        paradigm="learned",
        supervision="image",
        transformation="diffeomorphic",
        citation=WEIGHTS["lessnet-3d-ixi-8-diff"].citation,
        licence=f"{WEIGHTS['lessnet-3d-ixi-8-diff'].licence} (weights)",
        dimensions=(3,),
        packages=(TORCH,),
        trained_on=_IXI,
        weights="lessnet-3d-ixi-8-diff",
        grids="any; read at 1 mm in LIA on the middle 160x192x224 voxels",
        notes="For skull-stripped T1 brains in the affine space of neurite-OASIS; trained to register an atlas with "
        "subjects. Reproduces the released code to 6e-6 voxels. Dice of 35 labels, 0002 to 0001 of neurite-OASIS: .638 "
        "(identity .459).",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="voxelmorph-2018",
        target="regbench.methods.voxelmorph_2018:VoxelMorph2018",
        summary="VoxelMorph as released with the CVPR 2018 paper (Keras files)",
        paradigm="learned",
        supervision="image",
        transformation="deformable",
        citation=WEIGHTS["voxelmorph-2018-vm2-cc"].citation,
        licence=f"{WEIGHTS['voxelmorph-2018-vm2-cc'].licence} (weights)",
        dimensions=(3,),
        packages=(TORCH, H5PY),
        trained_on=_BEFORE_2018,
        weights="voxelmorph-2018-vm2-cc",
        grids="any; read at 1 mm in LIA, every axis padded to a multiple of 16",
        notes="For skull-stripped T1 brains in the affine space of neurite-OASIS; trained to register an atlas with "
        "subjects. Reproduces an independent implementation to 1e-5 voxels. Dice of 35 labels, 0002 to 0001 of "
        "neurite-OASIS: .742 with vm2-cc and vm2-l2, .739 with vm1-cc (identity .459). Its fields may fold.",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="pddnet",
        target="regbench.methods.pddnet:PddNet",
        summary="PDD-Net as released for abdominal CT: probabilities of dense displacements of learned samples",
        paradigm="learned",
        supervision="image",
        transformation="deformable",
        citation=WEIGHTS["pddnet-mind"].citation,
        licence=f"{WEIGHTS['pddnet-mind'].licence} (weights)",
        dimensions=(3,),
        packages=(TORCH,),
        trained_on=_ABDOMEN,
        weights="pddnet-mind",
        grids="any; read at 2 mm, in the order of its axes, on the middle 192x160x256 voxels",
        notes="For abdominal CT in Hounsfield units, in the space of Learn2Reg AbdomenCTCT; not tried on real CT here. "
        "Costs and probabilities are those of the released code to 1e-6. The fit that ends each pass amplifies "
        "rounding, in the released code as well: fields of synthetic images agree to 0.2 voxels on average. On smaller "
        "ones it is 0.04, which is as far as the released code is from itself when one image is 1e-6 brighter.",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="point-cloud-lung",
        target="regbench.methods.point_cloud:PointCloudLung",
        summary="a graph network on the keypoints of two lungs as released, belief propagation, a thin-plate spline",
        paradigm="learned",
        supervision="labels",
        transformation="deformable",
        citation=WEIGHTS["point-cloud-lung-copd-to-l2r"].citation,
        licence=f"{WEIGHTS['point-cloud-lung-copd-to-l2r'].licence} (weights)",
        dimensions=(3,),
        packages=(TORCH,),
        trained_on=_LUNGS,
        weights="point-cloud-lung-copd-to-l2r",
        grids="any, cut to the lungs, with the axes of Learn2Reg LungCT (192x192x208)",
        notes="Needs keypoints of both images, thousands of them, and denser ones in the moving image; intensities are "
        "not looked at. Learnt from known displacements of keypoints. Reproduces the released code to 1e-3 voxels on "
        "average, more only where neighbours are equally far. Mean TRE of Learn2Reg cases 1 to 3 with their "
        "corresponding keypoints, shuffled: 2.1, 3.1 and 1.9 mm (identity 20.2, 15.6 and 8.1).",
        deterministic=_SAME_BITS,
    ),
)

CARDS: dict[str, Card] = {card.name: card for card in _ROWS}


def card(name: str) -> Card:
    """The card of a method, of another package's as well; ConfigError with the nearest known name if there is none."""
    found = plugin_card(name, CARDS) or CARDS.get(name)
    if found is None:
        known = method_names()
        raise ConfigError(f"unknown method '{name}'{nearest(name, known)}; known: {', '.join(known)}")
    return found


def all_cards() -> dict[str, Card]:
    """The cards of this table and of all other packages, which are imported for it."""
    return {**CARDS, **plugin_cards(CARDS)}


def method_names(wanted: Iterable[str] = ()) -> list[str]:
    """The names of all methods, other packages' as well, which are imported only if a wanted name is not found else."""
    names = [*CARDS, *plugin_names()]
    return names if set(wanted) <= set(names) else list(dict.fromkeys([*names, *all_cards()]))


def method_class(name: str) -> type:
    """The class of a method; imports its module, which is cheap, but not its engine."""
    module, _, attribute = card(name).target.partition(":")
    found: type = getattr(importlib.import_module(module), attribute)
    return found


def resolve_parameters(name: str, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """All parameters of a method: those given over those of its `preset` over the defaults, checked and converted."""
    values = dict(given)
    preset = values.pop("preset", None)
    if preset is not None:
        presets = card(name).presets
        if preset not in presets:
            known = ", ".join(presets) or "none"
            raise ConfigError(
                f"{where}: unknown preset '{preset}'{nearest(str(preset), list(presets))}; known: {known}"
            )
        values = {**presets[preset], **values}
    return check_parameters(method_class(name), values, where)


def build(name: str, parameters: Mapping[str, Any]) -> Method:
    """A method with its parameters; construction only, nothing is prepared."""
    method: Method = method_class(name)(**parameters)
    return method


def missing_needs(card: Card) -> list[Package | Program]:
    """The packages of a card that are not installed, and its programs that are not on PATH; imports none."""
    needs: list[Package | Program] = [*card.packages, *card.programs]
    return [need for need in needs if not need.is_there]


@cache
def _told_version(command: tuple[str, ...]) -> str:
    """The last word of the first line that a program prints about itself, or "(not installed)"."""
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603  a list
    except (OSError, subprocess.TimeoutExpired):
        return "(not installed)"
    words = (told.stdout or told.stderr).strip().partition("\n")[0].split()
    return words[-1] if words else "unknown"


def method_version(card: Card) -> str:
    """The distribution and version that determine a method's results, such as 'antspyx 0.6.3'."""
    return f"{_version(card)} {card.version_suffix}".rstrip()


def _version(card: Card) -> str:
    if card.version is not None:
        return card.version
    if card.version_command:
        return f"{card.version_command[0]} {_told_version(card.version_command)}"
    if card.versioned_by == "regbench":
        return f"regbench {__version__}"
    try:
        return f"{card.versioned_by} {importlib.metadata.version(card.versioned_by)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{card.versioned_by} (not installed)"
