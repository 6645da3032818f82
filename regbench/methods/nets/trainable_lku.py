"""The U-Net with large kernels: below half resolution, kernels of 5, 3 and 1 voxels and the identity side by side.

All four are linear, so they are added up to one kernel before it is applied: the same result and gradients as four
layers, for the time of the largest.

Idea: Jia et al., "U-Net vs Transformer: Is U-Net Outdated in Medical Image Registration?", MLMI (2022).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from regbench.methods.nets.layers import convolved, layer
from regbench.methods.nets.unet import RegistrationUNet


class LargeKernelUNet(RegistrationUNet):
    """`RegistrationUNet` whose levels below half resolution have large kernels."""

    def _middle(self, n_channels: int) -> nn.Module:
        return ParallelKernels(self.ndim, n_channels)


class ParallelKernels(nn.Module):
    """conv5(x) + conv3(x) + conv1(x) + x, as one convolution."""

    def __init__(self, ndim: int, n_channels: int) -> None:
        super().__init__()
        self.ndim = ndim
        self.large = layer(ndim, n_channels, n_channels, 5)
        self.regular = layer(ndim, n_channels, n_channels, 3)
        self.one = layer(ndim, n_channels, n_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """The sum, shaped like the features (B, C, *shape)."""
        biases = [b for b in (self.large.bias, self.regular.bias, self.one.bias) if b is not None]
        return convolved(features, self._kernel(), torch.stack(biases).sum(0))

    def _kernel(self) -> Tensor:
        """The sum of all kernels (C, C, 5, ...)."""
        itself = torch.eye(self.one.in_channels, device=self.one.weight.device, dtype=self.one.weight.dtype)
        middle = self.one.weight + itself.view(*itself.shape, *[1] * self.ndim)
        inner = self.regular.weight + functional.pad(middle, [1, 1] * self.ndim)
        return self.large.weight + functional.pad(inner, [1, 1] * self.ndim)
