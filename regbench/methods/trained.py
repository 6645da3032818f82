"""Networks that `regbench train` made: what a weight file tells, and the method that registers with it.

A weight file is a safetensors file with the model card of the training inside: network, grid, what it was trained on.
Both images are resampled through world coordinates onto the network's grid, and the displacement is read back on the
fixed grid; all of that is timed. The network's grid is the one of the training, where it was (so images must lie
roughly in the space of the training data; use `prealign: affine` otherwise), unless the card says that its
`placement` is 'fixed': then it has the spacing of the training and lies around the fixed image, wherever that is.

The networks that are shipped come as one file per dimension, `NAME-2d.safetensors` and `NAME-3d.safetensors`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import ConfigError, MethodDeclined, MethodError
from regbench.methods.card import Card
from regbench.methods.nets.trainable import NETWORKS, build_network, check_network, transformation_of
from regbench.pair import BlindPair
from regbench.volume import Grid, Image
from regbench.warp import band_limited, resample, sample_displacement

if TYPE_CHECKING:
    from torch import nn

SUFFIX = ".safetensors"
_PERCENTILE = 99.5
# A header that claims to be larger is none.
_LARGEST_HEADER = 100 << 20


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with the grid and the facts of its training."""

    network: nn.Module
    grid: Grid
    facts: dict[str, Any]

    def grid_for(self, fixed: Grid) -> Grid:
        """The grid on which the network sees images whose fixed one has this grid."""
        if self.facts["grid"].get("placement", "world") == "world":
            return self.grid
        return _grid_around(fixed, float(self.grid.spacing_mm.mean()), int(self.network.multiple))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Trained:
    """Registration by a network that `regbench train` made.

    `weights`: the model.safetensors of a training. In a config, `my-net: {weights: path/to/model.safetensors}` is this
    method under the name my-net.
    """

    weights: str
    device: Literal["cpu", "cuda"] = "cpu"
    _loaded: dict[int, TrainedNetwork] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        files = [path for ndim in (2, 3) if (path := weight_file(self.weights, ndim))]
        if not files:
            raise ConfigError(f"weights: '{self.weights}' is not a {SUFFIX} file that `regbench train` wrote")
        for path in files:
            _settings(read_facts(path), path)

    @classmethod
    def completed_card(cls, card: Card, parameters: Mapping[str, Any]) -> Card:
        """The card with what the weight file tells; the card of the shipped networks is complete already."""
        weights = str(parameters.get("weights", ""))
        path = weight_file(weights, card.dimensions[0]) if weights.endswith(SUFFIX) else None
        return card if path is None else card_of_weights(card, path)

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
        grid = trained.grid_for(pair.fixed.grid)
        with torch.inference_mode():
            fixed, moving = (
                torch.from_numpy(network_input(image, grid))[None, None].to(self.device)
                for image in (pair.fixed, pair.moving)
            )
            voxels = trained.network(fixed, moving)[0].movedim(0, -1).cpu().numpy()
        found = Displacement(voxels @ grid.linear.T, grid)
        if pair.fixed.grid.matches(grid):
            return Displacement(found.vectors_mm, pair.fixed.grid)
        return Displacement(sample_displacement(found, pair.fixed.grid.world_points()), pair.fixed.grid)


@dataclass(frozen=True)
class VoxelMorph(Trained):
    """The shipped VoxelMorph-style networks, trained on simulated brains with an image loss.

    `weights`: the name of a shipped pair of files (2-D and 3-D), or a safetensors file that `regbench train` wrote.
    """

    weights: str = "voxelmorph-cohort"


@dataclass(frozen=True)
class SupervisedVoxelMorph(VoxelMorph):
    """The same networks, trained with labels as well."""

    weights: str = "voxelmorph-cohort-sup"


# -- images and grids -----------------------------------------------------------------------------------


def network_input(image: Image, grid: Grid) -> np.ndarray:
    """The image on the network's grid with intensities from 0 to about 1, float32 (*grid.shape).

    A Gaussian takes out what the coarser grid cannot hold; the 99.5th percentile of the non-zero voxels maps to 1.
    """
    array = resample(band_limited(image, float(grid.spacing_mm.mean())), grid).array
    foreground = array[array > 0]
    top = float(np.percentile(foreground, _PERCENTILE)) if foreground.size else 1.0
    return np.clip(array / top, 0.0, 1.5).astype(np.float32)


