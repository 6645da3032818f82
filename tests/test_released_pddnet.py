"""PDD-Net: its costs against their definitions, its released weights, and the way to its grid and back."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from regbench.errors import MethodDeclined  # noqa: E402
from regbench.methods.nets import pddnet as nets  # noqa: E402
from regbench.methods.pddnet import PddNet  # noqa: E402
from regbench.pair import BlindPair  # noqa: E402
from regbench.volume import Grid, Image  # noqa: E402

STEP = nets.Pass(5, 0.3)
SHIFTS = 11**3


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_costs_are_those_of_features_read_at_every_displaced_point() -> None:
    fixed, moving = _random(3, 6, 8, 7), _random(3, 6, 8, 7, seed=1)
    axis = torch.linspace(-1, 1, STEP.points)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).flip(-1).reshape(-1, 1, 3)
    shifts = nets._shifts(STEP, fixed.device)

    def read(features: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        return functional.grid_sample(features[None], places[None, None], padding_mode="border", align_corners=True)[
            0, :, 0
        ]

    expected = 1.1337 * (read(fixed, points) - read(moving, points + shifts)).square().sum(0) + 0.0761
    torch.testing.assert_close(nets.compared(fixed, moving, STEP), expected, atol=1e-5, rtol=1e-4)


def test_costs_are_spread_over_displacements_and_points_as_defined() -> None:
    n = STEP.points
    cost = _random(n**3, SHIFTS)
    volumes = functional.pad(cost.view(1, -1, 11, 11, 11), [3] * 6, mode="replicate")
    least = functional.avg_pool3d(functional.avg_pool3d(-functional.max_pool3d(-volumes, 3, 1), 3, 1), 3, 1)
    torch.testing.assert_close(nets.least_nearby(cost.clone()), least.reshape(n**3, SHIFTS), atol=1e-5, rtol=0)
    lattices = functional.pad(cost.T.reshape(1, SHIFTS, n, n, n), [2] * 6, mode="replicate")
    spread = functional.avg_pool3d(functional.avg_pool3d(lattices, 3, 1), 3, 1).reshape(SHIFTS, n**3).T
    torch.testing.assert_close(nets.spread_over_points(cost.clone(), n), spread, atol=1e-5, rtol=0)


def test_the_fit_goes_where_displacements_are_probable() -> None:
    """From nothing, where one displacement is the most probable one everywhere."""
    wanted, step = torch.tensor([0.12, -0.06, 0.0]), nets.Pass(9, 0.3)
    distance = (nets._shifts(step, wanted.device) - wanted).square().sum(1)
    probability = torch.softmax(-100 * distance, 0).expand(step.points**3, -1).contiguous()
    found = nets.fitted(torch.zeros(1, 3, *[step.points] * 3), probability, step.reach)
    torch.testing.assert_close(found[0, :, 4, 4, 4], wanted, atol=0.03, rtol=0)


def test_released_weights_load_and_find_a_shift() -> None:
    """On blobs in Hounsfield units that are 4, 2 and 3 voxels away, along the axes in this order."""
    folder = os.environ.get("REGBENCH_WEIGHTS")
    if not folder:
        pytest.skip("REGBENCH_WEIGHTS does not say where released weights are")
    method = PddNet(weights=str(Path(folder) / "pddnet" / "dense_reg_mind2_feat_epoch2999.pth"))
    method.prepare()
    assert method.model_size()[0] == 270_772
    network = nets.PddNet((nets.Pass(9, 0.25), nets.Pass(11, 0.15)))
    network.load_state_dict(method._loaded[0].state_dict(), strict=True)
    large = functional.interpolate(800 * _random(1, 1, 10, 9, 12) - 400, size=(72, 66, 96), mode="trilinear")
    fixed, moving = large[..., 4:-4, 3:-3, 3:-3].contiguous(), large[..., :-8, 1:-5, :-6].contiguous()
    with torch.inference_mode():
        found = network.eval()(fixed, moving)[0, :, 8:-8, 8:-8, 8:-8]
    expected = torch.tensor([4.0, 2.0, 3.0])
    assert (found.mean((1, 2, 3)) - expected).abs().max() < 0.5
    assert found.shape == (3, 48, 44, 74)


def test_a_field_in_voxels_comes_back_in_mm_in_the_axes_of_the_image() -> None:
    """The images keep the order of their axes, which is not that of the world here."""

    class Constant(torch.nn.Module):
        def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
            assert fixed.shape == moving.shape == (1, 1, 192, 160, 256)
            return torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1, 1).expand(1, 3, 192, 160, 256)

    affine = np.array([[0, -4.0, 0, 5], [4, 0, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1]])
    image = Image(np.zeros((20, 24, 18)), Grid((20, 24, 18), affine))
    method = PddNet()
    method._loaded.append(Constant())
    found = method.register(BlindPair("p", image, image))
    np.testing.assert_allclose(found.vectors_mm, np.broadcast_to([-4.0, 2.0, 6.0], found.vectors_mm.shape), atol=1e-5)


def test_declines_slices() -> None:
    image = Image(np.zeros((8, 8)), Grid.from_spacing((8, 8)))
    with pytest.raises(MethodDeclined, match="3-D"):
        PddNet().register(BlindPair("p", image, image))
