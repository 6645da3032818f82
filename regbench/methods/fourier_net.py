"""Fourier-Net as released for slices of neurite-OASIS brains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regbench.methods.released import Convention, Intensity, ReleasedNetwork

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class FourierNet(ReleasedNetwork):
    """Registration by the 2-D Fourier-Net whose field is a displacement.

    `intensity`: how images come to the scale of the training, which is the norm.mgz of FreeSurfer divided by 255, so
    white matter near 0.43; `as-is` is for images that have it. `weights`: a file of your own in the released format.
    `device: cuda` runs it on a GPU, where `precision` may be fp16 or bf16.
    """

    intensity: Intensity = "as-is"

    @property
    def convention(self) -> Convention:
        return Convention("LP", (160, 192), intensity=self.intensity)

    @property
    def released_as(self) -> str:
        return "fourier-net-2d-oasis"

    def make_network(self) -> nn.Module:
        from regbench.methods.nets.fourier_net import FourierNet2d

        return FourierNet2d()


@dataclass(frozen=True)
class FourierNetDiff(FourierNet):
    """Registration by the 2-D Fourier-Net whose field is a stationary velocity.

    `intensity`: how images come to the scale of the training, which is the norm.mgz of FreeSurfer divided by 255, so
    white matter near 0.43; `as-is` is for images that have it. `weights`: a file of your own in the released format.
    `device: cuda` runs it on a GPU, where `precision` may be fp16 or bf16.
    """

    @property
    def released_as(self) -> str:
        return "fourier-net-2d-oasis-diff"

    def make_network(self) -> nn.Module:
        from regbench.methods.nets.fourier_net import FourierNet2d

        return FourierNet2d(squarings=7)
