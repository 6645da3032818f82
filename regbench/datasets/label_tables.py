"""Names of anatomical labels, and the FreeSurfer number of each, which is how tables are compared.

Numbers and names are those that the programs or protocols write into their files. `merges` are groupings that make
sense for a table, by name; every table of brains also has `common`, see `regbench.datasets.label_sets`.

Sources: FreeSurferColorLUT (aseg and DKT numbers); seg35_labels.txt and the slices of neurite-OASIS (seg24 and seg4
were read off two subjects of which all maps are at hand); the LONI Probabilistic Brain Atlas protocol (Shattuck et
al., NeuroImage 39 (2008) 1064-1080); the label lists that TransMorph and FireANTs evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Groups = Mapping[str, tuple[int, ...]]

_SIDED = {
    "white matter": (2, 41),
    "cortex": (3, 42),
    "lateral ventricle": (4, 43),
    "inferior lateral ventricle": (5, 44),
    "cerebellum white matter": (7, 46),
    "cerebellum cortex": (8, 47),
    "thalamus": (10, 49),
    "caudate": (11, 50),
    "putamen": (12, 51),
    "pallidum": (13, 52),
    "hippocampus": (17, 53),
    "amygdala": (18, 54),
    "accumbens": (26, 58),
    "ventral DC": (28, 60),
    "vessel": (30, 62),
    "choroid plexus": (31, 63),
}
_MIDDLE = {
    14: "3rd ventricle",
    15: "4th ventricle",
    16: "brain stem",
    24: "CSF",
    72: "5th ventricle",
    77: "white matter hypointensities",
    80: "non-white-matter hypointensities",
    85: "optic chiasm",
    251: "posterior corpus callosum",
    252: "mid-posterior corpus callosum",
    253: "central corpus callosum",
    254: "mid-anterior corpus callosum",
    255: "anterior corpus callosum",
}
_DKT31 = {
    2: "caudal anterior cingulate",
    3: "caudal middle frontal",
    5: "cuneus",
    6: "entorhinal",
    7: "fusiform",
    8: "inferior parietal",
    9: "inferior temporal",
    10: "isthmus cingulate",
    11: "lateral occipital",
    12: "lateral orbitofrontal",
    13: "lingual",
    14: "medial orbitofrontal",
    15: "middle temporal",
    16: "parahippocampal",
    17: "paracentral",
    18: "pars opercularis",
    19: "pars orbitalis",
    20: "pars triangularis",
    21: "pericalcarine",
    22: "postcentral",
    23: "posterior cingulate",
    24: "precentral",
    25: "precuneus",
    26: "rostral anterior cingulate",
    27: "rostral middle frontal",
    28: "superior frontal",
    29: "superior parietal",
    30: "superior temporal",
    31: "supramarginal",
    34: "transverse temporal",
    35: "insula",
}
_LPBA40_SIDED = {
    21: "superior frontal gyrus",
    23: "middle frontal gyrus",
    25: "inferior frontal gyrus",
    27: "precentral gyrus",
    29: "middle orbitofrontal gyrus",
    31: "lateral orbitofrontal gyrus",
    33: "gyrus rectus",
    41: "postcentral gyrus",
    43: "superior parietal gyrus",
    45: "supramarginal gyrus",
    47: "angular gyrus",
    49: "precuneus",
    61: "superior occipital gyrus",
    63: "middle occipital gyrus",
    65: "inferior occipital gyrus",
    67: "cuneus",
    81: "superior temporal gyrus",
    83: "middle temporal gyrus",
    85: "inferior temporal gyrus",
    87: "parahippocampal gyrus",
    89: "lingual gyrus",
    91: "fusiform gyrus",
    101: "insular cortex",
    121: "cingulate gyrus",
    161: "caudate",
    163: "putamen",
    165: "hippocampus",
}
# FreeSurfer numbers of the labels 1 to 35 of seg35, and of the labels 1 to 24 of seg24.
_SEG35: tuple[int, ...] = (2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 26, 28, 30, 31)
_SEG35 += (41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60, 62, 63)
_SEG24 = (2, 3, 4, 5, 10, 11, 12, 13, 14, 16, 17, 28, 31, 41, 42, 43, 44, 49, 50, 51, 52, 53, 60, 63)
# The thirty labels over which VoxelMorph, and TransMorph on IXI, average Dice.
VOI30: tuple[int, ...] = (2, 3, 4, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 28, 31)
VOI30 += (41, 42, 43, 46, 47, 49, 50, 51, 52, 53, 54, 60, 63)
# The labels that all subjects of IBSR18 have.
IBSR31 = (2, 3, 4, 5, 7, 8, *range(10, 19), 26, 28, *range(41, 45), 46, 47, *range(49, 55), 58, 60)


@dataclass(frozen=True)
class LabelTable:
    """Names of labels, their FreeSurfer numbers where they have one, and groupings by name."""

    names: Mapping[int, str]
    freesurfer: Mapping[int, int]
    merges: Mapping[str, Groups] = field(default_factory=dict)


def _freesurfer_names() -> dict[int, str]:
    names = dict(_MIDDLE)
    for name, sides in _SIDED.items():
        names |= {number: f"{side} {name}" for side, number in zip(("left", "right"), sides, strict=True)}
    for base, side in ((1000, "left"), (2000, "right")):
        names |= {base + number: f"{side} {name}" for number, name in _DKT31.items()}
    return dict(sorted(names.items()))


def _subset(names: Mapping[int, str], numbers: tuple[int, ...]) -> Groups:
    return {names[number]: (number,) for number in numbers}


def _tissues(numbers: Mapping[int, int]) -> Groups:
    """The four tissues of seg4 as groups of labels with the given FreeSurfer numbers.

    Cerebral structures are as in seg4; the cerebellum, which no slice of it shows, goes by its tissue.
    """
    cortex = {3, 42, 8, 47} | {n for n in FREESURFER_NAMES if n >= 1000}
    deep = {10, 49, 11, 50, 12, 51, 13, 52, 17, 53, 18, 54, 26, 58}
    white = {2, 41, 7, 46, 16, 28, 60}
    fluid = {4, 43, 5, 44, 14, 15, 24, 72, 31, 63}
    groups = {"cortex": cortex, "subcortical grey matter": deep, "white matter": white, "CSF": fluid}
    return {name: tuple(v for v, n in numbers.items() if n in wanted) for name, wanted in groups.items()}


def _of_freesurfer(numbers: tuple[int, ...]) -> LabelTable:
    """The table of labels 1, 2, ... with these FreeSurfer numbers."""
    numbered = dict(enumerate(numbers, start=1))
    names = {value: FREESURFER_NAMES[number] for value, number in numbered.items()}
    return LabelTable(names, numbered, {"seg4": _tissues(numbered)})


def _lpba40() -> LabelTable:
    names: dict[int, str] = {}
    for odd, name in _LPBA40_SIDED.items():
        names |= {odd: f"left {name}", odd + 1: f"right {name}"}
    names |= {181: "cerebellum", 182: "brain stem"}
    return LabelTable(names, {161: 11, 162: 50, 163: 12, 164: 51, 165: 17, 166: 53, 182: 16})


FREESURFER_NAMES: Mapping[int, str] = _freesurfer_names()
_SAME = {number: number for number in FREESURFER_NAMES}

TABLES: Mapping[str, LabelTable] = {
    "freesurfer": LabelTable(
        FREESURFER_NAMES,
        _SAME,
        {
            "seg4": _tissues(_SAME),
            "voi30": _subset(FREESURFER_NAMES, VOI30),
            "ibsr31": _subset(FREESURFER_NAMES, IBSR31),
        },
    ),
    "seg35": _of_freesurfer(_SEG35),
    "seg24": _of_freesurfer(_SEG24),
    "seg4": LabelTable({1: "cortex", 2: "subcortical grey matter", 3: "white matter", 4: "CSF"}, {}),
    "lpba40": _lpba40(),
    "hippocampus": LabelTable({1: "anterior hippocampus", 2: "posterior hippocampus"}, {}),
}
# What all tables of whole brains have, by FreeSurfer number.
COMMON: Mapping[int, str] = {n: FREESURFER_NAMES[n] for n in (11, 12, 16, 17, 50, 51, 53)}
