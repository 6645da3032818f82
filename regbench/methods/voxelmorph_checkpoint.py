"""VoxelMorph networks of users' own: checkpoints of the official torch code in any of its layouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from regbench.errors import ConfigError, MethodError
from regbench.methods.own_checkpoint import OwnCheckpoint
from regbench.methods.released import Convention

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class VoxelMorphCheckpoint(OwnCheckpoint):
    """Registration by a VoxelMorph network that was trained with the official torch code.

    `weights`: its checkpoint (.pt), with the names of 0.1 (downarm), 0.2 (encoder) or 0.3 (downsampling_conv_blocks);
    channels and layers are read off it. `orientation`: the world directions of the axes of the arrays that it was
    trained on, such as LIA (by default RAS, in 2-D RA); `spacing_mm` and `intensity` of them. `shape`: the shape that
    it always gets; by default the smallest grid that holds the fixed image. `transformation`: whether its flow is
    integrated, in `squarings` steps on a grid `downsize` times coarser; by default what the file says, else what is
    usual in its layout. `slope`: that of the activations of 0.3 for negative values, 0 being ReLU. `inverse` also gives
    the other direction of an integrated flow. `device: cuda` runs it on a GPU, where `precision` may be fp16 or bf16.
    """

    transformation: Literal["velocity", "displacement"] | None = None
    squarings: int | None = None
    downsize: int | None = None
    slope: float | None = None
    inverse: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.squarings is not None and not 0 <= self.squarings <= 12:
            raise ConfigError(f"squarings: is {self.squarings}; it must lie between 0 and 12")
        if self.downsize is not None and self.downsize < 1:
            raise ConfigError(f"downsize: is {self.downsize}; it must be at least 1")
        if self.transformation == "displacement" and self.squarings:
            raise ConfigError("squarings: goes with `transformation: velocity`")

    @property
    def released_as(self) -> str:
        return "voxelmorph"

    @property
    def convention(self) -> Convention:
        if not self._loaded:
            raise MethodError("what a voxelmorph network is fed with is known when its weights have been loaded")
        network = self._loaded[0]
        ndim, multiple = int(network.ndim), int(network.multiple)
        if self.shape is None:
            # Any grid will do; the shape only says how many axes there are.
            return Convention(self.directions(ndim), (multiple,) * ndim, multiple, self.spacing_mm, self.intensity)
        if len(self.shape) != ndim or any(n % multiple for n in self.shape):
            raise MethodError(f"shape {list(self.shape)} must have {ndim} axes that are multiples of {multiple}")
        return Convention(self.directions(ndim), self.shape, None, self.spacing_mm, self.intensity)

    def make_network(self) -> nn.Module:
        from regbench.methods.nets import voxelmorph_unet as nets

        checkpoint = self.checkpoint()
        squarings = 0 if self.transformation == "displacement" else self.squarings
        try:
            flow = nets.flow_of(checkpoint, squarings, self.downsize)
            if self.transformation == "velocity" and not flow.squarings:
                raise ValueError("it was made without integration of its flow; give `squarings` if it has one")
            return nets.network_of(checkpoint, flow, self.slope)
        except ValueError as error:
            raise self.refused(error) from None

    def fields(self, network: nn.Module, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor | None]:
        from regbench.methods.nets import voxelmorph_unet as nets

        own = cast(nets.VoxelMorph, network)
        flow = own.raw_flow(fixed, moving)
        if self.inverse and own.flow_use.squarings:
            back = own.integrated(-flow)
            return own.integrated(flow), back
        return own.integrated(flow), None
