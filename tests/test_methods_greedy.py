"""Greedy: what reaches the engine, that its warp and the linear start are composed rightly, seed, masks and inverse."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from regbench.alignment import Alignment
from regbench.contract import phantom
from regbench.displacement import Displacement
from regbench.errors import ConfigError, MethodDeclined, MethodError
from regbench.files.itk import to_sitk
from regbench.methods.greedy import Greedy, JenaGreedy
from regbench.metrics.evaluate import evaluate
from regbench.pair import BlindPair
from regbench.volume import Grid, Image, Labels

picsl_greedy = pytest.importorskip("picsl_greedy", reason="needs: pip install picsl-greedy")

QUICK = Greedy(initial="none", iterations=(40, 20))


def calls_of(monkeypatch: pytest.MonkeyPatch, method: Greedy, pair: BlindPair) -> tuple[list[str], dict[str, Any]]:
    """The words of the call of the engine, and the images that go with it."""
    seen: list[Any] = []

    def stop(self: Any, command: str, **images: Any) -> None:
        seen.extend([command.split(), images, type(self).__name__])
        raise RuntimeError("stopped here")

    with monkeypatch.context() as patch:
        for engine in (picsl_greedy.GreedyFloat2D, picsl_greedy.GreedyFloat3D):
            patch.setattr(engine, "execute", stop)
        with pytest.raises(MethodError, match="greedy failed: stopped here"):
            method.register(pair)
    return seen[0], {**seen[1], "engine": seen[2]}


def after(words: list[str], option: str, n: int = 1) -> list[str]:
    return words[words.index(option) + 1 : words.index(option) + 1 + n]


@pytest.mark.parametrize(("ndim", "initial"), [(2, "none"), (2, "affine"), (3, "none"), (3, "moments")])
def test_the_field_moves_the_image_as_the_engine_does(
    ndim: int, initial: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The engine's own reslicing through its warp and our start, against our field and SimpleITK's resampling."""
    kept: list[sitk.Image] = []
    pair = phantom.bent(ndim).blind()
    engine = picsl_greedy.GreedyFloat3D if ndim == 3 else picsl_greedy.GreedyFloat2D
    original = engine.execute

    def and_reslice(self: Any, command: str, **images: Any) -> Any:
        result = original(self, command, **images)
        start = after(command.split(), "-it")[0]
        other, warp = engine(), tmp_path / "warp.nii.gz"
        sitk.WriteImage(self["W"], str(warp))
        line = f"-d {ndim} -V 0 -rf F -ri LINEAR -rm M R -r {warp} {start}"
        original(other, line, F=images["F"], M=to_sitk(pair.moving), R=None)
        kept.append(other["R"])
        return result

    monkeypatch.setattr(engine, "execute", and_reslice)
    found = replace(QUICK, initial=initial).register(pair)
    axes = tuple(reversed(range(ndim)))
    theirs = sitk.GetArrayFromImage(kept[0]).transpose(axes)
    points = to_sitk(pair.fixed)
    transform = sitk.DisplacementFieldTransform(_vector_image(found))
    ours = sitk.GetArrayFromImage(sitk.Resample(to_sitk(pair.moving), points, transform)).transpose(axes)
    body = pair.fixed.array > 0.3
    np.testing.assert_allclose(ours[body], theirs[body], atol=5e-3)
    assert found.max_mm > 2


def _vector_image(displacement: Displacement) -> sitk.Image:
    from regbench.files.itk import displacement_to_sitk

    return sitk.Cast(displacement_to_sitk(displacement), sitk.sitkVectorFloat64)


def test_the_inverse_leads_back() -> None:
    pair = phantom.bent(3)
    found = replace(QUICK, initial="moments", inverse=True).register(pair.blind())
    ice = evaluate(Alignment(pair, found), ["ice_mm"])["ice_mm"]
    assert isinstance(ice, dict) and ice["mean"] < 0.1 and ice["p95"] < 0.3
    plain = replace(QUICK, initial="moments").register(pair.blind())
    assert plain.inverse is None
    np.testing.assert_array_equal(plain.vectors_mm, found.vectors_mm)


