"""A network that registers what it has registered already: fields of several passes, composed."""

from __future__ import annotations

from torch import Tensor, nn

from regbench.methods.nets.spatial import compose, warp


class Repeated(nn.Module):
    """`network` applied `passes` times, each time to the moving image under the field so far.

    The fields are composed, so one that has no folds stays without.
    """

    def __init__(self, network: nn.Module, passes: int) -> None:
        super().__init__()
        self.network, self.passes = network, passes
        self.multiple = network.multiple

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Displacement (B, ndim, *shape) in voxels of the input grid, from images (B, 1, *shape)."""
        found: Tensor = self.network(fixed, moving)
        for _ in range(self.passes - 1):
            found = compose(self.network(fixed, warp(moving, found)), found)
        return found
