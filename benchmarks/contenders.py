"""Who is measured by `evaluator_peers.py`: per contender the stages that it does.

A contender is a function that takes a case, turns it into the types that its library wants (not measured), and returns
its stages: calls without arguments, in the order of work. A stage's result is a number, a dict of numbers (per label),
or a label map. Imports stand inside the functions, so that each process loads its own library only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from brain_case import Case

from regbench.alignment import Alignment
from regbench.metrics.evaluate import evaluate
from regbench.metrics.table import METRICS

Result = float | dict[str, float] | np.ndarray
Stages = dict[str, Callable[[], Result]]

# What the Learn2Reg evaluator does for a pair: as stages, and as metrics of regbench.
STAGES_OF_SET = ("warp labels", "dice", "hd95", "sdlogj", "tre")
LEARN2REG_SET = ("dice", "hd95_mm", "sdlogj_l2r", "tre_mm")
_INFORMATION_BINS = 64


def regbench(case: Case, threads: int = 1) -> Stages:
    """regbench, one metric after the other through `evaluate`."""
    pair, displacement = case
    alignment = Alignment(pair, displacement, threads=threads)

    def moved_labels() -> np.ndarray:
        assert alignment.moved_labels is not None
        return alignment.moved_labels.array

    def metric(name: str) -> Result:
        return _plain(evaluate(alignment, [name])[name])

    def information() -> Result:
        found = evaluate(alignment, ["mi_nats"])["mi_nats"]
        assert isinstance(found, dict)
        return {"labelled": found["mean"], "all": found["all"]}

    def moved_image() -> float:
        return float(alignment.moved_image.array.mean())

    stages: Stages = {"warp labels": moved_labels}
    names = {"dice": "dice", "hd95": "hd95_mm", "sdlogj": "sdlogj_l2r", "tre": "tre_mm", "folds": "fold_percent"}
    for stage, name in names.items():
        stages[stage] = partial(metric, name)
    stages["warp image"] = moved_image
    stages["mutual information"] = information
    stages |= {name: partial(metric, name) for name in ("nmi", "ssim")}
    return stages


def regbench_learn2reg(case: Case, threads: int = 1) -> Stages:
    """regbench, the Learn2Reg set in one call; landmarks are moved by a field read linearly."""
    return _whole(case, LEARN2REG_SET, "learn2reg set", threads)


def regbench_standard(case: Case, threads: int = 1) -> Stages:
    """regbench, the standard set in one call."""
    return _whole(case, [name for name, metric in METRICS.items() if metric.standard], "standard set", threads)


def regbench_full(case: Case, threads: int = 1) -> Stages:
    """regbench, all metrics in one call."""
    return _whole(case, list(METRICS), "full set", threads)


def _whole(case: Case, names: list[str] | tuple[str, ...], stage: str, threads: int) -> Stages:
    def work() -> Result:
        found = evaluate(Alignment(*case, threads=threads), names)
        return {name: value["mean"] if isinstance(value, dict) else value for name, value in found.items()}

    return {stage: work}


def regbench_compat(case: Case, threads: int = 1) -> Stages:
    """regbench, the official Learn2Reg numbers as `regbench evaluate --compat l2r` finds them, without the files."""
    from regbench.compat.field_scores import log_jacobian, spline_samples
    from regbench.compat.label_scores import ListedLabels

    pair = case[0]
    assert pair.fixed_labels and pair.moving_labels
    fixed, moving = pair.fixed_labels, pair.moving_labels
    field = np.ascontiguousarray(np.moveaxis(_voxel_field(case), -1, 0))
    labels, points = _listed(case), _voxel_landmarks(case)
    listed: ListedLabels

    def warp() -> np.ndarray:
        nonlocal listed
        listed = ListedLabels.of(fixed, moving, field, labels, threads)
        return listed.moved.array

    def tre() -> float:
        shifts = spline_samples(field, points[0], threads)
        return float(np.linalg.norm(points[0] + shifts - points[1], axis=1).mean())

    return {
        "warp labels": warp,
        "dice": lambda: {str(label): listed.dice(label) for label in labels},
        "hd95": lambda: {str(label): listed.hd95(label) for label in labels},
        "sdlogj": lambda: log_jacobian(field, None, threads).shifted,
        "tre": tre,
    }


def learn2reg(case: Case, threads: int = 1) -> Stages:
    """The official evaluator's steps, restated, in its types."""
    import restated_learn2reg as restated

    pair = case[0]
    assert pair.fixed_labels and pair.moving_labels
    field = np.asfortranarray(_voxel_field(case), dtype=np.float64)
    fixed, moving = (
        np.asfortranarray(part.array, dtype=np.float64) for part in (pair.fixed_labels, pair.moving_labels)
    )
    labels, points = _listed(case), _voxel_landmarks(case)
    warped = np.zeros(0)

    def warp() -> np.ndarray:
        nonlocal warped
        warped = restated.warped_labels(moving, field)
        return warped

    return {
        "warp labels": warp,
        "dice": lambda: restated.dice(fixed, moving, warped, labels),
        "hd95": lambda: restated.hd95(fixed, moving, warped, labels),
        "sdlogj": lambda: restated.sdlogj(field),
        "tre": lambda: restated.tre(points[0], points[1], field),
    }


