"""The parts of trainable networks, against analytic truth or a slow twin."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from regbench.methods.nets import affine_head, dual_stream, transformer  # noqa: E402
from regbench.methods.nets.fields import enlarged, reduced  # noqa: E402
from regbench.methods.nets.layers import layer  # noqa: E402
from regbench.methods.nets.spatial import identity_grid, warp  # noqa: E402
from regbench.methods.nets.stages import Staged  # noqa: E402
from regbench.methods.nets.trainable_lku import ParallelKernels  # noqa: E402

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])


@pytest.fixture(autouse=True)
def seeded_on_one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(n_threads)


# -- parts ---------------------------------------------------------------------------------------------


def test_the_grid_of_pooling_keeps_linear_fields() -> None:
    """A linear displacement, read between resolutions, is the same mapping in the middle of the image."""
    fine, coarse = identity_grid((16, 24), torch.zeros(1)), identity_grid((8, 12), torch.zeros(1))
    assert torch.allclose(reduced(fine), 2 * coarse + 0.5)
    found = enlarged(0.1 * (2 * coarse + 0.5) / 2, (16, 24))
    assert torch.allclose(found[..., 2:-2, 2:-2], 0.1 * fine[..., 2:-2, 2:-2], atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(4, 5, 6), (7, 4, 5), (8, 8, 8), (9, 3, 4), (3, 9, 9)])
def test_halves_of_an_image_are_convolved_like_the_whole(shape: tuple[int, ...], stride: int) -> None:
    halved = layer(3, 3, 4, stride=stride)
    image = torch.rand(1, 3, *shape, requires_grad=True)
    found = halved(image)
    expected = functional.conv3d(image, halved.weight, halved.bias, stride=stride, padding=1)
    assert found.shape == expected.shape and torch.allclose(found, expected, atol=1e-5)
    weights = torch.rand_like(found)
    first, second = (torch.autograd.grad((out * weights).sum(), [image, halved.weight]) for out in (found, expected))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("shape", [(2, 4, 2), (8, 8, 1), (1, 2, 1), (8, 1)])
def test_gradients_of_tiny_images_in_half_precision_are_those_of_whole_precision(shape: tuple[int, ...]) -> None:
    convolution, images = layer(len(shape), 16, 24, stride=2 if 1 in shape else 1), torch.rand(1, 16, *shape)
    expected = torch.autograd.grad(convolution(images).sum(), convolution.weight)[0]
    for _ in range(5):
        # What is freed here is what memory that nobody has written holds.
        _ = [torch.full((n,), float("nan")) for n in (64, 256, 1000, 4096, 10_000, 50_000, 400_000) for _ in range(6)]
        with torch.autocast("cpu", torch.bfloat16):
            out = convolution(images)
        del _
        found = torch.autograd.grad(out.float().sum(), convolution.weight)[0]
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-3)


@DIMENSIONS
def test_parallel_kernels_are_the_sum_of_four_layers(ndim: int) -> None:
    block = ParallelKernels(ndim, 3)
    features = torch.rand(2, 3, *[6] * ndim)
    expected = block.large(features) + block.regular(features) + block.one(features) + features
    assert torch.allclose(block(features), expected, atol=1e-5)


@pytest.mark.parametrize(("shape", "radius"), [((5, 4), 2), ((4, 3, 5), 1)])
def test_local_correlation_compares_with_every_neighbour(shape: tuple[int, ...], radius: int) -> None:
    fixed, moving = torch.rand(2, 3, *shape), torch.rand(2, 3, *shape)
    found = dual_stream.local_correlation(fixed, moving, radius)
    for index, offset in enumerate(itertools.product(range(-radius, radius + 1), repeat=len(shape))):
        for place in itertools.product(*[range(n) for n in shape]):
            there = tuple(p + o for p, o in zip(place, offset, strict=True))
            is_inside = all(0 <= t < n for t, n in zip(there, shape, strict=True))
            expected = fixed[1, :, *place] @ moving[1, :, *there] if is_inside else 0.0
            assert float(found[1, index, *place]) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize(("shape", "radius"), [((3, 4), 2), ((2, 3, 2), 1)])
def test_local_correlation_has_the_gradients_of_its_values(shape: tuple[int, ...], radius: int) -> None:
    images = [torch.rand(1, 2, *shape, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(lambda f, m: dual_stream.local_correlation(f, m, radius), images)


@pytest.mark.parametrize(
    ("shape", "window", "shift"),
    [
        ((7,), (4,), (2,)),
        ((8,), (4,), (2,)),
        ((6, 5), (3, 3), (1, 1)),
        ((5, 6), (5, 4), (0, 2)),
        ((9, 4), (3, 4), (1, 0)),
    ],
)
def test_tokens_see_real_neighbours_and_nothing_across_the_border(
    shape: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...]
) -> None:
    """Two tokens may see each other if the windows, moved by the shift but not around, hold both of them."""
    whole = tuple(-(-n // w) * w for n, w in zip(shape, window, strict=True))
    places = np.stack(np.meshgrid(*[np.arange(n) for n in whole], indexing="ij"), axis=-1)
    moved = np.roll(places, [-s for s in shift], axis=tuple(range(len(shape))))
    tokens = transformer._windows(torch.from_numpy(moved)[None], window)[0].numpy()
    may_see = transformer._may_see(shape, window, shift)
    if may_see is None:
        may_see = np.ones((len(tokens), tokens.shape[1], tokens.shape[1]), dtype=bool)
    # The window that a token lies in, where windows begin at `shift` and the first one is cut off.
    of_window = (tokens - np.array(shift)) // np.array(window)
    same = (of_window[:, :, None] == of_window[:, None, :]).all(-1)
    is_real = (tokens < np.array(shape)).all(-1)
    both_real = is_real[:, :, None] & is_real[:, None, :]
    assert np.array_equal(may_see & both_real, same & both_real)
    assert not (may_see & (is_real[:, :, None] ^ is_real[:, None, :])).any()


@pytest.mark.parametrize("size", [8, 10])
def test_a_shifted_block_does_not_look_across_the_border(size: int) -> None:
    """The last token of a line shares a window with its neighbours, and after the shift with the first ones."""
    block = transformer.WindowBlock(2, 4, 2, 4, is_shifted=True)
    tokens = torch.rand(1, size, 1, 4)
    changed = tokens.clone()
    changed[:, -1, :, 0] += 1.0
    differs = (block(tokens) - block(changed)).abs().amax(-1).flatten() > 1e-6
    reached = {8: [6, 7], 10: [6, 7, 8, 9]}[size]
    assert differs.nonzero().flatten().tolist() == reached


def test_windows_and_back() -> None:
    tokens = torch.rand(2, 6, 8, 4, 5)
    windows = transformer._windows(tokens, (3, 4, 2))
    assert windows.shape == (2, 2 * 2 * 2, 24, 5)
    assert torch.equal(transformer._unwindowed(windows, (3, 4, 2), (6, 8, 4), 2), tokens)


def test_every_pair_of_tokens_has_the_bias_of_its_offset() -> None:
    index, places = transformer._relative_index((2, 3), 4), list(itertools.product(range(2), range(3)))
    offsets: dict[int, tuple[int, int]] = {}
    for (i, a), (j, b) in itertools.product(enumerate(places), repeat=2):
        offset = (a[0] - b[0], a[1] - b[1])
        assert offsets.setdefault(int(index[i, j]), offset) == offset
    assert len(offsets) == 3 * 5 and index.min() >= 0 and index.max() < 7**2


# -- affine maps and stages ----------------------------------------------------------------------------


def _generator(ndim: int) -> Tensor:
    """A velocity that is linear in place, (ndim, ndim + 1)."""
    linear = torch.tensor([[0.1, -0.2, 0.05], [0.15, -0.1, 0.0], [0.0, 0.1, 0.2]])[:ndim, :ndim]
    return torch.cat([linear, torch.tensor([[0.1], [-0.05], [0.02]])[:ndim]], dim=1)


@DIMENSIONS
def test_the_affine_head_integrates_the_linear_velocity_that_it_saw(ndim: int) -> None:
    shape, coarse_shape = (64, 48, 32)[:ndim], (8, 6, 4)[:ndim]
    centres = [
        (torch.arange(m) * n / m + (n / m - 1) / 2 - (n - 1) / 2) / 32 for n, m in zip(shape, coarse_shape, strict=True)
    ]
    places = torch.stack(torch.meshgrid(*centres, indexing="ij"))
    generator = _generator(ndim)
    velocity = torch.einsum("ij,j...->i...", generator[:, :-1], places) + generator[:, -1].view(-1, *[1] * ndim)
    coarse = torch.cat([velocity, torch.rand(1, *coarse_shape)])[None]
    found = affine_head.AffineHead(ndim)._exponential(coarse, shape)
    square = torch.cat([generator, torch.zeros(1, ndim + 1)])
    expected = torch.linalg.matrix_exp(square)[None, :ndim]
    assert torch.allclose(found, expected, atol=2e-3)
    assert torch.linalg.det(found[:, :, :ndim]) > 0


@DIMENSIONS
def test_an_affine_map_after_a_displacement(ndim: int) -> None:
    """Voxel by voxel with numpy: first p + d(p), then the map about the middle of the image."""
    shape = (10, 8, 6)[:ndim]
    affine = torch.cat([torch.eye(ndim) + _generator(ndim)[:, :-1], _generator(ndim)[:, -1:]], dim=1)
    displacement = 3 * torch.randn(1, ndim, *shape)
    found = affine_head.affine_after(affine[None], displacement)[0].movedim(0, -1).numpy()
    matrix = affine.numpy()
    for place in [(0,) * ndim, (9, 7, 5)[:ndim], (3, 2, 4)[:ndim]]:
        there = np.array(place) + displacement[(0, slice(None), *place)].numpy()
        centre = (np.array(shape) - 1) / 2
        centred = (there - centre) / 5.0
        expected = (matrix[:, :-1] @ centred + matrix[:, -1]) * 5.0 + centre - np.array(place)
        assert np.allclose(found[place], expected, atol=1e-4)


class _Constant(nn.Module):
    """A network that always finds the same displacement, and notes the images that it has seen."""

    multiple = 2

    def __init__(self, vector: tuple[float, float]) -> None:
        super().__init__()
        self.vector, self.seen = torch.tensor(vector).view(1, 2, 1, 1), []

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        self.seen.append((fixed, moving))
        return self.vector.expand(fixed.shape[0], 2, *fixed.shape[2:])


class _Known(nn.Module):
    multiple = 4

    def __init__(self, affine: Tensor) -> None:
        super().__init__()
        self.matrix = affine

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        return self.matrix


def test_stages_see_what_was_found_before_and_add_to_it() -> None:
    coarse, fine = _Constant((1.0, -2.0)), _Constant((0.5, 1.0))
    network = Staged([coarse, fine])
    assert network.multiple == 4
    fixed, moving = torch.rand(1, 1, 32, 48), torch.rand(1, 1, 32, 48)
    found = network(fixed, moving)
    # A coarse voxel is two fine ones.
    assert torch.allclose(found, torch.tensor([2.5, -3.0]).view(1, 2, 1, 1).expand_as(found))
    assert coarse.seen[0][0].shape[2:] == (16, 24)
    assert torch.allclose(fine.seen[0][1][..., :-2, 4:], moving[..., 2:, :-4], atol=1e-5)


def test_the_affine_map_is_the_last_of_the_chain_and_known_to_every_stage() -> None:
    quarter_turn = torch.tensor([[[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]])
    coarse, fine = _Constant((1.0, 0.0)), _Constant((0.0, 1.0))
    network = Staged([coarse, fine], _Known(quarter_turn))  # type: ignore[arg-type]
    moving = torch.rand(1, 1, 16, 16)
    found = network(torch.rand(1, 1, 16, 16), moving)
    turned = moving[0, 0].rot90(1).contiguous()
    assert torch.allclose(coarse.seen[0][1][0, 0], reduced(turned[None, None])[0, 0], atol=1e-4)
    assert torch.allclose(fine.seen[0][1][0, 0, :-2], turned[2:], atol=1e-4)
    whole = warp(moving, found)[0, 0]
    assert torch.allclose(whole[:-2, :-1], turned[2:, 1:], atol=1e-4)
