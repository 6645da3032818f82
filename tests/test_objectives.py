"""Objectives against analytic truth, plain restatements, finite differences, and their use: finding a known shift."""

from __future__ import annotations

import importlib
import itertools
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402
from torch.autograd import gradcheck  # noqa: E402

from regbench.errors import ConfigError, MethodDeclined  # noqa: E402
from regbench.methods.nets.spatial import identity_grid, warp  # noqa: E402
from regbench.methods.objectives import information, overlap, regularity  # noqa: E402
from regbench.methods.objectives.arithmetic import box_sum  # noqa: E402
from regbench.methods.objectives.self_similarity import descriptors  # noqa: E402
from regbench.methods.objectives.similarity import SIMILARITIES, check_similarity, make_similarity  # noqa: E402

OWN = ["mse", "ncc", "lncc", "mind-ssc", "nmi", "mi"]
SHAPES = [(11, 12), (7, 8, 9)]
FIELD_TERMS = [regularity.diffusion, regularity.bending, regularity.jacobian_penalty]
PAIR_TERMS = [regularity.inverse_consistency, regularity.gradient_inverse_consistency]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _compared(name: str, fixed: Tensor, moved: Tensor, mask: Tensor | None = None, **settings: object) -> Tensor:
    similarity = make_similarity(name, **settings)
    return similarity(similarity.prepare(fixed), similarity.prepare(moved), mask)


def _smooth(shape: tuple[int, ...], batch: int = 1, window: int = 5) -> Tensor:
    """Noise averaged over boxes twice, in [0, 1]."""
    noise = torch.rand(batch, *shape)
    image = box_sum(box_sum(noise, window), window)[:, None]
    return (image - image.min()) / (image.max() - image.min())


# -- similarities -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mse", "ncc", "lncc", "mind-ssc"])
@pytest.mark.parametrize("shape", SHAPES)
def test_equal_images_cost_nothing_and_others_do(name: str, shape: tuple[int, ...]) -> None:
    image = torch.rand(2, 1, *shape)
    assert _compared(name, image, image).item() == pytest.approx(0.0, abs=1e-5)
    assert _compared(name, image, torch.rand_like(image)) > 0.03


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_costs_the_mean_of_its_items(name: str, shape: tuple[int, ...]) -> None:
    fixed, moved = torch.rand(2, 3, 1, *shape) * torch.tensor([1.0, 2.0, 1000.0]).view(3, 1, *[1] * len(shape))
    items = [_compared(name, fixed[k : k + 1], moved[k : k + 1]).item() for k in range(3)]
    assert _compared(name, fixed, moved).item() == pytest.approx(np.mean(items), rel=1e-5)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_mask_leaves_out_what_lies_outside_of_it(name: str, shape: tuple[int, ...]) -> None:
    similarity = make_similarity(name)
    fixed, moved = (similarity.prepare(torch.rand(1, 1, *shape)) for _ in range(2))
    mask = torch.zeros(1, 1, *shape)
    mask[:, :, 1:5] = 1
    cropped = similarity(fixed[:, :, 1:5], moved[:, :, 1:5])
    fixed[:, :, 5:], moved[:, :, 5:] = 7.0, -3.0
    assert similarity(fixed, moved, mask).item() == pytest.approx(cropped.item(), rel=1e-4)
    assert similarity(fixed, moved, mask.bool()).item() == pytest.approx(cropped.item(), rel=1e-4)
    assert similarity(fixed, moved).item() != pytest.approx(cropped.item(), rel=1e-2)


@pytest.mark.parametrize("name", OWN)
def test_an_empty_mask_is_no_accident(name: str) -> None:
    fixed, moved = torch.rand(1, 1, 11, 12), torch.rand(1, 1, 11, 12, requires_grad=True)
    value = _compared(name, fixed, moved, torch.zeros(1, 1, 11, 12))
    value.backward()
    assert value.isfinite()
    assert not moved.grad.any()


def test_ncc_is_one_minus_the_correlation() -> None:
    fixed, moved = torch.rand(1, 1, 9, 8, 7), torch.rand(1, 1, 9, 8, 7)
    truth = 1 - np.corrcoef(fixed.flatten(), moved.flatten())[0, 1]
    assert _compared("ncc", fixed, moved).item() == pytest.approx(truth, rel=1e-5)
    assert _compared("ncc", fixed, -3 * fixed + 100).item() == pytest.approx(2.0)