def monai(case: Case, threads: int = 1) -> Stages:
    """MONAI, from label maps to one-hot maps, on labels that regbench has warped."""
    import torch
    from monai.metrics import DiceHelper, compute_hausdorff_distance
    from monai.networks.utils import one_hot

    torch.set_num_threads(threads)
    fixed, warped = (torch.from_numpy(array.copy())[None, None] for array in _label_maps(case))
    labels = _scored(case)
    n_classes = max(labels) + 1

    def chosen(values: Any) -> dict[str, float]:
        return {str(label): float(values[label - 1]) for label in labels}

    def dice() -> Result:
        helper = DiceHelper(include_background=False, num_classes=n_classes, reduction="none", get_not_nans=False)
        return chosen(helper(warped, fixed)[0])

    def hd95() -> Result:
        maps = [one_hot(part, n_classes) for part in (warped, fixed)]
        return chosen(compute_hausdorff_distance(*maps, include_background=False, percentile=95, spacing=1.0)[0])

    return {"dice": dice, "hd95": hd95}


def simpleitk(case: Case, threads: int = 1) -> Stages:
    """SimpleITK, on images in voxels without direction; contours and signed distances in cropped boxes for HD95."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    assert case[0].moving_labels is not None
    vectors = _voxel_field(case)
    field = sitk.GetImageFromArray(np.ascontiguousarray(vectors.transpose(2, 1, 0, 3)), isVector=True)
    moving = sitk.GetImageFromArray(case[0].moving_labels.array.T)
    fixed, warped = (sitk.GetImageFromArray(array.T) for array in _label_maps(case))
    labels = _scored(case)

    def warp() -> Result:
        return sitk.GetArrayFromImage(sitk.Warp(moving, field, sitk.sitkNearestNeighbor, field.GetSize())).T

    def dice() -> Result:
        overlap = sitk.LabelOverlapMeasuresImageFilter()
        overlap.Execute(fixed, warped)
        return {str(label): overlap.GetDiceCoefficient(label) for label in labels}

    def hd95() -> Result:
        shapes = [sitk.LabelShapeStatisticsImageFilter() for _ in range(2)]
        for shape, part in zip(shapes, (fixed, warped), strict=True):
            shape.ComputePerimeterOff()
            shape.Execute(part)
        found = {}
        for label in labels:
            box = _union_box([shape.GetBoundingBox(label) for shape in shapes], fixed.GetSize())
            found[str(label)] = _contour_hd95(sitk, [part[box] == label for part in (fixed, warped)])
        return found

    determinants = np.zeros(0)

    def sdlogj() -> Result:
        nonlocal determinants
        determinants = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field))
        return float(np.log((determinants[2:-2, 2:-2, 2:-2] + 3).clip(1e-9, 1e9)).std(dtype=np.float64))

    def folds() -> Result:
        middle = determinants[1:-1, 1:-1, 1:-1]
        return 100.0 * int((middle <= 0).sum()) / middle.size

    return {"warp labels": warp, "dice": dice, "hd95": hd95, "sdlogj": sdlogj, "folds": folds}


def surface_distance(case: Case, threads: int = 1) -> Stages:
    """The package `surface-distance`, one label after the other, on labels that regbench has warped."""
    import warnings

    # It uses names that scipy has moved.
    warnings.simplefilter("ignore", DeprecationWarning)
    from surface_distance import compute_dice_coefficient, compute_robust_hausdorff, compute_surface_distances

    fixed, warped = _label_maps(case)
    labels = _scored(case)

    def hd95() -> Result:
        found = {}
        for label in labels:
            distances = compute_surface_distances(fixed == label, warped == label, (1.0, 1.0, 1.0))
            found[str(label)] = float(compute_robust_hausdorff(distances, 95))
        return found

    def dice() -> Result:
        return {str(label): float(compute_dice_coefficient(fixed == label, warped == label)) for label in labels}

    return {"dice": dice, "hd95": hd95}


def scikit(case: Case, threads: int = 1) -> Stages:
    """scikit-learn and scikit-image: information and similarity of intensities, on the image that regbench warps."""
    from skimage.metrics import normalized_mutual_information, structural_similarity
    from sklearn.metrics import mutual_info_score

    pair, displacement = case
    assert pair.fixed_labels and pair.moving_labels
    moved = Alignment(pair, displacement).moved_image.array
    region = pair.fixed_labels.array > 0
    sides = [(pair.fixed.array, pair.fixed_labels.array), (pair.moving.array, pair.moving_labels.array)]

    def information() -> Result:
        labelled = [_information(mutual_info_score, image[labels > 0], labels[labels > 0]) for image, labels in sides]
        everything = [_information(mutual_info_score, image.ravel(), labels.ravel()) for image, labels in sides]
        return {"labelled": float(np.mean(labelled)), "all": float(np.mean(everything))}

    def nmi() -> Result:
        return float(normalized_mutual_information(pair.fixed.array[region], moved[region], bins=_INFORMATION_BINS))

    def ssim() -> Result:
        span = float(np.ptp(pair.fixed.array))
        found = structural_similarity(pair.fixed.array, moved, win_size=9, data_range=span, full=True)
        return float(found[1][region].mean(dtype=np.float64))

    return {"mutual information": information, "nmi": nmi, "ssim": ssim}


def _information(score: Callable[..., float], values: np.ndarray, labels: np.ndarray) -> float:
    """Mutual information in nats of equal-frequency bins and labels, with the Miller-Madow correction."""
    edges = np.quantile(values, np.arange(1, _INFORMATION_BINS) / _INFORMATION_BINS)
    bins = np.searchsorted(edges, values, side="right")
    pairs = np.unique(bins * (int(labels.max()) + 1) + labels).size
    cells = np.unique(bins).size - 1 + np.unique(labels).size - 1 - (pairs - 1)
    return float(score(labels, bins)) + cells / (2 * values.size)


def _plain(value: float | dict[str, Any]) -> Result:
    """The values per label of a metric where it has them, else its mean."""
    if not isinstance(value, dict):
        return value
    per_label: dict[str, float] | None = value.get("per_label")
    return float(value["mean"]) if per_label is None else per_label


def _voxel_field(case: Case) -> np.ndarray:
    """The displacement in voxels, (*shape, 3) float32, as files of Learn2Reg hold it."""
    pair, displacement = case
    return displacement.in_voxels(pair.moving.grid).astype(np.float32)


def _voxel_landmarks(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Fixed and moving landmarks in voxels of their images, (n, 3) each."""
    pair = case[0]
    assert pair.fixed_landmarks and pair.moving_landmarks
    return (
        pair.fixed.grid.to_voxel(pair.fixed_landmarks.points_mm),
        pair.moving.grid.to_voxel(pair.moving_landmarks.points_mm),
    )


