"""Published results of learned against classical methods, each figure with its source; all numbers are mean Dice.

Only figures that were read in the source itself are here. They come from other data, other label sets and other
tunings than the user's, so they give a direction and a width, never a verdict. Within a row both methods were scored by
the same people on the same pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from regbench.analysis.recommend.outcome import Evidence, Kind

Setting = Literal["same", "shifted"]

JENA = "Jena et al., Magic or Mirage?, NeurIPS 2024, arXiv 2408.05839"
DIO = "the DIO paper (Jena et al.)"
LIU = "Liu, Ruan and Sheng, MIDL 2025, results table of the code repository"
LUMIR = "LUMIR challenge 2024 (Learn2Reg), validation table of the challenge repository"
TRANSMORPH = "TransMorph, IXI table of the code repository"
LUMIRAGE = "LUMirage, MIDL 2026, PMLR 315:4134-4165, arXiv 2512.15505"


@dataclass(frozen=True)
class Published:
    """Dice of a method and of the best classical one of the same table, with what limits the comparison."""

    kind: Kind
    setting: Setting
    dataset: str
    n_pairs: int
    method: str
    dice: float
    reference: str
    reference_dice: float
    citation: str
    caveat: str = ""

    @property
    def effect(self) -> float:
        """Returns the lead of the method over the classical one, in Dice points."""
        return round(100 * (self.dice - self.reference_dice), 2)


@dataclass(frozen=True)
class Remark:
    """A published finding without a difference of means, with its source."""

    setting: Setting
    text: str
    citation: str


_OASIS_TEST = ("OASIS, 200 test pairs", 200, "Greedy", 0.8068, LIU)
_OASIS_PAPER = ("OASIS, the paper's 50 validation subjects", 49, "log demons", 0.802, f"{JENA}, figure 3")
_MIS_RUN = "the ANTs baseline ignored its stated parameters and lost its affine part"
_IXI = "classical methods and networks did not have the same loss"


def _row(kind: Kind, source: tuple[str, int, str, float, str], method: str, dice: float, caveat: str = "") -> Published:
    dataset, n_pairs, reference, reference_dice, citation = source
    return Published(kind, "same", dataset, n_pairs, method, dice, reference, reference_dice, citation, caveat)


_LUMIR = ("LUMIR validation", 0, "ANTs SyN", 0.6988, LUMIR)
_IXI_TEST = ("IXI, atlas to 115 patients", 115, "deeds", 0.733, TRANSMORPH)
_L2R = ("OASIS of Learn2Reg, validation", 19, "log demons", 0.804, f"{DIO}, table 1")
_UNSUPERVISED: Kind = "learned (unsupervised)"
_SUPERVISED: Kind = "learned (supervised)"

FIGURES: tuple[Published, ...] = (
    _row(_UNSUPERVISED, _OASIS_TEST, "VoxelMorph", 0.7647),
    _row(_UNSUPERVISED, _OASIS_TEST, "TransMorph", 0.7934),
    _row(_UNSUPERVISED, _OASIS_TEST, "VFA", 0.8203),
    _row(_UNSUPERVISED, _OASIS_TEST, "SITReg-v1", 0.8230),
    _row(_UNSUPERVISED, _OASIS_TEST, "DP-Conv-C", 0.8283),
    _row(_UNSUPERVISED, _OASIS_PAPER, "LapIRN", 0.788),
    _row(_UNSUPERVISED, _OASIS_PAPER, "SymNet", 0.748),
    _row(_UNSUPERVISED, _LUMIR, "VoxelMorph", 0.7186, _MIS_RUN),
    _row(_UNSUPERVISED, _LUMIR, "SynthMorph", 0.7243, _MIS_RUN),
    _row(_UNSUPERVISED, _LUMIR, "uniGradICON", 0.7369, _MIS_RUN),
    _row(_UNSUPERVISED, _LUMIR, "TransMorph", 0.7594, _MIS_RUN),
    _row(_UNSUPERVISED, _LUMIR, "VFA", 0.7726, _MIS_RUN),
    _row(_UNSUPERVISED, _IXI_TEST, "VoxelMorph-1", 0.729, _IXI),
    _row(_UNSUPERVISED, _IXI_TEST, "CycleMorph", 0.737, _IXI),
    _row(_UNSUPERVISED, _IXI_TEST, "MIDIR", 0.742, _IXI),
    _row(_UNSUPERVISED, _IXI_TEST, "TransMorph", 0.753, _IXI),
    _row(_UNSUPERVISED, _IXI_TEST, "TransMorph-bspl", 0.761, _IXI),
    _row(_SUPERVISED, _OASIS_PAPER, "TransMorph-Regular", 0.855, "trained on 364 labelled subjects of the same set"),
    _row(_SUPERVISED, _OASIS_PAPER, "LKU-Net", 0.904, "trained on 364 labelled subjects of the same set"),
    _row(_SUPERVISED, _L2R, "TransMorph", 0.858),
    _row("hybrid", _LUMIR, "uniGradICON with instance optimisation", 0.7512, _MIS_RUN),
)

REMARKS: tuple[Remark, ...] = (
    Remark(
        "same",
        "On OASIS the best unsupervised network (TransMorph) and the best classical method (Greedy) could not be told "
        "apart (p = .573, validation).",
        f"{JENA}, figure 2",
    ),
    Remark(
        "shifted",
        "Networks trained on OASIS and tested on other brains: a classical method (FireANTs) has the best median on "
        "all 4 test sets; means were not published.",
        f"{JENA}, figure 5",
    ),
    Remark(
        "shifted",
        "Label supervision on OASIS changed Dice on LPBA40 by +3.7 (LapIRN), \N{MINUS SIGN}0.6 (TransMorph), "
        "\N{MINUS SIGN}1.0 (SymNet) and \N{MINUS SIGN}4.8 (LKU-Net) points.",
        f"{DIO}, table 4 (cropped)",
    ),
    Remark(
        "shifted",
        "Networks trained on T1-weighted LUMIR keep up with iterative methods on T1-weighted images and degrade on T2, "
        "T2* and FLAIR (Cohen's d 0.7 to 1.5).",
        LUMIRAGE,
    ),
    Remark(
        "same",
        "With 10 training images a network reached Dice .7642 on LUMIR, with 3384 it reached .7724.",
        LIU,
    ),
)


@dataclass(frozen=True)
class Expected:
    """What published results let one expect of a paradigm against the best classical method, in Dice points.

    The interval is for one further data set, from the spread between those published; None below three of them.
    """

    kind: Kind
    mean: float
    low: float | None
    high: float | None
    n_datasets: int
    n_figures: int


def expected(kind: Kind, figures: Sequence[Published] = FIGURES) -> Expected | None:
    """Returns what to expect of the typical published method of a paradigm; None without a figure.

    Each data set counts once, with the mean over its methods: taking the best of each would be optimistic.
    """
    own = [figure for figure in figures if figure.kind == kind]
    per_dataset: dict[str, list[float]] = {}
    for figure in own:
        per_dataset.setdefault(figure.dataset.split(",")[0].split(" of ")[0], []).append(figure.effect)
    means = [sum(effects) / len(effects) for effects in per_dataset.values()]
    if not means:
        return None
    n, mean = len(means), sum(means) / len(means)
    if n < 3:
        return Expected(kind, mean, None, None, n, len(own))
    from scipy.special import stdtrit

    spread = math.sqrt(sum((value - mean) ** 2 for value in means) / (n - 1))
    width = float(stdtrit(n - 1, 0.975)) * spread * math.sqrt(1 + 1 / n)
    return Expected(kind, mean, mean - width, mean + width, n, len(own))


def as_evidence(figures: Sequence[Published]) -> tuple[Evidence, ...]:
    """Returns published figures as items of evidence; their sources give no intervals of differences."""
    return tuple(
        Evidence(
            metric="dice",
            method=figure.method,
            reference=figure.reference,
            effect=figure.effect,
            low=None,
            high=None,
            unit="Dice points",
            n_pairs=figure.n_pairs,
            n_subjects=0,
            dataset=figure.dataset,
            condition="no shift" if figure.setting == "same" else "another data set",
            source=figure.citation,
            finding=figure.caveat,
        )
        for figure in figures
    )
