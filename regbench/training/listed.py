"""The pairs that a dataset lists, on the grid of the network: a CSV, a Learn2Reg task, a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from regbench.datasets.protocol import Dataset, PairRef
from regbench.errors import ConfigError, DatasetError
from regbench.methods.trained import network_input
from regbench.pair import Pair
from regbench.training.grids import Frame
from regbench.training.kept import Arrays, Kept, Use, label_values, torch_labels
from regbench.training.subjects import entry_facts
from regbench.volume import Grid
from regbench.warp import resample, sample_displacement

if TYPE_CHECKING:
    from torch import Tensor

    from regbench.config_entries import Entry
    from regbench.training.sources import Batch

Message = Callable[[str], None]

# So many pairs tell which labels there are, and how large images are, where not all of them are read.
_SAMPLE = 8


class ListedPairs:
    """A source of listed pairs (see `training.sources`).

    Label maps are used where both images have one and, if `use` has labelled subjects, both are among them. Where the
    truth is asked for, every pair must know its displacement.
    """

    supervision = "image"

    def __init__(
        self,
        dataset: Dataset,
        entry: Entry,
        refs: Sequence[PairRef],
        frame: Frame,
        use: Use,
    ) -> None:
        self.dataset, self.entry, self.refs, self.frame = dataset, entry, list(refs), frame
        self.grid, self.placement, self._use = frame.grid, frame.placement, use
        self.subjects = subjects_of(self.refs)
        self._by_id = {ref.id: ref for ref in self.refs}
        self._kept = Kept(self._load, use.limit_mib)
        self.label_values = np.array([], dtype=np.int64)
        known = set(self.subjects if use.labelled is None else use.labelled)
        self._among = [ref.id for ref in self.refs if {ref.fixed, ref.moving} <= known]

    def prepare(self, what: str, message: Message) -> None:
        """Reads what is kept in memory, and learns which labels there are."""
        self._kept.fill(self._by_id, what + ": {}/{} pairs", message)
        named = self._among[:_SAMPLE] if self._kept.is_lazy else self._among
        sides = ("fixed_labels", "moving_labels")
        self.label_values = label_values(
            self._kept[key][side] for key in named for side in sides if side in self._kept[key]
        )

    def draw(self, rng: np.random.Generator, batch: int) -> Batch:
        """Any of the pairs."""
        return self.batch([self._drawn(rng) for _ in range(batch)])

    def _drawn(self, rng: np.random.Generator) -> str:
        if self._use.labelled is not None and rng.random() < self._use.labelled_share:
            return self._among[int(rng.integers(len(self._among)))]
        return self.refs[int(rng.integers(len(self.refs)))].id

    def batch(self, ids: Sequence[str]) -> Batch:
        """The batch of the pairs with these ids."""
        import torch

        from regbench.training.sources import Batch

        pairs = [self._kept[key] for key in ids]

        def stacked(part: str, otherwise: np.dtype | type | None = None) -> Tensor | None:
            if not any(part in pair for pair in pairs):
                return None
            arrays = [pair[part] if part in pair else np.zeros(self.grid.shape, otherwise) for pair in pairs]
            return (
                torch.from_numpy(np.stack(arrays)) if part == "truth" else torch.from_numpy(np.stack(arrays)[:, None])
            )

        fixed, moving = stacked("fixed"), stacked("moving")
        assert fixed is not None and moving is not None
        fixed_labels, moving_labels = stacked("fixed_labels", np.uint8), stacked("moving_labels", np.uint8)
        flags = [key in self._among and "fixed_labels" in pair for key, pair in zip(ids, pairs, strict=True)]
        known = None if all(flags) else torch.tensor(flags)
        return Batch(fixed, moving, fixed_labels, moving_labels, stacked("truth"), known)

    def facts(self) -> dict[str, Any]:
        """Dataset, subjects and pairs."""
        return {
            **entry_facts(self.entry, self.subjects),
            "subjects": self.subjects,
            "pairs": [ref.id for ref in self.refs],
            **self._use.facts(),
        }

    def manifest(self) -> dict[str, Any]:
        """The content hash of every pair, and what the dataset says of itself."""
        return {
            "pairs": {ref.id: self.dataset.fingerprint(ref) for ref in self.refs},
            "dataset": dict(self.dataset.manifest()),
        }

    def _load(self, key: str) -> Arrays:
        pair = self.dataset.load(self._by_id[key])
        if pair.fixed.grid.ndim != self.grid.ndim:
            raise DatasetError(f"pair {pair.name}: is {pair.fixed.grid.ndim}-D, the training is {self.grid.ndim}-D")
        grid = self.frame.grid_for(pair.fixed.grid)
        found = {"fixed": network_input(pair.fixed, grid), "moving": network_input(pair.moving, grid)}
        for side in ("fixed", "moving"):
            if not found[side].any():
                raise DatasetError(
                    f"pair {pair.name}: the {side} image does not reach the grid of the network; align the images in "
                    "the world first, or train with `placement: fixed`"
                )
        if pair.fixed_labels is not None and pair.moving_labels is not None:
            found["fixed_labels"] = torch_labels(resample(pair.fixed_labels, grid).array)
            found["moving_labels"] = torch_labels(resample(pair.moving_labels, grid).array)
        if self._use.truth:
            found["truth"] = truth_voxels(pair, grid)
        return found


def truth_voxels(pair: Pair, grid: Grid) -> np.ndarray:
    """The known displacement of a pair on another grid, in voxels of it, (ndim, *shape) float32."""
    if pair.truth is None:
        raise ConfigError(f"loss.truth: the right displacement of pair {pair.name} is not known; take `truth` out")
    vectors = sample_displacement(pair.truth, grid.world_points()) @ np.linalg.inv(grid.linear).T
    return np.ascontiguousarray(np.moveaxis(vectors, -1, 0), dtype=np.float32)


def grids_of(dataset: Dataset, refs: Sequence[PairRef]) -> list[Grid]:
    """The grids of the fixed images of the first pairs."""
    return [dataset.load(ref).fixed.grid for ref in refs[:_SAMPLE]]


def subjects_of(refs: Sequence[PairRef]) -> list[str]:
    """The subjects of some pairs, in the order in which they first occur."""
    return list(dict.fromkeys(name for ref in refs for name in (ref.fixed, ref.moving)))


def connected_subjects(refs: Sequence[PairRef], n: int, rng: np.random.Generator) -> set[str]:
    """About `n` subjects, drawn pair by pair, so that there are pairs among them; one pair at least."""
    found: set[str] = set()
    for i in rng.permutation(len(refs)):
        more = found | {refs[i].fixed, refs[i].moving}
        if len(more) <= n or not found:
            found = more
    return found
