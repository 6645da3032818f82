"""TransMorph: a Swin transformer as the encoder of a U-Net, as users train it with the authors' code.

Chen et al., "TransMorph: Transformer for unsupervised medical image registration", Medical Image Analysis 82 (2022)
102615. Written from the names and shapes in its state dicts and the settings that are published. Everything is read off
the weights: channels, depths, heads, windows, which skip connections there are. The images go in as (moving, fixed);
the displacement is in voxels, channel i along axis i; nothing is integrated.

Windows must tile the tokens at every level, so axes are multiples of 8 patches of 4 voxels times the window: with the
published window of (5, 6, 7), of 160x192x224. The authors' code pads other shapes; this one refuses them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from regbench.methods.nets.checkpoints import Checkpoint

_LEVELS = 4
# The two last doublings of the decoder lead from tokens back to voxels.
_PATCH = 4
# Added to the similarity of tokens that the shift has brought into one window from two ends of the image.
_APART = -100.0
# Windows at a time: their attention is the largest thing in memory.
_WINDOWS = 64


@dataclass(frozen=True)
class Architecture:
    """What a state dict tells: channels of the first level, window, blocks and heads per level, and so on."""

    embedding: int
    window: tuple[int, int, int]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    mlp_ratio: float
    head_channels: int
    has_qkv_bias: bool
    has_patch_norm: bool
    position_shape: tuple[int, ...] | None
    skips_tokens: bool
    skips_images: bool

    @property
    def multiples(self) -> tuple[int, ...]:
        """What each axis of an image must be a multiple of."""
        return tuple(_PATCH * 2 ** (_LEVELS - 1) * n for n in self.window)


class _Attention(nn.Module):
    """Attention among the tokens of each window, with a bias for each relative position."""

    def __init__(self, channels: int, heads: int, window: tuple[int, int, int], has_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        n_positions = math.prod(2 * n - 1 for n in window)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(n_positions, heads))
        self.register_buffer("relative_position_index", relative_positions(window))
        self.qkv = nn.Linear(channels, 3 * channels, bias=has_bias)
        self.proj = nn.Linear(channels, channels)

    def forward(self, windows: Tensor, apart: Tensor | None) -> Tensor:
        """Tokens (n, tokens, channels) after attention; `apart` (n, tokens, tokens) is added to their similarity."""
        index: Tensor = self.relative_position_index  # type: ignore[assignment]
        bias = self.relative_position_bias_table[index].permute(2, 0, 1)[None]
        out = torch.empty_like(windows)
        for start in range(0, len(windows), _WINDOWS):
            chosen = slice(start, start + _WINDOWS)
            n, n_tokens, channels = windows[chosen].shape
            query, key, value = self.qkv(windows[chosen]).view(n, n_tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            added = bias if apart is None else bias + apart[chosen, None]
            found = functional.scaled_dot_product_attention(query, key, value, attn_mask=added.to(query.dtype))
            out[chosen] = self.proj(found.transpose(1, 2).reshape(n, n_tokens, channels))
        return out


class _Mlp(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return found


class _Block(nn.Module):
    """Attention and a small network per token, each beside what came in; every other block shifts the windows."""

    def __init__(self, channels: int, heads: int, is_shifted: bool, architecture: Architecture) -> None:
        super().__init__()
        self.window = architecture.window
        self.shift = tuple(n // 2 for n in self.window) if is_shifted and min(self.window) > 1 else (0, 0, 0)
        self.norm1 = nn.LayerNorm(channels)
        self.attn = _Attention(channels, heads, self.window, architecture.has_qkv_bias)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = _Mlp(channels, int(channels * architecture.mlp_ratio))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (*shape, channels)."""
        shape = tokens.shape[:3]
        normed = self.norm1(tokens)
        apart = None
        if any(self.shift):
            normed = normed.roll([-n for n in self.shift], (0, 1, 2))
            apart = _apart(tuple(shape), self.window, self.shift, tokens.device)
        seen = from_windows(self.attn(to_windows(normed, self.window), apart), self.window, tuple(shape))
        tokens = tokens + seen.roll(self.shift, (0, 1, 2))
        found: Tensor = tokens + self.mlp(self.norm2(tokens))
        return found


class _Merging(nn.Module):
    """Eight neighbouring tokens become one of twice the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(8 * channels, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(8 * channels)

    def forward(self, tokens: Tensor) -> Tensor:
        # The order of the neighbours: none, each axis alone, two axes, all.
        corners = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 1)]
        merged = torch.cat([tokens[a::2, b::2, c::2] for a, b, c in corners], -1)
        found: Tensor = self.reduction(self.norm(merged))
        return found


class _Level(nn.Module):
    def __init__(self, index: int, architecture: Architecture) -> None:
        super().__init__()
        channels, heads = architecture.embedding * 2**index, architecture.heads[index]
        self.blocks = nn.ModuleList(
            _Block(channels, heads, bool(i % 2), architecture) for i in range(architecture.depths[index])
        )
        self.downsample = _Merging(channels) if index < _LEVELS - 1 else None

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens of this level, and those that the next one starts with."""
        for block in self.blocks:
            tokens = block(tokens)
        return tokens, tokens if self.downsample is None else self.downsample(tokens)