@pytest.mark.parametrize("window", [3, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_lncc_is_the_mean_squared_correlation_in_boxes_that_end_at_the_image(
    window: int, shape: tuple[int, ...]
) -> None:
    fixed, moved = torch.rand(1, 1, *shape), torch.rand(1, 1, *shape)
    fixed[:, :, :6] = 0.25
    squared = []
    for place in itertools.product(*map(range, shape)):
        box = tuple(slice(max(i - window // 2, 0), i + window // 2 + 1) for i in place)
        f, m = (image[0, 0][box].double().flatten() for image in (fixed, moved))
        if f.var(correction=0) > 0.01 * fixed.var(correction=0):
            squared.append(np.corrcoef(f, m)[0, 1] ** 2)
    assert 0 < len(squared) < fixed.numel()
    assert _compared("lncc", fixed, moved, window=window).item() == pytest.approx(1 - np.mean(squared), rel=1e-4)


def test_lncc_sees_no_linear_change_of_contrast_from_place_to_place() -> None:
    image = torch.rand(1, 1, 20, 24)
    slope, offset = torch.ones(20, 1), torch.zeros(20, 1)
    slope[10:], offset[10:] = -0.5, 3.0
    boxes_apart = torch.ones(1, 1, 20, 24)
    boxes_apart[:, :, 8:12] = 0
    assert _compared("lncc", image, 4 * image - 7).item() == pytest.approx(0.0, abs=1e-5)
    assert _compared("lncc", image, slope * image + offset, boxes_apart).item() == pytest.approx(0.0, abs=1e-4)
    assert _compared("lncc", image, image.square().sin() + image.roll(1, 2)) > 0.3


def _window_matrix(image: Tensor, bins: int) -> Tensor:
    """The cubic B-spline of every bin at every voxel (N, bins), by its closed formula."""
    place = 1 + (image.flatten().double() - image.min()) / (image.max() - image.min()) * (bins - 3)
    far = (place[:, None] - torch.arange(bins)).abs()
    near = (4 - 6 * far**2 + 3 * far**3) / 6
    return torch.where(far < 1, near, (2 - far).clamp_min(0) ** 3 / 6)


@pytest.mark.parametrize("bins", [8, 32])
def test_information_is_that_of_a_histogram_with_spline_windows(bins: int) -> None:
    fixed = 40 * torch.rand(1, 1, 30, 31, 29) - 9  # more voxels than are worked on at a time
    moved = (fixed - 12).abs() + torch.rand_like(fixed)
    joint = _window_matrix(fixed, bins).T @ _window_matrix(moved, bins) / fixed.numel()
    assert joint.sum().item() == pytest.approx(1.0)
    h_fixed, h_moved, h_joint = (torch.special.entr(p).sum().item() for p in (joint.sum(1), joint.sum(0), joint))
    assert _compared("mi", fixed, moved, bins=bins).item() == pytest.approx(h_joint - h_fixed - h_moved, rel=1e-4)
    nmi = 2 - (h_fixed + h_moved) / h_joint
    assert _compared("nmi", fixed, moved, bins=bins).item() == pytest.approx(nmi, rel=1e-4)


@pytest.mark.parametrize("name", ["mi", "nmi"])
def test_information_sees_no_inversion_and_is_greatest_for_the_image_itself(name: str) -> None:
    image = _smooth((24, 26))
    itself = _compared(name, image, image).item()
    assert _compared(name, image, 5 - 2 * image).item() == pytest.approx(itself, abs=1e-4)
    assert itself < _compared(name, image, image + 0.05 * torch.rand_like(image)).item() - 0.02
    assert itself < _compared(name, image, image.roll(1, 3)).item() - 0.02


def test_information_of_images_that_know_nothing_of_each_other_is_near_none() -> None:
    fixed, moved = torch.rand(2, 1, 1, 40, 40, 40)
    assert _compared("mi", fixed, moved).item() == pytest.approx(0.0, abs=0.02)
    assert _compared("nmi", fixed, moved).item() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("shape", "pairs"), [((11, 12), 4), ((9, 10, 11), 12)])
def test_descriptors_see_no_linear_contrast_of_either_sign_but_see_others(shape: tuple[int, ...], pairs: int) -> None:
    image = torch.rand(1, 1, *shape)
    described = descriptors(image)
    assert described.shape == (1, pairs, *shape)
    assert described.amax(1).min() == described.max() == 1.0
    assert 0 <= described.min() < 0.2
    torch.testing.assert_close(descriptors(100 - 40 * image), described, rtol=1e-3, atol=1e-4)
    assert (descriptors(image**4) - described).abs().max() > 0.05
    assert torch.equal(descriptors(torch.full_like(image, 3.0)), torch.ones_like(described))


def test_descriptors_compare_the_patches_of_neighbours() -> None:
    """One voxel inside, worked out patch by patch."""
    image, here = torch.rand(1, 1, 21, 21), (10, 9)
    offsets = [(0, 2), (0, -2), (2, 0), (-2, 0)]
    patches = [image[0, 0, here[0] + a - 1 : here[0] + a + 2, here[1] + b - 1 : here[1] + b + 2] for a, b in offsets]
    distances = torch.stack([(patches[i] - patches[j]).square().mean() for i in (0, 1) for j in (2, 3)])
    distances -= distances.min()
    truth = torch.exp(-distances / distances.mean()).sort().values
    torch.testing.assert_close(descriptors(image)[0, :, here[0], here[1]].sort().values, truth)


def test_descriptors_are_those_of_convexadam_inside() -> None:
    features = pytest.importorskip("convexAdam.convex_adam_utils")
    image = torch.rand(1, 1, 20, 21, 22)
    theirs = features.MINDSSC(image, 1, 2, device=torch.device("cpu"))
    inside = (0, slice(None), *[slice(4, -4)] * 3)
    one, other = (x[inside].flatten(1).double() for x in (descriptors(image), theirs))
    # The same set of channels in another order, up to what both take for the mean over an image.
    nearest = torch.cdist(one, other).argmin(1)
    assert nearest.unique().numel() == 12
    torch.testing.assert_close(one, other[nearest], atol=2e-4, rtol=1e-3)


# -- gradients ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("shape", [(5, 5), (4, 3, 3)])
def test_gradients_of_similarities(name: str, shape: tuple[int, ...], masked: bool) -> None:
    mask = (torch.rand(2, 1, *shape) < 0.7).double() if masked else None
    if mask is not None:
        mask[:, :, 0, :2] = 1
    rest = [n - 1 if axis == 0 else n for axis, n in enumerate(shape)]
    border = torch.zeros(2, 1, 1, *shape[1:], dtype=torch.float64)
    border[:, :, :, 0] = 1.0  # holds the extremes, between which the bins of a histogram lie

    def loss(*parts: Tensor) -> Tensor:
        return _compared(name, *(torch.cat([border, 0.1 + 0.8 * part], dim=2) for part in parts), mask)

    inputs = [torch.rand(2, 1, *rest, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert gradcheck(loss, inputs)


@pytest.mark.parametrize("shape", [(2, 2, 4, 5), (1, 3, 3, 4, 3)])
def test_gradients_of_regularity(shape: tuple[int, ...]) -> None:
    forward, backward = (torch.rand(shape, dtype=torch.float64) * 2 for _ in range(2))
    assert regularity.jacobian_penalty(forward) > 0.05
    for term in FIELD_TERMS:
        assert gradcheck(term, (forward.requires_grad_(),)), term
    for pair_term in PAIR_TERMS:
        assert gradcheck(pair_term, (forward.requires_grad_(), backward.requires_grad_())), pair_term


@pytest.mark.parametrize("term", [overlap.soft_dice, overlap.cross_entropy])
def test_gradients_of_overlap(term: object) -> None:
    fixed, moved = torch.rand(2, 2, 3, 4, 5, dtype=torch.float64).div(3.5).unbind(0)
    assert gradcheck(term, (fixed.clone().requires_grad_(), moved.clone().requires_grad_()))


@pytest.mark.parametrize("name", list(SIMILARITIES))
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("level", [0.0, 1000.1])
def test_constant_images_have_finite_values_and_gradients(name: str, shape: tuple[int, ...], level: float) -> None:
    if name.startswith("monai"):
        pytest.importorskip("monai")
    flat, noise = torch.full((1, 1, *shape), level), torch.rand(1, 1, *shape)
    for fixed, moved in ((flat, flat), (flat, noise), (noise, flat)):
        wanted = moved.clone().requires_grad_()
        value = _compared(name, fixed, wanted)
        value.backward()
        assert value.isfinite()
        assert wanted.grad.isfinite().all()
        if name in ("ncc", "lncc", "nmi", "mi"):
            assert value.item() == pytest.approx(0.0 if name == "mi" else 1.0, abs=1e-4)
            assert wanted.grad.abs().max() < 1e-6


@pytest.mark.parametrize("name", OWN)
def test_half_precision_goes_in_and_autocast_goes_by(name: str) -> None:
    fixed, moved = (torch.rand(1, 1, 20, 22).bfloat16() for _ in range(2))
    exact, rough = moved.float().requires_grad_(), moved.clone().requires_grad_()
    truth = _compared(name, fixed.float(), exact)
    truth.backward()
    with torch.autocast("cpu", torch.bfloat16):
        value = _compared(name, fixed, rough)
    value.backward()
    assert value.dtype == torch.float32
    assert value.item() == truth.item()
    torch.testing.assert_close(rough.grad, exact.grad.bfloat16())


def test_regularity_and_overlap_of_half_precision_are_those_of_single() -> None:
    forward, backward = (torch.rand(2, 1, 3, 8, 9, 10) * 3).bfloat16().unbind(0)
    maps = torch.rand(2, 1, 4, 8, 9).div(4).bfloat16().unbind(0)
    calls = [*((term, (forward,)) for term in FIELD_TERMS), *((term, (forward, backward)) for term in PAIR_TERMS)]
    for term, tensors in [*calls, (overlap.soft_dice, maps), (overlap.cross_entropy, maps)]:
        with torch.autocast("cpu", torch.bfloat16):
            value = term(*tensors)
        assert value.dtype == torch.float32
        assert value.item() == term(*(t.float() for t in tensors)).item(), term
    assert regularity.diffusion(displacement=forward).item() == regularity.diffusion(forward).item()


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", OWN)
def test_threads_change_no_more_than_rounding(name: str) -> None:
    fixed, moved = torch.rand(1, 1, 32, 33, 34), torch.rand(1, 1, 32, 33, 34).requires_grad_()
    found = []
    for n in (1, 2):
        torch.set_num_threads(n)
        value = _compared(name, fixed, moved)
        (gradient,) = torch.autograd.grad(value, moved)
        found.append((value.detach(), gradient / gradient.abs().max()))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["mi", "nmi", "jacobian_penalty"])
def test_pieces_change_no_more_than_rounding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = torch.rand(1, 1, 9, 10, 11)
    moved = torch.rand(1, 1 if name in SIMILARITIES else 3, 9, 10, 11, requires_grad=True)
    found = []
    for size in (1 << 16, 150):
        monkeypatch.setattr(information, "_VOXELS_CPU", size)
        monkeypatch.setattr(regularity, "_SLAB_POINTS", size)
        value = _compared(name, fixed, moved) if name in SIMILARITIES else regularity.jacobian_penalty(moved, 0.9)
        (gradient,) = torch.autograd.grad(value, moved)
        found.append((value.detach(), gradient / gradient.abs().max()))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["ncc", "lncc", "nmi", "mi", "diffusion", "bending", "jacobian_penalty"])
def test_nothing_but_the_gradient_is_kept_for_the_backward_pass(name: str) -> None:
    kept = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    moved = torch.rand(1, 1 if name in SIMILARITIES else 3, 20, 21, 22, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        if name in SIMILARITIES:
            _compared(name, torch.rand(1, 1, 20, 21, 22), moved)
        else:
            getattr(regularity, name)(moved)
    assert sum(kept) == moved.numel()


# -- use ----------------------------------------------------------------------------------------------

_SHIFT = torch.tensor([1.6, -1.2])


def _found_shift(name: str, contrast: object = None, **settings: object) -> Tensor:
    """The shift in voxels that 60 steps of descent find between an image and the same, shifted and recoloured."""
    fixed = _smooth((48, 52), window=7)
    moving = warp(fixed, -_SHIFT.view(1, 2, 1, 1).expand(1, 2, 48, 52))
    if contrast is not None:
        moving = contrast(moving)  # type: ignore[operator]
    similarity = make_similarity(name, **settings)
    fixed, moving = similarity.prepare(fixed), similarity.prepare(moving)
    inside = torch.zeros(1, 1, 48, 52)
    inside[:, :, 6:-6, 6:-6] = 1
    shift = torch.zeros(2, requires_grad=True)
    optimiser = torch.optim.Adam([shift], lr=0.2)
    for step in range(60):
        optimiser.param_groups[0]["lr"] = 0.2 * 0.95**step
        optimiser.zero_grad()
        similarity(fixed, warp(moving, shift.view(1, 2, 1, 1).expand(1, 2, 48, 52)), inside).backward()
        optimiser.step()
    return shift.detach()


@pytest.mark.parametrize("name", OWN)
def test_descent_finds_a_shift(name: str) -> None:
    assert (_found_shift(name) - _SHIFT).abs().max() < 0.1


@pytest.mark.parametrize("name", ["lncc", "mind-ssc", "nmi", "mi"])
def test_descent_finds_a_shift_under_inverted_contrast(name: str) -> None:
    assert (_found_shift(name, lambda image: 1 - 0.6 * image) - _SHIFT).abs().max() < 0.15


@pytest.mark.parametrize("name", ["mse", "ncc"])
def test_one_contrast_objectives_lose_their_way_under_inverted_contrast(name: str) -> None:
    assert (_found_shift(name, lambda image: 1 - 0.6 * image) - _SHIFT).abs().max() > 1


@pytest.mark.parametrize("name", ["nmi", "mi"])
def test_information_finds_a_shift_where_dark_and_bright_look_alike(name: str) -> None:
    assert (_found_shift(name, lambda image: (image - 0.45).abs()) - _SHIFT).abs().max() < 0.15


# -- regularity ---------------------------------------------------------------------------------------


def _linear_field(matrix: list[list[float]], shape: tuple[int, ...]) -> Tensor:
    """d(p) = A p on a grid."""
    grid = identity_grid(shape, torch.zeros(1))
    return torch.einsum("ij,bj...->bi...", torch.tensor(matrix), grid)


def test_linear_fields_have_known_diffusion_and_jacobian_and_do_not_bend() -> None:
    for matrix, shape in (([[0.5, -0.2], [0.1, -1.6]], (7, 8)), ([[0.3, 1, 0], [-1, 0.5, 2], [0, 1, -4]], (5, 6, 7))):
        field, a = _linear_field(matrix, shape), torch.tensor(matrix)
        determinant = torch.linalg.det(torch.eye(len(shape)) + a).item()
        assert determinant < 0
        assert regularity.diffusion(field).item() == pytest.approx(a.square().mean().item(), rel=1e-4)
        assert regularity.bending(field).item() == pytest.approx(0.0, abs=1e-8)
        assert regularity.jacobian_penalty(field).item() == pytest.approx(-determinant, rel=1e-4)
        assert regularity.jacobian_penalty(field, 0.5).item() == pytest.approx(0.5 - determinant, rel=1e-4)
        assert not regularity.jacobian_penalty(_linear_field((0.2 * a).tolist(), shape).clamp(-0.1, 0.1))


def test_a_mirror_folds_everywhere() -> None:
    mirror = torch.zeros(1, 3, 6, 7, 8)
    mirror[:, 1] = 6 - 2 * identity_grid((6, 7, 8), mirror)[:, 1]
    assert regularity.jacobian_penalty(mirror).item() == pytest.approx(1.0)


def test_quadratic_fields_bend_by_their_second_derivatives() -> None:
    x, y, z = identity_grid((6, 7, 8), torch.zeros(1))[0]
    field = torch.stack([x**2, 0.5 * x * z, y * y - z * z])[None]
    # Component by component: u_xx = 2; u_xz = 0.5 twice; u_yy = 2 and u_zz = -2.
    assert regularity.bending(field).item() == pytest.approx((4 + 2 * 0.25 + 8) / 3, rel=1e-4)


def test_lengths_take_the_place_of_voxels_where_a_spacing_is_given() -> None:
    spacing = torch.tensor([1.0, 2.0, 4.0])
    in_mm = torch.tensor([[0.3, 1, 0], [-1, 0.5, 2], [0, 1, -4]])
    field = _linear_field((in_mm * spacing / spacing[:, None]).tolist(), (5, 6, 7))
    assert regularity.diffusion(field, spacing.tolist()).item() == pytest.approx(in_mm.square().mean().item(), rel=1e-4)
    x, y, _ = identity_grid((6, 7, 8), torch.zeros(1))[0] * spacing.view(3, 1, 1, 1)
    field = torch.stack([x**2, x * y, 0 * x])[None] / spacing.view(1, 3, 1, 1, 1)
    assert regularity.bending(field, spacing.tolist()).item() == pytest.approx((4 + 2) / 3, rel=1e-4)


@pytest.mark.parametrize("name", ["DiffusionLoss", "BendingEnergyLoss"])
def test_regularity_of_a_smooth_field_is_near_that_of_monai(name: str) -> None:
    losses = pytest.importorskip("monai.losses")
    field = torch.cat([_smooth((20, 22, 24), window=9) for _ in range(3)], dim=1)
    own = regularity.diffusion(field) * 3 if name == "DiffusionLoss" else regularity.bending(field)
    assert own.item() == pytest.approx(getattr(losses, name)()(field).item(), rel=0.2)


@pytest.mark.parametrize("ndim", [2, 3])
def test_inverse_translations_are_consistent_and_others_by_their_sum(ndim: int) -> None:
    there = torch.arange(1.0, ndim + 1).view(1, ndim, *[1] * ndim).expand(1, ndim, *[9] * ndim)
    assert regularity.inverse_consistency(there, -there).item() == pytest.approx(0.0, abs=1e-10)
    assert regularity.inverse_consistency(there, there).item() == pytest.approx(4 * sum(n**2 for n in range(ndim + 1)))
    assert regularity.gradient_inverse_consistency(there, there).item() == pytest.approx(0.0, abs=1e-8)


def test_a_way_back_is_read_where_the_way_there_ends() -> None:
    """A contraction and its inverse, which reads beyond the border when it comes first."""
    from_centre = identity_grid((9, 9), torch.zeros(1)) - 4
    contraction, expansion = -0.5 * from_centre, from_centre
    beyond = (from_centre.abs() - 2).clamp_min(0).square().sum(1).mean().item()
    assert beyond > 0.5
    assert regularity.inverse_consistency(contraction, expansion).item() == pytest.approx(beyond / 2, rel=1e-4)
    assert regularity.inverse_consistency(expansion, contraction).item() == pytest.approx(beyond / 2, rel=1e-4)
    assert regularity.gradient_inverse_consistency(contraction, expansion).item() == pytest.approx(0.0, abs=1e-8)


def test_the_gradient_of_an_inconsistency_is_that_of_the_way_there_and_back() -> None:
    there = _linear_field([[0.2, 0.0], [0.0, 0.0]], (9, 9))
    nowhere = torch.zeros_like(there)
    assert regularity.gradient_inverse_consistency(there, nowhere).item() == pytest.approx(0.04, rel=1e-4)
    assert regularity.inverse_consistency(there, nowhere).item() == pytest.approx(
        there.square().sum(1).mean().item(), rel=1e-4
    )


# -- overlap ------------------------------------------------------------------------------------------


def test_soft_dice_is_the_mean_over_labels_that_the_fixed_map_has() -> None:
    fixed = torch.zeros(2, 3, 8, 8)
    fixed[0, 0, :4], fixed[0, 1, 4:], fixed[1, 0] = 1, 1, 1
    assert overlap.soft_dice(fixed, fixed).item() == pytest.approx(0.0, abs=1e-6)
    moved = fixed.clone()
    moved[0] = moved[0].flip(1)
    assert overlap.soft_dice(fixed, moved).item() == pytest.approx(0.5)
    moved = 0.5 * fixed
    assert overlap.soft_dice(fixed, moved).item() == pytest.approx(1 - 2 * 0.5 / 1.5)
    assert overlap.soft_dice(0 * fixed, moved).item() == 0.0
    assert overlap.soft_dice(torch.cat([fixed, 0 * fixed]), torch.cat([moved, moved])).item() == pytest.approx(1 / 3)


def test_cross_entropy_counts_the_rest_as_a_label() -> None:
    fixed = torch.zeros(1, 2, 4, 4)
    fixed[:, 0, :2], fixed[:, 1, 2] = 1, 1
    assert overlap.cross_entropy(fixed, fixed).item() == pytest.approx(0.0, abs=1e-6)
    assert overlap.cross_entropy(fixed, fixed.flip(1)).item() == pytest.approx(0.75 * np.log(101), rel=1e-4)
    assert overlap.cross_entropy(fixed, 0.5 * fixed).item() == pytest.approx(0.75 * np.log(1.01 / 0.51), rel=1e-4)
    missed = torch.zeros_like(fixed)
    assert overlap.cross_entropy(missed, fixed).item() == pytest.approx(0.75 * np.log(101), rel=1e-4)


def test_soft_dice_is_monais_where_all_labels_are_there() -> None:
    losses = pytest.importorskip("monai.losses")
    fixed = torch.nn.functional.one_hot(torch.randint(0, 3, (2, 9, 8)), 3).movedim(-1, 1).float()
    moved = torch.rand(2, 3, 9, 8).softmax(1)
    assert overlap.soft_dice(fixed, moved).item() == pytest.approx(losses.DiceLoss()(moved, fixed).item(), abs=1e-5)


# -- by name ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("lnc", {}, "did you mean 'lncc'"),
        ("lncc", {"windw": 5}, "unknown parameter 'windw'; did you mean 'window'"),
        ("lncc", {"window": 4}, "window must be an odd number"),
        ("lncc", {"window": "wide"}, "lncc.window"),
        ("nmi", {"bins": 2}, "bins must be"),
        ("mind-ssc", {"dilation": 0}, "dilation must be"),
        ("monai-lncc", {"kernel": "round"}, "monai-lncc.kernel"),
    ],
)
def test_wrong_names_and_settings_are_one_sentence(name: str, settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_similarity(name, settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_are_checked_without_torch_and_objectives_work_without_monai() -> None:
    code = (
        "import sys; from regbench.methods.objectives.similarity import check_similarity, make_similarity\n"
        "assert check_similarity('lncc', {'window': 7}) == {'window': 7, 'flat': 0.01}\n"
        "assert 'torch' not in sys.modules\n"
        "import torch; image = torch.rand(1, 1, 12, 12)\n"
        "from regbench.methods.objectives import overlap, regularity\n"
        f"for name in {OWN}:\n"
        "    similarity = make_similarity(name); similarity(similarity.prepare(image), similarity.prepare(image))\n"
        "assert 'monai' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["monai-lncc", "monai-mi"])
def test_a_missing_monai_is_named_with_how_to_get_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai.losses", None)
    with pytest.raises(MethodDeclined, match=r"pip install 'regbench\[train\]'"):
        _compared(name, torch.rand(1, 1, 12, 12), torch.rand(1, 1, 12, 12))


@pytest.mark.parametrize("name", ["monai-lncc", "monai-mi"])
def test_what_monai_computes_is_smaller_for_the_better_pair(name: str) -> None:
    pytest.importorskip("monai")
    image = _smooth((20, 22, 24))
    assert _compared(name, image, image) < _compared(name, image, image.roll(1, 2)) - 0.01
    with pytest.raises(ConfigError, match="masks are not supported"):
        _compared(name, image, image, torch.ones_like(image))


# -- the benchmark ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_the_benchmark_runs_and_its_peers_compute_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    script = importlib.import_module("objectives")
    found = {}
    for name, (_, package) in script.OBJECTIVES.items():
        for side in ("own", "peer"):
            if side == "own" or (package is not None and find_spec(package)):
                found[name, side] = script.measure_here(name, side, (12, 13, 14), 3)
    assert {name for name, _ in found} == set(script.OBJECTIVES)
    assert all(np.isfinite(cost["value"]) and cost["cpu_s"] > 0 for cost in found.values())
    for name in ("descriptors", "soft_dice"):
        if (name, "peer") in found:
            assert found[name, "own"]["value"] == pytest.approx(found[name, "peer"]["value"], rel=0.02)
