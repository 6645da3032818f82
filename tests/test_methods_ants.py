"""ANTs SyN: what is handed to antsRegistration, and that warp and linear start are composed as ANTs composes them."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import phantom
import pytest

from regbench.displacement import Displacement
from regbench.errors import ConfigError, DatasetError, MethodError
from regbench.methods.ants_syn import AntsSyn
from regbench.methods.table import CARDS, resolve_parameters
from regbench.pair import BlindPair
from regbench.volume import Grid, Image, Labels

ants = pytest.importorskip("ants")

QUICK = AntsSyn(shrink=(2, 1), iterations=(20, 0), smoothing_voxels=(1.0, 0.0))


def arguments_of(monkeypatch: pytest.MonkeyPatch, method: AntsSyn, pair: BlindPair) -> dict[str, str]:
    """The arguments that reach antsRegistration, by option."""
    seen: list[str] = []

    def stop(args: list[str], _: Any) -> None:
        seen.extend(args)
        raise RuntimeError("stopped here")

    with monkeypatch.context() as patch:
        patch.setattr(ants, "registration", stop)
        with pytest.raises(MethodError, match="antsRegistration failed: stopped here"):
            method.register(pair)
    return dict(zip(seen[::2], seen[1::2], strict=True))


@pytest.mark.parametrize(("ndim", "initial"), [(2, "none"), (2, "moments"), (2, "affine"), (3, "moments")])
def test_the_field_is_what_ants_makes_of_its_own_transforms(
    ndim: int, initial: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ANTs' composition of all forward transforms that it wrote, read back independently of regbench's."""
    composed: list[np.ndarray] = []
    original = ants.registration

    def and_compose(args: list[str], other: Any) -> Any:
        result = original(args, other)
        folder = Path(args[args.index("--output") + 1].strip("[]")).parent
        grid = pair.fixed.grid
        signs = np.array([-1.0, -1.0, 1.0])[:ndim]
        like = ants.from_numpy(
            pair.fixed.array.copy(),
            origin=(grid.origin_mm * signs).tolist(),
            spacing=grid.spacing_mm.tolist(),
            direction=grid.linear / grid.spacing_mm * signs[:, None],
        )
        written = [str(folder / "o_1Warp.nii.gz"), str(folder / "o_0GenericAffine.mat")]
        path = ants.apply_transforms(like, like, written, compose=f"{folder}/c_")
        composed.append(ants.image_read(path).numpy() * signs)
        return result

    pair = phantom.bent(ndim).blind()
    monkeypatch.setattr(ants, "registration", and_compose)
    found = replace(QUICK, initial=initial).register(pair)
    np.testing.assert_allclose(found.vectors_mm, composed[0], atol=2e-3)
    assert found.max_mm > 2


def test_the_linear_start_brings_what_the_warp_alone_cannot() -> None:
    pair = phantom.turned(2)
    far = np.eye(3)
    far[:-1, -1] = [70.0, 40.0]
    away = Grid(pair.moving.grid.shape, far @ pair.moving.grid.affine)
    unaligned = replace(pair.blind(), moving=Image(pair.moving.array, away))
    truth = replace(pair, truth=pair.truth.then(far) if pair.truth else None)
    assert phantom.error_mm(replace(QUICK, initial="affine").register(unaligned), truth) < 1.0
    assert phantom.error_mm(replace(QUICK, initial="none").register(unaligned), truth) > 40


@pytest.mark.parametrize("metric", ["cc", "mattes"])
def test_both_metrics_follow_a_bend(metric: Any) -> None:
    pair = phantom.bent(2)
    before = phantom.error_mm(Displacement.identity(pair.fixed.grid), pair)
    assert phantom.error_mm(replace(QUICK, metric=metric, initial="none").register(pair.blind()), pair) < 0.6 * before


def test_every_parameter_reaches_ants(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = phantom.bent(2).blind()
    pair = replace(pair, moving_mask=Labels(pair.moving.array > 0.2, pair.moving.grid))
    method = AntsSyn("none", "cc", 3, 32, (4, 1), (7, 5), (1.5, 0.0), 0.3, 2.0, 0.5, (0.01, 0.9), True, seed=6)
    found = arguments_of(monkeypatch, method, pair)
    assert found["--dimensionality"] == "2"
    assert found["--transform"] == "SyN[0.3,2.0,0.5]"
    assert found["--metric"].startswith("CC[") and found["--metric"].endswith(",1,3]")
    assert found["--convergence"] == "[7x5,1e-6,10]"
    assert found["--shrink-factors"] == "4x1"
    assert found["--smoothing-sigmas"] == "1.5x0vox"
    assert found["--winsorize-image-intensities"] == "[0.01,0.9]"
    assert found["--use-histogram-matching"] == "1"
    assert found["--random-seed"] == "7"
    assert found["--masks"].startswith("[NA,") and found["--masks"] != "[NA,NA]"
    assert found["--verbose"] == "0"
    assert arguments_of(monkeypatch, replace(method, metric="mattes"), pair)["--metric"].endswith(",1,32]")


def test_masks_are_used() -> None:
    pair = phantom.bent(2).blind()
    body = pair.fixed.array > 0.3
    half = body & (np.arange(body.shape[0])[:, None] < body.shape[0] // 2)
    plain = replace(QUICK, initial="none").register(pair)
    masked = replace(QUICK, initial="none").register(replace(pair, fixed_mask=Labels(half, pair.fixed.grid)))
    other_half = body & ~half
    sizes = [np.abs(u.vectors_mm[other_half]).mean() for u in (masked, plain)]
    assert sizes[0] < 0.7 * sizes[1]


def test_nothing_stays_when_ants_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    arguments_of(monkeypatch, QUICK, phantom.bent(2).blind())
    assert list(tmp_path.iterdir()) == []


def test_a_sheared_grid_is_one_sentence() -> None:
    pair = phantom.bent(2).blind()
    sheared = Grid(pair.fixed.grid.shape, pair.fixed.grid.affine @ np.array([[1, 0.3, 0], [0, 1, 0], [0, 0, 1]]))
    with pytest.raises(DatasetError, match="not at right angles"):
        replace(QUICK, initial="none").register(replace(pair, fixed=Image(pair.fixed.array, sheared)))


@pytest.mark.parametrize("preset", list(CARDS["ants-syn"].presets))
def test_presets_are_valid_settings(preset: str) -> None:
    values = resolve_parameters("ants-syn", {"preset": preset, "seed": 3}, "methods.ants-syn")
    method = AntsSyn(**values)
    assert method.seed == 3
    assert {name: getattr(method, name) for name in CARDS["ants-syn"].presets[preset]} == CARDS["ants-syn"].presets[
        preset
    ]


@pytest.mark.parametrize("wrong", [{"shrink": (4, 2)}, {"iterations": (10,)}, {"shrink": (4, 2, 2, 2)}])
def test_levels_that_do_not_fit_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"methods.ants-syn: .* one number for each level"):
        AntsSyn(**wrong)
