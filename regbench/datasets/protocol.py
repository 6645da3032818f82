"""What every dataset offers, and the pair protocols that they share.

A dataset is listed without opening an image: `pair_refs()` names the pairs, `load(ref)` reads one.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from regbench.errors import ConfigError
from regbench.pair import Pair
from regbench.volume import Image, Labels


@dataclass(frozen=True)
class PairRef:
    """A pair by name: its id within the dataset, the two subjects, and tags that go into its rows."""

    id: str
    fixed: str
    moving: str
    tags: Mapping[str, Any] = field(default_factory=dict)


class Dataset(Protocol):
    """A source of pairs. Construction checks parameters and nothing else; it opens no image."""

    def pair_refs(self) -> Sequence[PairRef]:
        """The pairs in their order; DatasetError if there is none."""

    def load(self, ref: PairRef) -> Pair:
        """One pair with everything known about it; DatasetError with one sentence if it cannot be used."""

    def fingerprint(self, ref: PairRef) -> str:
        """A content hash over everything that goes into a pair, the same wherever the files lie."""

    def manifest(self) -> Mapping[str, Any]:
        """What identifies the data for the record of a run, as plain JSON values."""


@runtime_checkable
class SubjectSource(Protocol):
    """A dataset that names subjects by split, which is what training draws its pairs from."""

    def subjects(self, split: str | None = None) -> list[str]:
        """The subjects of "train", "validation" or "test"; the splits share none."""

    def scan(self, name: str) -> tuple[Image, Labels]:
        """The image and the label map of one subject, on one grid for all subjects."""


def select_pairs(subjects: Sequence[str], protocol: str, seed: int, where: str) -> list[tuple[str, str]]:
    """Ordered (fixed, moving) subject pairs by a named protocol, the same on every machine.

    `all-ordered`: every ordered pair; `consecutive`: (i, i+1); `random:N`: N distinct ordered pairs drawn
    with `seed`; `disjoint:N`: N pairs that share no subject, which gives the narrowest honest intervals.
    Raises ConfigError, naming `where`, for an unknown protocol or too large an N.
    """
    everything = list(itertools.permutations(subjects, 2))
    if protocol == "all-ordered":
        return everything
    if protocol == "consecutive":
        return list(itertools.pairwise(subjects))
    match = re.fullmatch(r"(random|disjoint):(\d+)", protocol)
    if not match:
        known = "random:N, disjoint:N, consecutive, all-ordered"
        raise ConfigError(f"{where}: unknown pair protocol '{protocol}'; known: {known}")
    kind, n = match[1], int(match[2])
    most = len(everything) if kind == "random" else len(subjects) // 2
    if not 1 <= n <= most:
        raise ConfigError(f"{where}: {n} pairs asked for; {len(subjects)} subjects give 1 to {most} ({kind})")
    # `random.Random.sample` is stable across Python versions, unlike numpy's generators.
    rng = random.Random(f"regbench pairs {seed}")
    if kind == "random":
        return rng.sample(everything, n)
    order = rng.sample(list(subjects), 2 * n)
    return list(zip(order[::2], order[1::2], strict=True))
