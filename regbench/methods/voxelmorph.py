"""VoxelMorph-style networks that regbench trained itself, on the training subjects of `mni-cohort`.

One weight file per dimension. Both images are resampled through world coordinates onto the grid that the
network was trained on, and the displacement is read back on the fixed grid; all of that is timed. The
images must lie roughly in MNI space (use `prealign: affine` otherwise).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import MethodDeclined, MethodError
from regbench.pair import BlindPair
from regbench.volume import Grid, Image
from regbench.warp import band_limited, resample, sample_displacement

if TYPE_CHECKING:
    from regbench.methods.nets.unet import RegistrationUNet

_PERCENTILE = 99.5


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with the grid and the settings that it was trained with."""

    network: RegistrationUNet
    grid: Grid
    facts: dict[str, Any]


@dataclass(frozen=True)
class VoxelMorph:
    """Registration by a trained network.

    `weights`: a safetensors file that `regbench train` wrote, or the name of a shipped pair of files (2-D and 3-D).
    """

    weights: str = "voxelmorph-cohort"
    device: Literal["cpu", "cuda"] = "cpu"
    _loaded: dict[int, TrainedNetwork] = field(default_factory=dict, init=False, repr=False, compare=False)

    def prepare(self) -> None:
        """Loads the weights of every dimension there is, so that `register` finds them in memory."""
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise MethodDeclined("device is cuda, and torch finds no CUDA GPU; use `device: cpu`")
        for ndim in (2, 3):
            path = weight_file(self.weights, ndim)
            if path is not None:
                trained = load_network(path)
                trained.network.to(self.device)
                self._loaded[trained.grid.ndim] = trained
        if not self._loaded:
            raise MethodError(f"voxelmorph: no weights '{self.weights}'; give a .safetensors file that regbench wrote")

    def model_size(self) -> tuple[int, float]:
        """Number of parameters, and MiB of weights in memory, of all networks that are loaded."""
        weights = [p for trained in self._loaded.values() for p in trained.network.parameters()]
        n_bytes = sum(weight.numel() * weight.element_size() for weight in weights)
        return sum(weight.numel() for weight in weights), n_bytes / 2**20

    def register(self, pair: BlindPair) -> Displacement:
        """The displacement on the fixed grid in mm."""
        import torch

        if not self._loaded:
            self.prepare()
        trained = self._loaded.get(pair.ndim)
        if trained is None:
            raise MethodDeclined(f"weights '{self.weights}' are not for {pair.ndim}-D images")
        with torch.inference_mode():
            fixed, moving = (
                torch.from_numpy(network_input(image, trained.grid))[None, None].to(self.device)
                for image in (pair.fixed, pair.moving)
            )
            voxels = trained.network(fixed, moving)[0].movedim(0, -1).cpu().numpy()
        on_trained_grid = Displacement(voxels @ trained.grid.linear.T, trained.grid)
        if pair.fixed.grid.matches(trained.grid):
            return Displacement(on_trained_grid.vectors_mm, pair.fixed.grid)
        return Displacement(sample_displacement(on_trained_grid, pair.fixed.grid.world_points()), pair.fixed.grid)


@dataclass(frozen=True)
class SupervisedVoxelMorph(VoxelMorph):
    """The same network, trained with labels as well."""

    weights: str = "voxelmorph-cohort-sup"


def network_input(image: Image, grid: Grid) -> np.ndarray:
    """The image on the network's grid with intensities from 0 to about 1, float32 (*grid.shape).

    A Gaussian takes out what the coarser grid cannot hold; the 99.5th percentile of the non-zero voxels maps to 1.
    """
    array = resample(band_limited(image, float(grid.spacing_mm.mean())), grid).array
    foreground = array[array > 0]
    top = float(np.percentile(foreground, _PERCENTILE)) if foreground.size else 1.0
    return np.clip(array / top, 0.0, 1.5).astype(np.float32)


def weight_file(weights: str, ndim: int) -> Path | None:
    """The path of a weight file: the user's own, or the shipped one of that name and dimension, or None."""
    if weights.endswith(".safetensors"):
        path = Path(weights).expanduser()
        if not path.is_file():
            raise MethodError(f"voxelmorph: weights {path} do not exist")
        return path
    shipped = Path(str(resources.files("regbench.methods") / "weights" / f"{weights}-{ndim}d.safetensors"))
    return shipped if shipped.is_file() else None


def read_facts(path: Path) -> dict[str, Any]:
    """The model card inside a weight file, as plain data, without loading torch."""
    from safetensors import safe_open

    with safe_open(str(path), framework="numpy") as stored:
        metadata = stored.metadata() or {}
    if "regbench" not in metadata:
        raise MethodError(f"voxelmorph: {path.name} was not written by `regbench train`")
    return dict(json.loads(metadata["regbench"]))


def load_network(path: Path) -> TrainedNetwork:
    """The network of a weight file, ready for inference; MethodError if the file does not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from regbench.methods.nets.unet import RegistrationUNet

    try:
        facts = read_facts(path)
        settings = facts["network"]
        network = RegistrationUNet(settings["ndim"], tuple(settings["channels"]), settings["squarings"])
        state = {name: tensor.float() for name, tensor in load_file(str(path)).items()}
        network.load_state_dict(state, strict=True)
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        raise MethodError(f"voxelmorph: {path.name} cannot be loaded: {str(error).splitlines()[0]}") from error
    grid = Grid(tuple(facts["grid"]["shape"]), np.array(facts["grid"]["affine"]))
    return TrainedNetwork(network.eval(), grid, facts)
