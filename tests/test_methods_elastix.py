"""elastix: its parameter maps, the user's own, and what is left of its files. Needs the programs, but for the maps."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from regbench.contract import phantom
from regbench.displacement import Displacement
from regbench.errors import ConfigError, DatasetError, MethodDeclined, MethodError
from regbench.files.itk import affine_from_sitk
from regbench.methods import elastix
from regbench.methods.elastix import ElastixAffineBspline, ElastixBspline
from regbench.pair import BlindPair
from regbench.volume import Grid, Image, Labels

needs_elastix = pytest.mark.skipif(
    not (shutil.which("elastix") and shutil.which("transformix")), reason="needs: apt install elastix"
)
QUICK = ElastixBspline(metric="ncc", levels=2, iterations=60, samples=1500)


def maps_of(monkeypatch: pytest.MonkeyPatch, method: ElastixBspline, pair: BlindPair) -> tuple[list[str], list[str]]:
    """The command line of elastix, and the texts of its parameter maps."""
    seen: tuple[list[str], list[str]] = ([], [])

    def stop(command: list[str], folder: Path, *others: Any) -> None:
        seen[0].extend(command)
        seen[1].extend(Path(command[i + 1]).read_text() for i, word in enumerate(command) if word == "-p")
        raise MethodError("stopped here")

    with monkeypatch.context() as patch:
        patch.setattr(elastix, "run_program", stop)
        patch.setattr(elastix, "find_program", lambda *_: "there")
        with pytest.raises(MethodError, match="stopped here"):
            method.register(pair)
    return seen


def values(text: str, name: str) -> list[list[str]]:
    """The values of every line of a map with this name."""
    return [line.split()[1:] for line in re.findall(r"^\((.*)\)$", text, re.M) if line.split()[0] == name]


def test_the_map_is_elastix_own_default_but_for_the_length_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    _, (text,) = maps_of(monkeypatch, ElastixBspline(seed=4), phantom.bent(3).blind())
    wanted = {
        "Metric": ['"AdvancedMattesMutualInformation"', '"TransformBendingEnergyPenalty"'],
        "Registration": ['"MultiMetricMultiResolutionRegistration"'],
        "Transform": ['"RecursiveBSplineTransform"'],
        "NumberOfResolutions": ["4"],
        "MaximumNumberOfIterations": ["500"],
        "NumberOfSpatialSamples": ["4096"],
        "ImageSampler": ['"RandomCoordinate"'],
        "FinalGridSpacingInPhysicalUnits": ["10"],
        "GridSpacingSchedule": ["2.82843", "2", "1.41421", "1"],
        "FixedImageDimension": ["3"],
        "RandomSeed": ["5"],
        "AutomaticTransformInitialization": ['"false"'],
        "UseDirectionCosines": ['"true"'],
        "WriteResultImage": ['"false"'],
        "MaximumStepLength": ["1.28333"],
    }
    assert {name: values(text, name) for name in wanted} == {name: [value] for name, value in wanted.items()}


def test_parameters_reach_the_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = phantom.bent(2).blind()
    pair = replace(pair, fixed_mask=Labels(pair.fixed.array > 0.3, pair.fixed.grid))
    monkeypatch.setenv("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "3")
    method = ElastixAffineBspline(metric="ssd", levels=2, iterations=9, samples=77, bending_weight=0.0, step_voxels=2.0)
    command, (affine, bspline) = maps_of(monkeypatch, method, pair)
    assert command[0] == "elastix" and "-fMask" in command and "-mMask" not in command
    assert command[command.index("-threads") + 1] == "3"
    assert values(affine, "Transform") == [['"AffineTransform"']]
    assert values(affine, "AutomaticTransformInitialization") == [['"true"']]
    for text in (affine, bspline):
        assert values(text, "Metric") == [['"AdvancedMeanSquares"']]
        assert values(text, "MaximumNumberOfIterations") == [["9"]]
        assert values(text, "NumberOfSpatialSamples") == [["77"]]
        assert values(text, "MaximumStepLength") == [["5.3"]]


def test_of_the_users_own_maps_only_what_is_written_is_changed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = (
        '// mine\n(Transform "EulerTransform")\n(WriteResultImage "true")\n  (ResultImageFormat "mhd")\n(Metric "X")\n'
    )
    (tmp_path / "own.txt").write_text(own)
    method = ElastixBspline(parameter_files=(str(tmp_path / "own.txt"), str(tmp_path / "own.txt")))
    _, texts = maps_of(monkeypatch, method, phantom.bent(2).blind())
    assert len(texts) == 2
    for text in texts:
        assert values(text, "Transform") == [['"EulerTransform"']] and values(text, "Metric") == [['"X"']]
        assert values(text, "WriteResultImage") == [['"false"']]
        assert values(text, "ResultImageFormat") == [['"nii.gz"']]
        assert values(text, "HowToCombineTransforms") == [['"Compose"']]
        assert "RandomSeed" not in text
    (tmp_path / "own.txt").write_text("// nothing\n")
    with pytest.raises(DatasetError, match="holds no parameters"):
        maps_of(monkeypatch, method, phantom.bent(2).blind())


def test_parameter_files_that_are_not_there_and_settings_without_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"parameter_files: file .*no-such.txt does not exist"):
        ElastixBspline(parameter_files=(str(tmp_path / "no-such.txt"),))
    for wrong in (
        {"levels": 0},
        {"stages": ()},
        {"grid_spacing_mm": 0.0},
        {"step_voxels": 0.0},
        {"bending_weight": -1.0},
    ):
        with pytest.raises(ConfigError, match=r"methods\.elastix: "):
            ElastixBspline(**wrong)  # type: ignore[arg-type]


def test_without_the_programs_it_declines_with_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MethodDeclined, match=r"'elastix' is not on PATH; install it with `apt install elastix`"):
        QUICK.prepare()


@needs_elastix
@pytest.mark.parametrize("ndim", [2, 3])
def test_the_field_of_an_affine_stage_is_the_matrix_that_elastix_wrote(
    ndim: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Direction, units and frame against the transform file, read as elastix documents it."""
    kept: list[str] = []
    original = elastix.run_program

    def and_keep(command: list[str], folder: Path, *others: Any) -> None:
        original(command, folder, *others)
        if command[0] == "elastix":
            kept.append((folder / "TransformParameters.0.txt").read_text())

    monkeypatch.setattr(elastix, "run_program", and_keep)
    pair = phantom.stretched(ndim)
    found = replace(QUICK, stages=("affine",)).register(pair.blind())
    numbers = [float(n) for n in values(kept[0], "TransformParameters")[0]]
    centre = [float(n) for n in values(kept[0], "CenterOfRotationPoint")[0]]
    transform = sitk.AffineTransform(ndim)
    transform.SetMatrix(numbers[: ndim * ndim])
    transform.SetTranslation(numbers[ndim * ndim :])
    transform.SetCenter(centre)
    expected = Displacement.from_affine(affine_from_sitk(transform), pair.fixed.grid)
    np.testing.assert_allclose(found.vectors_mm, expected.vectors_mm, atol=1e-3)
    assert phantom.error_mm(found, pair) < 0.6


