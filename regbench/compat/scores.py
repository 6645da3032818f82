"""The official numbers of one case, and what is to be said beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from regbench.compat.config import CasePair, Measure, Task
from regbench.compat.field_scores import inverted_volumes, log_jacobian, outside_grid, spline_samples
from regbench.compat.files import (
    load_field,
    read_labels,
    read_landmark_images,
    read_mask,
    read_points,
    read_spacing,
    read_volume,
)
from regbench.compat.label_scores import ListedLabels, centroid_errors
from regbench.errors import InvalidDisplacement

FOLDS = "num_foldings"


@dataclass(frozen=True)
class Note:
    """What is wrong with an official number or how it came about; `ours` is the right one, None where there is none."""

    where: str
    what: str
    official: Any
    ours: Any

    def as_json(self) -> dict[str, Any]:
        return {"where": self.where, "what": self.what, "official": self.official, "ours": self.ours}


@dataclass
class CaseScore:
    """The official values of a case by measure, notes on them, and by measure the mean that regbench holds right."""

    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    right_means: dict[str, float] = field(default_factory=dict)


def score_case(task: Task, pair: CasePair, folder: Path, threads: int = 1) -> CaseScore:
    """The scores of one case; DatasetError or InvalidDisplacement if a file is missing or of no use."""
    return _Scorer(task, pair, folder, threads).scored()


class _Scorer:
    """Reads what the measures of a task need, each file once."""

    def __init__(self, task: Task, pair: CasePair, folder: Path, threads: int) -> None:
        self._task, self._pair, self._threads = task, pair, threads
        self._score = CaseScore()
        self._field = load_field(folder, pair, task)
        if self._field.refusal:
            self._note("", f"the official evaluator refuses this file: {self._field.refusal}", None, "read")

    def scored(self) -> CaseScore:
        measure_by = {
            "sdlogj": self._sdlogj,
            "dice": self._dice,
            "hd95": self._hd95,
            "ndv": self._ndv,
            "tre": self._centroids if self._task.is_lumir else self._tre,
        }
        for measure in self._task.measures:
            measure_by[measure.metric](measure)
        return self._score

    def _put(self, name: str, mean: float, detailed: Any) -> None:
        self._score.values[name] = {"mean": mean, "detailed": detailed}

    def _note(self, place: str, what: str, official: Any, ours: Any) -> None:
        where = ".".join(["cases", self._pair.name, *([place] if place else [])])
        self._score.notes.append(Note(where, what, official, ours))

    def _sdlogj(self, measure: Measure) -> None:
        mask = None
        if self._task.masked:
            mask = read_mask(self._task, self._pair.fixed)
            if mask is None:
                self._note(measure.name, "the fixed image has no mask file, so all voxels count", None, None)
            else:
                self._check_shape(mask.shape, "the fixed mask")
        found = log_jacobian(self._field.array, mask, self._threads)
        self._put(measure.name, found.shifted, found.shifted)
        self._put(FOLDS, 0.0, 0.0)
        self._score.right_means[measure.name] = found.positive
        if found.folds:
            what = "counted after J + 3 was clipped above 0, so always 0; ours counts J <= 0 in the same voxels"
            self._note(f"{FOLDS}.mean", what, 0.0, found.folds)

    def _dice(self, measure: Measure) -> None:
        self._per_label(measure, [self._labels.dice(label) for label in measure.labels])

    def _hd95(self, measure: Measure) -> None:
        distances = [self._labels.hd95(label) for label in measure.labels]
        self._per_label(measure, distances)
        lost = [label for label, d in zip(measure.labels, distances, strict=True) if np.isinf(d)]
        if lost:
            what = f"the warp lost label {', '.join(map(str, lost))}, which makes the mean infinite"
            finite = [d for d in distances if not np.isinf(d)]
            self._note(f"{measure.name}.mean", what, float("inf"), nan_mean(finite))

    def _per_label(self, measure: Measure, values: list[float]) -> None:
        self._put(measure.name, nan_mean(values), values)
        true_labels = [value for label, value in zip(measure.labels, values, strict=True) if label]
        self._score.right_means[measure.name] = nan_mean(true_labels)

    @cached_property
    def _labels(self) -> ListedLabels:
        """The listed labels of all measures together, so that the map is moved once."""
        fixed, moving = (read_labels(self._task, image) for image in (self._pair.fixed, self._pair.moving))
        self._check_shape(fixed.array.shape, "the fixed labels")
        wanted = [label for measure in self._task.measures for label in measure.labels]
        return ListedLabels.of(fixed, moving, self._field.array, wanted, self._threads)

    def _tre(self, measure: Measure) -> None:
        fixed, moving = read_points(self._task, self._pair, measure.destination)
        spacing = read_spacing(self._task, self._pair.moving)
        shift = spline_samples(self._field.array, fixed, self._threads)
        if self._field.single:
            shift = shift.astype(np.float32)
        errors = np.linalg.norm((fixed + shift - moving) * spacing, axis=1)
        self._put(measure.name, float(errors.mean()), errors.tolist())
        outside = outside_grid(fixed, self._field.array.shape[1:])
        if outside.any():
            inside = float(errors[~outside].mean()) if not outside.all() else float("nan")
            what = "points outside the field count as not moved; ours leaves them out"
            self._note(f"{measure.name}.mean", what, float(errors.mean()), inside)

    def _centroids(self, measure: Measure) -> None:
        fixed, moving = read_landmark_images(self._task, self._pair, measure.destination)
        self._check_shape(fixed.array.shape, "the fixed landmarks")
        errors = centroid_errors(fixed, moving, self._field.array, self._threads)
        mean = float(errors.mean()) if len(errors) else float("nan")
        self._put(measure.name, mean, mean)
        lost = int(np.isnan(errors).sum())
        if lost:
            what = f"{lost} of {len(errors)} landmarks are lost by the warp, which makes the mean NaN"
            self._note(f"{measure.name}.mean", what, mean, nan_mean(errors))

    def _ndv(self, measure: Measure) -> None:
        foreground = read_volume(self._task.folder / self._pair.fixed) > 0
        self._check_shape(foreground.shape, "the fixed image")
        percent = inverted_volumes(self._field.array, self._threads).percent_of(foreground)
        self._put(measure.name, percent, percent)

    def _check_shape(self, shape: tuple[int, ...], what: str) -> None:
        found = self._field.array.shape[1:]
        if shape != found:
            raise InvalidDisplacement(
                f"{self._field.path}: a field of {found[::-1]} voxels, and {what} of {shape[::-1]}; they must be equal"
            )


def nan_mean(values: Sequence[float] | np.ndarray) -> float:
    """The mean of the values that are not NaN; NaN if there are none."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if known.size else float("nan")
