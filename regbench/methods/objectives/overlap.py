"""How unlike label maps are, as one-hot maps (B, labels, *shape) of which the moved one was read linearly.

One-hot maps are the largest tensors of a training. Both objectives rest on sums that are linear in either map, whose
gradient is made in one piece in the backward pass: nothing else of the size of a map is ever held.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from regbench.methods.objectives.arithmetic import full_precision

# What a probability of 0 costs is the logarithm of this; the gradient is at most its inverse.
_FLOOR = 0.01


@full_precision
def soft_dice(fixed: Tensor, moved: Tensor) -> Tensor:
    """1 minus the mean soft Dice over labels, in [0, 1]; labels that the fixed map lacks are left out.

    MONAI's Dice cannot leave labels out and takes twice the memory.
    """
    both, in_fixed, in_moved = _LabelSums.apply(fixed.flatten(2), moved.flatten(2))
    present = (in_fixed > 0).to(moved.dtype)
    dice = 2 * both / (in_fixed + in_moved).clamp_min(1e-6)
    n_present = present.sum(1)
    per_pair = 1.0 - (dice * present).sum(1) / n_present.clamp_min(1)
    return (per_pair * (n_present > 0)).sum() / (n_present > 0).sum().clamp_min(1)


@full_precision
def cross_entropy(fixed: Tensor, moved: Tensor) -> Tensor:
    """The mean of -log of what the moved map gives the right label, in nats, 0 where it gives it all.

    Where the maps hold a choice of labels only, "none of them" is one more label. The logarithm is that of
    (p + 0.01) / 1.01, so that a single voxel costs 4.6 at most. torch's cross-entropy wants logits, which a warped
    map has not.
    """
    right = _RightShare.apply(fixed, moved)
    return -((right + _FLOOR) / (1.0 + _FLOOR)).log().mean()


class _LabelSums(torch.autograd.Function):
    """Sums (B, labels) over voxels: of the product of two maps (B, labels, voxels), and of each."""

    @staticmethod
    def forward(ctx: Any, fixed: Tensor, moved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(fixed, moved)
        return torch.einsum("bln,bln->bl", fixed, moved), fixed.sum(2), moved.sum(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, both: Tensor, of_fixed: Tensor, of_moved: Tensor) -> tuple[Tensor | None, ...]:
        fixed, moved = ctx.saved_tensors
        return tuple(
            torch.addcmul(alone[..., None], both[..., None], other) if need else None
            for need, alone, other in zip(ctx.needs_input_grad, (of_fixed, of_moved), (moved, fixed), strict=True)
        )


class _RightShare(torch.autograd.Function):
    """The sum (B, *shape) of the products of two maps over labels, "none of them" being one."""

    @staticmethod
    def forward(ctx: Any, fixed: Tensor, moved: Tensor) -> Tensor:
        ctx.save_for_backward(fixed, moved)
        right = (1.0 - fixed.sum(1)).mul_(1.0 - moved.sum(1))
        for of_fixed, of_moved in zip(fixed.unbind(1), moved.unbind(1), strict=True):
            right.addcmul_(of_fixed, of_moved)
        return right

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        fixed, moved = ctx.saved_tensors
        return tuple(
            torch.sub(other, 1.0 - other.sum(1, keepdim=True)).mul_(upstream[:, None]) if need else None
            for need, other in zip(ctx.needs_input_grad, (moved, fixed), strict=True)
        )