class _PatchEmbedding(nn.Module):
    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        channels = architecture.embedding
        self.proj = nn.Conv3d(2, channels, _PATCH, stride=_PATCH)
        self.norm = nn.LayerNorm(channels) if architecture.has_patch_norm else None

    def forward(self, images: Tensor) -> Tensor:
        """Tokens (*shape, channels) of images (1, 2, *shape)."""
        tokens = self.proj(images)[0].movedim(0, -1)
        return tokens if self.norm is None else self.norm(tokens)


class _Encoder(nn.Module):
    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.patch_embed = _PatchEmbedding(architecture)
        self.absolute_pos_embed: nn.Parameter | None = None
        if architecture.position_shape is not None:
            self.absolute_pos_embed = nn.Parameter(torch.zeros(1, architecture.embedding, *architecture.position_shape))
        self.layers = nn.ModuleList(_Level(index, architecture) for index in range(_LEVELS))
        for index in range(_LEVELS):
            self.add_module(f"norm{index}", nn.LayerNorm(architecture.embedding * 2**index))

    def forward(self, images: Tensor) -> list[Tensor]:
        """The features of each level, (1, channels, *shape), the finest first."""
        tokens = self.patch_embed(images)
        if self.absolute_pos_embed is not None:
            places = functional.interpolate(self.absolute_pos_embed, size=tokens.shape[:3], mode="trilinear")
            tokens = tokens + places[0].movedim(0, -1)
        found = []
        for index, level in enumerate(self.layers):
            here, tokens = level(tokens)
            found.append(getattr(self, f"norm{index}")(here).movedim(-1, 0)[None])
        return found


class _NormedConvolution(nn.Sequential):
    """A convolution without bias (`.0`), an instance norm without weights, and an activation."""

    def __init__(self, n_in: int, n_out: int) -> None:
        convolution = nn.Conv3d(n_in, n_out, 3, padding=1, bias=False)
        super().__init__(convolution, nn.InstanceNorm3d(n_out), nn.LeakyReLU(0.01, inplace=True))


class _Up(nn.Module):
    """Doubling, what is skipped to here beside it, and two convolutions."""

    def __init__(self, n_in: int, n_skipped: int, n_out: int) -> None:
        super().__init__()
        self.conv1 = _NormedConvolution(n_in + n_skipped, n_out)
        self.conv2 = _NormedConvolution(n_out, n_out)

    def forward(self, features: Tensor, skipped: Tensor | None) -> Tensor:
        features = functional.interpolate(features, scale_factor=2, mode="trilinear", align_corners=False)
        found: Tensor = self.conv2(self.conv1(features if skipped is None else torch.cat([features, skipped], 1)))
        return found


