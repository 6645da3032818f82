"""A small TransMorph-like network: attention in shifted windows as the encoder, a convolutional decoder with skips.

Tokens are blocks of four voxels along each axis, of both images at once. Attention is within windows of tokens, which
every second block shifts by half a window; between levels, 2^ndim tokens become one (patch merging). The decoder goes
back to half resolution, where a convolution of the images themselves adds the details.

Ideas: Chen et al., "TransMorph", MedIA 82 (2022); Liu et al., "Swin Transformer", ICCV (2021).
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from regbench.methods.nets.fields import activate, checkpointed, displaced_by, enlarged, field_head
from regbench.methods.nets.layers import layer
from regbench.methods.nets.unet import fold

_PATCH = 4
_NEVER = -100.0

Shape = tuple[int, ...]


class WindowTransformer(nn.Module):
    """The displacement in voxels by a transformer of `channels`, quarter resolution first, and a decoder."""

    multiple = _PATCH

    def __init__(
        self,
        ndim: int,
        channels: tuple[int, ...] = (16, 32, 64),
        *,
        squarings: int = 6,
        transformation: str = "velocity",
        checkpointing: bool = False,
        depths: tuple[int, ...] = (2, 2, 4),
        heads: tuple[int, ...] = (2, 4, 8),
        window: int = 4,
    ) -> None:
        super().__init__()
        self.squarings, self.transformation, self.checkpointing = squarings, transformation, checkpointing
        self.details = layer(ndim, 2 * 2**ndim, channels[0])
        embed = nn.Conv3d if ndim == 3 else nn.Conv2d
        self.embedding = embed(2, channels[0], _PATCH, stride=_PATCH)
        pairs = list(itertools.pairwise(channels))
        self.merging = nn.ModuleList(nn.Linear(a * 2**ndim, b, bias=False) for a, b in pairs)
        self.merging_norms = nn.ModuleList(nn.LayerNorm(a * 2**ndim) for a, _ in pairs)
        self.levels = nn.ModuleList(
            nn.ModuleList(WindowBlock(ndim, n, n_heads, window, is_shifted=i % 2 == 1) for i in range(depth))
            for n, depth, n_heads in zip(channels, depths, heads, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(n) for n in channels)
        ups = [(b + a, a) for a, b in reversed(pairs)] + [(2 * channels[0], channels[0])]
        self.up = nn.ModuleList(layer(ndim, n_in, n_out) for n_in, n_out in ups)
        self.head = layer(ndim, channels[0], channels[0])
        self.field = field_head(ndim, channels[0])

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Displacement (B, ndim, *shape) in voxels of the input grid, from images (B, 1, *shape)."""
        images = torch.cat([fixed, moving], dim=1)
        skips = [checkpointed(self.checkpointing, self._detailed, images)]
        tokens = self.embedding(images).movedim(1, -1)
        for level, blocks in enumerate(self.levels):
            tokens = self._merged(level - 1, tokens) if level else tokens
            for block in blocks:  # type: ignore[attr-defined]
                tokens = checkpointed(self.checkpointing, block, tokens)
            skips.append(self.norms[level](tokens).movedim(-1, 1))
        features = skips.pop()
        for up in self.up:
            features = checkpointed(self.checkpointing, _raised, up, features, skips.pop())
        field = checkpointed(self.checkpointing, self._field, features)
        displacement = checkpointed(self.checkpointing, displaced_by, field, self.transformation, self.squarings)
        return enlarged(displacement, tuple(fixed.shape[2:]))

    def _detailed(self, images: Tensor) -> Tensor:
        return activate(self.details(fold(images)))

    def _field(self, features: Tensor) -> Tensor:
        field: Tensor = self.field(activate(self.head(features)))
        return field

    def _merged(self, index: int, tokens: Tensor) -> Tensor:
        """One token for every 2^ndim of (B, *shape, C); zeros complete odd axes."""
        odd = [n % 2 for n in tokens.shape[1:-1]]
        tokens = functional.pad(tokens, [0, 0, *itertools.chain.from_iterable((0, n) for n in reversed(odd))])
        joined = fold(tokens.movedim(-1, 1)).movedim(1, -1)
        merged: Tensor = self.merging[index](self.merging_norms[index](joined))
        return merged


def _raised(up: nn.Module, features: Tensor, skip: Tensor) -> Tensor:
    features = functional.interpolate(features, size=skip.shape[2:], mode="nearest")
    return activate(up(torch.cat([features, skip], dim=1)))


