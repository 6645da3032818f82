"""LessNet as released for IXI brains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from regbench.methods.released import Convention, Intensity, ReleasedNetwork

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LessNet(ReleasedNetwork):
    """Registration by LessNet whose field is a displacement.

    `channels`: the width of the network at full resolution. `intensity`: `min-max` of each image to 0..1, or another
    scale. `weights`: a file of your own in the released format. `device: cuda` runs it on a GPU, where `precision` may
    be fp16 or bf16.
    """

    channels: Literal[8, 16] = 16
    intensity: Intensity = "min-max"

    @property
    def convention(self) -> Convention:
        return Convention("LIA", (160, 192, 224), intensity=self.intensity)

    @property
    def released_as(self) -> str:
        return f"lessnet-3d-ixi-{self.channels}"

    def make_network(self) -> nn.Module:
        from regbench.methods.nets.lessnet import LessNet3d

        return LessNet3d(self.channels)


@dataclass(frozen=True)
class LessNetDiff(ReleasedNetwork):
    """Registration by LessNet with 8 channels at full resolution, whose field is a stationary velocity.

    `intensity`: `min-max` of each image to 0..1, or another scale. `weights`: a file of your own in the released
    format. `device: cuda` runs it on a GPU, where `precision` may be fp16 or bf16.
    """

    intensity: Intensity = "min-max"

    @property
    def convention(self) -> Convention:
        return Convention("LIA", (160, 192, 224), intensity=self.intensity)

    @property
    def released_as(self) -> str:
        return "lessnet-3d-ixi-8-diff"

    def make_network(self) -> nn.Module:
        from regbench.methods.nets.lessnet import LessNet3d

        return LessNet3d(8, squarings=7)
