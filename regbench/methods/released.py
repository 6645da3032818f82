"""Networks that others trained and released: what each wants to see, and the way there and back.

What a network was made for is its `Convention`, plain data. `ReleasedNetwork` is the method that all of them share; a
subclass names its convention and its weights, and builds its module. Per pair:

1. The network's grid: orientation and spacing of the training, along the world axes, centred on the fixed image. Where
   the fixed voxels have that spacing and lie along the world axes already (to a degree and a percent), the grid is
   made of them: turned, cropped and padded, so nothing is interpolated.
2. Both images are read there, linearly through world coordinates, `band_limited` first where their voxels are
   smaller; what lies outside an image is its smallest value. Then intensities are normalised.
3. The network runs under `inference_mode`, and its field, in voxels of its grid, becomes mm.
4. The field is read back on the fixed grid: voxel by voxel where the grid was made of fixed voxels, else linearly.
   Beyond the network's grid it goes on as the constant of its border.

All of that is timed. Weights are the user's own file or the download of `regbench weights fetch`, loaded once
per worker.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import ConfigError, MethodDeclined, MethodError
from regbench.methods.weights_table import WEIGHTS
from regbench.pair import BlindPair
from regbench.slabs import Scratch, map_slabs
from regbench.volume import Grid, Image
from regbench.warp import Places, band_limited, clip_to_grid, linear_samples, resample
from regbench.weights import fetched_path

if TYPE_CHECKING:
    from torch import Tensor, nn

Intensity = Literal["min-max", "percentile", "divide-255", "as-is"]
Precision = Literal["fp32", "fp16", "bf16"]

_PERCENTILE = 99.5
_ALIGNED_DEGREES = 1.0
_SAME_SPACING = 0.01
_ON_VOXEL = 1e-3
_DIRECTIONS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True)
class Convention:
    """What a released network was made for.

    `orientation`: the world directions of its array axes, such as 'LIA' (2-D: two letters, as `Grid.orientation`).
    `shape`: the grid that it was trained on, which it always gets, unless `multiple` is given: then any grid will do
    whose axes are multiples of that, and it gets the smallest one that holds the fixed image.
    `intensity`: 'min-max' of each image on the network's grid to 0..1; 'percentile' 99.5 of the positive voxels to 1,
    clipped there; 'divide-255'; 'as-is'.
    """

    orientation: str
    shape: tuple[int, ...]
    multiple: int | None = None
    spacing_mm: float = 1.0
    intensity: Intensity = "min-max"

    @property
    def ndim(self) -> int:
        return len(self.shape)


@dataclass(frozen=True)
class ReleasedNetwork(ABC):
    """The shared part of all released networks; not a method of its own.

    `device: cuda` runs it on a GPU, where `precision` may be fp16 or bf16. `weights`: the path of a file of your own in
    the released format, instead of the one that `regbench weights fetch` downloads.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    precision: Precision = "fp32"
    weights: str | None = None
    # Holds one module; the type would need torch.
    _loaded: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.precision != "fp32" and self.device == "cpu":
            raise ConfigError(f"precision {self.precision} is for GPUs; set `device: cuda`, or `precision: fp32`")

    # -- what a subclass says -------------------------------------------------------------------------

    @property
    def convention(self) -> Convention:
        """What the network was made for, under the parameters of this method; MethodError if it wants no images."""
        raise MethodError(f"{self.released_as} is not fed with images on a grid of its own")

    @property
    @abstractmethod
    def released_as(self) -> str:
        """The name of the network's weights in `regbench.methods.weights_table`."""

    @abstractmethod
    def make_network(self) -> nn.Module:
        """The module, its weights of no meaning yet; imports torch.

        It takes fixed and moving image, (1, 1, *shape), and gives the displacement in voxels, channel i along array
        axis i, whatever units, order of channels and order of arguments its authors have.
        """

    def load_weights(self, network: nn.Module, path: Path) -> None:
        """Fills the module from a released file; anything that does not fit raises."""
        import torch

        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)

    def fields(self, network: nn.Module, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor | None]:
        """The field (1, ndim, *shape) in voxels, and the one of the other direction if the network gives both.

        Images are (1, 1, *shape); this is called under `inference_mode`.
        """
        return network(fixed, moving), None

    # -- the method -----------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Loads the network, so that `register` finds it in memory."""
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise MethodDeclined("device is cuda, and torch finds no CUDA GPU; use `device: cpu`")
        path = self.weight_file()
        network = self.make_network()
        try:
            self.load_weights(network, path)
        except Exception as error:  # torch, h5py and zipfile raise what they like on a file that does not fit
            reason = " ".join(str(error).split()) or type(error).__name__
            raise MethodError(f"{path}: not the weights of {self.released_as}: {reason[:160]}") from error
        self._loaded[:] = [network.eval().requires_grad_(False).to(self.device)]

    def weight_file(self) -> Path:
        """The user's file or the downloaded one; MethodDeclined with the line that fetches it, if it is not there."""
        if self.weights is not None:
            path = Path(self.weights).expanduser()
            if not path.is_file():
                raise MethodError(f"weights: there is no file {path}")
            return path
        found = fetched_path(WEIGHTS[self.released_as])
        if found is None:
            raise MethodDeclined(f"its weights are not here yet: regbench weights fetch {self.released_as}")
        return found

    def model_size(self) -> tuple[int, float]:
        """Number of parameters, and MiB of weights in memory."""
        weights = [tensor for network in self._loaded for tensor in network.parameters()]
        n_bytes = sum(weight.numel() * weight.element_size() for weight in weights)
        return sum(weight.numel() for weight in weights), n_bytes / 2**20

    def register(self, pair: BlindPair) -> Displacement:
        """The displacement on the fixed grid in mm, and its inverse on the moving grid where the network gives both."""
        convention = self.convention
        if pair.ndim != convention.ndim:
            raise MethodDeclined(f"{self.released_as} is for {convention.ndim}-D images; this pair is {pair.ndim}-D")
        if not self._loaded:
            self.prepare()
        grid = network_grid(pair.fixed.grid, convention)
        forward, back = self._on_network_grid(pair, grid)
        inverse = None if back is None else Displacement(brought_to(pair.moving.grid, back, grid), pair.moving.grid)
        return Displacement(brought_to(pair.fixed.grid, forward, grid), pair.fixed.grid, inverse)

    def _on_network_grid(self, pair: BlindPair, grid: Grid) -> tuple[np.ndarray, np.ndarray | None]:
        """The fields of both directions in mm on the network's grid, (*shape, ndim) float32."""
        import torch

        convention = self.convention
        fixed, moving = (
            torch.from_numpy(network_input(image, grid, convention.intensity))[None, None].to(self.device)
            for image in (pair.fixed, pair.moving)
        )
        with torch.inference_mode(), self._autocast():
            found = self.fields(self._loaded[0], fixed, moving)
            del fixed, moving
            forward, back = (None if one is None else vectors_mm(one, grid) for one in found)
        assert forward is not None
        return forward, back

    def _autocast(self) -> Any:
        import torch

        kinds = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
        return torch.autocast(self.device, kinds[self.precision], enabled=self.precision != "fp32")