@needs_elastix
def test_stages_are_composed() -> None:
    """A shift far beyond the reach of B-splines, then a bend that no affine follows: neither stage can do both."""
    pair = phantom.bent(2)
    far = np.eye(3)
    far[:-1, -1] = [60.0, -45.0]
    away = Grid(pair.moving.grid.shape, far @ pair.moving.grid.affine)
    unaligned = replace(pair.blind(), moving=Image(pair.moving.array, away))
    truth = replace(pair, truth=pair.truth.then(far) if pair.truth else None)
    both = ElastixAffineBspline(metric="ncc", levels=2, iterations=100, samples=1500)
    left = {
        stages: phantom.error_mm(replace(both, stages=stages).register(unaligned), truth)
        for stages in (("affine", "bspline"), ("affine",))
    }
    assert left["affine", "bspline"] < 1.2 and left["affine", "bspline"] < 0.7 * left[("affine",)]


@needs_elastix
def test_a_users_parameter_file_is_run_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    (tmp_path / "translation.txt").write_text(
        '(FixedImageDimension 2)\n(MovingImageDimension 2)\n(Registration "MultiResolutionRegistration")\n'
        '(Transform "TranslationTransform")\n(Metric "AdvancedNormalizedCorrelation")\n'
        '(Interpolator "LinearInterpolator")\n(WriteResultImage "true")\n'
        '(Optimizer "AdaptiveStochasticGradientDescent")\n(ImageSampler "Full")\n(NumberOfResolutions 2)\n'
        '(MaximumNumberOfIterations 100)\n(FixedImagePyramid "FixedSmoothingImagePyramid")\n'
        '(MovingImagePyramid "MovingSmoothingImagePyramid")\n(Resampler "DefaultResampler")\n'
        '(ResampleInterpolator "FinalBSplineInterpolator")\n(AutomaticScalesEstimation "true")\n'
    )
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    pair = phantom.shifted(2)
    found = ElastixBspline(parameter_files=(str(tmp_path / "translation.txt"),)).register(pair.blind())
    assert phantom.error_mm(found, pair) < 0.5
    # A translation: one vector everywhere.
    assert np.ptp(found.vectors_mm.reshape(-1, 2), axis=0).max() < 1e-3
    assert list(temporary.iterdir()) == [] and capfd.readouterr().out == ""
    (tmp_path / "translation.txt").write_text('(Transform "NoSuchTransform")\n')
    with pytest.raises(MethodError, match="elastix ended with exit code"):
        ElastixBspline(parameter_files=(str(tmp_path / "translation.txt"),)).register(pair.blind())
    assert list(temporary.iterdir()) == []


@needs_elastix
def test_the_seed_decides_and_masks_are_used() -> None:
    pair = phantom.bent(2).blind()
    first, again, other = (replace(QUICK, seed=seed).register(pair).vectors_mm for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    body = pair.fixed.array > 0.3
    half = body & (np.arange(body.shape[0])[:, None] < body.shape[0] // 2)
    masked = replace(QUICK, seed=1).register(replace(pair, fixed_mask=Labels(half, pair.fixed.grid))).vectors_mm
    assert np.abs(masked - first)[body & ~half].mean() > 0.5


def test_images_that_elastix_cannot_handle_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elastix, "find_program", lambda *_: "there")
    with pytest.raises(MethodDeclined, match="elastix needs grids without shear"):
        QUICK.register(phantom.sheared(2).blind())
    thin = Grid.from_spacing((12, 3))
    image = Image(np.arange(36.0).reshape(12, 3), thin)
    with pytest.raises(MethodDeclined, match="at least 4 voxels along each axis"):
        QUICK.register(BlindPair("thin", image, image))
    with pytest.raises(MethodError, match="the fixed image is flat"):
        QUICK.register(BlindPair("flat", Image(np.ones((12, 3)), thin), image))
