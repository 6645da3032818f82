"""convexAdam: what reaches the package, frame and unit of what comes back, and images that it cannot handle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from regbench.contract import phantom
from regbench.errors import ConfigError, MethodDeclined, MethodError
from regbench.methods.convexadam import ConvexAdam
from regbench.pair import BlindPair
from regbench.volume import Grid, Image

package = pytest.importorskip("convexAdam.convex_adam_MIND", reason="needs: pip install convexAdam")


def stand_in(monkeypatch: pytest.MonkeyPatch, answer: np.ndarray) -> dict[str, Any]:
    """Puts a function in place of the package's, which returns `answer`; what it is called with."""
    seen: dict[str, Any] = {}

    def convex_adam_pt(fixed: Any, moving: Any, **settings: Any) -> np.ndarray:
        seen.update(fixed=fixed.numpy(), moving=moving.numpy(), **settings)
        return answer

    monkeypatch.setattr(package, "convex_adam_pt", convex_adam_pt)
    return seen


def test_it_gets_both_images_on_the_fixed_grid_and_its_voxels_are_read_on_that_grid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = phantom.shifted(3).blind()
    grid = pair.fixed.grid
    voxels = np.random.default_rng(1).normal(0, 2, (*grid.shape, 3)).astype(np.float32)
    seen = stand_in(monkeypatch, voxels)
    found = ConvexAdam(grid_voxels=5, search_steps=3, smoothness=0.5, iterations=7).register(pair)
    # A step of one voxel is one column of the affine.
    np.testing.assert_allclose(found.vectors_mm, voxels @ grid.linear.T, atol=1e-4)
    np.testing.assert_array_equal(seen["fixed"], pair.fixed.array)
    body = pair.fixed.array > 0.3
    np.testing.assert_allclose(seen["moving"][body], phantom.scene(grid.world_points())[body], atol=0.08)
    assert (seen["grid_sp"], seen["disp_hw"], seen["lambda_weight"], seen["selected_niter"]) == (5, 3, 0.5, 7)
    assert str(seen["dtype"]) == "torch.float32" and str(seen["device"]) == "cpu"


def test_images_on_one_grid_are_not_resampled(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = phantom.shifted(3).blind()
    rng = np.random.default_rng(2)
    same = replace(pair, moving=Image(rng.uniform(0, 1, pair.fixed.grid.shape), pair.fixed.grid))
    seen = stand_in(monkeypatch, np.zeros((*pair.fixed.grid.shape, 3)))
    ConvexAdam().register(same)
    np.testing.assert_array_equal(seen["moving"], same.moving.array)


def test_images_that_it_cannot_handle_are_one_sentence() -> None:
    with pytest.raises(MethodDeclined, match="handles 3-D images only"):
        ConvexAdam().register(phantom.bent(2).blind())
    grid = Grid.from_spacing((14, 14, 7))
    image = Image(np.random.default_rng(1).uniform(0, 1, grid.shape), grid)
    with pytest.raises(
        MethodDeclined, match=r"grid_voxels: 6 needs at least 12 voxels along each axis; .* has 14x14x7"
    ):
        ConvexAdam().register(BlindPair("thin", image, image))
    pair = phantom.shifted(3).blind()
    with pytest.raises(MethodError, match="the moving image is flat"):
        ConvexAdam().register(replace(pair, moving=Image(np.ones(pair.moving.grid.shape), pair.moving.grid)))


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"methods\.convexadam: "):
        ConvexAdam(grid_voxels=0)
