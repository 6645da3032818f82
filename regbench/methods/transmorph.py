"""TransMorph networks of users' own: checkpoints of the authors' code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regbench.errors import MethodError
from regbench.methods.own_checkpoint import OwnCheckpoint
from regbench.methods.released import Convention

if TYPE_CHECKING:
    from torch import nn

_PUBLISHED = (160, 192, 224)


@dataclass(frozen=True)
class TransMorphCheckpoint(OwnCheckpoint):
    """Registration by a TransMorph network that was trained with its authors' code.

    `weights`: its checkpoint (.pth.tar); TransMorph and its variants tiny, small and large, with or without either kind
    of skip connection, are told apart by what is in it. `orientation`: the world directions of the axes of the arrays
    that it was trained on (by default LIA, as the authors' brains are); `spacing_mm` and `intensity` of them. `shape`:
    the shape that it always gets; by default the one in the file, which is 160x192x224 as published. `device: cuda`
    runs it on a GPU, where `precision` may be fp16 or bf16.
    """

    @property
    def released_as(self) -> str:
        return "transmorph"

    @property
    def convention(self) -> Convention:
        if not self._loaded:
            raise MethodError("what a transmorph network is fed with is known when its weights have been loaded")
        shape = self.shape or self._loaded[0].trained_shape or _PUBLISHED
        multiples = self._loaded[0].architecture.multiples
        if len(shape) != 3 or any(n % m for n, m in zip(shape, multiples, strict=True)):
            sizes = ["x".join(map(str, numbers)) for numbers in (shape, multiples)]
            raise MethodError(
                f"shape {sizes[0]} must be multiples of {sizes[1]}, which the windows of this network tile"
            )
        return Convention(self.orientation or "LIA", tuple(shape), None, self.spacing_mm, self.intensity)

    def make_network(self) -> nn.Module:
        from regbench.methods.nets import transmorph as nets

        checkpoint = self.checkpoint()
        try:
            return nets.TransMorph(nets.architecture_of(checkpoint), nets.trained_shape(checkpoint))
        except ValueError as error:
            raise self.refused(error) from None
