"""LapIRN and its conditional form as released for OASIS brains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from regbench.errors import ConfigError
from regbench.methods.released import Convention, ReleasedNetwork

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class LapirnDisp(ReleasedNetwork):
    """Registration by LapIRN whose fields are displacements.

    `orientation`: how a brain is turned for its 160x192x144 voxels of 1 mm. LIA, the axes of neurite-OASIS, leaves out
    its front and its back, where the field goes on as it is at the border; LAS holds nearly all of it.
    `weights`: a file of your own in the released format. `device: cuda` runs it on a GPU, where `precision` may be
    fp16 or bf16.
    """

    orientation: Literal["LIA", "LAS"] = "LIA"

    @property
    def convention(self) -> Convention:
        return Convention(self.orientation, (160, 192, 144))

    @property
    def released_as(self) -> str:
        return "lapirn-disp-oasis"

    def make_network(self) -> nn.Module:
        from regbench.methods.nets.lapirn import Lapirn

        return Lapirn()


@dataclass(frozen=True)
class LapirnDiff(LapirnDisp):
    """Registration by LapIRN whose fields are stationary velocities, integrated at every level.

    `orientation`: how a brain is turned for its 160x192x144 voxels of 1 mm. LIA, the axes of neurite-OASIS, leaves out
    its front and its back, where the field goes on as it is at the border; LAS holds nearly all of it.
    `weights`: a file of your own in the released format. `device: cuda` runs it on a GPU, where `precision` may be
    fp16 or bf16.
    """

    @property
    def released_as(self) -> str:
        return "lapirn-diff-oasis"

    def make_network(self) -> nn.Module:
        from regbench.methods.nets.lapirn import Lapirn

        return Lapirn(is_diffeomorphic=True)


@dataclass(frozen=True)
class ConditionalLapirn(ReleasedNetwork):
    """Registration by the small conditional LapIRN (cLapIRN-lite).

    `regularisation`: the input that steers the smoothness of the field, from 0 (least) to 1; the authors use 0.1.
    `weights`: a file of your own in the released format. `device: cuda` runs it on a GPU, where `precision` may be
    fp16 or bf16.
    """

    regularisation: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.regularisation <= 1:
            raise ConfigError(f"regularisation {self.regularisation:g}: the network knows 0 (least) to 1")

    @property
    def convention(self) -> Convention:
        return Convention("LIA", (160, 192, 224))

    @property
    def released_as(self) -> str:
        return "clapirn-oasis"

    def make_network(self) -> nn.Module:
        from regbench.methods.nets.lapirn import Lapirn

        return Lapirn(features=8, bottleneck=16, embedding=8, is_conditional=True)

    def fields(self, network: nn.Module, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor | None]:
        return network(fixed, moving, fixed.new_full((1, 1), self.regularisation)), None
