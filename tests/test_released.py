"""What released networks share: what they get to see of any pair of grids, and the way back to the fixed grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from regbench.contract import phantom
from regbench.displacement import Displacement
from regbench.errors import ConfigError, MethodDeclined, MethodError
from regbench.methods.nets import spatial
from regbench.methods.released import (
    Convention,
    ReleasedNetwork,
    SameVoxels,
    brought_to,
    network_grid,
    network_input,
    normalised,
)
from regbench.methods.weights_table import WEIGHTS
from regbench.pair import BlindPair
from regbench.volume import Grid, Image

LIA = Convention("LIA", (24, 20, 28), spacing_mm=2.0, intensity="as-is")
WAYS = [(axes, flips) for axes in ((0, 1, 2), (2, 0, 1), (1, 0, 2)) for flips in ((), (0,), (1, 2), (0, 1, 2))]
# A linear map about the body, which linear interpolation on any grid follows exactly.
MATRIX = np.array([[0.06, 0.02, 0.0], [-0.03, 0.04, 0.05], [0.01, 0.0, -0.05]])


class Linear(nn.Module):
    """Gives the field x -> M (x - c) + t in voxels of its grid, and keeps what it was shown."""

    def __init__(self, field_mm: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.field_mm = field_mm
        self.grid: Grid | None = None
        self.seen: list[Tensor] = []

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        assert torch.is_inference_mode_enabled() and self.grid is not None
        self.seen = [fixed, moving]
        voxels = self.field_mm(self.grid.world_points()) @ np.linalg.inv(self.grid.linear).T
        return torch.from_numpy(voxels.astype(np.float32)).movedim(-1, 0)[None]


@dataclass(frozen=True)
class Toy(ReleasedNetwork):
    """A released network whose field is known."""

    network: Any = None
    wants: Convention = field(default=LIA)

    @property
    def convention(self) -> Convention:
        return self.wants

    @property
    def released_as(self) -> str:
        return "symnet-oasis"

    def make_network(self) -> nn.Module:
        return self.network

    def load_weights(self, network: nn.Module, path: Path) -> None:
        pass

    def fields(self, network: nn.Module, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor | None]:
        forward = network(fixed, moving)
        return forward, -forward


def _linear(points_mm: np.ndarray) -> np.ndarray:
    return (points_mm - phantom.CENTRE_MM) @ MATRIX.T + np.array([1.0, -2.0, 3.0])


def _registered(pair: BlindPair, wants: Convention = LIA) -> tuple[Displacement, Linear]:
    network = Linear(_linear)
    network.grid = network_grid(pair.fixed.grid, wants)
    method = Toy(weights=__file__, network=network, wants=wants)
    return method.register(pair), network


def _rearranged(image: Image, axes: tuple[int, ...], flips: tuple[int, ...]) -> Image:
    """The same image in world space, its voxels stored in another order."""
    change = np.eye(4)[[*axes, 3]].T
    array, shape = image.array.transpose(axes), tuple(image.array.shape[a] for a in axes)
    for axis in flips:
        turn = np.eye(4)
        turn[axis, axis], turn[axis, 3] = -1, shape[axis] - 1
        array, change = np.flip(array, axis), change @ turn
    return Image(np.ascontiguousarray(array), Grid(shape, image.grid.affine @ change))


def _grid(shape: tuple[int, ...], spacing_mm: float = 2.0) -> Grid:
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = phantom.CENTRE_MM - spacing_mm * (np.array(shape) - 1) / 2
    return Grid(shape, affine)


def _scene(grid: Grid) -> Image:
    return Image(phantom.scene(grid.world_points()), grid)


@pytest.mark.parametrize(("axes", "flips"), WAYS)
def test_whole_voxels_are_neither_interpolated_on_the_way_nor_on_the_way_back(
    axes: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    """However the fixed image is stored, the network sees the same voxels, and the field comes back to the bit."""
    plain = _scene(_grid((26, 30, 18)))
    fixed = _rearranged(plain, axes, flips)
    displacement, network = _registered(BlindPair("x", fixed, plain))
    assert network.grid is not None and network.grid.orientation == "LIA"
    reference, _ = _registered(BlindPair("x", plain, plain))
    assert torch.equal(network.seen[0], network.seen[1])
    stored = Image(reference.vectors_mm[..., 0], plain.grid)
    np.testing.assert_array_equal(displacement.vectors_mm[..., 0], _rearranged(stored, axes, flips).array)
    truth = _linear(fixed.grid.world_points())
    inside = _inside(fixed.grid, network.grid)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(displacement.vectors_mm[inside], truth[inside], atol=2e-5)


def _inside(grid: Grid, other: Grid) -> np.ndarray:
    voxel = other.to_voxel(grid.world_points())
    return ((voxel >= -1e-6) & (voxel <= np.array(other.shape) - 1 + 1e-6)).all(-1)


def test_oblique_grids_of_other_spacing_and_handedness() -> None:
    """A linear field is exact through interpolation, and both images reach the network where they are in the world."""
    pair = phantom.bent(3).blind()
    displacement, network = _registered(pair, Convention("LIA", (48, 48, 48), spacing_mm=2.0, intensity="as-is"))
    assert network.grid is not None and network.grid.orientation == "LIA"
    assert displacement.inverse is not None
    for found, grid, sign in ((displacement, pair.fixed.grid, 1), (displacement.inverse, pair.moving.grid, -1)):
        assert found.grid is grid
        inside = _inside(grid, network.grid)
        assert inside.mean() > 0.95
        truth = sign * _linear(grid.world_points())
        np.testing.assert_allclose(found.vectors_mm[inside], truth[inside], atol=1e-4)
    seen = network.seen[1][0, 0].numpy()
    truth = phantom.scene(network.grid.world_points())
    middle = truth > 0.3
    assert np.abs(seen - truth)[middle].mean() < 0.02


def test_the_grid_does_not_depend_on_how_an_oblique_image_is_stored() -> None:
    fixed = phantom.bent(3).fixed
    turned = _rearranged(fixed, (2, 0, 1), (0, 2))
    assert network_grid(turned.grid, LIA).matches(network_grid(fixed.grid, LIA), 1e-9)


def test_odd_and_even_crops_and_pads_keep_the_middle() -> None:
    for shape in ((24, 28, 20), (25, 31, 19), (60, 5, 33)):
        grid = network_grid(_grid(shape), LIA)
        assert grid.shape == LIA.shape
        middle = grid.to_world((np.array(grid.shape) - 1) / 2)
        assert np.abs(middle - phantom.CENTRE_MM).max() <= 1.0 + 1e-9


def test_a_multiple_holds_all_of_the_fixed_image() -> None:
    wants = Convention("LIA", (16, 16, 16), multiple=16, spacing_mm=2.0)
    for fixed in (_grid((17, 48, 30)), phantom.bent(3).fixed.grid):
        grid = network_grid(fixed, wants)
        assert all(n % 16 == 0 for n in grid.shape)
        assert _inside(fixed, grid).all()
    assert network_grid(_grid((17, 48, 30)), wants).shape == (32, 32, 48)


def test_beyond_its_grid_the_field_goes_on_as_it_is_at_the_border() -> None:
    image = _scene(_grid((30, 30, 30)))
    displacement, network = _registered(BlindPair("x", image, image))
    assert network.grid is not None
    first = np.round(image.grid.to_voxel(network.grid.to_world(np.array(network.grid.shape) - 1.0))).astype(int)
    # L, I, A against R, A, S: the last voxel of the network lies at the low end of x and z and the high end of y.
    i, j, k = first
    assert i > 0 and k > 0 and j < 29
    for outside in ((0, j, k), (i, 29, k), (i, j, 0), (0, 29, 0)):
        np.testing.assert_array_equal(displacement.vectors_mm[outside], displacement.vectors_mm[i, j, k])


def test_what_lies_outside_is_background() -> None:
    image = Image(_scene(_grid((10, 10, 10))).array - 1000, _grid((10, 10, 10)))
    for kind in ("as-is", "min-max"):
        seen = network_input(image, network_grid(image.grid, LIA), kind)
        assert seen.shape == LIA.shape and seen.dtype == np.float32
        assert (seen[0] == seen.min()).all()
    assert seen.min() == 0 and seen.max() == 1


def test_finer_images_are_smoothed_before_they_are_read() -> None:
    """A chessboard of 1 mm is grey at 4 mm."""
    # Odd shapes, so that voxels of both grids coincide in the middle.
    grid = _grid((49, 49, 49), 1.0)
    chess = Image((np.indices(grid.shape).sum(0) % 2).astype(np.float32), grid)
    seen = network_input(chess, network_grid(grid, Convention("RAS", (9, 9, 9), spacing_mm=4.0)), "as-is")
    np.testing.assert_allclose(seen, 0.5, atol=0.01)


def test_intensities() -> None:
    array = np.linspace(-10, 90, 1001, dtype=np.float32)
    np.testing.assert_allclose(normalised(array, "min-max"), np.linspace(0, 1, 1001), atol=1e-6)
    np.testing.assert_allclose(normalised(array, "divide-255"), array / 255, atol=1e-6)
    np.testing.assert_array_equal(normalised(array, "as-is"), array)
    top = float(np.percentile(array[array > 0], 99.5))
    np.testing.assert_allclose(normalised(array, "percentile"), np.clip(array / top, 0, 1), atol=1e-6)
    for kind in ("min-max", "percentile"):
        assert (normalised(np.full(5, -3.0), kind) == 0).all()


def test_inputs_stay_as_they_are() -> None:
    image = _scene(_grid(tuple(LIA.shape[a] for a in (0, 2, 1))))
    before = image.array.copy()
    _registered(BlindPair("x", image, image), Convention("LIA", LIA.shape, spacing_mm=2.0))
    np.testing.assert_array_equal(image.array, before)


def test_same_voxels_are_those_that_coincide() -> None:
    grid = _grid((6, 7, 8))
    shifted = np.array(grid.affine)
    shifted[0, 3] += 0.5
    assert SameVoxels.of(grid, grid) is not None
    assert SameVoxels.of(Grid(grid.shape, shifted), grid) is None
    assert SameVoxels.of(Grid(grid.shape, grid.affine @ np.diag([1, 1, 1.01, 1])), grid) is None
    oblique = phantom.bent(3)
    assert SameVoxels.of(oblique.fixed.grid, oblique.moving.grid) is None


def test_vectors_between_voxels_are_interpolated_in_two_dimensions_too() -> None:
    grid = Grid.from_spacing((9, 8), (2.0, 3.0))
    vectors = np.stack([grid.world_points().sum(-1), grid.world_points()[..., 1]], -1).astype(np.float32)
    inner = Grid((5, 5), np.array([[0.9, 0.5, 3.0], [-0.5, 0.9, 6.0], [0, 0, 1]]))
    found = brought_to(inner, vectors, grid)
    np.testing.assert_allclose(found[..., 0], inner.world_points().sum(-1), atol=1e-5)
    np.testing.assert_allclose(found[..., 1], inner.world_points()[..., 1], atol=1e-5)


def test_beyond_the_border_interpolated_vectors_are_constant_too() -> None:
    grid = Grid.from_spacing((5, 5))
    vectors = grid.world_points().astype(np.float32)
    wider = Grid((16, 16), np.array([[0.7, 0, -3.1], [0, 0.7, -2.3], [0, 0, 1]]))
    np.testing.assert_allclose(brought_to(wider, vectors, grid), np.clip(wider.world_points(), 0, 4), atol=1e-5)


@pytest.mark.parametrize("shape", [(9, 7), (10, 6, 7)])
@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_flows_by_the_row_are_those_of_the_whole(
    shape: tuple[int, ...], padding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spatial, "_SLAB_POINTS", 50)
    torch.manual_seed(1)
    image, first, second = (torch.randn(1, n, *shape) for n in (4, len(shape), len(shape)))
    whole = spatial.warp(image, first, padding=padding)
    for rows in (slice(0, 3), slice(4, 9)):
        found = spatial.warped_rows(image, first, rows, padding)
        torch.testing.assert_close(found, whole[:, :, rows], atol=1e-5, rtol=0)
    both = first + spatial.warp(second, first, padding=padding)
    torch.testing.assert_close(spatial.composed(first.clone(), second, padding), both, atol=1e-5, rtol=0)
    if padding == "border":
        flow = spatial.integrate(second, 4)
        torch.testing.assert_close(spatial.integrated(second.clone(), 4), flow, atol=1e-5, rtol=0)


def test_threads_change_no_bit() -> None:
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(_registered(phantom.bent(3).blind())[0].vectors_mm)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*results)


def test_what_cannot_be_done_is_declined_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGBENCH_CACHE", str(tmp_path))
    image = _scene(_grid((8, 8, 8)))
    toy = Toy(network=Linear(_linear))
    with pytest.raises(MethodDeclined, match=r"for 3-D images; this pair is 2-D"):
        toy.register(phantom.bent(2).blind())
    with pytest.raises(MethodDeclined, match=r"weights are not here yet: regbench weights fetch symnet-oasis$"):
        toy.register(BlindPair("x", image, image))
    with pytest.raises(MethodError, match="there is no file"):
        Toy(weights=str(tmp_path / "none.pth"), network=Linear(_linear)).prepare()
    with pytest.raises(ConfigError, match="precision fp16 is for GPUs"):
        Toy(precision="fp16")
    if not torch.cuda.is_available():
        with pytest.raises(MethodDeclined, match="torch finds no CUDA GPU"):
            Toy(device="cuda").prepare()


def test_fetched_weights_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGBENCH_CACHE", str(tmp_path))
    path = WEIGHTS["symnet-oasis"].path
    path.parent.mkdir(parents=True)
    path.touch()
    toy = Toy(network=Linear(_linear))
    assert toy.weight_file() == path
    toy.prepare()
    assert toy.model_size() == (3, 12 / 2**20)


def test_a_file_of_other_content_is_one_sentence(tmp_path: Path) -> None:
    from regbench.methods.symnet import SymnetOasis

    path = tmp_path / "own.pth"
    path.write_text("no weights")
    with pytest.raises(MethodError, match=r"own.pth: not the weights of symnet-oasis: ") as caught:
        SymnetOasis(weights=str(path)).prepare()
    assert "\n" not in str(caught.value)
    torch.save({"eninput.0.weight": torch.zeros(7, 2, 3, 3, 3)}, path)
    with pytest.raises(MethodError, match="Missing key"):
        SymnetOasis(weights=str(path)).prepare()