def _grid_around(fixed: Grid, spacing_mm: float, multiple: int) -> Grid:
    """A grid of `spacing_mm` along the world axes around all of `fixed`, every axis a multiple of `multiple` voxels."""
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in fixed.shape], indexing="ij"))
    box = fixed.to_world(corners.reshape(fixed.ndim, -1).T)
    low, high = box.min(0), box.max(0)
    # A hair less, so that rounding adds no block of voxels to a box that fits.
    n_blocks = np.ceil((high - low) / (spacing_mm * multiple) - 1e-6).astype(int)
    shape = tuple(int(n) for n in multiple * np.maximum(n_blocks, 1))
    affine = np.diag([spacing_mm] * fixed.ndim + [1.0])
    affine[:-1, -1] = (low + high) / 2 - spacing_mm * (np.array(shape) - 1) / 2
    return Grid(shape, affine)


# -- weight files ---------------------------------------------------------------------------------------


def weight_file(weights: str, ndim: int) -> Path | None:
    """The path of a weight file: the user's own, or the shipped one of that name and dimension, or None.

    Raises ConfigError where the user's file is not there.
    """
    if weights.endswith(SUFFIX):
        path = Path(weights).expanduser()
        if not path.is_file():
            raise ConfigError(f"weights: there is no file {path}; `regbench train` writes it at the end of a training")
        return path
    shipped = Path(str(resources.files("regbench.methods") / "weights" / f"{weights}-{ndim}d{SUFFIX}"))
    return shipped if shipped.is_file() else None


def read_facts(path: Path) -> dict[str, Any]:
    """The model card inside a weight file, as plain data, read without any package; ConfigError if there is none."""
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = stream.read(length) if length < _LARGEST_HEADER else b""
        facts = json.loads(json.loads(header)["__metadata__"]["regbench"])
    except (OSError, ValueError, KeyError, TypeError):
        facts = None
    if not isinstance(facts, dict) or not {"network", "grid"} <= facts.keys():
        raise ConfigError(f"weights: {path} was not written by `regbench train`")
    return facts


def load_network(path: Path) -> TrainedNetwork:
    """The network of a weight file, ready for inference; ConfigError or MethodError if the file does not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    facts = read_facts(path)
    grid = Grid(tuple(facts["grid"]["shape"]), np.array(facts["grid"]["affine"]))
    network = build_network(_settings(facts, path), grid.ndim)
    multiple = int(network.multiple)  # type: ignore[arg-type]
    if any(n % multiple for n in grid.shape):
        shape = "x".join(str(n) for n in grid.shape)
        raise ConfigError(
            f"weights: {path}: its grid has {shape} voxels, and its network needs multiples of {multiple}"
        )
    try:
        state = {name: tensor.float() for name, tensor in load_file(str(path)).items()}
        network.load_state_dict(state, strict=True)
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise MethodError(f"weights: {path} do not fit the network that they name: {reason[:160]}") from error
    return TrainedNetwork(network.eval(), grid, facts)


def _settings(facts: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The checked settings of the network of a weight file; ConfigError if this regbench cannot build it."""
    return check_network(facts["network"], len(facts["grid"]["shape"]), f"weights: {path}: network")


def card_of_weights(card: Card, path: Path) -> Card:
    """A card completed with what a weight file tells: supervision, transformation, training data, licence."""
    facts = read_facts(path)
    settings, trained_on = _settings(facts, path), trained_on_of(facts)
    spacing = float(Grid(tuple(facts["grid"]["shape"]), np.array(facts["grid"]["affine"])).spacing_mm.mean())
    is_anywhere = facts["grid"].get("placement", "world") != "world"
    where = "around the fixed image" if is_anywhere else "; images must lie in the space of its training data"
    shape = "" if is_anywhere else " on " + "x".join(str(n) for n in facts["grid"]["shape"]) + " voxels"
    return dataclasses.replace(
        card,
        summary=f"{settings['kind']} network that `regbench train` made on {trained_on['dataset']}",
        supervision=facts.get("supervision", "image"),
        transformation=transformation_of(settings),
        citation=NETWORKS[settings["kind"]].citation,
        licence=str(facts.get("licence", "not stated")),
        dimensions=(len(facts["grid"]["shape"]),),
        trained_on=trained_on,
        weights=str(path),
        grids=f"any; read at {spacing:g} mm{shape}{where if where[0] == ';' else ' ' + where}",
    )


def trained_on_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a network was trained on: dataset, subjects and what else its card tells; `before`: earlier trainings.

    Trainings that it started from are listed unless they were on the same subjects.
    """
    found: dict[str, Any] = {"dataset": "not stated", **(facts.get("trained_on") or {})}
    if not facts.get("start"):
        return found
    earlier = trained_on_of(facts["start"])
    before = [*(found.get("before") or []), *(earlier.pop("before", None) or [])]
    if earlier != {key: value for key, value in found.items() if key != "before"}:
        before = [earlier, *before]
    return {**found, "before": before} if before else found
