"""`elastix-bspline` and `elastix-affine-bspline`: the programs `elastix` and `transformix` on PATH.

Images go to the programs as NIfTI files, which keep orientation; the result is asked for as a deformation field at
every voxel of the fixed image, in LPS mm, all stages and the start included. Parameter maps are the program's
text files: those that regbench writes (settings in view below), or the user's own, by path. elastix writes no
result image for regbench: the field is all that is needed.

The default settings are those of elastix' default map for B-splines: random samples drawn anew in every iteration,
adaptive stochastic gradient descent, and a grid that is refined by the root of two from level to level. A schedule
that doubles the grid at every level folds where this one does not. One setting differs: elastix lets a first step be
one voxel long, which is meant for voxels of about a millimetre. Coarse voxels make it leap: on simulated brains
at 3 mm, half a voxel means less error (by 0.6 and 0.7 mm on two pairs) and fewer folds. Mutual information of a small
image with much empty background is a weak guide at any length; give a mask, or take `ncc` and two levels.

Source: Klein et al., IEEE Transactions on Medical Imaging 29 (2010) 196-205.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import ConfigError, DatasetError
from regbench.files.fields import load_field
from regbench.files.images import write_image, write_labels
from regbench.methods.card import Card
from regbench.methods.demands import demand_content, demand_right_angles, demand_voxels
from regbench.methods.programs import (
    check_files,
    find_program,
    fingerprint,
    output_file,
    private_folder,
    run_program,
    threads_of_worker,
)
from regbench.pair import BlindPair
from regbench.volume import Image, Labels

# What the Gaussian pyramid needs.
_SMALLEST_AXIS_VOXELS = 4
_HINT = "install it with `apt install elastix`, or from github.com/SuperElastix/elastix/releases"
_METRICS = {
    "mi": "AdvancedMattesMutualInformation",
    "ncc": "AdvancedNormalizedCorrelation",
    "ssd": "AdvancedMeanSquares",
}
# Names that change what is written, which this adapter depends on; the user's own maps must not say otherwise.
_OUTPUT: dict[str, Sequence[object]] = {
    "ResultImageFormat": ["nii.gz"],
    "WriteResultImage": ["false"],
    "WriteTransformParametersEachIteration": ["false"],
    "HowToCombineTransforms": ["Compose"],
}
Map = Mapping[str, Sequence[object]]


@dataclass(frozen=True)
class ElastixBspline:
    """B-splines: `levels` with `iterations` each, `samples` per iteration, and the grid spacing in mm at the end.

    `metric` is `mi` (Mattes), `ncc` or `ssd`. `bending_weight` adds the bending energy penalty, 0 for none. The first
    steps are `step_voxels` long at most.
    `parameter_files` replaces all of this by the user's own maps, run one after the other.
    """

    stages: tuple[Literal["affine", "bspline"], ...] = ("bspline",)
    metric: Literal["mi", "ncc", "ssd"] = "mi"
    levels: int = 4
    iterations: int = 500
    samples: int = 4096
    grid_spacing_mm: float = 10.0
    bending_weight: float = 1.0
    step_voxels: float = 0.5
    parameter_files: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.stages or min(self.levels, self.iterations, self.samples, self.grid_spacing_mm) <= 0:
            raise ConfigError(
                "methods.elastix: stages must not be empty; levels, iterations, samples and grid_spacing_mm be above 0"
            )
        if self.step_voxels <= 0 or self.bending_weight < 0:
            raise ConfigError("methods.elastix: step_voxels must be above 0, bending_weight not below")
        check_files(self.parameter_files, "methods.elastix: parameter_files")

    @classmethod
    def completed_card(cls, card: Card, parameters: Mapping[str, Any]) -> Card:
        """The card with the content of the user's parameter files as part of the version."""
        content = fingerprint(parameters.get("parameter_files") or ())
        return card if not content else dataclasses.replace(card, version_suffix=f"with {content}")

    def prepare(self) -> None:
        """Finds the programs; MethodDeclined, with how to get them, where they are missing."""
        for program in ("elastix", "transformix"):
            find_program(program, _HINT)

    def register(self, pair: BlindPair) -> Displacement:
        """The displacement of all stages together, on the fixed grid."""
        self.prepare()
        demand_right_angles(pair, "elastix")
        demand_content(pair)
        if not self.parameter_files:
            demand_voxels(pair, _SMALLEST_AXIS_VOXELS, "elastix")
        with private_folder("elastix") as folder:
            threads = ("-threads", str(threads_of_worker()))
            run_program(["elastix", *self._files(pair, folder), *threads], folder)
            last = output_file(folder, f"TransformParameters.{len(self._maps(pair)) - 1}.txt", "elastix")
            run_program(["transformix", "-def", "all", "-tp", str(last), "-out", str(folder), *threads], folder)
            field = output_file(folder, "deformationField.nii.gz", "transformix")
            return load_field(field, pair.fixed.grid, pair.moving.grid, format="itk")

    def _files(self, pair: BlindPair, folder: Path) -> list[str]:
        """Writes the input of elastix; its arguments."""
        arguments = ["-out", str(folder)]
        for option, image in (("-f", pair.fixed), ("-m", pair.moving)):
            arguments += [option, str(_written(image, folder / f"image{option}.nii"))]
        for option, mask in (("-fMask", pair.fixed_mask), ("-mMask", pair.moving_mask)):
            if mask is not None and mask.array.any():
                arguments += [option, str(_written(mask, folder / f"mask{option}.nii"))]
        for index, text in enumerate(self._maps(pair)):
            path = folder / f"parameters-{index}.txt"
            path.write_text(text)
            arguments += ["-p", str(path)]
        return arguments

    def _maps(self, pair: BlindPair) -> list[str]:
        """The texts of the parameter maps, one per stage."""
        if self.parameter_files:
            own = [Path(name).expanduser().read_text() for name in self.parameter_files]
            return [_with_output(text) for text in own]
        return [_text({**self._common(pair), **self._stage(stage), **_OUTPUT}) for stage in self.stages]

    def _common(self, pair: BlindPair) -> dict[str, Sequence[object]]:
        return {
            "FixedInternalImagePixelType": ["float"],
            "MovingInternalImagePixelType": ["float"],
            "FixedImageDimension": [pair.ndim],
            "MovingImageDimension": [pair.ndim],
            "UseDirectionCosines": ["true"],
            "FixedImagePyramid": ["FixedSmoothingImagePyramid"],
            "MovingImagePyramid": ["MovingSmoothingImagePyramid"],
            "NumberOfResolutions": [self.levels],
            "ImageSampler": ["RandomCoordinate"],
            "NumberOfSpatialSamples": [self.samples],
            "NewSamplesEveryIteration": ["true"],
            "CheckNumberOfSamples": ["true"],
            "Optimizer": ["AdaptiveStochasticGradientDescent"],
            "MaximumNumberOfIterations": [self.iterations],
            "Interpolator": ["LinearInterpolator"],
            "ResampleInterpolator": ["FinalBSplineInterpolator"],
            "Resampler": ["DefaultResampler"],
            "AutomaticParameterEstimation": ["true"],
            "MaximumStepLength": [self.step_voxels * float(pair.fixed.grid.spacing_mm.mean())],
            "RandomSeed": [self.seed % 2**31 + 1],
            "ErodeFixedMask": ["false"],
            "ErodeMovingMask": ["false"],
        }

    def _stage(self, stage: str) -> dict[str, Sequence[object]]:
        metric = _METRICS[self.metric]
        if stage == "affine":
            return {
                "Registration": ["MultiResolutionRegistration"],
                "Metric": [metric],
                "Transform": ["AffineTransform"],
                "AutomaticScalesEstimation": ["true"],
                "AutomaticTransformInitialization": ["true"],
                "AutomaticTransformInitializationMethod": ["CenterOfGravity"],
            }
        schedule = [2 ** ((self.levels - 1 - level) / 2) for level in range(self.levels)]
        settings: dict[str, Sequence[object]] = {
            "Registration": ["MultiResolutionRegistration"],
            "Metric": [metric],
            "Transform": ["RecursiveBSplineTransform"],
            "FinalGridSpacingInPhysicalUnits": [self.grid_spacing_mm],
            "GridSpacingSchedule": schedule,
            "AutomaticTransformInitialization": ["false"],
        }
        if self.bending_weight:
            settings |= {
                "Registration": ["MultiMetricMultiResolutionRegistration"],
                "Metric": [metric, "TransformBendingEnergyPenalty"],
                "Metric0Weight": [1.0],
                "Metric1Weight": [self.bending_weight],
            }
        return settings


@dataclass(frozen=True)
class ElastixAffineBspline(ElastixBspline):
    """The same after an affine stage of elastix' own."""

    stages: tuple[Literal["affine", "bspline"], ...] = ("affine", "bspline")


def _written(volume: Image | Labels, path: Path) -> Path:
    if isinstance(volume, Labels):
        write_labels(path, Labels((volume.array > 0).astype(np.uint8), volume.grid))
    else:
        write_image(path, volume)
    return path


def _text(settings: Map) -> str:
    """A parameter map as elastix reads it."""
    return "".join(f"({name} {' '.join(_value(v) for v in values)})\n" for name, values in settings.items())


def _value(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def _with_output(text: str) -> str:
    """A user's parameter map, with regbench's own rules of what is written."""
    kept = [line for line in text.splitlines() if not any(line.strip().startswith(f"({name} ") for name in _OUTPUT)]
    if not any(line.strip().startswith("(") for line in kept):
        raise DatasetError("elastix: a parameter file holds no parameters")
    return "\n".join(kept) + "\n" + _text(_OUTPUT)
