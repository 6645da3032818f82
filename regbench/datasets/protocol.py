"""What every dataset offers.

A dataset is listed without opening an image: `pair_refs()` names the pairs, `load(ref)` reads one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from regbench.datasets.pair_protocols import select_pairs
from regbench.pair import Pair
from regbench.volume import Image, Labels

__all__ = ["Dataset", "PairRef", "SubjectSource", "select_pairs"]


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
