"""The conditions under which pairs are registered: one row each; a shift changes one thing and carries the truth.

A shift is a frozen dataclass of parameters with `apply(pair, seed) -> Pair`: the same pair and seed give the same
bytes. Its main parameter is `strength`, for which a row names three levels, so that configs can say `mild`, `medium`
and `strong` (a switch has the last one only).

A row's version is raised whenever a shift makes other data of the same pair, and, with that of a package that does the
work, is part of the key of a result: rows of before and after are never taken for each other.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib import metadata
from typing import Literal, Protocol

from regbench.errors import ConfigError
from regbench.pair import Pair
from regbench.parameters import nearest

LEVELS = ("mild", "medium", "strong")
_CARRIED = {
    "nothing": "everything stays",
    "intensities": "labels, masks, landmarks, truth and grids stay as they are",
    "position": "labels and masks keep their voxels; grids, landmarks and truth follow exactly",
    "storage": "labels, masks and truth are stored in the same new order; nothing in the world changes",
    "extent": "labels, masks and truth are cut or padded with the image; landmarks stay where they are in the world",
    "labels": "images, masks, landmarks, truth and grids stay as they are, so that every registration is the same one",
    "content": "labels, masks, landmarks, truth and grids stay; the lesion is excluded from scores, and so is its "
    "place in the other image, where the truth tells it",
}


class Shift(Protocol):
    """A change of a pair, made before any method sees it."""

    def apply(self, pair: Pair, seed: int) -> Pair: ...


@dataclass(frozen=True)
class ShiftCard:
    """What is known of a shift without importing it.

    `changes` is what of a pair it changes, `unit` what its strength is in words, `levels` the strengths of the last of
    mild, medium and strong, and `neutral` the strength that changes nothing. `package`
    is the package whose version decides what comes out.
    """

    name: str
    target: str
    summary: str
    changes: Literal["nothing", "intensities", "position", "storage", "extent", "content", "labels"] = "intensities"
    unit: str = ""
    levels: tuple[float, ...] = ()
    neutral: float = 0.0
    version: int = 1
    package: str | None = None

    @property
    def carried(self) -> str:
        """What happens to labels, masks, landmarks, truth and grids."""
        return _CARRIED[self.changes]

    @property
    def named_levels(self) -> dict[str, float]:
        """The strengths by the names of their levels."""
        return dict(zip(LEVELS[len(LEVELS) - len(self.levels) :], self.levels, strict=True)) if self.levels else {}


_CONTRAST, _SCALING = "regbench.shifts.contrast", "regbench.shifts.scaling"
_SCAN, _KSPACE, _DAMAGE = "regbench.shifts.acquisition", "regbench.shifts.kspace", "regbench.shifts.damage"
_POSITION, _EXTENT, _LABELS = "regbench.shifts.position", "regbench.shifts.extent", "regbench.shifts.annotation"

_ROWS = (
    ShiftCard("none", f"{_CONTRAST}:Unchanged", "the data as they are", "nothing"),
    ShiftCard(
        "gamma",
        f"{_CONTRAST}:Gamma",
        "a gamma curve on the intensities: another contrast, the same anatomy and labels",
        unit="exponent",
        levels=(1.5, 2.0, 3.0),
        neutral=1.0,
    ),
    ShiftCard(
        "contrast",
        f"{_CONTRAST}:ContrastCurve",
        "a random monotone curve on the intensities of each image",
        unit="spread of the logarithm of slopes",
        levels=(0.3, 0.6, 1.0),
    ),
    ShiftCard(
        "inversion",
        f"{_CONTRAST}:Inversion",
        "bright becomes dark",
        unit="share; 0.5 leaves no contrast",
        levels=(0.25, 0.75, 1.0),
    ),
    ShiftCard(
        "t2_like",
        f"{_CONTRAST}:TissueMap",
        "tissues of a T1-weighted brain mapped to the brightness that they have in T2, which is not monotone",
        unit="share",
        levels=(0.25, 0.75, 1.0),
    ),
    ShiftCard(
        "intensity_scale",
        f"{_SCALING}:IntensityScale",
        "another unit of intensities",
        unit="power of ten",
        levels=(0.5, 1.0, 3.0),
    ),
    ShiftCard(
        "clipping",
        f"{_SCALING}:Clipping",
        "a normalisation that saturates both ends of the histogram",
        unit="percent of voxels at either end",
        levels=(1.0, 5.0, 15.0),
    ),
    ShiftCard(
        "zscore",
        f"{_SCALING}:Standardisation",
        "intensities of mean 0 and standard deviation 1, negative ones included",
        unit="0 or 1",
        levels=(1.0,),
    ),
    ShiftCard(
        "noise", f"{_SCAN}:Noise", "Rician noise", unit="standard deviation / brightness", levels=(0.02, 0.05, 0.1)
    ),
    ShiftCard(
        "bias_field",
        f"{_SCAN}:BiasField",
        "a smooth multiplicative field, as of a receiving coil",
        unit="standard deviation of its logarithm",
        levels=(0.15, 0.3, 0.6),
    ),
    ShiftCard(
        "blur_mm",
        f"{_SCAN}:Blur",
        "a Gaussian point spread",
        unit="mm, full width at half maximum",
        levels=(2.0, 4.0, 8.0),
    ),
    ShiftCard(
        "anisotropy_mm",
        f"{_SCAN}:Anisotropy",
        "thick slices: resampled along one axis and back",
        unit="mm between slices",
        levels=(4.0, 6.0, 10.0),
    ),
    ShiftCard(
        "missing_slices",
        f"{_SCAN}:MissingSlices",
        "slices without signal along one axis",
        unit="share of the slices of the body",
        levels=(0.05, 0.1, 0.25),
    ),
    ShiftCard(
        "motion",
        f"{_KSPACE}:Motion",
        "motion of the patient during the scan, in k-space (torchio)",
        unit="degrees and mm, at most",
        levels=(2.0, 5.0, 10.0),
        package="torchio",
    ),
    ShiftCard(
        "ghosting",
        f"{_KSPACE}:Ghosting",
        "ghosts along one axis, in k-space (torchio)",
        unit="share of lines of k-space that is lost",
        levels=(0.25, 0.5, 0.9),
        package="torchio",
    ),
    ShiftCard(
        "strip_holes",
        f"{_DAMAGE}:StripHoles",
        "brain lost in skull-stripping",
        unit="share of the surface",
        levels=(0.1, 0.25, 0.5),
    ),
    ShiftCard(
        "strip_residue",
        f"{_DAMAGE}:StripResidue",
        "skull left by skull-stripping",
        unit="share of the surface",
        levels=(0.1, 0.25, 0.5),
    ),
    ShiftCard(
        "lesion_mm",
        f"{_DAMAGE}:Lesion",
        "a simulated lesion, which is left out of the scores",
        "content",
        "mm across",
        (10.0, 20.0, 40.0),
        version=2,
    ),
    ShiftCard(
        "rotation_degrees",
        f"{_POSITION}:Rotation",
        "one image turned in the world, by its header",
        "position",
        "degrees",
        (5.0, 15.0, 30.0),
    ),
    ShiftCard(
        "translation_mm",
        f"{_POSITION}:Translation",
        "one image moved in the world, by its header",
        "position",
        "mm",
        (5.0, 20.0, 50.0),
    ),
    ShiftCard("mirror", f"{_POSITION}:Mirror", "left and right exchanged", "position", "0 or 1", (1.0,)),
    ShiftCard(
        "orientation",
        f"{_POSITION}:Orientation",
        "voxels stored in another order, the same world",
        "storage",
        "1 to 3",
        (1.0, 2.0, 3.0),
    ),
    ShiftCard(
        "crop",
        f"{_EXTENT}:Crop",
        "a smaller field of view, drawn for each image",
        "extent",
        "share of each axis",
        (0.05, 0.15, 0.3),
    ),
    ShiftCard(
        "padding",
        f"{_EXTENT}:Padding",
        "a larger field of view with nothing in what is added",
        "extent",
        "share of each axis",
        (0.1, 0.25, 0.5),
    ),
    ShiftCard(
        "merge_labels",
        f"{_LABELS}:MergedLabels",
        "labels merged at random, alike in all subjects; images stay",
        "labels",
        "labels per class",
        (2.0, 4.0, 8.0),
        1.0,
    ),
    ShiftCard(
        "parcel_borders",
        f"{_LABELS}:ParcelBorders",
        "borders between labels drawn elsewhere; images stay",
        "labels",
        "mm",
        (2.0, 4.0, 8.0),
    ),
)

SHIFTS: dict[str, ShiftCard] = {card.name: card for card in _ROWS}


def shift_version(name: str) -> str:
    """The version of what a shift does, such as '1' or '1, torchio 1.2.0'; '' for the data as they are."""
    card = SHIFTS[name]
    if card.changes == "nothing":
        return ""
    if card.package is None:
        return str(card.version)
    try:
        return f"{card.version}, {card.package} {metadata.version(card.package)}"
    except metadata.PackageNotFoundError:
        return f"{card.version}, no {card.package}"


def shift_class(name: str) -> type:
    """The class of a shift; ConfigError with the nearest known name if there is none."""
    if name not in SHIFTS:
        raise ConfigError(f"unknown condition '{name}'{nearest(name, list(SHIFTS))}; known: {', '.join(SHIFTS)}")
    module, _, attribute = SHIFTS[name].target.partition(":")
    found: type = getattr(importlib.import_module(module), attribute)
    return found
