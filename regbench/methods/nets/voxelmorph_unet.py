"""VoxelMorph networks as users train them with the official torch code, in the three layouts that it has had.

    0.1     unet_model.downarm.N.main, uparm.N.main, extras.N.main; flow         strided convolutions
    0.2     unet_model.encoder.N.M.main, decoder.N.M.main, remaining.N.main; flow     largest value of 2x2x2
    0.3     model.downsampling_conv_blocks.N.conv_block.convM, ..., out_layer; flow_layer   and linear upsampling

Balakrishnan et al., IEEE TMI 38 (2019) 1788-1800; Dalca et al., Medical Image Analysis 57 (2019) 226-236. Written from
the names and shapes in their state dicts. All numbers of channels and layers are read off the weights. The images go in
as (moving, fixed); the flow is in voxels of its grid, channel i along axis i, and lies outside the grid at 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from regbench.methods.nets.blocks import convolution, halved
from regbench.methods.nets.checkpoints import Checkpoint
from regbench.methods.nets.spatial import integrated
from regbench.methods.nets.streams import streamed

_LAYOUTS = {"0.1": "unet_model.downarm.", "0.2": "unet_model.encoder.", "0.3": "model.downsampling_conv_blocks."}
_SLOPES = {"0.1": 0.2, "0.2": 0.2, "0.3": 0.0}
_STEPS = {"0.1": 7, "0.2": 7, "0.3": 5}


@dataclass(frozen=True)
class Flow:
    """What becomes of the flow: squarings (0: it is the displacement), and by how much its grid is coarser for them."""

    squarings: int
    downsize: int


class _Block(nn.Module):
    """A convolution of kernel 3, `main`."""

    def __init__(self, ndim: int, n_in: int, n_out: int, stride: int = 1) -> None:
        super().__init__()
        self.main = convolution(ndim, n_in, n_out, stride=stride)

    def forward(self, features: Tensor) -> Tensor:
        return functional.leaky_relu_(self.main(features), _SLOPES["0.2"])


class StridedUNet(nn.Module):
    """The U-Net of 0.1: a strided convolution per level down, a doubling after each one up."""

    def __init__(self, ndim: int, n_in: int, channels: Mapping[str, list[int]]) -> None:
        super().__init__()
        down, up, extras = (channels[part] for part in ("downarm", "uparm", "extras"))
        if len(up) != len(down):
            raise ValueError(f"it has {len(down)} layers downarm and {len(up)} layers uparm, which must be as many")
        self.multiple = 2 ** len(down)
        self.downarm = nn.ModuleList(_Block(ndim, a, b, 2) for a, b in zip([n_in, *down], down, strict=False))
        skips = [0, *reversed(down[:-1])]
        self.uparm = nn.ModuleList(
            _Block(ndim, a + skip, b) for a, skip, b in zip([down[-1], *up], skips, up, strict=False)
        )
        first = up[-1] + n_in
        self.extras = nn.ModuleList(_Block(ndim, a, b) for a, b in zip([first, *extras], extras, strict=False))
        self.n_out = extras[-1] if extras else first

    def flow(self, images: Tensor, last: nn.Module) -> Tensor:
        """What the layer `last` makes of the features of images (1, 2, *shape)."""
        skips = [images]
        for block in self.downarm:
            skips.append(block(skips[-1]))
        features = skips.pop()
        for block in self.uparm[:-1]:
            features = torch.cat([_doubled(block(features)), skips.pop()], 1)
        return _at_full_resolution(self.uparm[-1](features), images, self.extras, last)


class PooledUNet(nn.Module):
    """The U-Net of 0.2: convolutions and pooling down, convolutions and a doubling up.

    `n_after` is the number of channels that the layer after the decoder takes in: it tells whether the last doubling,
    with the features put beside it, was left out, so that the flow has half the resolution.
    """

    def __init__(self, ndim: int, n_in: int, channels: Mapping[str, list[list[int]]], n_after: int) -> None:
        super().__init__()
        down, up = channels["encoder"], channels["decoder"]
        remaining = [level[0] for level in channels["remaining"]]
        if len(up) != len(down):
            raise ValueError(f"it has {len(down)} levels of encoder and {len(up)} of decoder, which must be as many")
        self.multiple = 2 ** len(down)
        self.is_half = n_after == up[-1][-1]
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        n = n_in
        for level in down:
            self.encoder.append(_row(ndim, n, level))
            n = level[-1]
        for level, below in zip(up, reversed(down), strict=True):
            self.decoder.append(_row(ndim, n, level))
            n = level[-1] + below[-1]
        first = up[-1][-1] if self.is_half else n
        self.remaining = nn.ModuleList(_Block(ndim, a, b) for a, b in zip([first, *remaining], remaining, strict=False))
        self.n_out = remaining[-1] if remaining else first

    def flow(self, images: Tensor, last: nn.Module) -> Tensor:
        """What the layer `last` makes of the features of images (1, 2, *shape)."""
        features, skips = images, []
        down: list[Any] = list(self.encoder)
        up: list[Any] = list(self.decoder)
        for row in down:
            features = _through(row, features)
            skips.append(features)
            features = _pooled(features)
        for row in up[:-1]:
            features = torch.cat([_doubled(_through(row, features)), skips.pop()], 1)
        skip = skips.pop()
        features = _through(up[-1], features)
        if not self.is_half:
            return _at_full_resolution(features, skip, self.remaining, last)
        found: Tensor = last(_through(self.remaining, features))
        return found


class _Convolutions(nn.Module):
    """Convolutions `conv0`, `conv1` and so on, each with its activation."""

    def __init__(self, ndim: int, n_in: int, channels: list[int], slope: float) -> None:
        super().__init__()
        self.slope = slope
        for index, (a, b) in enumerate(zip([n_in, *channels], channels, strict=False)):
            self.add_module(f"conv{index}", convolution(ndim, a, b))

    def forward(self, features: Tensor) -> Tensor:
        for layer in self.children():
            features = functional.leaky_relu_(layer(features), self.slope)
        return features


class _Level(nn.Module):
    """What 0.3 calls a block: its convolutions below `conv_block`."""

    def __init__(self, ndim: int, n_in: int, channels: list[int], slope: float) -> None:
        super().__init__()
        self.conv_block = _Convolutions(ndim, n_in, channels, slope)

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.conv_block(features)
        return found


class PairwiseUNet(nn.Module):
    """The U-Net of 0.3: as that of 0.2 with a block between both ways and linear upsampling."""

    def __init__(self, ndim: int, n_in: int, channels: Mapping[str, list[list[int]]], slope: float) -> None:
        super().__init__()
        down, (lowest, *_), up = (channels[part] for part in ("down", "lowest", "up"))
        if len(up) != len(down):
            raise ValueError(f"it has {len(down)} blocks down and {len(up)} up, which must be as many")
        self.multiple = 2 ** len(down)
        inputs = [n_in, *(level[-1] for level in down)]
        self.downsampling_conv_blocks = nn.ModuleList(
            _Level(ndim, n, level, slope) for n, level in zip(inputs, down, strict=False)
        )
        self.lowest_resolution_conv_block = _Convolutions(ndim, inputs[-1], lowest, slope)
        before = [lowest[-1], *(level[-1] for level in up)]
        self.upsampling_conv_blocks = nn.ModuleList(
            _Level(ndim, n + skip[-1], level, slope) for n, skip, level in zip(before, reversed(down), up, strict=False)
        )
        self.out_layer = nn.Module()
        self.out_layer.add_module("conv0", convolution(ndim, up[-1][-1], ndim, 1))

    def flow(self, images: Tensor, last: nn.Module) -> Tensor:
        """What the layer `last` makes of the features of images (1, 2, *shape)."""
        features, skips = images, []
        for block in self.downsampling_conv_blocks:
            features = block(features)
            skips.append(features)
            features = _pooled(features)
        features = self.lowest_resolution_conv_block(features)
        mode = "trilinear" if features.ndim == 5 else "bilinear"
        for block in self.upsampling_conv_blocks:
            larger = functional.interpolate(features, scale_factor=2, mode=mode, align_corners=True)
            features = block(torch.cat([larger, skips.pop()], 1))
        found: Tensor = last(self.out_layer.conv0(features))  # type: ignore[operator]
        return found


class VoxelMorph(nn.Module):
    """A network of any layout with its own names, followed by what becomes of its flow.

    `multiple`: what every axis must be divisible by.
    """

    def __init__(self, layout: str, ndim: int, unet: nn.Module, n_features: int, flow: Flow) -> None:
        super().__init__()
        self.ndim, self.flow_use = ndim, flow
        self.multiple = int(unet.multiple)  # type: ignore[arg-type]
        self.is_half = bool(getattr(unet, "is_half", False))
        self._is_newest = layout == "0.3"
        if self._is_newest:
            self.model = unet
            self.flow_layer = nn.Module()
            self.flow_layer.add_module("conv0", convolution(ndim, ndim, ndim))
        else:
            self.unet_model = unet
            self.flow = convolution(ndim, n_features, ndim)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Displacement (1, ndim, *shape) in voxels from images (1, 1, *shape)."""
        return self.integrated(self.raw_flow(fixed, moving))

    def raw_flow(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """The flow on the grid that it is integrated on, in voxels of that grid."""
        unet, last = (self.model, self.flow_layer.conv0) if self._is_newest else (self.unet_model, self.flow)
        flow: Tensor = unet.flow(torch.cat([moving, fixed], 1), last)  # type: ignore[operator]
        use = self.flow_use
        if use.squarings and use.downsize > 1 and not self.is_half:
            flow = _resized(flow, 1 / use.downsize) / use.downsize
        return flow

    def integrated(self, flow: Tensor) -> Tensor:
        """The displacement that a flow amounts to, on the grid of the images; the flow may be overwritten."""
        use = self.flow_use
        if not use.squarings:
            return flow
        displacement = integrated(flow, use.squarings, padding="zeros")
        return displacement if use.downsize == 1 else _resized(displacement * use.downsize, use.downsize)


def layout_of(checkpoint: Checkpoint) -> str:
    """The layout of a checkpoint, '0.1', '0.2' or '0.3'; ValueError for any other network."""
    for layout, start in _LAYOUTS.items():
        if any(name.startswith(start) for name in checkpoint.weights):
            return layout
    first = next(iter(checkpoint.weights))
    known = ", ".join(_LAYOUTS.values())
    raise ValueError(f"key '{first}' is of none of the layouts of VoxelMorph, which have keys {known}...")


def flow_of(checkpoint: Checkpoint, squarings: int | None, downsize: int | None) -> Flow:
    """What becomes of the flow: as given, else as the file's config or grids tell, else the default of its layout."""
    layout, config, grids = layout_of(checkpoint), checkpoint.config, checkpoint.grids
    coarse, full = (next((s for n, s in grids.items() if n.startswith(start)), None) for start in ("integ", "trans"))
    if squarings is None:
        told = config.get("int_steps", config.get("integration_steps"))
        squarings = int(told) if told is not None else 0 if full and not coarse else _STEPS[layout]
    if downsize is None:
        told = config.get("int_downsize")
        by_grids = round(full[0] / coarse[0]) if coarse and full else None
        downsize = int(told) if told is not None else by_grids or (1 if layout == "0.3" else 2)
    return Flow(squarings, downsize)


def trained_shape(checkpoint: Checkpoint) -> tuple[int, ...] | None:
    """The shape that a network was built for, where the file tells it."""
    shape = checkpoint.config.get("inshape") or next(
        (s for n, s in checkpoint.grids.items() if n.startswith("tr")), None
    )
    return tuple(int(n) for n in shape) if shape else None


def network_of(checkpoint: Checkpoint, flow: Flow, slope: float | None = None) -> VoxelMorph:
    """The network that a checkpoint is of, its weights not filled in yet; ValueError where it is none of these.

    `slope` is that of the activations of 0.3 for negative values, 0 (the default there) being ReLU.
    """
    layout = layout_of(checkpoint)
    weights = checkpoint.weights
    ndim = next(iter(weights[name] for name in weights if name.endswith("weight"))).ndim - 2
    first = next(weights[name] for name in weights if name.startswith(_LAYOUTS[layout]) and name.endswith("weight"))
    n_in = first.shape[1]
    if ndim not in (2, 3) or n_in != 2:
        raise ValueError(f"it takes {n_in} channels in {ndim}-D, where the two images in 2-D or 3-D are expected")
    unet: nn.Module
    if layout == "0.1":
        strided = {
            part: _channels(weights, rf"unet_model\.{part}\.(\d+)\.main") for part in ("downarm", "uparm", "extras")
        }
        unet = StridedUNet(ndim, n_in, {part: [level[0] for level in levels] for part, levels in strided.items()})
        n_features = unet.n_out
    elif layout == "0.2":
        pooled = {
            part: _channels(weights, rf"unet_model\.{part}\.(\d+)(?:\.(\d+))?\.main")
            for part in ("encoder", "decoder", "remaining")
        }
        after = weights.get("unet_model.remaining.0.main.weight", weights.get("flow.weight"))
        unet = PooledUNet(ndim, n_in, pooled, 0 if after is None else after.shape[1])
        n_features = unet.n_out
    else:
        names = {
            "down": r"downsampling_conv_blocks\.(\d+)\.conv_block",
            "up": r"upsampling_conv_blocks\.(\d+)\.conv_block",
        }
        names["lowest"] = "(lowest)_resolution_conv_block"
        pairwise = {part: _channels(weights, rf"model\.{name}\.conv(\d+)") for part, name in names.items()}
        if not all(pairwise.values()):
            raise ValueError("it has no 'model.lowest_resolution_conv_block' or no 'model.upsampling_conv_blocks'")
        unet = PairwiseUNet(ndim, n_in, pairwise, _SLOPES["0.3"] if slope is None else slope)
        n_features = ndim
    network = VoxelMorph(layout, ndim, unet, n_features, flow)
    if network.is_half and (not flow.squarings or flow.downsize != 2):
        raise ValueError("its flow has half the resolution, which goes with squarings and `downsize: 2` only")
    return network


def _channels(weights: Mapping[str, Tensor], pattern: str) -> list[list[int]]:
    """The channels that convolutions give, by level and within it, in the order of the numbers in their names."""
    found: dict[str, list[tuple[int, int]]] = {}
    for name, tensor in weights.items():
        match = re.fullmatch(pattern + r"\.weight", name)
        if match:
            groups = match.groups()
            found.setdefault(groups[0], []).append((int((groups[1:] or ("0",))[0] or 0), int(tensor.shape[0])))
    levels = sorted(found.items(), key=lambda item: int(item[0]) if item[0].isdigit() else 0)
    return [[channels for _, channels in sorted(level)] for _, level in levels]


def _row(ndim: int, n_in: int, channels: list[int]) -> nn.ModuleList:
    return nn.ModuleList(_Block(ndim, a, b) for a, b in zip([n_in, *channels], channels, strict=False))


def _through(blocks: Iterable[Any], features: Tensor) -> Tensor:
    for block in blocks:
        features = block(features)
    return features


def _at_full_resolution(features: Tensor, skip: Tensor, blocks: Iterable[Any], last: nn.Module) -> Tensor:
    """Doubled features with what is skipped to here, through blocks and a last layer, a few rows at a time."""
    chain = [module for block in blocks for module in (block.main, nn.LeakyReLU(_SLOPES["0.2"], inplace=True))]
    return streamed(
        [*chain, last], lambda rows: [_doubled(features[:, :, halved(rows)]), skip[:, :, rows]], skip.shape[2]
    )


def _doubled(features: Tensor) -> Tensor:
    return functional.interpolate(features, scale_factor=2, mode="nearest")


def _pooled(features: Tensor) -> Tensor:
    return functional.max_pool3d(features, 2) if features.ndim == 5 else functional.max_pool2d(features, 2)


def _resized(field: Tensor, factor: float) -> Tensor:
    mode = "trilinear" if field.ndim == 5 else "bilinear"
    return functional.interpolate(field, scale_factor=factor, mode=mode, align_corners=True)
