"""LessNet: a decoder alone, which sees pooled copies of the images instead of learned features.

Jia et al., "Decoder-only image registration", IEEE Transactions on Medical Imaging 2025 (arXiv 2402.03585). Written
from the description of the released 3-D weights (IXI), whose state dicts it loads. Every axis must be divisible by 8.
Displacements are in voxels, channel i along axis i.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from regbench.methods.nets.blocks import activated, doubling, halved, head, unit_to_voxels
from regbench.methods.nets.spatial import integrated
from regbench.methods.nets.streams import streamed


class LessNet3d(nn.Module):
    """The 3-D network with `channels` at full resolution; the velocity is integrated where `squarings` is positive."""

    def __init__(self, channels: int, squarings: int = 0) -> None:
        super().__init__()
        self.squarings = squarings
        c, pooled = channels, 6

        def conv(n_in: int, n_out: int) -> nn.Sequential:
            return activated(3, n_in, n_out, nn.LeakyReLU)

        self.eninput = conv(pooled, 4 * c)
        self.dc1, self.dc2 = conv(4 * c, 4 * c), conv(4 * c, 4 * c)
        self.up2 = doubling(3, 4 * c, 3 * c, nn.LeakyReLU)
        self.dc3, self.dc4 = conv(3 * c + pooled, 3 * c), conv(3 * c, 3 * c)
        self.up3 = doubling(3, 3 * c, 2 * c, nn.LeakyReLU)
        self.dc5, self.dc6 = conv(2 * c + pooled, 2 * c), conv(2 * c, 2 * c)
        self.up4 = doubling(3, 2 * c, c, nn.LeakyReLU)
        self.dc7, self.dc8 = conv(c + 2, c), conv(c, c)
        self.dc9 = head(3, c)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Displacement (1, 3, *shape) in voxels from images (1, 1, *shape)."""
        displacement = unit_to_voxels(self._output(fixed, moving))
        return integrated(displacement, self.squarings) if self.squarings else displacement

    def _output(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """The field (1, 3, *shape) from -1 to 1 along each axis."""
        quarter, pooled = self._coarse(fixed, moving), _pooled(fixed, moving, 2)

        def at_half(rows: slice) -> list[Tensor]:
            return [self.up3(quarter[:, :, halved(rows)]), pooled[:, :, rows]]

        half = streamed([self.dc5, self.dc6], at_half, pooled.shape[2])

        def at_full(rows: slice) -> list[Tensor]:
            return [self.up4(half[:, :, halved(rows)]), moving[:, :, rows], fixed[:, :, rows]]

        return streamed([self.dc7, self.dc8, self.dc9, nn.Softsign()], at_full, fixed.shape[2])

    def _coarse(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """The features at a quarter of the resolution (B, 3c, *shape / 4)."""
        eighth = self.dc2(self.dc1(self.eninput(_pooled(fixed, moving, 8))))
        quarter: Tensor = self.dc4(self.dc3(torch.cat([self.up2(eighth), _pooled(fixed, moving, 4)], 1)))
        return quarter


def _pooled(fixed: Tensor, moving: Tensor, size: int) -> Tensor:
    """Mean, maximum and minimum of moving and fixed over blocks of size^3 voxels, (B, 6, *shape / size)."""
    images = (moving, fixed)
    means = [functional.avg_pool3d(image, size) for image in images]
    maxima = [functional.max_pool3d(image, size) for image in images]
    minima = [functional.max_pool3d(-image, size).neg_() for image in images]
    return torch.cat([*means, *maxima, *minima], 1)
