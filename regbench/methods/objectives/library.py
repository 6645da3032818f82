"""Similarities that MONAI has and regbench does not: Gaussian windows of local correlation and of histograms."""

from __future__ import annotations

from types import ModuleType

from torch import Tensor

from regbench.errors import MethodDeclined
from regbench.methods.objectives.arithmetic import full_precision


@full_precision
def monai_local_correlation(fixed: Tensor, moved: Tensor, window: int, kernel: str) -> Tensor:
    """1 minus the mean squared correlation in windows around every voxel, zero outside the image."""
    losses = _monai_losses()
    loss = losses.LocalNormalizedCrossCorrelationLoss(fixed.dim() - 2, kernel_size=window, kernel_type=kernel)
    found: Tensor = 1.0 + loss(moved, fixed)
    return found


@full_precision
def monai_mutual_information(fixed: Tensor, moved: Tensor, bins: int) -> Tensor:
    """Minus the mutual information in nats of images with intensities in [0, 1]."""
    found: Tensor = _monai_losses().GlobalMutualInformationLoss(num_bins=bins)(moved, fixed)
    return found


def _monai_losses() -> ModuleType:
    try:
        import monai.losses
    except ImportError:
        raise MethodDeclined("this objective needs MONAI; pip install 'regbench[train]'") from None
    losses: ModuleType = monai.losses
    return losses
