"""SYMNet as released for neurite-OASIS, whose two velocities give both directions of a registration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regbench.methods.released import Convention, ReleasedNetwork

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class SymnetOasis(ReleasedNetwork):
    """Registration by SYMNet, with the inverse displacement.

    `weights`: a file of your own in the released format. `device: cuda` runs it on a GPU, where `precision` may be
    fp16 or bf16.
    """

    @property
    def convention(self) -> Convention:
        return Convention("LIA", (160, 192, 224), multiple=16)

    @property
    def released_as(self) -> str:
        return "symnet-oasis"

    def make_network(self) -> nn.Module:
        from regbench.methods.nets.symnet import SymNet

        return SymNet()

    def fields(self, network: nn.Module, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor | None]:
        forward, back = network(fixed, moving)
        return forward, back
