"""Which part of the borders of labels can be seen in the image: steps of intensity across, against those inside.

A border is made of the faces between neighbouring voxels of different labels, background included, each with its area
(in two dimensions: its edge with its length). For every face:

- the local mean on either side is that of two voxels in a row at right angles to the face: the one at the face and
  the one behind it, or the first alone if the second has another label or lies outside;
- the step is the difference of the two means;
- the noise of a label along an axis is what the same step does inside of it, where four voxels in a row have one
  label: 1.4826 times the median size of the step, which for white noise is its standard deviation. Texture,
  correlated noise, bias fields and folds that are too fine for the labels thus count as what they are: steps that
  tell of no border. If more than half of the steps are 0, it is their root mean square. Labels with fewer than 20
  such places share that of all labels along this axis, or along all axes where that rests on fewer than 20 as well.
- the face is visible if the step is larger than 3 standard deviations: sqrt(s_l^2 / n_l + s_m^2 / n_m), where n_l
  and n_m are the voxels in the means. For white noise, 0.27 % of the faces of a flat image are visible.

No affine map of the intensities, brightness reversed or not, changes which faces are visible (but for rounding).
The same rule inside of the labels tells how often it sees a border where there is none (`inside_share`).

Very large images are looked at in planes that are spread evenly (`MOST_VOXELS`), unless every face is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np

from regbench.volume import Image, Labels

THRESHOLD = 3.0
MOST_VOXELS = 1 << 21
_PLACES, _BACKGROUND_PLACES = 1 << 17, 1 << 14
_FEWEST_PLACES = 20
_NORMAL_MEDIAN = 0.6744897501960817


@dataclass(frozen=True, eq=False)
class Borders:
    """How much of the borders is visible, as shares of their area; NaN where there is no border.

    `between_share` is that of borders between two labels, without those to the background; `inside_share` is the share
    of the steps inside of labels that the same rule takes for borders. `per_label` has (area, visible area) in mm^2
    (2-D: mm) for the labels > 0 that have a border.
    """

    visible_share: float
    between_share: float
    inside_share: float
    area: float
    per_label: dict[int, tuple[float, float]]


@dataclass(frozen=True, eq=False)
class _Voxels:
    """An image and its labels in one row of voxels; `columns` are the places of the labels in `values`."""

    intensities: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    shape: tuple[int, ...]

    def step(self, axis: int) -> int:
        return prod(self.shape[axis + 1 :])

    def place(self, at: np.ndarray, axis: int) -> np.ndarray:
        """Where voxels lie along an axis."""
        return at // self.step(axis) % self.shape[axis]


def border_visibility(
    image: Image, labels: Labels, values: np.ndarray, every_face: bool = False, excluded: Labels | None = None
) -> Borders:
    """What of the borders of labels is visible, without faces of excluded voxels; `values` are all labels > 0 that
    occur elsewhere, ascending."""
    values = np.union1d([0], values)
    columns = _columns(labels.array.ravel(), values, excluded)
    voxels = _Voxels(image.array.ravel(), columns, values, image.grid.shape)
    starts, axes = _starts(voxels), range(image.grid.ndim)
    steps = [_steps_inside(voxels, starts, axis) for axis in axes]
    otherwise = _spread(np.concatenate([sizes[own > 0] for sizes, own in steps]))
    found = _Areas(len(values))
    n_inside = n_false = 0
    for axis in axes:
        noise = _noise(steps[axis], len(values), otherwise)
        sizes, own = (each[steps[axis][1] > 0] for each in steps[axis])
        n_inside, n_false = n_inside + sizes.size, n_false + int((sizes > THRESHOLD * noise[own]).sum())
        at, faces = _faces(voxels, axis, every_face)
        found.add(
            faces * float(prod(image.grid.spacing_mm) / image.grid.spacing_mm[axis]), *_looks(voxels, axis, at, noise)
        )
    per_label = zip(values.tolist(), found.of_label.tolist(), found.visible_of_label.tolist(), strict=True)
    # Every face has two sides.
    whole = float(found.of_label.sum() / 2)
    return Borders(
        visible_share=_share(found.visible_of_label.sum() / 2, whole),
        between_share=_share(found.between_visible, found.between),
        inside_share=_share(n_false, n_inside),
        area=whole,
        per_label={value: (area, visible) for value, area, visible in per_label if value > 0 and area > 0},
    )


class _Areas:
    """Areas of borders by the place of the label, and of those between two labels; whole and visible."""

    def __init__(self, n_labels: int) -> None:
        self.of_label, self.visible_of_label = np.zeros(n_labels), np.zeros(n_labels)
        self.between = self.between_visible = 0.0

    def add(self, area: float, low: np.ndarray, high: np.ndarray, visible: np.ndarray) -> None:
        """Adds faces of one area, with the places of the labels on both sides."""
        for side in (low, high):
            self.of_label += area * np.bincount(side, minlength=len(self.of_label))
            self.visible_of_label += area * np.bincount(side[visible], minlength=len(self.of_label))
        inner = (low > 0) & (high > 0)
        self.between += area * np.count_nonzero(inner)
        self.between_visible += area * np.count_nonzero(inner & visible)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")


def _columns(labels: np.ndarray, values: np.ndarray, excluded: Labels | None) -> np.ndarray:
    """The places of labels in `values`, of a small type; excluded voxels have the place behind the last one."""
    if excluded is not None:
        # Labels that occur in excluded voxels only have no place.
        places = _columns(np.where(np.isin(labels, values), labels, 0), values, None).astype(np.uint16)
        places[excluded.array.ravel() > 0] = len(values)
        return places
    if values[-1] == len(values) - 1:
        return labels
    if values[-1] >= 1 << 16:
        return np.searchsorted(values, labels).astype(np.uint16)
    table = np.zeros(int(values[-1]) + 1, np.uint8 if len(values) < 256 else np.uint16)
    table[values] = np.arange(len(values))
    return table[labels]


def _starts(voxels: _Voxels) -> np.ndarray:
    """Voxels spread evenly over the labelled ones and over the background of some planes of the first axis."""
    apart, found = _apart(voxels.shape), []
    rows = voxels.columns.reshape(voxels.shape[0], -1)[::apart]
    for inside, most in ((rows > 0, _PLACES), (rows == 0, _BACKGROUND_PLACES)):
        places = np.flatnonzero(inside)
        # An odd distance does not fall in step with the rows of an image.
        chosen = places[:: max(places.size // most, 1) | 1]
        found.append(chosen + chosen // rows.shape[1] * (rows.shape[1] * (apart - 1)))
    return np.concatenate(found)


def _apart(shape: tuple[int, ...]) -> int:
    """The distance of the planes that are looked at."""
    return -(-prod(shape) // MOST_VOXELS)


def _steps_inside(voxels: _Voxels, starts: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Sizes of steps along an axis where four voxels in a row have one label, and the places of these labels."""
    step, x, c = voxels.step(axis), voxels.intensities, voxels.columns
    at = starts[voxels.place(starts, axis) < voxels.shape[axis] - 3]
    own = c[at]
    inside = own < len(voxels.values)
    same = inside & (c[at + step] == own) & (c[at + 2 * step] == own) & (c[at + 3 * step] == own)
    at, own = at[same], own[same]
    return np.abs(_half(x, at + 2 * step, at + 3 * step) - _half(x, at, at + step)), own


