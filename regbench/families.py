"""Families of datasets whose scans go around under several names, and whose subject an id means in each of them.

The same brain is `OASIS_OAS1_0001_MR1` in neurite-OASIS, `OAS1_0001` in OASIS-1, and `0001` in Learn2Reg OASIS, where
numbers count the subjects of neurite-OASIS instead of being those of OASIS-1. What a network was trained on can only
be told from what it is tested on if both are brought to one name: a canonical id, equal for equal subjects.

An id may leave open who is meant (`OASIS_0001` is written for both ways of counting), or say nothing but that it
belongs here; it then has several canonical ids, or none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

Identify = Callable[[str, bool], tuple[str, ...]]

# Numbers of OASIS-1 up to 457 that neurite-OASIS does not have: 414 subjects are left.
_NOT_IN_NEURITE = frozenset(
    (
        *(8, 24, 36, 48, 89, 93, 100, 118, 128, 149, 154, 171, 172, 175, 187, 194, 196, 215, 219, 225, 242, 245),
        *(248, 251, 252, 253, 257, 276, 297, 306, 320, 324, 334, 347, 360, 364, 369, 391, 393, 412, 414, 427, 436),
    )
)
# The number of OASIS-1 at each place of the sorted subjects of neurite-OASIS, which Learn2Reg counts from 1.
_NEURITE_NUMBERS = tuple(n for n in range(1, 458) if n not in _NOT_IN_NEURITE)
_RANGE = re.compile(r"(.*?)(\d+)(\D*)")


@dataclass(frozen=True)
class Family:
    """A family: its name, what else it is called (lower case), and how its ids are read.

    `identify(id, counted)` gives the canonical ids that an id may mean; `counted` says that numbers are those of
    Learn2Reg. `own` is a pattern of ids that no other dataset has.
    """

    name: str
    aliases: tuple[str, ...]
    identify: Identify
    own: str | None = None


def _oasis(identity: str, counted: bool) -> tuple[str, ...]:
    full = re.search(r"OAS1[-_](\d{4})", identity)
    if full:
        return (f"{int(full[1]):04d}",)
    short = re.fullmatch(r"(OASIS[-_ ]?)?(\d{1,4})(_\d{4})?", identity)
    if not short:
        return ()
    number = int(short[2])
    as_place = f"{_NEURITE_NUMBERS[number - 1]:04d}" if 1 <= number <= len(_NEURITE_NUMBERS) else ""
    if counted or short[3]:
        return (as_place,) if as_place else ()
    by_number = f"{number:04d}"
    return (by_number, as_place) if (short[1] or "").endswith("_") and as_place else (by_number,)


def _last_number(identity: str, counted: bool) -> tuple[str, ...]:
    """The case of a Learn2Reg file name such as AbdomenCTCT_0002_0000, or of any other id the last number in it."""
    case = re.search(r"(\d{4})_\d{4}$", identity) or re.search(r"(\d+)(?!.*\d)", identity)
    return (str(int(case[1])),) if case else ()


def _as_it_is(identity: str, counted: bool) -> tuple[str, ...]:
    return (identity.lower(),)


_FAMILIES = (
    Family(
        "neurite-oasis",
        ("oasis", "oasis-1", "oasis1", "learn2reg-oasis", "neurite-oasis-2d"),
        _oasis,
        # The second visits of 20 subjects of OASIS-1 are known as OASIS-TRT-20; which they are is not in their names.
        own=r"(OASIS_)?OAS1[-_]\d{4}.*|OASIS[-_]\d{4}(_\d{4})?|(OASIS-)?TRT-20-\d+.*",
    ),
    Family("mni-cohort", (), _as_it_is),
    Family("ixi", ("ixi-transmorph", "transmorph-ixi"), _last_number, own=r"IXI\d+.*"),
    Family("abdomenctct", ("learn2reg-abdomenctct",), _last_number, own=r"AbdomenCTCT_\d{4}.*"),
    Family("lungct", ("learn2reg-lungct",), _last_number, own=r"LungCT_\d{4}.*"),
    Family("dirlab-copd", ("copd", "dir-lab-copd", "copdgene-dirlab"), _last_number, own=r"(?i:copd)[-_ ]?\d{1,2}"),
    Family("dirlab-4dct", ("4dct", "dir-lab-4dct"), _last_number, own=r"(?i:case)[-_ ]?\d{1,2}Pack.*"),
)
FAMILIES: Mapping[str, Family] = {name: row for row in _FAMILIES for name in (row.name, *row.aliases)}


def family_of(names: Iterable[str | None], identity: str) -> Family | None:
    """The family of a subject: by the first name that is one, else by an id that only one family has."""
    for name in names:
        if name and name.lower() in FAMILIES:
            return FAMILIES[name.lower()]
    return next((row for row in _FAMILIES if row.own and re.fullmatch(row.own, identity)), None)


def other_family(name: str) -> Family:
    """A family that is not on record: a dataset whose ids mean what they say."""
    return FAMILIES.get(name.lower()) or Family(name.lower(), (), _as_it_is)


def listed_ids(subjects: str | Iterable[str]) -> list[str]:
    """The ids of a list, or of text such as 'train-000 ... train-255' or '0002 0003 0005 ... 0009'."""
    words = subjects.replace(",", " ").split() if isinstance(subjects, str) else [str(subject) for subject in subjects]
    found: list[str] = []
    for index, word in enumerate(words):
        if word in ("...", "\N{HORIZONTAL ELLIPSIS}"):
            found += _between(found[-1] if found else "", words[index + 1] if index + 1 < len(words) else "")
        else:
            found.append(word)
    return found


def _between(first: str, last: str) -> list[str]:
    """The ids after the first and before the last one, which differ in their last number of different values."""
    numbers = [list(re.finditer(r"\d+", text)) for text in (first, last)]
    for a, b in zip(reversed(numbers[0]), reversed(numbers[1]), strict=False):
        if a[0] != b[0]:
            width = len(a[0])
            return [f"{first[: a.start()]}{n:0{width}d}{first[a.end() :]}" for n in range(int(a[0]) + 1, int(b[0]))]
    return []
