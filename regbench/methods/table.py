"""The registration methods: one card each, and what can be asked of them by name.

A row is plain data; listing it imports no engine. A method is one file and one row. Further methods come as
`path/to/file.py:Class` in a config (see `regbench.targets`).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from typing import Any

from regbench import __version__
from regbench.errors import ConfigError
from regbench.methods.card import Card, Method, Package
from regbench.parameters import check_parameters, nearest

SIMPLEITK = Package("SimpleITK", "SimpleITK")
ANTSPYX = Package("ants", "antspyx")
TORCH = Package("torch", "'torch>=2.6,<2.14'")
SAFETENSORS = Package("safetensors", "safetensors")

_MATTES = "Mattes et al., IEEE Transactions on Medical Imaging 22 (2003) 120-128"
_VOXELMORPH = "Balakrishnan et al., IEEE Transactions on Medical Imaging 38 (2019) 1788-1800"
_COHORT = {"dataset": "mni-cohort", "subjects": "train-000 ... train-255"}

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
        name="ants-syn",
        target="regbench.methods.ants_syn:AntsSyn",
        summary="symmetric normalisation with local correlation, from an affine start (ANTs)",
        paradigm="classical",
        supervision="none",
        transformation="diffeomorphic",
        citation="Avants et al., Medical Image Analysis 12 (2008) 26-41",
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
)

CARDS: dict[str, Card] = {card.name: card for card in _ROWS}


def card(name: str) -> Card:
    """The card of a method; ConfigError with the nearest known name if there is none."""
    if name not in CARDS:
        raise ConfigError(f"unknown method '{name}'{nearest(name, list(CARDS))}; known: {', '.join(CARDS)}")
    return CARDS[name]


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


def missing_packages(card: Card) -> list[Package]:
    """The packages of a card that are not installed; imports none."""
    return [package for package in card.packages if importlib.util.find_spec(package.module) is None]


def method_version(card: Card) -> str:
    """The distribution and version that determine a method's results, such as 'antspyx 0.6.3'."""
    if card.versioned_by == "regbench":
        return f"regbench {__version__}"
    try:
        return f"{card.versioned_by} {importlib.metadata.version(card.versioned_by)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{card.versioned_by} (not installed)"
