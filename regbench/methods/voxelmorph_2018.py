"""The VoxelMorph networks that were released in 2018, read from their Keras files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from regbench.methods.released import Convention, Intensity, ReleasedNetwork

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class VoxelMorph2018(ReleasedNetwork):
    """Registration by one of the four networks of the CVPR 2018 paper.

    `model`: vm1 or the wider vm2, trained with local cross-correlation (cc) or mean squared differences (l2).
    `intensity`: `min-max` of each image to 0..1, or another scale. `weights`: a file of your own in the released
    format. `device: cuda` runs it on a GPU, where `precision` may be fp16 or bf16.
    """

    model: Literal["vm2-cc", "vm2-l2", "vm1-cc", "vm1-l2"] = "vm2-cc"
    intensity: Intensity = "min-max"

    @property
    def convention(self) -> Convention:
        return Convention("LIA", (160, 192, 224), multiple=16, intensity=self.intensity)

    @property
    def released_as(self) -> str:
        return f"voxelmorph-2018-{self.model}"

    def make_network(self) -> nn.Module:
        from regbench.methods.nets import voxelmorph_2018 as nets

        return nets.VoxelMorph2018("vm1" if self.model.startswith("vm1") else "vm2")

    def load_weights(self, network: nn.Module, path: Path) -> None:
        from regbench.methods.nets import voxelmorph_2018 as nets

        nets.load_keras(cast(nets.VoxelMorph2018, network), path)
