"""Network building blocks against analytic truth."""

import pytest

torch = pytest.importorskip("torch")

from regbench.methods.nets.spatial import compose, integrate, resize_displacement, warp  # noqa: E402
from regbench.methods.nets.unet import RegistrationUNet, fold  # noqa: E402


def _constant(shape, vector):
    return torch.tensor(vector, dtype=torch.float32).view(1, -1, *[1] * len(shape)).expand(1, len(shape), *shape)


@pytest.mark.parametrize("shape", [(7, 9), (6, 7, 8)])
def test_warp_by_whole_voxels_reads_whole_voxels(shape):
    moving = torch.rand(1, 2, *shape)
    shift = [1.0, -2.0, 1.0][: len(shape)]
    moved = warp(moving, _constant(shape, shift), padding="zeros")
    expected = torch.roll(moving, [-1, 2, -1][: len(shape)], dims=tuple(range(2, 2 + len(shape))))
    inside = (slice(None), slice(None), *[slice(2, -2)] * len(shape))
    assert torch.allclose(moved[inside], expected[inside], atol=1e-5)


def test_channel_i_moves_along_array_axis_i():
    ramp = torch.arange(8.0).view(1, 1, 8, 1).expand(1, 1, 8, 6)
    along_first = warp(ramp, _constant((8, 6), [1.0, 0.0]))
    along_second = warp(ramp, _constant((8, 6), [0.0, 1.0]))
    assert torch.allclose(along_first[..., :-1, :], ramp[..., 1:, :], atol=1e-5)
    assert torch.allclose(along_second, ramp, atol=1e-5)


def test_flow_of_a_linear_velocity_is_the_matrix_exponential():
    n, rate = 33, 0.3
    position = torch.arange(n, dtype=torch.float64) - (n - 1) / 2
    velocity = torch.zeros(1, 2, n, n, dtype=torch.float64)
    velocity[0, 0] = rate * position.view(n, 1)
    flow = integrate(velocity, squarings=8)
    expected = (torch.e**rate - 1) * position
    assert torch.allclose(flow[0, 0, 10:-10, 16], expected[10:-10], atol=0.02)
    assert flow[0, 1].abs().max() == 0


def test_a_flow_and_its_negative_compose_to_the_identity():
    torch.manual_seed(0)
    coarse = torch.randn(1, 2, 5, 5)
    velocity = 2 * torch.nn.functional.interpolate(coarse, size=(48, 48), mode="bicubic")
    there, back = integrate(velocity, 7), integrate(-velocity, 7)
    residual = compose(there, back)[..., 8:-8, 8:-8]
    assert residual.abs().max() < 0.1 * there.abs().max()


def test_resizing_rescales_the_values_with_the_corner_convention():
    resized = resize_displacement(_constant((5, 9), [1.0, 2.0]), (9, 17))
    assert torch.allclose(resized[0, 0], torch.full((9, 17), 2.0))
    assert torch.allclose(resized[0, 1], torch.full((9, 17), 4.0))


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 8)])
def test_space_to_depth_keeps_every_value_once_and_neighbours_together(shape):
    images = torch.arange(2 * torch.tensor(shape).prod().item(), dtype=torch.float32).view(1, 2, *shape)
    folded = fold(images)
    assert folded.shape == (1, 2 * 2 ** len(shape), *[n // 2 for n in shape])
    assert torch.equal(folded.flatten().sort().values, images.flatten())
    block = images[(0, 0, *[slice(0, 2)] * len(shape))].flatten()
    first = folded[(0, slice(0, 2 ** len(shape)), *[0] * len(shape))]
    assert torch.equal(first.sort().values, block.sort().values)


@pytest.mark.parametrize(("ndim", "shape"), [(2, (24, 30)), (3, (12, 14, 10))])
def test_an_untrained_network_is_nearly_the_identity_and_has_gradients_everywhere(ndim, shape):
    torch.manual_seed(0)
    network = RegistrationUNet(ndim, (4, 4, 6))
    displacement = network(torch.rand(2, 1, *shape), torch.rand(2, 1, *shape))
    assert displacement.shape == (2, ndim, *shape)
    assert displacement.abs().max() < 0.01
    displacement.square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())
