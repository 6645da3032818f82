"""The VoxelMorph networks of 2018 (vm1 and vm2), and how their Keras files are read.

Balakrishnan et al., "An unsupervised learning model for deformable medical image registration", CVPR 2018. Written
from the description of the released files, which h5py reads. Every axis must be divisible by 16. Displacements are in
voxels, channel i along axis i; nothing is integrated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from regbench.methods.nets.blocks import convolution, halved
from regbench.methods.nets.streams import streamed

_SLOPE = 0.2
# Features before, at and after the last doubling: (at half resolution, at full resolution ...).
_LAST_CHANNELS: dict[str, tuple[int, ...]] = {"vm1": (8, 8), "vm2": (32, 16, 16)}


class VoxelMorph2018(nn.Module):
    """A U-Net whose layers are numbered as they are created in the released files, the flow last."""

    def __init__(self, variant: Literal["vm1", "vm2"] = "vm2") -> None:
        super().__init__()
        at_half, *at_full = _LAST_CHANNELS[variant]
        encoder = [nn.Conv3d(a, b, 3, stride=2) for a, b in ((2, 16), (16, 32), (32, 32), (32, 32))]
        decoder = [(32, 32), (64, 32), (64, 32), (48, 32), (32, at_half)]
        full = list(zip([at_half + 2, *at_full], at_full, strict=False))
        self.encoder = nn.ModuleList(encoder)
        self.decoder = nn.ModuleList(convolution(3, a, b) for a, b in decoder)
        self.full = nn.ModuleList(convolution(3, a, b) for a, b in full)
        self.flow = convolution(3, at_full[-1], 3)

    @property
    def convolutions(self) -> list[nn.Module]:
        """All convolutions in the order of the released files."""
        return [*self.encoder, *self.decoder, *self.full, self.flow]

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Displacement (1, 3, *shape) in voxels from images (1, 1, *shape)."""
        images = torch.cat([moving, fixed], 1)
        skips = []
        features = images
        for layer in self.encoder:
            features = _leaky(layer(_padded_behind(features)))
            skips.append(features)
        features = _leaky(self.decoder[0](skips.pop()))
        for layer in self.decoder[1:3]:
            features = _leaky(layer(torch.cat([_doubled(features), skips.pop()], 1)))
        features = _after_doubling(features, skips.pop(), self.decoder[3:])
        return _after_doubling(features, images, self.full, self.flow)


def _after_doubling(features: Tensor, skip: Tensor, layers: nn.ModuleList, *last: nn.Module) -> Tensor:
    """Doubled features with a skip connection through layers with activation, and through one without."""
    chain = [module for layer in layers for module in (layer, nn.LeakyReLU(_SLOPE, inplace=True))]
    return streamed(
        [*chain, *last],
        lambda rows: [_doubled(features[:, :, halved(rows)]), skip[:, :, rows]],
        skip.shape[2],
    )


def _leaky(features: Tensor) -> Tensor:
    return functional.leaky_relu_(features, _SLOPE)


def _doubled(features: Tensor) -> Tensor:
    return functional.interpolate(features, scale_factor=2, mode="nearest")


def _padded_behind(features: Tensor) -> Tensor:
    """One plane of zeros behind every axis: how Keras pads a convolution of kernel 3 and stride 2 on even axes."""
    return functional.pad(features, (0, 1, 0, 1, 0, 1))


def load_keras(network: VoxelMorph2018, path: Path) -> None:
    """Fills a network from a released Keras file; ValueError if the file does not hold exactly such a network."""
    layers = _keras_layers(path)
    expected = network.convolutions
    if len(layers) != len(expected):
        raise ValueError(f"{len(layers)} convolutions, where {len(expected)} are expected")
    for index, (module, (kernel, bias)) in enumerate(zip(expected, layers, strict=True), start=1):
        # Keras stores kernels as (depth, height, width, in, out).
        weight = torch.from_numpy(kernel).permute(4, 3, 0, 1, 2).contiguous()
        try:
            module.load_state_dict({"weight": weight, "bias": torch.from_numpy(bias)}, strict=True)
        except RuntimeError as error:
            raise ValueError(f"convolution {index} has another shape, {kernel.shape}") from error


def _keras_layers(path: Path) -> list[tuple[Any, Any]]:
    """Kernel and bias of every convolution of a Keras file, ascending, the flow last."""
    import h5py

    with h5py.File(path, "r") as stored:
        weights = stored["model_weights"]
        numbered = [name for name in weights if name.startswith("conv3d_")]
        names = [*sorted(numbered, key=lambda name: int(name.rpartition("_")[2])), "flow"]
        groups = [next(iter(weights[name].values())) for name in names]
        return [(group["kernel:0"][()], group["bias:0"][()]) for group in groups]
