"""SYMNet: a U-Net that gives stationary velocities from both images to the middle between them.

Mok and Chung, CVPR 2020. Written from the description of the released weights, whose state dict it loads. Every axis
must be divisible by 16. Displacements are in voxels, channel i along axis i.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regbench.methods.nets.blocks import activated, doubling, halved, head
from regbench.methods.nets.spatial import composed, integrated
from regbench.methods.nets.streams import streamed

_RANGE_VOXELS = 100.0
_SQUARINGS = 7
_PADDING = "zeros"


class SymNet(nn.Module):
    """The network with `channels` at full resolution."""

    def __init__(self, channels: int = 7) -> None:
        super().__init__()
        c = channels

        def conv(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
            return activated(3, n_in, n_out, _relu, stride)

        self.eninput, self.ec1 = conv(2, c), conv(c, c)
        self.ec2, self.ec3 = conv(c, 2 * c, 2), conv(2 * c, 2 * c)
        self.ec4, self.ec5 = conv(2 * c, 4 * c, 2), conv(4 * c, 4 * c)
        self.ec6, self.ec7 = conv(4 * c, 8 * c, 2), conv(8 * c, 8 * c)
        self.ec8, self.ec9 = conv(8 * c, 16 * c, 2), conv(16 * c, 8 * c)
        self.up1 = doubling(3, 8 * c, 8 * c, _relu)
        self.dc1, self.dc2 = conv(16 * c, 8 * c), conv(8 * c, 4 * c)
        self.up2 = doubling(3, 4 * c, 4 * c, _relu)
        self.dc3, self.dc4 = conv(8 * c, 4 * c), conv(4 * c, 2 * c)
        self.up3 = doubling(3, 2 * c, 2 * c, _relu)
        self.dc5, self.dc6 = conv(4 * c, 4 * c), conv(4 * c, 2 * c)
        self.up4 = doubling(3, 2 * c, 2 * c, _relu)
        self.dc7, self.dc8 = conv(3 * c, 2 * c), conv(2 * c, 2 * c)
        self.dc9, self.dc10 = head(3, 2 * c, kernel=5), head(3, 2 * c, kernel=5)

    def forward(self, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
        """The displacement (1, 3, *shape) that pulls moving onto fixed, and its inverse, from images (1, 1, *shape)."""
        of_fixed, of_moving = self.velocities(fixed, moving)
        return _through_the_middle(of_fixed, of_moving), _through_the_middle(of_moving, of_fixed)

    def velocities(self, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
        """The velocities (1, 3, *shape) in voxels that lead the fixed and the moving image to their middle."""
        # The released network has the last axis first.
        of_fixed, of_moving = (part.flip(1).mul_(_RANGE_VOXELS) for part in self._output(fixed, moving).chunk(2, 1))
        return of_fixed, of_moving

    def _output(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Both velocities as the released network gives them, (1, 6, *shape) from -1 to 1."""
        n_rows = fixed.shape[2]

        def images(rows: slice) -> list[Tensor]:
            return [fixed[:, :, rows], moving[:, :, rows]]

        full = streamed([self.eninput, self.ec1], images, n_rows)
        decoded = self._coarse(streamed([self.ec2], lambda rows: [full[:, :, rows]], n_rows))

        def joined(rows: slice) -> list[Tensor]:
            return [self.up4(decoded[:, :, halved(rows)]), full[:, :, rows]]

        return streamed([self.dc7, self.dc8, self._heads(), nn.Softsign()], joined, n_rows).float()

    def _coarse(self, half: Tensor) -> Tensor:
        """Everything below full resolution: features (1, 2c, *half shape) of the encoder to those of the decoder."""
        e1 = self.ec3(half)
        e2 = self.ec5(self.ec4(e1))
        e3 = self.ec7(self.ec6(e2))
        deepest = self.ec9(self.ec8(e3))
        d3 = self.dc2(self.dc1(torch.cat([self.up1(deepest), e3], 1)))
        d2 = self.dc4(self.dc3(torch.cat([self.up2(d3), e2], 1)))
        decoded: Tensor = self.dc6(self.dc5(torch.cat([self.up3(d2), e1], 1)))
        return decoded

    def _heads(self) -> nn.Conv3d:
        """Both heads as one convolution."""
        weight = torch.cat([next(part.parameters()) for part in (self.dc9, self.dc10)])
        both = nn.Conv3d(weight.shape[1], weight.shape[0], 5, padding=2, bias=False, device="meta")
        both.weight = nn.Parameter(weight, requires_grad=False)
        return both


def _through_the_middle(here: Tensor, there: Tensor) -> Tensor:
    """The displacement to the other image: against the own velocity to the middle, then along the other one."""
    to_middle = integrated(-here, _SQUARINGS, _PADDING)
    return composed(to_middle, integrated(there.clone(), _SQUARINGS, _PADDING), _PADDING)


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)