class TransMorph(nn.Module):
    """The network of an architecture, under the names of the authors' state dicts.

    `trained_shape` is the shape of the images that it was built for, where that is known.
    """

    def __init__(self, architecture: Architecture, trained_shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.architecture, self.trained_shape = architecture, trained_shape
        n, n_head = architecture.embedding, architecture.head_channels
        tokens, images = int(architecture.skips_tokens), int(architecture.skips_images)
        self.transformer = _Encoder(architecture)
        self.up0 = _Up(8 * n, tokens * 4 * n, 4 * n)
        self.up1 = _Up(4 * n, tokens * 2 * n, 2 * n)
        self.up2 = _Up(2 * n, tokens * n, n)
        self.up3 = _Up(n, images * (n // 2), n // 2)
        self.up4 = _Up(n // 2, images * n_head, n_head)
        self.c1 = _NormedConvolution(2, n // 2)
        self.c2 = _NormedConvolution(2, n_head)
        self.reg_head = nn.Sequential(nn.Conv3d(n_head, 3, 3, padding=1))

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Displacement (1, 3, *shape) in voxels from images (1, 1, *shape)."""
        images = torch.cat([moving, fixed], 1)
        *finer, features = self.transformer(images)
        for up, skipped in zip((self.up0, self.up1, self.up2), reversed(finer), strict=True):
            features = up(features, skipped if self.architecture.skips_tokens else None)
        has_images = self.architecture.skips_images
        features = self.up3(features, self.c1(functional.avg_pool3d(images, 3, 2, 1)) if has_images else None)
        features = self.up4(features, self.c2(images) if has_images else None)
        found: Tensor = self.reg_head(features)
        return found


# -- windows -------------------------------------------------------------------------------------------


def to_windows(tokens: Tensor, window: tuple[int, int, int]) -> Tensor:
    """Tokens (*shape, channels) as (number of windows, tokens in each, channels)."""
    (a, b, c), (x, y, z, channels) = window, tokens.shape
    tiled = tokens.reshape(x // a, a, y // b, b, z // c, c, channels)
    return tiled.permute(0, 2, 4, 1, 3, 5, 6).reshape(-1, a * b * c, channels)


def from_windows(windows: Tensor, window: tuple[int, int, int], shape: tuple[int, ...]) -> Tensor:
    """The inverse of `to_windows`."""
    (a, b, c), (x, y, z) = window, shape
    tiled = windows.reshape(x // a, y // b, z // c, a, b, c, -1)
    return tiled.permute(0, 3, 1, 4, 2, 5, 6).reshape(x, y, z, -1)


def relative_positions(window: tuple[int, int, int]) -> Tensor:
    """The row of the table of biases for every two tokens of a window, (tokens, tokens)."""
    a, b, c = window
    places = torch.cartesian_prod(*(torch.arange(n) for n in window)).view(-1, 3)
    offsets = places[:, None] - places[None] + torch.tensor([a - 1, b - 1, c - 1])
    return offsets @ torch.tensor([(2 * b - 1) * (2 * c - 1), 2 * c - 1, 1])


def _apart(
    shape: tuple[int, ...], window: tuple[int, int, int], shift: tuple[int, ...], device: torch.device
) -> Tensor:
    """What keeps tokens apart that only the shift has made neighbours, (windows, tokens, tokens)."""
    region = torch.zeros(shape, device=device)
    for axis, (n, size, step) in enumerate(zip(shape, window, shift, strict=True)):
        part = torch.zeros(n, device=device)
        part[n - size : n - step] = 1
        part[n - step :] = 2
        region += 3 ** (2 - axis) * part.view([-1 if i == axis else 1 for i in range(3)])
    regions = to_windows(region[..., None], window)[..., 0]
    return torch.where(regions[:, None] == regions[:, :, None], 0.0, _APART)


# -- from a state dict ---------------------------------------------------------------------------------


def architecture_of(checkpoint: Checkpoint) -> Architecture:
    """The architecture that a checkpoint is of; ValueError, naming a key, where it is not TransMorph's."""
    weights = checkpoint.weights
    patches = _shape(weights, "transformer.patch_embed.proj.weight")
    if patches[1:] != (2, _PATCH, _PATCH, _PATCH):
        raise ValueError(
            f"key 'transformer.patch_embed.proj.weight' has the shape {patches} where (n, 2, 4, 4, 4) is expected"
        )
    block = "transformer.layers.{}.blocks.{}."
    levels = 1 + max(
        (int(m[1]) for name in weights if (m := re.match(r"transformer\.layers\.(\d+)\.", name))), default=-1
    )
    if levels != _LEVELS:
        raise ValueError(f"it has {levels} levels 'transformer.layers', where {_LEVELS} are expected")
    depths = tuple(sum(1 for j in range(100) if block.format(i, j) + "norm1.weight" in weights) for i in range(_LEVELS))
    tables = [_shape(weights, block.format(i, 0) + "attn.relative_position_bias_table") for i in range(_LEVELS)]
    index = weights.get(block.format(0, 0) + "attn.relative_position_index")
    if index is None:
        raise ValueError(f"key '{block.format(0, 0)}attn.relative_position_index' is missing")
    n = patches[0]
    position = weights.get("transformer.absolute_pos_embed")
    return Architecture(
        embedding=n,
        window=_window(index),
        depths=depths,
        heads=tuple(table[1] for table in tables),
        mlp_ratio=_shape(weights, block.format(0, 0) + "mlp.fc1.weight")[0] / n,
        head_channels=_shape(weights, "reg_head.0.weight")[1],
        has_qkv_bias=block.format(0, 0) + "attn.qkv.bias" in weights,
        has_patch_norm="transformer.patch_embed.norm.weight" in weights,
        position_shape=None if position is None else tuple(position.shape[2:]),
        skips_tokens=_shape(weights, "up0.conv1.0.weight")[1] > 8 * n,
        skips_images=_shape(weights, "up3.conv1.0.weight")[1] > n,
    )


def trained_shape(checkpoint: Checkpoint) -> tuple[int, ...] | None:
    """The shape of the images that a network was built for, where its file tells it."""
    return checkpoint.grids.get("spatial_trans.grid")


def _shape(weights: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in weights:
        raise ValueError(f"key '{name}' is missing")
    return tuple(weights[name].shape)


def _window(index: Tensor) -> tuple[int, int, int]:
    """The window whose relative positions these are: from one token to the next, an index falls by one."""
    falls = (index[0, 0] - index[0]).tolist()
    n_last = next((i for i, fall in enumerate(falls) if fall != i), len(falls))
    rows = falls[::n_last]
    n_middle = next((i for i, fall in enumerate(rows) if fall != i * (2 * n_last - 1)), len(rows))
    window = (len(falls) // (n_last * n_middle), n_middle, n_last)
    if 1 in window:
        # Positions in windows of 2x2x1 and 2x1x2 tokens are the same.
        raise ValueError(f"its windows of {len(falls)} tokens may have several shapes; each axis must have at least 2")
    return window
