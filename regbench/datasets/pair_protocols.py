"""Which subjects are registered to which: pair protocols by name, the same on every machine.

    all-ordered         every ordered pair (fixed, moving)
    consecutive         (i, i+1) in the order of the subjects
    random:N            N distinct ordered pairs, drawn with the seed of the dataset; `random:N,SEED` with its own
    disjoint:N          N pairs that share no subject, which gives the narrowest honest intervals; `disjoint:N,SEED`
    atlas, atlas:ID     one fixed subject, the atlas of the layout or the one named; all others are moved onto it
    official            the pairs that the dataset itself lists
    jena-val49          the 49 consecutive pairs of the last 50 of the 414 subjects of OASIS
    jena-trainval413    the 413 consecutive pairs of all of them; both as in Jena et al., NeurIPS 2024

Subjects are numbered as a reader would: 2 comes before 10 (`in_order`).
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterable, Sequence

from regbench.errors import ConfigError

KNOWN = "all-ordered, consecutive, random:N, disjoint:N, atlas, atlas:ID"
JENA = {"jena-val49": 50, "jena-trainval413": 414}
_SUBJECTS_OF_OASIS = 414
# What else is known to the datasets that list pairs, and to those of OASIS.
_PARTS = re.compile(r"(\d+)")


def in_order(names: Iterable[str]) -> list[str]:
    """The names with numbers in them compared as numbers: m1, m2, m10."""
    return sorted(names, key=order_key)


def order_key(name: str) -> list[tuple[int, int, str]]:
    """What to sort a name by, so that its numbers count as numbers."""
    parts = [part for part in _PARTS.split(name) if part]
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part.lower()) for part in parts]


def select_pairs(
    subjects: Sequence[str], protocol: str, seed: int, where: str, atlas: str | None = None
) -> list[tuple[str, str]]:
    """Ordered (fixed, moving) subject pairs by a named protocol (see the module), `official` excepted.

    Raises ConfigError, naming `where`, for an unknown protocol or too large an N.
    """
    if protocol == "all-ordered":
        return list(itertools.permutations(subjects, 2))
    if protocol == "consecutive":
        return list(itertools.pairwise(subjects))
    if protocol in JENA:
        return _jena(subjects, protocol, where)
    if protocol == "atlas" or protocol.startswith("atlas:"):
        return _onto_atlas(subjects, protocol.partition(":")[2] or atlas, where)
    match = re.fullmatch(r"(random|disjoint):(\d+)(?:,\s*(\d+))?", protocol)
    if not match:
        raise ConfigError(f"{where}: unknown pair protocol '{protocol}'; known: {KNOWN}")
    return _drawn(subjects, match[1], int(match[2]), seed if match[3] is None else int(match[3]), where)


def _drawn(subjects: Sequence[str], kind: str, n: int, seed: int, where: str) -> list[tuple[str, str]]:
    n_subjects = len(subjects)
    most = n_subjects * (n_subjects - 1) if kind == "random" else n_subjects // 2
    if not 1 <= n <= most:
        raise ConfigError(f"{where}: {n} pairs asked for; {n_subjects} subjects give 1 to {most} ({kind})")
    # `random.Random.sample` is stable across Python versions, unlike numpy's generators.
    rng = random.Random(f"regbench pairs {seed}")
    if kind == "random":
        return rng.sample(list(itertools.permutations(subjects, 2)), n)
    order = rng.sample(list(subjects), 2 * n)
    return list(zip(order[::2], order[1::2], strict=True))


def _onto_atlas(subjects: Sequence[str], atlas: str | None, where: str) -> list[tuple[str, str]]:
    if atlas is None:
        raise ConfigError(f"{where}: this dataset has no atlas of its own; name a subject, such as atlas:{subjects[0]}")
    if atlas not in subjects:
        shown = ", ".join(subjects[:5]) + (", ..." if len(subjects) > 5 else "")
        raise ConfigError(f"{where}: there is no subject '{atlas}' for the atlas; there are {shown}")
    return [(atlas, subject) for subject in subjects if subject != atlas]


def _jena(subjects: Sequence[str], protocol: str, where: str) -> list[tuple[str, str]]:
    if len(subjects) != _SUBJECTS_OF_OASIS:
        raise ConfigError(
            f"{where}: {protocol} is defined on the {_SUBJECTS_OF_OASIS} subjects of OASIS and this folder has "
            f"{len(subjects)}; use consecutive, or complete the data"
        )
    return list(itertools.pairwise(subjects[-JENA[protocol] :]))
