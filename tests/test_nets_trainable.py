"""Trainable networks: one contract for all kinds."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from regbench.errors import ConfigError  # noqa: E402
from regbench.methods.nets.spatial import identity_grid, warp  # noqa: E402
from regbench.methods.nets.trainable import (  # noqa: E402
    NETWORKS,
    build_network,
    check_network,
    multiple_of,
    parameter_count,
    transformation_of,
    width_for,
)

# Networks of a few thousand parameters, so that the tests are quick.
SMALL: dict[str, dict[str, Any]] = {
    "unet": {"channels": [4, 6, 6]},
    "lku-net": {"channels": [4, 5, 6]},
    "pyramid": {"channels": [4], "levels": 2, "blocks": 1},
    "dual-stream": {"channels": [4, 6, 6]},
    "mind-pyramid": {"channels": [4, 4, 6]},
    "transformer": {"channels": [4, 8], "depths": [2, 2], "heads": [1, 2], "window": 3},
}
SHAPES = {2: (32, 48), 3: (16, 32, 16)}
KINDS = pytest.mark.parametrize("kind", list(NETWORKS))
DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])


@pytest.fixture(autouse=True)
def seeded_on_one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(n_threads)


def _network(kind: str, ndim: int, **settings: Any) -> nn.Module:
    return build_network({"kind": kind, **SMALL[kind], **settings}, ndim)


def _images(ndim: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    return torch.rand(batch, 1, *SHAPES[ndim]), torch.rand(batch, 1, *SHAPES[ndim])


# -- all networks --------------------------------------------------------------------------------------


def test_the_small_networks_are_all_there_are() -> None:
    assert set(SMALL) == set(NETWORKS)


@KINDS
@DIMENSIONS
@pytest.mark.parametrize(
    "settings",
    [{}, {"affine": True, "stages": 2}, {"transformation": "displacement", "stages": 2}],
    ids=["plain", "affine", "displacement"],
)
def test_an_untrained_network_is_nearly_where_it_starts_and_learns_everywhere(
    kind: str, ndim: int, settings: dict[str, Any]
) -> None:
    network = _network(kind, ndim, **settings)
    assert all(n % network.multiple == 0 for n in SHAPES[ndim])
    fixed, moving = _images(ndim, batch=2)
    displacement = network(fixed, moving)
    assert displacement.shape == (2, ndim, *SHAPES[ndim]) and displacement.dtype == torch.float32
    # All but one kind start at the identity.
    start = network(fixed, fixed) if kind == "mind-pyramid" else displacement
    assert start.abs().max() < (0.3 if kind == "mind-pyramid" else 0.02)
    (warp(moving, displacement) - fixed).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())
    assert sum(bool(p.grad.any()) for p in network.parameters()) > 0.9 * len(list(network.parameters()))


@KINDS
def test_it_learns_to_follow_a_shift(kind: str) -> None:
    """All kinds, with the affine head, bring a blob most of the way within a few steps."""
    axes = identity_grid((32, 40), torch.zeros(1))
    blob = [torch.exp(-((axes[:, :1] - 16 - s) ** 2 + (axes[:, 1:] - 18 - s) ** 2) / 40) for s in (-2, 2)]
    network = _network(kind, 2, affine=kind == "unet")
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    errors = []
    for _ in range(40):
        error = (warp(blob[1], network(*blob)) - blob[0]).square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        errors.append(float(error.detach()))
    assert errors[-1] < 0.3 * errors[0]


def _rough(network: nn.Module, amount: float) -> nn.Module:
    """The network with fields of several voxels that change from place to place."""
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if re.search(r"(velocity|field|estimators\.\d\.head)\.weight$", name) and "affine" not in name:
                weight.normal_(std=amount)
    return network


def _least_jacobian(displacement: Tensor) -> float:
    rows, columns = (displacement.diff(dim=2)[..., :-1], displacement.diff(dim=3)[..., :-1, :])
    return float(((1 + rows[:, 0]) * (1 + columns[:, 1]) - rows[:, 1] * columns[:, 0]).min())


@KINDS
def test_velocities_do_not_fold_where_displacements_do(kind: str) -> None:
    fixed, moving = (functional.interpolate(torch.rand(1, 1, 4, 6), size=(64, 96), mode="bicubic") for _ in range(2))
    least = {}
    for transformation in ("velocity", "displacement"):
        torch.manual_seed(1)
        network = _network(kind, 2, transformation=transformation, stages=2, affine=True)
        field = _rough(network, {"unet": 6.0, "pyramid": 4.0, "transformer": 4.0}.get(kind, 2.0))(
            fixed, moving
        ).detach()
        least[transformation] = _least_jacobian(field)
    assert least["velocity"] > 0
    # Steps of a voxel at most, averaged over neighbours, do not fold by themselves.
    assert least["displacement"] < 0 or kind == "mind-pyramid"


@KINDS
@DIMENSIONS
def test_checkpointing_changes_no_gradient(kind: str, ndim: int) -> None:
    fixed, moving = _images(ndim)
    found = []
    for is_on in (False, True):
        torch.manual_seed(2)
        network = _rough(_network(kind, ndim, checkpointing=is_on, stages=2, affine=True), 0.5)
        (warp(moving, network(fixed, moving)) - fixed).square().mean().backward()
        found.append([p.grad for p in network.parameters()])
    for plain, recomputed in zip(*found, strict=True):
        assert torch.allclose(plain, recomputed, rtol=1e-4, atol=1e-7)


def _peak_bytes(work: Callable[[], None]) -> int:
    """The most memory that torch held at a time for what `work` does."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


