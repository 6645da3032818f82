"""FireANTs: its parameters anywhere, and the engine itself in the environment that holds it, if that was made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regbench.contract import phantom
from regbench.displacement import Displacement
from regbench.environments import home_of
from regbench.errors import ConfigError, MethodDeclined
from regbench.lodging.host import LodgedMethod
from regbench.methods.fireants import with_border
from regbench.methods.table import CARDS, build, resolve_parameters
from regbench.pair import BlindPair, Pair
from regbench.volume import Grid, Image
from regbench.warp import linear_samples

NAMES = ("fireants-greedy", "fireants-syn")
# Fewer iterations than the defaults, for the sake of quick tests, and more smoothing: a phantom has large even parts.
_QUICK = {"initial": "none", "learning_rate": 0.5, "kernel_voxels": 5, "beta1": 0.9, "smoothing_voxels": (1.0, 0.5)}
QUICK: dict[str, dict[str, Any]] = {
    "fireants-greedy": {"iterations": (60, 40, 20), **_QUICK},
    "fireants-syn": {"iterations": (30, 20, 10), **_QUICK},
}


# -- parameters, without the engine -----------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"scales": (4, 1)}, "one number per level each"),
        ({"scales": (), "iterations": ()}, "one number per level each"),
        ({"scales": (2, 4, 1)}, "must become smaller from level to level"),
        ({"scales": (2, 1, 1)}, "must become smaller from level to level"),
        ({"iterations": (10, -1, 0)}, "must not be negative"),
        ({"beta1": 1.0}, "beta1 must lie between 0 and 1"),
        ({"kernel_voxels": 4}, "kernel_voxels is 4; it must be odd"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(name: str, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"methods.{name}: .*{words}"):
        build(name, resolve_parameters(name, wrong, "x"))


def test_the_symmetric_variant_must_end_at_full_resolution() -> None:
    """The package would take a warp for its inverse otherwise."""
    given = {"scales": (4, 2), "iterations": (10, 10)}
    build("fireants-greedy", resolve_parameters("fireants-greedy", given, "x"))
    with pytest.raises(ConfigError, match=r"scales \[4, 2\] must end with 1"):
        build("fireants-syn", resolve_parameters("fireants-syn", given, "x"))


def test_the_settings_of_the_paper() -> None:
    greedy, syn = (build(name, resolve_parameters(name, {"preset": "jena"}, "x")) for name in NAMES)
    told = [m._settings() for m in (greedy, syn)]  # type: ignore[attr-defined]
    keys = ("scales", "iterations", "optimizer_lr", "cc_kernel_size", "smooth_grad_sigma", "smooth_warp_sigma")
    assert [told[0][key] for key in keys] == [[4, 2, 1], [250, 200, 100], 0.25, 7, 1.0, 0.25]
    assert told[0]["optimizer_params"] == {"beta1": 0.1} and greedy.initial == "none"  # type: ignore[attr-defined]
    assert [told[1][key] for key in keys] == [[4, 2, 1], [200, 100, 50], 0.1, 5, 0.5, 0.25]
    defaults = [build(name, resolve_parameters(name, {"initial": "none"}, "x")) for name in NAMES]
    assert defaults == [greedy, syn]


def test_a_short_axis_gets_a_border_and_the_voxels_stay_where_they_are() -> None:
    fixed = phantom.bent(3).fixed
    bordered, inner = with_border(fixed)
    assert bordered.grid.shape == (32, 32, 32)
    np.testing.assert_array_equal(bordered.array[inner], fixed.array)
    np.testing.assert_allclose(bordered.grid.world_points()[inner], fixed.grid.world_points(), atol=1e-9)
    outside = np.ones(bordered.grid.shape, bool)
    outside[inner] = False
    assert (bordered.array[outside] == fixed.array.min()).all()
    large = Image(np.zeros((32, 40)), Grid.from_spacing((32, 40)))
    assert with_border(large)[0] is large


def test_cards_give_credit() -> None:
    for name in NAMES:
        assert "Jena" in CARDS[name].citation and "FireANTs License" in CARDS[name].licence


# -- the engine -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine() -> Iterator[Callable[..., LodgedMethod]]:
    """A method that is loaded and set up where its packages are, by name and parameters."""
    home = home_of("fireants-greedy")
    if home.missing:
        pytest.skip("; ".join(f"needs {need.name}: {need.install_hint}" for need in home.missing))
    if home.python is None:
        pytest.skip("fireants is installed beside regbench; tests/test_methods_contract.py covers it there")
    lodged: list[LodgedMethod] = []

    @cache
    def loaded(name: str) -> LodgedMethod:
        method = LodgedMethod(str(home.python), name)
        lodged.append(method)
        method.load()
        return method

    def made(name: str, **parameters: Any) -> LodgedMethod:
        method = loaded(name)
        method.set_up(resolve_parameters(name, {**QUICK[name], **parameters}, name))
        return method

    yield made
    for method in lodged:
        method.close()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("task", [phantom.shifted, phantom.bent])
def test_it_follows_shifts_and_waves(
    engine: Callable[..., LodgedMethod], name: str, ndim: int, task: Callable[[int], Pair]
) -> None:
    """On oblique grids of opposite handedness, without a linear start."""
    pair = task(ndim)
    start = phantom.error_mm(Displacement.identity(pair.fixed.grid), pair)
    assert phantom.error_mm(engine(name).register(pair.blind()), pair) < 0.5 * start


@pytest.mark.parametrize("name", NAMES)
def test_the_linear_start_is_part_of_the_field(engine: Callable[..., LodgedMethod], name: str) -> None:
    pair = phantom.turned(2)
    start = phantom.error_mm(Displacement.identity(pair.fixed.grid), pair)
    without, with_it = (
        phantom.error_mm(engine(name, initial=initial).register(pair.blind()), pair) for initial in ("none", "affine")
    )
    assert with_it < min(0.15 * start, without)


@pytest.mark.parametrize("name", NAMES)
def test_it_gives_the_same_after_another_pair_and_leaves_no_files(
    engine: Callable[..., LodgedMethod], name: str, tmp_path: Path
) -> None:
    method = engine(name)
    pair, other = phantom.bent(2).blind(), phantom.turned(2).blind()
    first = method.register(pair)
    method.register(other)
    np.testing.assert_array_equal(first.vectors_mm, method.register(pair).vectors_mm)
    assert first.grid.matches(pair.fixed.grid) and first.vectors_mm.dtype == np.float32
    assert [path.name for path in Path(method._folder.name).iterdir()] == ["regbench"]


def test_the_brightness_of_the_images_does_not_matter(engine: Callable[..., LodgedMethod]) -> None:
    pair = phantom.bent(2).blind()
    brighter = BlindPair("p", pair.fixed, Image(pair.moving.array * 900 - 300, pair.moving.grid))
    method = engine("fireants-greedy")
    first, second = (method.register(p).vectors_mm for p in (pair, brighter))
    assert np.abs(first - second).mean() < 0.05


@pytest.mark.parametrize("loss", ["mi", "mse"])
def test_other_losses(engine: Callable[..., LodgedMethod], loss: str) -> None:
    pair = phantom.bent(2)
    start = phantom.error_mm(Displacement.identity(pair.fixed.grid), pair)
    found = engine("fireants-greedy", loss=loss, iterations=(100, 60, 30)).register(pair.blind())
    assert phantom.error_mm(found, pair) < 0.7 * start


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_inverse_leads_back(engine: Callable[..., LodgedMethod], ndim: int) -> None:
    pair = phantom.bent(ndim)
    found = engine("fireants-greedy", inverse=True, initial="moments").register(pair.blind())
    assert found.inverse is not None and pair.fixed_labels is not None
    targets = found.targets()
    back = found.inverse
    there = back.grid.to_voxel(targets)
    returned = targets + linear_samples(
        back.vectors_mm.astype(np.float64), np.clip(there, 0, np.array(there.shape[:-1]) - 1)
    )
    off = np.linalg.norm(returned - pair.fixed.grid.world_points(), axis=-1)[pair.fixed_labels.array > 0]
    moved = np.linalg.norm(found.vectors_mm, axis=-1)[pair.fixed_labels.array > 0]
    assert off.mean() < 0.1 * moved.mean()


def test_what_the_engine_cannot_do_is_declined(engine: Callable[..., LodgedMethod]) -> None:
    grid = Grid((40, 40), np.array([[1.0, 0.3, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    image = Image(np.random.default_rng(0).random(grid.shape), grid)
    with pytest.raises(MethodDeclined, match="fireants-greedy needs grids without shear"):
        engine("fireants-greedy").register(BlindPair("p", image, image))
    with pytest.raises((MethodDeclined, RuntimeError), match=r"no GPU here|[Ii]nvalid device"):
        engine("fireants-greedy", device="cuda:63")
