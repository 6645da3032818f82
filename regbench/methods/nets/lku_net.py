"""LKU-Net: a U-Net whose encoder has a large kernel beside a small one at every coarse level.

Jia et al., "U-Net vs Transformer: is U-Net outdated in medical image registration?", MLMI 2022. Written from the
description of the released weights, whose state dicts it loads: 2-D (OASIS slices, displacement) and 3-D (IXI,
stationary velocity). Every axis must be divisible by 16. Displacements are in voxels, channel i along axis i.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regbench.methods.nets.blocks import activated, convolution, doubling, halved, head, unit_to_voxels
from regbench.methods.nets.spatial import integrated
from regbench.methods.nets.streams import streamed


class LkuNet(nn.Module):
    """The network with `channels` at full resolution; the velocity is integrated where `squarings` is positive."""

    def __init__(self, ndim: int, channels: int, large_kernel: int, squarings: int = 0) -> None:
        super().__init__()
        self.squarings = squarings
        c = channels

        def conv(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
            return activated(ndim, n_in, n_out, nn.PReLU, stride)

        self.eninput = conv(2, c)
        self.ec1 = conv(c, c)
        self.ec2 = conv(c, 2 * c, 2)
        self.ec3 = LargeKernelBlock(ndim, 2 * c, large_kernel)
        self.ec4 = conv(2 * c, 4 * c, 2)
        self.ec5 = LargeKernelBlock(ndim, 4 * c, large_kernel)
        self.ec6 = conv(4 * c, 8 * c, 2)
        self.ec7 = LargeKernelBlock(ndim, 8 * c, large_kernel)
        self.ec8 = conv(8 * c, 8 * c, 2)
        self.ec9 = LargeKernelBlock(ndim, 8 * c, large_kernel)
        self.up1 = doubling(ndim, 8 * c, 8 * c, nn.PReLU)
        self.dc1, self.dc2 = conv(16 * c, 8 * c), conv(8 * c, 4 * c)
        self.up2 = doubling(ndim, 4 * c, 4 * c, nn.PReLU)
        self.dc3, self.dc4 = conv(8 * c, 4 * c), conv(4 * c, 2 * c)
        self.up3 = doubling(ndim, 2 * c, 2 * c, nn.PReLU)
        self.dc5, self.dc6 = conv(4 * c, 4 * c), conv(4 * c, 2 * c)
        self.up4 = doubling(ndim, 2 * c, 2 * c, nn.PReLU)
        self.dc7, self.dc8 = conv(3 * c, 2 * c), conv(2 * c, 2 * c)
        self.dc9 = head(ndim, 2 * c)
        # The second head is stored in the released files and takes no part.
        self.dc10 = head(ndim, 2 * c)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Displacement (1, ndim, *shape) in voxels from images (1, 1, *shape)."""
        displacement = unit_to_voxels(self._output(fixed, moving))
        return integrated(displacement, self.squarings) if self.squarings else displacement

    def _output(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """The field (1, ndim, *shape) from -1 to 1 along each axis."""
        n_rows = fixed.shape[2]

        def images(rows: slice) -> list[Tensor]:
            return [moving[:, :, rows], fixed[:, :, rows]]

        full = streamed([self.eninput, self.ec1], images, n_rows)
        decoded = self._coarse(streamed([self.ec2], lambda rows: [full[:, :, rows]], n_rows))

        def joined(rows: slice) -> list[Tensor]:
            return [self.up4(decoded[:, :, halved(rows)]), full[:, :, rows]]

        return streamed([self.dc7, self.dc8, self.dc9, nn.Softsign()], joined, n_rows)

    def _coarse(self, half: Tensor) -> Tensor:
        """Everything below full resolution: features (B, 2c, *half shape) of the encoder to those of the decoder."""
        e1 = self.ec3(half)
        e2 = self.ec5(self.ec4(e1))
        e3 = self.ec7(self.ec6(e2))
        deepest = self.ec9(self.ec8(e3))
        d3 = self.dc2(self.dc1(torch.cat([self.up1(deepest), e3], 1)))
        d2 = self.dc4(self.dc3(torch.cat([self.up2(d3), e2], 1)))
        decoded: Tensor = self.dc6(self.dc5(torch.cat([self.up3(d2), e1], 1)))
        return decoded


class LargeKernelBlock(nn.Module):
    """The sum of convolutions with a small, a large and a one-voxel kernel and of the input, then PReLU."""

    def __init__(self, ndim: int, channels: int, kernel: int) -> None:
        super().__init__()
        self.layer_regularKernel = nn.Sequential(convolution(ndim, channels, channels))
        self.layer_largeKernel = nn.Sequential(convolution(ndim, channels, channels, kernel))
        self.layer_oneKernel = nn.Sequential(convolution(ndim, channels, channels, 1))
        self.layer_nonlinearity = nn.PReLU()

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, channels, *shape) of the same size."""
        total = self.layer_regularKernel(features)
        total += self.layer_largeKernel(features)
        total += self.layer_oneKernel(features)
        total += features
        activated: Tensor = self.layer_nonlinearity(total)
        return activated