@KINDS
def test_checkpointing_takes_less_memory(kind: str) -> None:
    fixed, moving = torch.rand(1, 1, 32, 48, 32), torch.rand(1, 1, 32, 48, 32)
    peaks = []
    for is_on in (False, True):
        network = build_network({"kind": kind, "checkpointing": is_on}, 3)

        def step(network: nn.Module = network) -> None:
            network(fixed, moving).mean().backward()

        step()
        peaks.append(_peak_bytes(step))
    assert peaks[1] < 0.85 * peaks[0]


@KINDS
def test_half_precision_on_the_cpu(kind: str) -> None:
    fixed, moving = _images(3)
    network = _rough(_network(kind, 3, affine=True), 0.3)
    whole = network(fixed, moving)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(fixed, moving)
    assert half.dtype == torch.float32
    assert (half - whole).abs().max() < 0.1 * whole.abs().max() + 0.01
    half.square().mean().backward()
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters())


# -- settings ------------------------------------------------------------------------------------------


def test_settings_are_complete_and_plain() -> None:
    complete = check_network({"kind": "transformer", "affine": True}, 2, "network")
    assert complete["window"] == 8 and complete["channels"] == [16, 32, 64] and complete["stages"] == 1
    assert check_network(complete, 2, "network") == complete
    assert check_network({"kind": "transformer"}, 3, "network")["window"] == 4


def test_settings_of_older_weight_files_are_those_of_the_unet() -> None:
    complete = check_network({"ndim": 2, "channels": [4, 4], "squarings": 5}, 2, "network")
    assert (complete["kind"], complete["transformation"], complete["squarings"]) == ("unet", "velocity", 5)
    names = set(build_network(complete, 2).state_dict())
    assert {"stem.weight", "first.bias", "down.0.weight", "mid.0.bias", "up.0.weight", "head.bias"} <= names
    assert not [name for name in names if name.startswith("stages")]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "unett"}, "network.kind: unknown network 'unett'; did you mean 'unet'?"),
        ({"kind": 3}, "network.kind: unknown network '3'"),
        ({"squaring": 3}, "network: unknown parameter 'squaring'; did you mean 'squarings'?"),
        ({"transformation": "affine"}, "network.transformation: 'affine' is not valid"),
        ({"channels": []}, "network.channels: must be more than 0"),
        ({"channels": [8, 0]}, "network.channels: must be more than 0"),
        ({"width": float("nan")}, "network.width: must be more than 0"),
        ({"stages": 9}, "network.stages: must be at most 4"),
        ({"ndim": 3}, "network.ndim: the network is for 3-D images, these are 2-D"),
        ({"kind": "transformer", "heads": [1, 2]}, "channels has 3, depths has 3, heads has 2"),
        ({"kind": "transformer", "heads": [3, 4, 8]}, "network.channels: 16 cannot be shared among 3 heads"),
        ({"kind": "pyramid", "channels": [8, 8]}, "one number of channels"),
    ],
)
def test_wrong_settings_are_one_sentence(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_network(settings, 2, "network")
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "multiple"),
    [({}, 2), ({"stages": 3}, 8), ({"affine": True}, 4), ({"kind": "pyramid"}, 8), ({"kind": "dual-stream"}, 16)],
)
def test_what_axes_must_be_multiples_of(settings: dict[str, Any], multiple: int) -> None:
    assert multiple_of(settings, 3) == multiple


@KINDS
def test_widths_match_sizes(kind: str) -> None:
    width = width_for({"kind": kind}, 3, 350_000)
    assert abs(parameter_count({"kind": kind, "width": width}, 3) / 350_000 - 1) < (
        0.12 if kind == "transformer" else 0.04
    )


def test_what_the_fields_are() -> None:
    assert transformation_of({"affine": True, "transformation": "velocity"}) == "diffeomorphic"
    assert transformation_of({"affine": True, "transformation": "displacement"}) == "deformable"
