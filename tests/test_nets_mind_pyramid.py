"""The network on self-similarity descriptors: what it does before any training, and what contrast does to it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402
from torch.nn import functional  # noqa: E402

from regbench.methods.nets.mind_pyramid import _mean_offset, averaged  # noqa: E402
from regbench.methods.nets.spatial import warp  # noqa: E402
from regbench.methods.nets.trainable import build_network  # noqa: E402

SHAPES = {2: (48, 64), 3: (24, 32, 24)}
DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])


@pytest.fixture(autouse=True)
def seeded_on_one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(n_threads)


def _textured(ndim: int) -> Tensor:
    """An image from 0 to 1 with structure everywhere."""
    coarse = torch.rand(1, 1, *[n // 4 for n in SHAPES[ndim]])
    return functional.interpolate(coarse, SHAPES[ndim], mode="trilinear" if ndim == 3 else "bilinear")


def _shifted(ndim: int) -> tuple[Tensor, Tensor, Tensor]:
    """An image, the same moved by two voxels, and the displacement that undoes it."""
    moving = _textured(ndim)
    truth = torch.zeros(1, ndim, *SHAPES[ndim])
    truth[:, 0], truth[:, 1] = 2.0, -1.0
    return warp(moving, truth), moving, truth


def _inner_error(found: Tensor, truth: Tensor) -> float:
    """The mean length of the error in voxels, away from the edges."""
    inside = (..., *[slice(6, -6)] * (truth.dim() - 2))
    return float((found - truth)[inside].norm(dim=1).mean())


@DIMENSIONS
@pytest.mark.parametrize("contrast", [lambda image: image, lambda image: 1.2 - image, lambda image: 0.3 * image])
def test_it_finds_a_shift_before_any_training_in_any_contrast(ndim, contrast):
    fixed, moving, truth = _shifted(ndim)
    with torch.inference_mode():
        found = build_network({"kind": "mind-pyramid", "channels": [4, 4, 4]}, ndim)(fixed, contrast(moving))
    assert _inner_error(found, truth) < 0.35 * _inner_error(torch.zeros_like(truth), truth)


@DIMENSIONS
def test_brightness_and_inversion_change_nothing_even_in_a_network_that_was_trained(ndim):
    fixed, moving, _ = _shifted(ndim)
    network = build_network({"kind": "mind-pyramid", "channels": [4, 4, 4]}, ndim)
    with torch.inference_mode():
        for weight in network.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.05)
        found, inverted = network(fixed, moving), network(fixed, 1.2 - 0.7 * moving)
    assert found.abs().max() > 0.5
    assert torch.allclose(found, inverted, atol=2e-3)


@DIMENSIONS
def test_the_mean_offset_is_that_of_the_offsets_in_their_order(ndim):
    weights = torch.rand(2, 3**ndim, *(5, 6, 7)[:ndim])
    offsets = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=ndim)))
    assert torch.allclose(_mean_offset(weights), torch.einsum("bo...,oc->bc...", weights, offsets), atol=1e-5)


@DIMENSIONS
def test_averages_keep_constants_to_the_edge(ndim):
    assert torch.allclose(averaged(torch.full((2, 3, *SHAPES[ndim]), 0.7), 3), torch.tensor(0.7))