class WindowBlock(nn.Module):
    """Attention within windows of tokens (B, *shape, C), then a layer on each token; both add to their input."""

    def __init__(self, ndim: int, n: int, n_heads: int, window: int, *, is_shifted: bool) -> None:
        super().__init__()
        self.n_heads, self.window, self.is_shifted = n_heads, window, is_shifted
        self.first_norm, self.second_norm = nn.LayerNorm(n), nn.LayerNorm(n)
        self.queries_keys_values, self.joined = nn.Linear(n, 3 * n), nn.Linear(n, n)
        self.bias = nn.Parameter(torch.zeros((2 * window - 1) ** ndim, n_heads))
        nn.init.trunc_normal_(self.bias, std=0.02)
        self.wide, self.narrow = nn.Linear(n, 4 * n), nn.Linear(4 * n, n)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of the same shape."""
        tokens = tokens + self._attended(self.first_norm(tokens))
        changed: Tensor = self.narrow(functional.gelu(self.wide(self.second_norm(tokens))))
        return tokens + changed

    def _attended(self, tokens: Tensor) -> Tensor:
        shape = tuple(tokens.shape[1:-1])
        # A window never exceeds the grid, and one that covers an axis is not shifted along it.
        window = tuple(min(self.window, n) for n in shape)
        shift = tuple(w // 2 if self.is_shifted and w < n else 0 for w, n in zip(window, shape, strict=True))
        axes = tuple(range(1, 1 + len(shape)))
        whole = tuple(-(-n // w) * w for n, w in zip(shape, window, strict=True))
        missing = [m - n for m, n in zip(whole, shape, strict=True)]
        tokens = functional.pad(tokens, [0, 0, *itertools.chain.from_iterable((0, n) for n in reversed(missing))])
        shifted = tokens.roll(tuple(-s for s in shift), axes)
        found = self._joined_windows(_windows(shifted, window), window, _may_see(shape, window, shift))
        placed = _unwindowed(found, window, whole, tokens.shape[0]).roll(shift, axes)
        return placed[(slice(None), *(slice(n) for n in shape))]

    def _joined_windows(self, tokens: Tensor, window: Shape, may_see: np.ndarray | None) -> Tensor:
        """Attention for windows (B, windows, tokens, C)."""
        batch, n_windows, n_tokens, n = tokens.shape
        split = self.queries_keys_values(tokens).view(batch, n_windows, n_tokens, 3, self.n_heads, n // self.n_heads)
        queries, keys, values = split.permute(3, 0, 1, 4, 2, 5)
        index = torch.from_numpy(_relative_index(window, self.window)).to(tokens.device)
        bias = self.bias[index.flatten()].view(n_tokens, n_tokens, self.n_heads).permute(2, 0, 1)[None]
        if may_see is not None:
            mask = torch.from_numpy(may_see).to(tokens.device)
            bias = bias + torch.where(mask, 0.0, _NEVER)[:, None]
        found = functional.scaled_dot_product_attention(queries, keys, values, bias.to(queries.dtype))
        joined: Tensor = self.joined(found.transpose(2, 3).reshape(batch, n_windows, n_tokens, n))
        return joined


def _windows(tokens: Tensor, window: Shape) -> Tensor:
    """Tokens (B, *shape, C) as (B, windows, tokens of each, C)."""
    batch, *shape, n = tokens.shape
    sizes = itertools.chain.from_iterable((m // w, w) for m, w in zip(shape, window, strict=True))
    split = tokens.reshape(batch, *sizes, n)
    which, within = range(1, 2 * len(shape), 2), range(2, 2 * len(shape) + 1, 2)
    order = split.permute(0, *which, *within, split.dim() - 1)
    return order.reshape(batch, -1, int(np.prod(window)), n)


def _unwindowed(tokens: Tensor, window: Shape, shape: Shape, batch: int) -> Tensor:
    """The inverse of `_windows`."""
    counts = [m // w for m, w in zip(shape, window, strict=True)]
    split = tokens.reshape(batch, *counts, *window, tokens.shape[-1])
    n_axes = len(shape)
    order = itertools.chain.from_iterable((1 + a, 1 + n_axes + a) for a in range(n_axes))
    return split.permute(0, *order, split.dim() - 1).reshape(batch, *shape, tokens.shape[-1])


@lru_cache(maxsize=64)
def _may_see(shape: Shape, window: Shape, shift: Shape) -> np.ndarray | None:
    """Which tokens of each window may look at which (windows, tokens, tokens), or None if all may look at all.

    After a cyclic shift, a window at the border holds tokens of both ends, which are no neighbours; and there are
    those that only complete the last window.
    """
    whole = tuple(-(-n // w) * w for n, w in zip(shape, window, strict=True))
    if whole == shape and not any(shift):
        return None
    region = np.zeros(whole, dtype=np.int32)
    for axis, (n, m, s) in enumerate(zip(shape, whole, shift, strict=True)):
        place = np.roll(np.arange(m), -s)
        # Real tokens, those that came round from the first end, and those that complete the axis.
        kind = np.where(place >= n, 2, np.where((np.arange(m) >= m - s) if s else False, 1, 0))
        region = region * 3 + kind.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    windows = _windows(torch.from_numpy(region)[None, ..., None], window)[0, :, :, 0].numpy()
    return np.asarray(windows[:, :, None] == windows[:, None, :])


@lru_cache(maxsize=64)
def _relative_index(window: Shape, largest: int) -> np.ndarray:
    """For all pairs of tokens of a window, the entry in the table of biases for windows of `largest` tokens."""
    places = np.stack(np.meshgrid(*[np.arange(w) for w in window], indexing="ij")).reshape(len(window), -1)
    index = np.zeros((places.shape[1],) * 2, dtype=np.int64)
    for line in places:
        index = index * (2 * largest - 1) + (line[:, None] - line[None, :] + largest - 1)
    return index
