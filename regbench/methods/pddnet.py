"""PDD-Net as released for abdominal CT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regbench.displacement import Displacement
from regbench.errors import ConfigError, MethodDeclined
from regbench.methods.released import Convention, ReleasedNetwork, brought_to, network_grid
from regbench.pair import BlindPair

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class PddNet(ReleasedNetwork):
    """Registration by the probabilistic dense displacement network that was trained without labels.

    Intensities must be Hounsfield units. `weights`: a file of your own in the released format. `device: cuda` runs it
    on a GPU; `precision` must be fp32.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision != "fp32":
            raise ConfigError(f"precision {self.precision}: the probabilities of pddnet need fp32")

    @property
    def convention(self) -> Convention:
        return self._convention("RAS")

    @property
    def released_as(self) -> str:
        return "pddnet-mind"

    def make_network(self) -> nn.Module:
        from regbench.methods.nets.pddnet import PddNet as Network

        return Network()

    def register(self, pair: BlindPair) -> Displacement:
        """The displacement on the fixed grid in mm."""
        if pair.ndim != 3:
            raise MethodDeclined(f"{self.released_as} is for 3-D images; this pair is {pair.ndim}-D")
        if not self._loaded:
            self.prepare()
        # Headers took no part in the training, so the fixed image keeps the order of its axes.
        grid = network_grid(pair.fixed.grid, self._convention(pair.fixed.grid.orientation))
        forward, _ = self._on_network_grid(pair, grid)
        return Displacement(brought_to(pair.fixed.grid, forward, grid), pair.fixed.grid)

    @staticmethod
    def _convention(orientation: str) -> Convention:
        return Convention(orientation, (192, 160, 256), spacing_mm=2.0, intensity="as-is")
