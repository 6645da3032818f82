"""`unigradicon` with a package of the same interface in its place: conventions of the map, preprocessing, refusals."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regbench.errors import MethodDeclined, MethodError
from regbench.methods.unigradicon import UniGradIcon, quantile
from regbench.pair import BlindPair
from regbench.volume import Grid, Image

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

CUBE = 20
FIXED = Grid((10, 14, 12), np.array([[-2.0, 0, 0, 5], [0, 0, 1.5, -3], [0, 2.5, 0, 1], [0, 0, 0, 1]]))
MOVING = Grid((16, 11, 13), np.diag([1.0, 2.0, 3.0, 1.0]))
# The map of the stand-in, in parts of the cube's edge: channel and axis 0 is the last axis of regbench's arrays.
MATRIX = np.array([[0.05, 0.02, 0.0], [-0.03, 0.04, 0.01], [0.0, 0.02, -0.05]])
SHIFT = np.array([0.03, -0.02, 0.01])


class Inner(nn.Module):
    """Gives the map q -> q + M (q - 1/2) + t, and keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.seen: list[Any] = []

    def forward(self, image_a: Any, image_b: Any) -> Any:
        self.seen.append((image_a, image_b))

        def moved(places: Any) -> Any:
            assert places.isIdentity
            steps = torch.einsum("ij,bjxyz->bixyz", torch.tensor(MATRIX, dtype=torch.float32), places - 0.5)
            return places + steps + torch.tensor(SHIFT, dtype=torch.float32).view(1, 3, 1, 1, 1)

        return moved


class Outer(nn.Module):
    def __init__(self, shape: list[int]) -> None:
        super().__init__()
        self.regis_net = Inner()
        lines = [torch.linspace(0, 1, n) for n in shape[2:]]
        self.register_buffer("identity_map", torch.stack(torch.meshgrid(*lines, indexing="ij"))[None])


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    package = types.ModuleType("unigradicon")
    package.input_shape = [1, 1, CUBE, CUBE, CUBE]  # type: ignore[attr-defined]

    def make_network(shape: list[int], include_last_step: bool) -> Outer:
        assert include_last_step
        return Outer(shape)

    package.make_network = make_network  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "unigradicon", package)
    torch.save({"weight": torch.ones(2)}, tmp_path / "Step_2_final.trch")
    return str(tmp_path / "Step_2_final.trch")


def pair() -> BlindPair:
    random = np.random.default_rng(0)
    fixed, moving = (random.random(grid.shape, np.float32) for grid in (FIXED, MOVING))
    # Brighter than what is not clipped.
    fixed[0, 0, 0] = 50.0
    return BlindPair("p", Image(fixed, FIXED), Image(moving, MOVING))


def targets(points_mm: np.ndarray, fixed: Grid, moving: Grid) -> np.ndarray:
    """Where the map sends world points, by its definition: parts of the image, cell by cell, last axis first."""
    part = (fixed.to_voxel(points_mm) + 0.5) / np.array(fixed.shape)
    # In the cube, the first voxel is 0 and the last one 1.
    place = np.clip((part * CUBE - 0.5) / (CUBE - 1), 0, 1)[..., ::-1]
    step = (place - 0.5) @ MATRIX.T + SHIFT
    there = part + step[..., ::-1] * (CUBE - 1) / CUBE
    return moving.to_world(there * np.array(moving.shape) - 0.5)


def test_the_map_of_the_package_becomes_a_displacement_between_both_images(weights: str) -> None:
    method = UniGradIcon(weights=weights, inverse=True)
    found = method.register(pair())
    np.testing.assert_allclose(found.targets(), targets(FIXED.world_points(), FIXED, MOVING), atol=1e-4)
    assert found.inverse is not None
    np.testing.assert_allclose(found.inverse.targets(), targets(MOVING.world_points(), MOVING, FIXED), atol=1e-4)
    assert UniGradIcon(weights=weights).register(pair()).inverse is None
    assert method.model_size()[0] == 2


def test_the_network_sees_moving_and_fixed_clipped_scaled_and_with_reversed_axes(weights: str) -> None:
    method = UniGradIcon(weights=weights)
    case = pair()
    method.register(case)
    moving, fixed = method._loaded[0].regis_net.seen[0]
    assert tuple(fixed.shape) == (1, 1, CUBE, CUBE, CUBE)
    for tensor, image in ((fixed, case.fixed), (moving, case.moving)):
        array = image.array.T
        low, high = array.min(), np.sort(array.ravel())[int(0.99 * array.size) - 1]
        scaled = torch.from_numpy((np.clip(array, low, high) - low) / (high - low))[None, None]
        wanted = torch.nn.functional.interpolate(scaled, size=(CUBE,) * 3, mode="trilinear")
        assert float((tensor - wanted).abs().max()) < 1e-6
    method = UniGradIcon(weights=weights, modality="ct")
    method.register(case)
    assert 0.5 < float(method._loaded[0].regis_net.seen[0][0].mean()) < 0.5005


def test_what_is_missing_is_told(weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MethodDeclined, match=r"https://github.com/uncbiag/uniGradICON/releases/.*give its path"):
        UniGradIcon().prepare()
    with pytest.raises(MethodError, match="there is no file"):
        UniGradIcon(weights=str(tmp_path / "none.trch")).prepare()
    torch.save({"other": torch.ones(2)}, tmp_path / "other.trch")
    with pytest.raises(MethodError, match="not the weights of uniGradICON"):
        UniGradIcon(weights=str(tmp_path / "other.trch")).prepare()
    flat = Image(np.ones(FIXED.shape, np.float32), FIXED)
    with pytest.raises(MethodError, match="same value almost everywhere"):
        UniGradIcon(weights=weights).register(BlindPair("p", flat, pair().moving))


def test_it_runs_apart_and_says_how_to_make_its_environment() -> None:
    from regbench.environments import installation
    from regbench.methods.table import card

    item = card("unigradicon")
    assert item.environment is not None
    commands = [" ".join(command) for command in installation(item)]
    assert any("--no-deps icon_registration==1.1.9 unigradicon==1.0.6" in command for command in commands)
    assert any(" torch==" in command and "itk" in command for command in commands)


@pytest.mark.parametrize("n", [1, 7, 100, 101])
def test_the_quantile_is_the_one_of_torch_kthvalue(n: int) -> None:
    values = np.random.default_rng(n).random(n, np.float32)
    rank = max(1, min(int(0.99 * n), n))
    assert quantile(values, 0.99) == float(torch.kthvalue(torch.from_numpy(values), rank).values)
