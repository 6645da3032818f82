"""ANTs SyN: what is handed to antsRegistration, and that warp and linear start are composed as ANTs composes them."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regbench.alignment import Alignment
from regbench.contract import phantom
from regbench.displacement import Displacement
from regbench.errors import ConfigError, MethodDeclined, MethodError
from regbench.methods import ants_syn
from regbench.methods.ants_syn import AntsSyn, JenaAntsSyn
from regbench.methods.table import CARDS, resolve_parameters
from regbench.metrics.evaluate import evaluate
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


def test_images_that_ants_cannot_handle_are_one_sentence() -> None:
    with pytest.raises(MethodDeclined, match="ANTs needs grids without shear"):
        replace(QUICK, initial="none").register(phantom.sheared(2).blind())
    grid = Grid.from_spacing((12, 3))
    image = Image(np.arange(36.0).reshape(12, 3), grid)
    with pytest.raises(MethodDeclined, match="ANTs needs at least 4 voxels along each axis; the fixed image has 12x3"):
        QUICK.register(BlindPair("thin", image, image))
    pair = phantom.bent(2).blind()
    with pytest.raises(MethodError, match="the moving image is flat"):
        QUICK.register(replace(pair, moving=Image(np.ones(pair.moving.grid.shape), pair.moving.grid)))


@pytest.mark.parametrize("ndim", [2, 3])
def test_in_double_precision_ants_gets_double_images(ndim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Float images with --float 0 are read as other memory without a word; so the images of a call are looked at."""
    types: list[str] = []
    pair = phantom.shifted(ndim)
    original = ants_syn._ants_image

    def and_tell(image: Image, precision: str) -> Any:
        made = original(image, precision)
        types.append(made.pixeltype)
        return made

    monkeypatch.setattr(ants_syn, "_ants_image", and_tell)
    few = {"shrink": (2, 1), "iterations": (40, 0), "smoothing_voxels": (1.0, 0.0)}
    exact = JenaAntsSyn(**few)  # type: ignore[arg-type]
    assert arguments_of(monkeypatch, exact, pair.blind())["--float"] == "0"
    found = exact.register(pair.blind())
    assert set(types) == {"double"}
    assert phantom.error_mm(found, pair) < 0.15 * float(np.linalg.norm(phantom.SHIFT_MM[:ndim]))
    assert arguments_of(monkeypatch, replace(exact, precision="float"), pair.blind())["--float"] == "1"
    np.testing.assert_allclose(
        replace(exact, precision="float").register(pair.blind()).vectors_mm, found.vectors_mm, atol=0.3
    )


def test_the_published_call_is_that_of_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    found = arguments_of(monkeypatch, JenaAntsSyn(), phantom.bent(3).blind())
    assert found["--transform"] == "SyN[0.1,3.0,0.0]" and found["--metric"].endswith(",1,4]")
    assert found["--convergence"] == "[100x70x50x20,1e-6,10]" and found["--shrink-factors"] == "8x4x2x1"
    assert found["--smoothing-sigmas"] == "3x2x1x0vox" and found["--winsorize-image-intensities"] == "[0.005,0.995]"
    assert found["--use-histogram-matching"] == "0"


def test_the_centre_of_mass_is_that_of_ants() -> None:
    pair = phantom.shifted(3).blind()
    matrix = ants_syn._between_centres(pair)
    centres = [
        np.array(ants.get_center_of_mass(ants_syn._ants_image(image, "float"))) * np.array([-1, -1, 1])
        for image in (pair.fixed, pair.moving)
    ]
    np.testing.assert_allclose(matrix[:-1, -1], centres[1] - centres[0], atol=1e-3)
    np.testing.assert_array_equal(matrix[:-1, :-1], np.eye(3))


@pytest.mark.parametrize("initial", ["none", "moments"])
def test_the_inverse_leads_back(initial: Any) -> None:
    pair = phantom.bent(3)
    found = replace(QUICK, initial=initial).register(pair.blind())
    ice = evaluate(Alignment(pair, found), ["ice_mm"])["ice_mm"]
    assert isinstance(ice, dict) and ice["mean"] < 0.1 and ice["p95"] < 0.3


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
