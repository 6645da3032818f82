"""Layers of a network computed a few rows at a time, without computing anything twice.

The layers at full resolution decide how much memory a 3-D network needs, and they look only one or two voxels around.
Here rows of the first image axis run through a chain of layers as through a line buffer: each convolution keeps the
few rows that its next output needs. Results are those of the whole image up to rounding. For inference, 2-D and 3-D;
images are (batch, channels, *shape), with the channels innermost in memory, which suits oneDNN on any number of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_LEAST_ROWS = 8
# Below this product of channels and the first two axes, torch takes a kernel of its own that is many times slower.
_ONEDNN_FROM = 20480

# Rows of all that goes into the first layer, one beside the other along the channels.
Read = Callable[[slice], Sequence[Tensor]]
Convolution = nn.Conv2d | nn.Conv3d


def streamed(layers: Iterable[nn.Module], read: Read, n_rows: int) -> Tensor:
    """The output of a chain of layers (B, C, *shape) for an input of `n_rows` rows, of which `read` gives any slice.

    Layers are convolutions padded with zeros, modules that work on each voxel alone, and Sequentials of these, a
    convolution first. Slices begin and end at even rows if `n_rows` is even.
    """
    chain = list(_flat(layers))
    n_out = n_rows
    for layer in chain:
        n_out = layer.rows_of(n_out) if isinstance(layer, _RowStream) else n_out
    out, filled = None, 0
    for rows in _slabs(n_rows, _rows_at_a_time(chain, read(slice(0, 2))[0])):
        piece = _pushed(chain, read(rows), rows.stop == n_rows)
        if piece is None:
            continue
        if out is None:
            out = _empty(piece, piece.shape[1], n_out)
        out[:, :, filled : filled + piece.shape[2]] = piece
        filled += piece.shape[2]
    assert out is not None and filled == n_out
    return out


def _pushed(chain: Sequence[nn.Module | _RowStream], parts: Sequence[Tensor], is_last: bool) -> Tensor | None:
    """What comes out of a chain for the next rows, or None as long as they determine nothing."""
    for layer in chain:
        if isinstance(layer, _RowStream):
            piece = layer.push(parts, is_last)
            if piece is None:
                return None
        else:
            piece = layer(parts[0])
        parts = (piece,)
    return parts[0]


def _slabs(n_rows: int, wanted: int) -> Iterator[slice]:
    """Slices of about `wanted` rows or more that cover `n_rows`, with even ends where `n_rows` is even."""
    n_slabs = max(n_rows // wanted, 1)
    ends = [2 * (index * n_rows // (2 * n_slabs)) for index in range(n_slabs)]
    return (slice(a, b) for a, b in zip(ends, [*ends[1:], n_rows], strict=True))


def _empty(like: Tensor, n_channels: int, n_rows: int) -> Tensor:
    """Memory for rows (B, n_channels, n_rows, ...) with the channels innermost."""
    shape = (like.shape[0], n_channels, n_rows, *like.shape[3:])
    order = torch.channels_last_3d if like.dim() == 5 else torch.channels_last
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=order)


def _rows_at_a_time(chain: list[nn.Module | _RowStream], sample: Tensor) -> int:
    """How many rows go through a chain at once: few, but enough for the fast convolutions of oneDNN."""
    narrowest = min((layer.n_in for layer in chain if isinstance(layer, _RowStream)), default=1)
    other_axes = sample.shape[3] if sample.dim() == 5 else 1
    # Rows come later in the deeper layers of a chain, and the first slab is shorter there.
    needed = _ONEDNN_FROM // (narrowest * other_axes) + len(chain)
    return max(_LEAST_ROWS, needed)


class _RowStream:
    """A convolution fed with consecutive rows; it gives rows of its output as soon as all that they need is there."""

    def __init__(self, convolution: Convolution) -> None:
        self.n_in = convolution.in_channels
        self._conv = convolution
        self._kernel, self._stride = convolution.kernel_size[0], convolution.stride[0]
        self._padding = int(convolution.padding[0])
        self._kept: Tensor | None = None

    def rows_of(self, n_rows: int) -> int:
        """The number of rows of the output for an input of `n_rows` rows."""
        return (n_rows + 2 * self._padding - self._kernel) // self._stride + 1

    def push(self, parts: Sequence[Tensor], is_last: bool) -> Tensor | None:
        """The rows of the output that have not been given yet and need nothing beyond these, or None."""
        whole = self._with_kept(parts, is_last)
        n_out = max((whole.shape[2] - self._kernel) // self._stride + 1, 0)
        # The zeros before the first row are kept like rows.
        self._kept = whole[:, :, n_out * self._stride :].clone()
        if n_out == 0:
            return None
        convolve = functional.conv3d if isinstance(self._conv, nn.Conv3d) else functional.conv2d
        padding = (0, *self._conv.padding[1:])
        return convolve(whole, self._conv.weight, self._conv.bias, stride=self._conv.stride, padding=padding)

    def _with_kept(self, parts: Sequence[Tensor], is_last: bool) -> Tensor:
        """The rows that are still needed and the new ones, with zeros before the first and behind the last."""
        before = self._padding if self._kept is None else self._kept.shape[2]
        stop = before + parts[0].shape[2]
        whole = _empty(parts[0], self.n_in, stop + (self._padding if is_last else 0))
        whole[:, :, :before] = 0.0 if self._kept is None else self._kept
        whole[:, :, stop:] = 0.0
        channel = 0
        for part in parts:
            whole[:, channel : channel + part.shape[1], before:stop] = part
            channel += part.shape[1]
        return whole


def _flat(layers: Iterable[nn.Module]) -> Iterator[nn.Module | _RowStream]:
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            yield from _flat(layer)
        elif isinstance(layer, Convolution):
            yield _RowStream(layer)
        else:
            yield layer
