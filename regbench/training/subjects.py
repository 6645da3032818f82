"""Pairs of any two subjects of a dataset that names them: network inputs and label maps on one grid."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from regbench.datasets.protocol import SubjectSource
from regbench.errors import ConfigError
from regbench.methods.trained import network_input
from regbench.parameters import as_plain
from regbench.training.grids import Frame
from regbench.training.kept import Arrays, Kept, Use, label_values, torch_labels
from regbench.volume import Image, Labels
from regbench.warp import resample

if TYPE_CHECKING:
    from regbench.config_entries import Entry
    from regbench.training.sources import Batch

Message = Callable[[str], None]

# So many scans tell which labels there are, where not all of them are read.
_SAMPLE = 8


class SubjectPairs:
    """A source of all ordered pairs of some subjects (see `training.sources`).

    Of the labelled subjects of `use`, if given, the label maps are used, of the others not.
    """

    supervision = "image"

    def __init__(
        self,
        dataset: SubjectSource,
        entry: Entry,
        subjects: Sequence[str],
        frame: Frame,
        use: Use,
    ) -> None:
        self.dataset, self.entry, self.subjects, self.frame = dataset, entry, list(subjects), frame
        self.grid, self.placement = frame.grid, frame.placement
        self._use = use
        self._hashes: dict[str, str] = {}
        self._kept = Kept(self._load, use.limit_mib)
        self.label_values = np.array([], dtype=np.int64)

    def prepare(self, what: str, message: Message) -> None:
        """Reads what is kept in memory, and learns which labels there are."""
        self._kept.fill(self.subjects, what + ": {}/{} subjects", message)
        named = self.subjects if self._use.labelled is None else list(self._use.labelled)
        scans = (self._kept[name] for name in (named[:_SAMPLE] if self._kept.is_lazy else named))
        self.label_values = label_values(arrays["labels"] for arrays in scans if "labels" in arrays)

    def draw(self, rng: np.random.Generator, batch: int) -> Batch:
        """Any ordered pairs of two subjects."""
        return self.batch([self._drawn(rng) for _ in range(batch)])

    def _drawn(self, rng: np.random.Generator) -> tuple[str, str]:
        names = self.subjects
        if self._use.labelled is not None and rng.random() < self._use.labelled_share:
            names = list(self._use.labelled)
        first, second = rng.choice(len(names), 2, replace=False)
        return names[first], names[second]

    def batch(self, pairs: Sequence[tuple[str, str]]) -> Batch:
        """The batch of these pairs (fixed, moving)."""
        import torch

        from regbench.training.sources import Batch

        sides = [[self._kept[pair[side]] for pair in pairs] for side in (0, 1)]
        parts = ["image", "labels"] if all("labels" in arrays for side in sides for arrays in side) else ["image"]
        images, *labels = (
            [torch.from_numpy(np.stack([arrays[part] for arrays in side])[:, None]) for side in sides] for part in parts
        )
        known = None
        if self._use.labelled is not None:
            known = torch.tensor([set(pair) <= set(self._use.labelled) for pair in pairs])
        fixed_labels, moving_labels = labels[0] if labels else (None, None)
        return Batch(images[0], images[1], fixed_labels, moving_labels, labelled=known)

    def facts(self) -> dict[str, Any]:
        """Dataset and subjects."""
        return {**entry_facts(self.entry, self.subjects), "subjects": self.subjects, **self._use.facts()}

    def manifest(self) -> dict[str, Any]:
        """The content hash of every subject: sha256 of image, label map and affine."""
        for name in self.subjects:
            if name not in self._hashes:
                self._hashes[name] = scan_hash(*self.dataset.scan(name))
        return {"subjects": {name: self._hashes[name] for name in self.subjects}}

    def _load(self, name: str) -> Arrays:
        image, labels = self.dataset.scan(name)
        self._hashes[name] = scan_hash(image, labels)
        grid = self.frame.grid_for(image.grid)
        found = {"image": network_input(image, grid)}
        if labels is not None:
            found["labels"] = torch_labels(resample(labels, grid).array)
        return found


def scan_hash(image: Image, labels: Labels | None) -> str:
    """The sha256 of the values of a scan and of its place in the world."""
    found = hashlib.sha256(image.grid.affine.tobytes())
    for part in (image, labels):
        if part is not None:
            found.update(f"{part.array.dtype}{part.array.shape}".encode())
            found.update(np.ascontiguousarray(part.array).data)
    return found.hexdigest()


def entry_facts(entry: Entry, subjects: Sequence[str]) -> dict[str, Any]:
    """What a card says of the dataset of an entry, whose family, if given, tells whose scans these are."""
    found = {"dataset": entry.name, "parameters": as_plain(entry.parameters)}
    return found if entry.family is None else {**found, "families": {entry.family: list(subjects)}}


def chosen_subjects(subjects: Sequence[str], n: int, seed: int, where: str) -> tuple[str, ...]:
    """So many subjects, by seed, in their order; ConfigError, beginning with `where`, if there are not enough."""
    if n > len(subjects):
        raise ConfigError(f"{where}: {n} subjects are asked for, the training has {len(subjects)}")
    rng = np.random.default_rng([seed, 8])
    return tuple(subjects[i] for i in sorted(rng.choice(len(subjects), n, replace=False)))
