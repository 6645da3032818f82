"""`convexadam`: a discrete search that is made smooth by convex optimisation, then descent on the pair.

The package works on voxels of one grid, so the moving image is first read linearly at the voxels of the fixed grid;
its result is a shift in voxels of that grid, along its array axes. Features are MIND-SSC, so the modalities may
differ. It knows no linear stage.

Source: Siebert et al., IEEE Transactions on Medical Imaging 44 (2025) 738-748.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import ConfigError, MethodDeclined
from regbench.methods.demands import demand_content, demand_voxels
from regbench.pair import BlindPair
from regbench.warp import resample


@dataclass(frozen=True)
class ConvexAdam:
    """`grid_voxels` and `search_steps` are step and half width of the discrete search, `adam_grid_voxels` and
    `iterations` those of the descent, `smoothness` the weight of its diffusion regulariser.

    `mind_radius` and `mind_dilation` describe the features; `inverse_consistent` makes both directions of the
    search agree.
    """

    mind_radius: int = 1
    mind_dilation: int = 2
    smoothness: float = 1.25
    grid_voxels: int = 6
    search_steps: int = 4
    iterations: int = 80
    adam_grid_voxels: int = 2
    inverse_consistent: bool = True
    device: str = "cpu"

    def __post_init__(self) -> None:
        if min(self.mind_radius, self.mind_dilation, self.grid_voxels, self.search_steps, self.adam_grid_voxels) < 1:
            raise ConfigError("methods.convexadam: radius, dilation, grids and search_steps must be at least 1")

    def prepare(self) -> None:
        """Imports the package and what Adam loads when it is first used (seconds), so that neither is timed."""
        import torch._dynamo  # noqa: F401
        from convexAdam import convex_adam_MIND  # noqa: F401

    def register(self, pair: BlindPair) -> Displacement:
        """The displacement that makes the features agree, on the fixed grid."""
        import torch
        from convexAdam.convex_adam_MIND import convex_adam_pt

        grid = pair.fixed.grid
        if pair.ndim != 3:
            raise MethodDeclined("convexadam handles 3-D images only")
        seen = pair.moving
        if not seen.grid.matches(grid):
            seen = resample(seen, grid, outside=float(seen.array.min()))
        on_one_grid = dataclasses.replace(pair, moving=seen)
        demand_voxels(on_one_grid, 2 * self.grid_voxels, f"convexadam with grid_voxels: {self.grid_voxels}")
        demand_content(on_one_grid)
        voxels = convex_adam_pt(
            *(torch.from_numpy(image.array.copy()) for image in (pair.fixed, seen)),
            dtype=torch.float32,
            device=torch.device(self.device),
            **self._settings(),
        )
        return Displacement.from_voxels(np.asarray(voxels, dtype=np.float64), grid, grid)

    def _settings(self) -> dict[str, Any]:
        """The settings under the names of the package."""
        return {
            "mind_r": self.mind_radius,
            "mind_d": self.mind_dilation,
            "lambda_weight": self.smoothness,
            "grid_sp": self.grid_voxels,
            "disp_hw": self.search_steps,
            "selected_niter": self.iterations,
            "grid_sp_adam": self.adam_grid_voxels,
            "ic": self.inverse_consistent,
        }
