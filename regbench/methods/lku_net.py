"""LKU-Net as released for IXI brains (3-D) and for slices of neurite-OASIS brains (2-D)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regbench.errors import ConfigError
from regbench.methods.released import Convention, Intensity, ReleasedNetwork

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LkuNetIxi(ReleasedNetwork):
    """Registration by the 3-D LKU-Net with 4 channels at full resolution, whose field is a velocity.

    `weights`: a file of your own in the released format. `device: cuda` runs it on a GPU, where `precision` may be
    fp16 or bf16.
    """

    @property
    def convention(self) -> Convention:
        return Convention("LIA", (160, 192, 224))

    @property
    def released_as(self) -> str:
        return "lku-net-3d-ixi"

    def make_network(self) -> nn.Module:
        from regbench.methods.nets.lku_net import LkuNet

        return LkuNet(ndim=3, channels=4, large_kernel=5, squarings=7)


@dataclass(frozen=True)
class LkuNetOasis2d(ReleasedNetwork):
    """Registration by the 2-D LKU-Net with 8 channels at full resolution.

    `smoothness`: the weight of the regularisation in the training, 0.05 or 0.1. `intensity`: how images come to the
    scale of the training, which is the norm.mgz of FreeSurfer divided by 255, so white matter near 0.43; `as-is` is for
    images that have it. `weights`: a file of your own in the released format. `device: cuda` runs it on a GPU, where
    `precision` may be fp16 or bf16.
    """

    smoothness: float = 0.05
    intensity: Intensity = "as-is"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.smoothness not in (0.05, 0.1):
            raise ConfigError(f"smoothness {self.smoothness:g}: networks were released for 0.05 and 0.1")

    @property
    def convention(self) -> Convention:
        return Convention("LP", (160, 192), intensity=self.intensity)

    @property
    def released_as(self) -> str:
        return f"lku-net-2d-oasis-{self.smoothness:g}"

    def make_network(self) -> nn.Module:
        from regbench.methods.nets.lku_net import LkuNet

        return LkuNet(ndim=2, channels=8, large_kernel=7)
