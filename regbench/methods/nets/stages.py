"""Networks one after the other, from coarse to fine images, behind an affine head.

Stage k of n sees images reduced by 2^(n - 1 - k), the moving one warped by all that was found before; what it finds
is composed with that. The affine map comes last in the chain of mappings, fixed place -> stage n -> ... -> stage 1 ->
affine -> moving place, and is evaluated exactly instead of being read from a grid.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from regbench.methods.nets.affine_head import AffineHead, affine_after
from regbench.methods.nets.fields import enlarged, reduced
from regbench.methods.nets.spatial import compose, warp


class Staged(nn.Module):
    """The displacement in voxels by one network per stage, of one kind or of several, and an affine head if given."""

    def __init__(self, networks: Sequence[nn.Module], affine: AffineHead | None = None) -> None:
        super().__init__()
        self.stages, self.affine = nn.ModuleList(networks), affine
        # Multiples are powers of two, so the largest will do.
        needs = [int(network.multiple) * 2 ** (len(networks) - 1 - k) for k, network in enumerate(networks)]  # type: ignore[arg-type]
        self.multiple = max([*needs, affine.multiple if affine is not None else 1])

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Displacement (B, ndim, *shape) in voxels of the input grid, from images (B, 1, *shape)."""
        affine = None if self.affine is None else self.affine(fixed, moving)
        found: Tensor | None = None
        for k, network in enumerate(self.stages):
            times = len(self.stages) - 1 - k
            fixed_here, moving_here = reduced(fixed, times), reduced(moving, times)
            shape = tuple(fixed_here.shape[2:])
            found = None if found is None else enlarged(found, shape)
            before = _whole(affine, found, fixed_here)
            added = network(fixed_here, moving_here if before is None else warp(moving_here, before))
            found = added if found is None else compose(added, found)
        whole = _whole(affine, found, fixed)
        assert whole is not None
        return whole


def _whole(affine: Tensor | None, found: Tensor | None, like: Tensor) -> Tensor | None:
    """The displacement of what was found and the affine map, on the grid of an image, or None for neither."""
    if affine is None:
        return found
    ndim = like.dim() - 2
    nothing = like.new_zeros((like.shape[0], ndim, *like.shape[2:]), dtype=affine.dtype)
    return affine_after(affine, nothing if found is None else found)
