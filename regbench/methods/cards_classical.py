"""The cards of the classical methods, and of no registration: plain data that imports no engine."""

from __future__ import annotations

from typing import Any

from regbench.methods.card import Card, Environment, Package, Program

SIMPLEITK = Package("SimpleITK", "SimpleITK")
ANTSPYX = Package("ants", "antspyx")
TORCH = Package("torch", "'torch>=2.6,<2.14'")
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
_ADAM_INSTANCE = (
    "Arsigny et al., MICCAI 2006, LNCS 4190, 924-931 (flows of velocities); Kingma and Ba, ICLR 2015 (Adam); "
    "Avants et al., Medical Image Analysis 12 (2008) 26-41 (local correlation)"
)
_ANTS_FINE = {"shrink": (8, 4, 2, 1), "iterations": (100, 70, 50, 20), "smoothing_voxels": (3.0, 2.0, 1.0, 0.0)}
_ANTS_PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"metric": "mattes", "shrink": (4, 2, 1), "iterations": (40, 20, 0), "smoothing_voxels": (2.0, 1.0, 0.0)},
    "full": {"metric": "cc", "radius_voxels": 2, "step": 0.2, **_ANTS_FINE},
    "script": {"metric": "cc", "radius_voxels": 4, "step": 0.1, **_ANTS_FINE},
}

CLASSICAL = (
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
        name="adam-instance",
        target="regbench.methods.instance:AdamInstance",
        summary="a velocity found by Adam with local correlation, coarse to fine, on the CPU or a GPU (regbench)",
        paradigm="classical",
        supervision="none",
        transformation="diffeomorphic",
        citation=_ADAM_INSTANCE,
        licence="Apache-2.0",
        packages=(TORCH,),
        presets={
            "fast": {"steps": (50, 50, 25, 15)},
            "full": {"steps": (100, 100, 100, 100), "tolerance": 0.0},
        },
        deterministic="yes on the CPU",
        notes="There is no linear stage: align first. Masks are not used. `device: cuda` runs it on a GPU. Twelve CPU "
        "seconds for a brain at 2 mm (fast: 5, full: 25); two CPU minutes and 2.1 GiB for 160x192x224 voxels. Settings "
        "were tried on simulated brains, slices, hippocampi and one real pair of brains.",
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
)