def _listed(case: Case) -> list[int]:
    """All labels from 1, as the configs of the official evaluator list them."""
    return list(range(1, max(_scored(case)) + 1))


def _label_maps(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """The fixed labels and the moving ones as regbench warps them."""
    fixed, moved = case[0].fixed_labels, Alignment(*case).moved_labels
    assert fixed is not None and moved is not None
    return fixed.array, moved.array


def _scored(case: Case) -> list[int]:
    return Alignment(*case).scored_labels.tolist()


def _union_box(boxes: list[tuple[int, ...]], size: tuple[int, ...]) -> tuple[slice, ...]:
    """Slices around boxes given by start and extent per axis, with a margin of one voxel."""
    ndim = len(size)
    starts = [min(box[axis] for box in boxes) for axis in range(ndim)]
    stops = [max(box[axis] + box[axis + ndim] for box in boxes) for axis in range(ndim)]
    return tuple(slice(max(a - 1, 0), min(b + 1, n)) for a, b, n in zip(starts, stops, size, strict=True))


def _contour_hd95(sitk: Any, regions: list[Any]) -> float:
    """The larger 95th percentile of the distances from the contour voxels of one region to those of the other."""
    contours = [sitk.BinaryContour(region, fullyConnected=False) for region in regions]
    on = [sitk.GetArrayFromImage(contour) > 0 for contour in contours]
    away = [sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(c, squaredDistance=False)) for c in contours]
    return max(float(np.percentile(np.abs(away[1 - k][on[k]]), 95)) for k in (0, 1))


CONTENDERS: dict[str, Callable[..., Stages]] = {
    "regbench": regbench,
    "regbench learn2reg": regbench_learn2reg,
    "regbench standard": regbench_standard,
    "regbench full": regbench_full,
    "regbench compat": regbench_compat,
    "learn2reg restated": learn2reg,
    "monai": monai,
    "simpleitk": simpleitk,
    "surface-distance": surface_distance,
    "scikit": scikit,
}
_NEEDS = {
    "monai": ("monai", "torch"),
    "simpleitk": ("SimpleITK",),
    "surface-distance": ("surface_distance",),
    "scikit": ("sklearn", "skimage"),
}
# Contenders that need the inverse and the true field of the case.
WITH_FIELDS = ("regbench standard", "regbench full")


def missing_package(contender: str) -> str | None:
    """The first package of a contender that is not installed, or None."""
    return next((name for name in _NEEDS.get(contender, ()) if find_spec(name) is None), None)