def network_grid(fixed: Grid, convention: Convention) -> Grid:
    """The grid in world space that a network gets for a fixed image."""
    turned = _turned(fixed, convention)
    if turned is None:
        turned = _upright(fixed, convention)
    shape = _network_shape(turned.shape, convention)
    # The middle stays the middle; what is left over of odd differences goes to the end.
    start = [(have - want) // 2 for have, want in zip(turned.shape, shape, strict=True)]
    affine = np.array(turned.affine)
    affine[:-1, -1] = turned.to_world(np.array(start, dtype=float))
    return Grid(shape, affine)


def _network_shape(shape: tuple[int, ...], convention: Convention) -> tuple[int, ...]:
    if convention.multiple is None:
        return convention.shape
    return tuple(-(-n // convention.multiple) * convention.multiple for n in shape)


def _directions(convention: Convention) -> np.ndarray:
    """The unit world vectors of the network's axes, as columns."""
    directions = np.zeros((convention.ndim, convention.ndim))
    for axis, letter in enumerate(convention.orientation):
        world, sign = _DIRECTIONS[letter]
        directions[world, axis] = sign
    return directions


def _turned(fixed: Grid, convention: Convention) -> Grid | None:
    """The fixed grid with its axes exchanged and reversed as the network wants them; None if that is not enough."""
    aligned = (fixed.linear / fixed.spacing_mm).T @ _directions(convention)
    nearest = np.abs(aligned).argmax(axis=0)
    n = convention.ndim
    cosines = aligned[nearest, np.arange(n)]
    is_upright = np.abs(cosines).min() >= np.cos(np.deg2rad(_ALIGNED_DEGREES))
    has_spacing = np.abs(fixed.spacing_mm / convention.spacing_mm - 1).max() <= _SAME_SPACING
    if not (is_upright and has_spacing):
        return None
    change = np.zeros((n + 1, n + 1))
    change[-1, -1] = 1
    for axis, source in enumerate(nearest):
        change[source, axis] = np.sign(cosines[axis])
        if cosines[axis] < 0:
            change[source, -1] = fixed.shape[source] - 1
    return Grid(tuple(fixed.shape[source] for source in nearest), fixed.affine @ change)


def _upright(fixed: Grid, convention: Convention) -> Grid:
    """The smallest grid of the network's orientation and spacing that holds the fixed one, with its middle."""
    directions = _directions(convention)
    last = np.array(fixed.shape) - 1.0
    half_mm = (np.abs(directions.T @ fixed.linear) * last / 2).sum(axis=1)
    shape = tuple(int(n) for n in np.ceil(2 * half_mm / convention.spacing_mm - _ON_VOXEL) + 1)
    affine = np.eye(convention.ndim + 1)
    affine[:-1, :-1] = directions * convention.spacing_mm
    affine[:-1, -1] = fixed.to_world(last / 2) - affine[:-1, :-1] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def network_input(image: Image, grid: Grid, intensity: Intensity) -> np.ndarray:
    """The image on the network's grid with normalised intensities, float32 (*grid.shape)."""
    background = float(image.array.min())
    same = SameVoxels.of(grid, image.grid)
    if same is not None:
        array = same.taken(image.array, background)
    else:
        array = resample(band_limited(image, grid.spacing_mm), grid, outside=background).array
    return normalised(array, intensity)


def normalised(array: np.ndarray, intensity: Intensity) -> np.ndarray:
    """Intensities as `Convention.intensity` says, float32; an image without contrast becomes 0."""
    low, scale = 0.0, 1.0
    if intensity == "min-max":
        low = float(array.min())
        scale = float(array.max()) - low
    elif intensity == "percentile":
        positive = array[array > 0]
        scale = float(np.percentile(positive, _PERCENTILE)) if positive.size else 0.0
    elif intensity == "divide-255":
        scale = 255.0
    result = np.subtract(array, low, dtype=np.float32)
    result *= np.float32(1 / scale if scale > 0 else 0.0)
    return np.clip(result, 0, 1, out=result) if intensity == "percentile" else result


def vectors_mm(field: Tensor, grid: Grid) -> np.ndarray:
    """The vectors of a field (1, ndim, *shape) in voxels as mm, (*shape, ndim) float32."""
    channels = field[0].float().cpu().numpy()
    vectors = np.zeros((*channels.shape[1:], len(channels)), np.float32)
    for world, row in enumerate(grid.linear):
        for channel, factor in zip(channels, row, strict=True):
            if factor:
                vectors[..., world] += np.float32(factor) * channel
    return vectors


def brought_to(target: Grid, vectors: np.ndarray, grid: Grid) -> np.ndarray:
    """Vectors (*grid.shape, ndim) at the voxels of another grid, (*target.shape, ndim); constant beyond the border."""
    same = SameVoxels.of(target, grid)
    if same is not None:
        return same.taken(vectors)
    import torch

    out = np.empty((*target.shape, target.ndim), np.float32)
    places = Places(target, grid, grid.inverse @ target.affine)

    def work(rows: slice, scratch: Scratch) -> None:
        coordinates = places.coordinates(rows, scratch)
        clip_to_grid(coordinates, grid.shape, scratch)
        out[rows] = linear_samples(vectors, np.stack(coordinates, axis=-1), scratch)

    map_slabs(work, places.slabs(), torch.get_num_threads())
    return out


@dataclass(frozen=True, eq=False)
class SameVoxels:
    """Two grids whose voxels coincide: which voxel of the source each one of the target is, axis by axis.

    `order[a]` is the source axis along target axis a; `index[a]` the source voxel of each target voxel along it,
    which may lie outside the source.
    """

    order: tuple[int, ...]
    index: tuple[np.ndarray, ...]
    source_shape: tuple[int, ...]

    @classmethod
    def of(cls, target: Grid, source: Grid) -> SameVoxels | None:
        """How the voxels of two grids coincide, or None if they do not (to a thousandth of a voxel)."""
        n = target.ndim
        chain = source.inverse @ target.affine
        order = np.abs(chain[:-1, :-1]).argmax(axis=0)
        whole = np.zeros((n, n + 1))
        whole[order, np.arange(n)] = np.sign(chain[order, np.arange(n)])
        whole[:, -1] = np.rint(chain[:-1, -1])
        # Of an affine difference, no voxel is further off than the sum over the axes.
        off = np.abs(chain[:-1] - whole) @ np.array([*target.shape, 1.0])
        if len(set(order.tolist())) < n or off.max() > _ON_VOXEL:
            return None
        index = tuple(
            (whole[source_axis, axis] * np.arange(size) + whole[source_axis, -1]).astype(np.intp)
            for axis, (source_axis, size) in enumerate(zip(order, target.shape, strict=True))
        )
        return cls(tuple(int(axis) for axis in order), index, source.shape)

    def taken(self, array: np.ndarray, outside: float | None = None) -> np.ndarray:
        """The source array (*shape, ...) at the target's voxels; beyond it the nearest voxel, or `outside` if given."""
        n = len(self.order)
        trailing = range(n, array.ndim)
        sizes = [self.source_shape[axis] for axis in self.order]
        clipped = [np.clip(index, 0, size - 1) for index, size in zip(self.index, sizes, strict=True)]
        result = np.ascontiguousarray(array.transpose(*self.order, *trailing)[np.ix_(*clipped)])
        if outside is not None:
            for axis, (index, size) in enumerate(zip(self.index, sizes, strict=True)):
                np.moveaxis(result, axis, 0)[(index < 0) | (index >= size)] = outside
        return result
