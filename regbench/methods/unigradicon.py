"""`unigradicon`: one network for many kinds of scans, through the package of its authors.

Both images are taken as arrays, wherever they lie: each is brought to 175 voxels along every axis, and the map between
the two cubes becomes a displacement through the voxels of either. Images whose arrays do not run the same way (another
orientation, another field of view) should be pre-aligned and resampled first. The package gets arrays with the axes
reversed, as ITK gives them to it.

Source: Tian et al., uniGradICON, MICCAI 2024; github.com/uncbiag/uniGradICON, used as an installed package only.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import MethodDeclined, MethodError
from regbench.pair import BlindPair
from regbench.volume import Grid, Image
from regbench.warp import sample_displacement

if TYPE_CHECKING:
    from torch import Tensor

_WEIGHTS = "https://github.com/uncbiag/uniGradICON/releases/download/unigradicon_weights/Step_2_final.trch"
_CT_WINDOW = (-1000.0, 1000.0)
_QUANTILE = 0.99


@dataclass(frozen=True)
class UniGradIcon:
    """Registration by uniGradICON.

    `weights`: its file Step_2_final.trch, which its authors release. `modality`: `mri` clips each image from its
    minimum to its 99th percentile, `ct` from -1000 to 1000. `inverse` gives the other direction as well, in twice the
    time. Nothing is optimised per pair.
    """

    weights: str | None = None
    modality: Literal["mri", "ct"] = "mri"
    inverse: bool = False
    device: Literal["cpu", "cuda"] = "cpu"
    # Holds the network of the package; the type would need torch.
    _loaded: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def prepare(self) -> None:
        """Builds the network of the package and loads the weights."""
        if self.weights is None:
            raise MethodDeclined(
                f"unigradicon needs the file of its weights: get {_WEIGHTS}, give its path as `weights`"
            )
        path = Path(self.weights).expanduser()
        if not path.is_file():
            raise MethodError(f"weights: there is no file {path}")
        # What the package says while it is imported must not be taken for results.
        with contextlib.redirect_stdout(sys.stderr):
            unigradicon: Any = importlib.import_module("unigradicon")
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise MethodDeclined("device is cuda, and torch finds no CUDA GPU; use `device: cpu`")
        network = unigradicon.make_network(unigradicon.input_shape, include_last_step=True)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            network.regis_net.load_state_dict(state, strict=True)
        except Exception as error:  # torch and zipfile raise what they like on a file that does not fit
            reason = " ".join(str(error).split()) or type(error).__name__
            raise MethodError(f"{path}: not the weights of uniGradICON: {reason[:160]}") from error
        self._loaded[:] = [network.to(self.device).eval().requires_grad_(False)]

    def model_size(self) -> tuple[int, float]:
        """Number of parameters, and MiB of weights in memory."""
        weights = [tensor for network in self._loaded for tensor in network.parameters()]
        n_bytes = sum(weight.numel() * weight.element_size() for weight in weights)
        return sum(weight.numel() for weight in weights), n_bytes / 2**20

    def register(self, pair: BlindPair) -> Displacement:
        """The displacement on the fixed grid in mm, with its inverse where that is asked for."""
        if not self._loaded:
            self.prepare()
        fixed, moving = self._seen(pair.fixed), self._seen(pair.moving)
        found = self._displacement(fixed, moving, pair.fixed.grid, pair.moving.grid)
        inverse = self._displacement(moving, fixed, pair.moving.grid, pair.fixed.grid) if self.inverse else None
        return Displacement(found.vectors_mm, pair.fixed.grid, inverse)

    def _seen(self, image: Image) -> Tensor:
        """The image as the network gets it, (1, 1, *cube), axes reversed."""
        import torch
        from torch.nn import functional

        array = image.array.T.astype(np.float32)
        low, high = _CT_WINDOW if self.modality == "ct" else (float(array.min()), quantile(array, _QUANTILE))
        if high <= low:
            raise MethodError("an image has the same value almost everywhere; there is nothing to match")
        scaled = torch.from_numpy((np.clip(array, low, high) - low) / (high - low))[None, None]
        cube = tuple(self._loaded[0].identity_map.shape[2:])
        return functional.interpolate(scaled, size=cube, mode="trilinear", align_corners=False).to(self.device)

    def _displacement(self, fixed: Tensor, moving: Tensor, fixed_grid: Grid, moving_grid: Grid) -> Displacement:
        """The displacement on a grid of the map that the network finds from its cube to that of the other image."""
        import torch

        network = self._loaded[0]
        identity = network.identity_map
        # The package looks at this mark, which copies of a tensor do not keep.
        identity.isIdentity = True
        with torch.inference_mode():
            there = network.regis_net(moving, fixed)(identity)
            steps = (there - identity)[0].float().cpu().numpy()
        cube = steps.shape[1:][::-1]
        # Channels and axes of the package run from the last axis of ours to the first, in parts of a cube's edge.
        vectors = steps[::-1].T * (np.array(cube, dtype=np.float32) - 1)
        targets = _targets(np.ascontiguousarray(vectors), fixed_grid, moving_grid)
        return Displacement.from_targets(targets, fixed_grid)


def _targets(vectors: np.ndarray, fixed: Grid, moving: Grid) -> np.ndarray:
    """Where each fixed voxel goes in mm, (*fixed.shape, 3), from vectors (*cube, 3) in voxels of the cube."""
    cube = np.array(vectors.shape[:-1], dtype=float)
    field = Displacement(vectors, Grid(vectors.shape[:-1], np.eye(4)))
    # Whole images were brought to the cube: their outer faces coincide with those of it, not their outer voxels.
    lines = [(np.arange(n) + 0.5) * edge / n - 0.5 for n, edge in zip(fixed.shape, cube, strict=True)]
    places = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1)
    there = places + sample_displacement(field, places)
    return moving.to_world((there + 0.5) * np.array(moving.shape) / cube - 0.5)


def quantile(array: np.ndarray, share: float) -> float:
    """The smallest value of an array that at least this share of its values do not exceed, as the package takes it."""
    values = array.ravel()
    rank = max(1, min(int(share * values.size), values.size))
    return float(np.partition(values, rank - 1)[rank - 1])