def _noise(steps: tuple[np.ndarray, np.ndarray], n_labels: int, otherwise: float) -> np.ndarray:
    """The noise of every label along an axis from the steps inside; `otherwise` where labels have too few of them."""
    sizes, own = steps
    labelled = sizes[own > 0]
    noise = np.full(n_labels, _spread(labelled) if labelled.size >= _FEWEST_PLACES else otherwise)
    order = np.argsort(own, kind="stable")
    ends = np.searchsorted(own[order], np.arange(n_labels + 1))
    for column, (first, last) in enumerate(pairwise(ends)):
        if last - first >= _FEWEST_PLACES:
            noise[column] = _spread(sizes[order[first:last]])
    return noise


def _half(x: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return 0.5 * x[first].astype(np.float64) + 0.5 * x[second]


def _spread(sizes: np.ndarray) -> float:
    """The standard deviation of steps of these sizes, by their median; 0 if there is none."""
    if sizes.size == 0:
        return 0.0
    return float(np.median(sizes)) / _NORMAL_MEDIAN or float(np.sqrt(np.mean(np.square(sizes))))


def _faces(voxels: _Voxels, axis: int, every_face: bool) -> tuple[np.ndarray, float]:
    """The voxels whose next one along an axis has another label, and how many faces each of them stands for."""
    apart = 1 if every_face else _apart(voxels.shape)
    across = 0 if axis else 1
    planes = tuple(slice(None, None, apart if other == across else 1) for other in range(len(voxels.shape)))
    seen = voxels.columns.reshape(voxels.shape)[planes]
    lower, upper = (np.moveaxis(np.moveaxis(seen, axis, 0)[part], 0, axis) for part in (slice(-1), slice(1, None)))
    differ = lower != upper
    if voxels.columns.dtype.itemsize > 1 and int(voxels.columns.max()) == len(voxels.values):
        differ &= (lower < len(voxels.values)) & (upper < len(voxels.values))
    index = np.unravel_index(np.flatnonzero(differ), lower.shape)
    at = np.zeros(index[0].size, np.int64)
    for other, place in enumerate(index):
        at += place * (voxels.step(other) * (apart if other == across else 1))
    return at, voxels.shape[across] / seen.shape[across]


def _looks(voxels: _Voxels, axis: int, at: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of faces above voxels: the places of the labels below and above, and which are visible."""
    step, last = voxels.step(axis), voxels.shape[axis] - 1
    place = voxels.place(at, axis)
    low = _side(voxels, at, np.where(place > 0, at - step, at), noise)
    high = _side(voxels, at + step, np.where(place < last - 1, at + 2 * step, at + step), noise)
    visible = np.abs(high[0] - low[0]) > THRESHOLD * np.sqrt(low[1] + high[1])
    return low[2], high[2], visible


def _side(
    voxels: _Voxels, first: np.ndarray, second: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The local means on one side of faces, their variances, and the columns of the label."""
    x, own = voxels.intensities, voxels.columns[first]
    both = (second != first) & (voxels.columns[second] == own)
    means = np.where(both, _half(x, first, second), x[first])
    return means, np.square(noise)[own] / (1.0 + both), own
