"""Fourier-Net: a network that gives the low frequencies of a displacement, from which the whole field follows.

Jia et al., "Fourier-Net: fast image registration with band-limited deformation", AAAI 2023. Written from the
description of the released 2-D weights (OASIS slices), whose state dicts it loads. Every axis must be divisible
by 16. Displacements are in voxels, channel i along axis i.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regbench.methods.nets.blocks import activated, doubling, head, unit_to_voxels
from regbench.methods.nets.spatial import integrate

_HEAD_SCALE = 64.0


class FourierNet2d(nn.Module):
    """The 2-D network with `channels` at full resolution; the field is integrated where `squarings` is positive."""

    def __init__(self, channels: int = 8, squarings: int = 0) -> None:
        super().__init__()
        self.squarings = squarings
        c = channels

        def conv(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
            return activated(2, n_in, n_out, nn.PReLU, stride)

        self.eninput = conv(2, c)
        self.ec1 = conv(c, c)
        self.ec2, self.ec3 = conv(c, 2 * c, 2), conv(2 * c, 2 * c)
        self.ec4, self.ec5 = conv(2 * c, 4 * c, 2), conv(4 * c, 4 * c)
        self.ec6, self.ec7 = conv(4 * c, 8 * c, 2), conv(8 * c, 8 * c)
        self.ec8, self.ec9 = conv(8 * c, 16 * c, 2), conv(16 * c, 8 * c)
        self.r_up1 = doubling(2, 8 * c, 8 * c, nn.PReLU)
        self.r_dc1, self.r_dc2 = conv(16 * c, 8 * c), conv(8 * c, 4 * c)
        self.r_up2 = doubling(2, 4 * c, 4 * c, nn.PReLU)
        self.r_dc3, self.r_dc4 = conv(8 * c, 4 * c), conv(4 * c, 2 * c)
        self.rr_dc9 = head(2, 2 * c)
        # The rest of the decoder is stored in the released files and takes no part.
        self.r_up3 = doubling(2, 2 * c, 2 * c, nn.PReLU)
        self.r_dc5, self.r_dc6 = conv(4 * c, 4 * c), conv(4 * c, 2 * c)
        self.r_up4 = doubling(2, 2 * c, 2 * c, nn.PReLU)
        self.r_dc7, self.r_dc8 = conv(3 * c, 2 * c), conv(2 * c, 2 * c)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Displacement (B, 2, *shape) in voxels from images (B, 1, *shape)."""
        band = self._head(torch.cat([moving, fixed], 1))
        displacement = unit_to_voxels(from_low_frequencies(band, tuple(fixed.shape[2:])))
        return integrate(displacement, self.squarings) if self.squarings else displacement

    def _head(self, images: Tensor) -> Tensor:
        """The displacement at a quarter of the resolution (B, 2, *shape / 4), scaled."""
        e1 = self.ec3(self.ec2(self.ec1(self.eninput(images))))
        e2 = self.ec5(self.ec4(e1))
        e3 = self.ec7(self.ec6(e2))
        deepest = self.ec9(self.ec8(e3))
        d3 = self.r_dc2(self.r_dc1(torch.cat([self.r_up1(deepest), e3], 1)))
        d2 = self.r_dc4(self.r_dc3(torch.cat([self.r_up2(d3), e2], 1)))
        scaled: Tensor = self.rr_dc9(d2) * _HEAD_SCALE
        return scaled


def from_low_frequencies(band: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The image (B, C, *shape) whose lowest frequencies are those of `band`, all others being zero."""
    axes = tuple(range(2, 2 + len(shape)))
    spectrum = torch.fft.fftshift(torch.fft.fftn(band, dim=axes), dim=axes)
    whole = spectrum.new_zeros((*band.shape[:2], *shape))
    inner = [slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(shape, band.shape[2:], strict=True)]
    whole[(..., *inner)] = spectrum
    return torch.fft.ifftn(torch.fft.ifftshift(whole, dim=axes), dim=axes).real.contiguous()