def test_the_seed_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = phantom.bent(2).blind()
    first, again, other = (replace(QUICK, seed=seed).register(pair).vectors_mm for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0
    words, _ = calls_of(monkeypatch, replace(QUICK, seed=0), pair)
    assert after(words, "-seed") == ["1"], "0 is a different result in every run"


def test_masks_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies outside the mask is no longer followed, what lies inside still is."""
    pair = phantom.bent(2)
    assert pair.truth is not None
    body = pair.fixed.array > 0.3
    half = body & (np.arange(body.shape[0])[:, None] < body.shape[0] // 2)
    seen = pair.blind()
    plain, masked = (
        np.linalg.norm(QUICK.register(replace(seen, fixed_mask=mask)).vectors_mm - pair.truth.vectors_mm, axis=-1)
        for mask in (None, Labels(half, pair.fixed.grid))
    )
    assert masked[half].mean() < 1.1 * plain[half].mean()
    assert masked[body & ~half].mean() > 1.2 * plain[body & ~half].mean()


def test_weighted_correlation_takes_a_moving_mask_only_beside_a_fixed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = phantom.bent(2).blind()
    masks = {
        f"{side}_mask": Labels(image.array > 0.02, image.grid)
        for side, image in (("fixed", pair.fixed), ("moving", pair.moving))
    }
    method = replace(QUICK, metric="wncc")
    for given, wanted in ((["moving"], []), (["fixed"], ["-gm"]), (["fixed", "moving"], ["-gm", "-mm"])):
        seen = replace(pair, **{f"{side}_mask": masks[f"{side}_mask"] for side in given})
        words, _ = calls_of(monkeypatch, method, seen)
        assert [option for option in ("-gm", "-mm") if option in words] == wanted


def test_smoothing_in_mm_is_smoothing_in_voxels_times_their_size() -> None:
    grid = Grid.from_spacing((28, 26), 2.0)
    points = grid.world_points() + phantom.CENTRE_MM[:2] - np.array([27.0, 25.0])
    pair = BlindPair(
        "isotropic", Image(phantom.scene(points + np.array([3.0, -2.0])), grid), Image(phantom.scene(points), grid)
    )
    voxels = replace(QUICK, smoothing=(1.5, 0.7), smoothing_unit="vox").register(pair).vectors_mm
    mm = replace(QUICK, smoothing=(3.0, 1.4), smoothing_unit="mm").register(pair).vectors_mm
    np.testing.assert_allclose(mm, voxels, atol=0.02)
    assert np.abs(replace(QUICK, smoothing=(3.0, 1.4)).register(pair).vectors_mm - voxels).max() > 0.2


def test_every_parameter_reaches_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = phantom.bent(2).blind()
    masked = replace(
        pair,
        fixed_mask=Labels(pair.fixed.array > 0.2, pair.fixed.grid),
        moving_mask=Labels(pair.moving.array > 0.2, pair.moving.grid),
    )
    monkeypatch.setenv("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "3")
    method = Greedy("none", "wncc", 3, (7, 5), (2.0, 0.5), "mm", True, True, seed=6)
    words, images = calls_of(monkeypatch, method, masked)
    assert after(words, "-m", 2) == ["WNCC", "3x3"] and after(words, "-n") == ["7x5"]
    assert after(words, "-s", 2) == ["2mm", "0.5mm"] and after(words, "-threads") == ["1"]
    assert after(words, "-seed") == ["7"] and after(words, "-wp") == ["0"]
    assert "-sv" in words and after(words, "-oinv") == ["V"] and after(words, "-mm") == ["MM"]
    assert after(words, "-gm") == ["GM"] and {"F", "M", "GM", "MM", "W", "V"} <= set(images)
    assert images["engine"] == "GreedyFloat2D"
    words, _ = calls_of(monkeypatch, replace(method, metric="mi", stationary_velocity=False), pair)
    assert after(words, "-m", 2) == ["MI", "-n"] and "-sv" not in words and "-mm" not in words
    assert after(words, "-threads") == ["3"]


def test_the_published_call_is_that_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    words, _ = calls_of(monkeypatch, JenaGreedy(), phantom.bent(3).blind())
    assert after(words, "-m", 2) == ["WNCC", "2x2x2"] and after(words, "-n") == ["100x100x40"]
    assert after(words, "-s", 2) == ["1.5mm", "0.5mm"] and after(words, "-d") == ["3"]


def test_the_engine_is_quiet_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    capfd.readouterr()
    QUICK.register(phantom.bent(2).blind())
    assert capfd.readouterr() == ("", "") and os.listdir(tmp_path) == []  # noqa: PTH208


def test_images_that_the_engine_cannot_handle_are_one_sentence() -> None:
    with pytest.raises(MethodDeclined, match="needs grids without shear"):
        QUICK.register(phantom.sheared(2).blind())
    small = Grid.from_spacing((9, 7), 2.0)
    pair = BlindPair("small", *(Image(np.arange(63.0).reshape(9, 7), small) for _ in range(2)))
    with pytest.raises(MethodDeclined, match=r"greedy on 2 levels .* at least 8 voxels along each axis; .* has 9x7"):
        QUICK.register(pair)
    flat = replace(phantom.bent(2).blind(), moving=Image(np.ones((9, 9)), Grid.from_spacing((9, 9))))
    with pytest.raises(MethodError, match="the moving image is flat"):
        QUICK.register(flat)


@pytest.mark.parametrize(
    "wrong", [{"iterations": ()}, {"iterations": (0, 0)}, {"smoothing": (-1.0, 0.5)}, {"radius_voxels": 0}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"methods\.greedy: "):
        Greedy(**wrong)


def test_the_weighted_metric_returns_in_2d_whatever_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine itself waits for ever there on two threads."""
    monkeypatch.setenv("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "2")
    command = Greedy(metric="wncc")._command(2, {}, Path("start.mat"))
    assert command[command.index("-threads") + 1] == "1"
    command = Greedy(metric="wncc")._command(3, {}, Path("start.mat"))
    assert command[command.index("-threads") + 1] == "2"


@pytest.mark.parametrize("metric", ["ncc", "wncc"])
def test_the_unit_of_the_intensities_changes_nothing(metric: Any) -> None:
    """The engine sums squares in single precision: large intensities must not reach its local correlation."""
    pair = phantom.bent(2).blind()
    large = replace(
        pair,
        fixed=Image(3000 * pair.fixed.array + 500, pair.fixed.grid),
        moving=Image(2000 * pair.moving.array, pair.moving.grid),
    )
    method = replace(QUICK, metric=metric)
    found, again = (method.register(one).vectors_mm for one in (pair, large))
    assert np.abs(found).max() > 1
    np.testing.assert_allclose(again, found, atol=0.02 * np.abs(found).max())


def test_squared_differences_see_the_intensities_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = phantom.bent(2).blind()
    _, images = calls_of(monkeypatch, replace(QUICK, metric="ssd"), pair)
    np.testing.assert_array_equal(np.sort(sitk.GetArrayFromImage(images["F"]), None), np.sort(pair.fixed.array, None))
