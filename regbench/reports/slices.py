"""Pictures of registered pairs: what each method did to the moving image, with the outlines of the fixed labels.

Where an outline of the fixed labels runs along the borders of the moved image, the method aligned them. The
last row shows the local change of volume (Jacobian determinant), with folds marked.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from regbench.analysis.groups import UNSHIFTED, Group
from regbench.reports.figures import Plot, png_of_few_colours
from regbench.store import PICTURES, file_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OUTLINE_RGBA = (1.0, 0.85, 0.2, 0.8)
_FOLD_RGBA = (0.84, 0.0, 0.6, 1.0)
_TILE_INCHES = 1.75
_MAXIMUM_METHODS = 10
# Slices are enlarged voxels: more dots would show nothing more.
PICTURE_DPI = 110


@dataclass(frozen=True)
class Slice:
    """One plane of a picture file, turned so that it can be shown: rows from top to bottom, columns to the right.

    `height_per_width` is the ratio of the sides of a voxel; arrays are None where the pair, or the file, has no such
    thing. `before` is the moving image before registration, `shift` (*shape, 2) the displacement within the plane, in
    voxels to the right and downwards.
    """

    fixed: np.ndarray
    moved: np.ndarray
    fixed_labels: np.ndarray | None
    jacobian: np.ndarray | None
    height_per_width: float
    moved_labels: np.ndarray | None = None
    before: np.ndarray | None = None
    shift: np.ndarray | None = None


def draw_pictures(groups: Sequence[Group], run_folder: Path) -> Iterator[Plot]:
    """Yields a figure for every pair of which the run kept pictures; the first of each group is for the report."""
    folder = run_folder / PICTURES
    if not folder.is_dir():
        return
    for group in groups:
        n_drawn = 0
        for pair in group.subjects:
            found = {}
            for method in group.methods[:_MAXIMUM_METHODS]:
                path = folder / f"{file_name(group.source, group.condition, pair, method.name)}.npz"
                if path.is_file() and (slices := read_slices(path)):
                    found[method.name] = slices
            if found:
                yield replace(_picture(group, pair, found), in_report=not n_drawn)
                n_drawn += 1


def read_slices(path: Path) -> list[Slice]:
    """Returns the planes of a picture file, in order; none from a file that cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = dict(content)
    except (OSError, ValueError, EOFError, KeyError, BadZipFile, zlib.error):
        return []
    found: list[Slice] = []
    while (k := len(found)) < 3 and f"fixed_{k}" in arrays and f"moved_{k}" in arrays:
        found.append(_slice(arrays, k))
    return found


def _slice(arrays: dict[str, np.ndarray], k: int) -> Slice:
    letters = str(arrays.get(f"orientation_{k}", np.array("RA")))
    spacing = np.asarray(arrays.get(f"spacing_mm_{k}", (1.0, 1.0)), dtype=float)

    def shown(name: str) -> np.ndarray | None:
        array = arrays.get(f"{name}_{k}")
        return None if array is None else upright(array, letters)

    fixed, moved = shown("fixed"), shown("moved")
    assert fixed is not None and moved is not None
    width, height = spacing[::-1] if _is_transposed(letters) else spacing
    shift = arrays.get(f"shift_{k}")
    return Slice(
        fixed,
        moved,
        shown("fixed_labels"),
        shown("jacobian"),
        float(height / width),
        moved_labels=shown("moved_labels"),
        before=shown("before"),
        shift=None if shift is None else upright_vectors(shift.astype(np.float32), letters),
    )


def upright(array: np.ndarray, letters: str) -> np.ndarray:
    """Returns a plane with superior (or anterior) at the top and right (or anterior) at the right.

    `letters` say where the two axes of the plane point to, like 'RA' for right and anterior.
    """
    if _is_transposed(letters):
        array, letters = array.T, letters[::-1]
    array = array.T
    if letters[1] in "SAR":
        array = array[::-1]
    return array[:, ::-1] if letters[0] in "LPI" else array


def upright_vectors(vectors: np.ndarray, letters: str) -> np.ndarray:
    """Returns in-plane vectors (*plane, 2) along the axes of a plane as (rows, columns, 2), to the right and down."""
    first, second = upright(vectors[..., 0], letters), upright(vectors[..., 1], letters)
    if _is_transposed(letters):
        first, second, letters = second, first, letters[::-1]
    right = -first if letters[0] in "LPI" else first
    down = -second if letters[1] in "SAR" else second
    return np.stack([right, down], axis=-1)


def _is_transposed(letters: str) -> bool:
    """Returns whether the first axis of a plane is the one that stands upright."""
    rank = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
    return rank[letters[0]] > rank[letters[1]]


def outlines(labels: np.ndarray) -> np.ndarray:
    """Returns the borders between voxels of different labels as segments (n, 2, 2) of (x, y) in voxels.

    The corner of the first voxel is at (0, 0), x grows along columns and y along rows.
    """
    y, x = np.nonzero(labels[1:] != labels[:-1])
    level = np.stack([np.stack([x, y + 1], -1), np.stack([x + 1, y + 1], -1)], 1)
    y, x = np.nonzero(labels[:, 1:] != labels[:, :-1])
    upright_ones = np.stack([np.stack([x + 1, y], -1), np.stack([x + 1, y + 1], -1)], 1)
    return np.concatenate([level, upright_ones])


def _picture(group: Group, pair: str, found: dict[str, list[Slice]]) -> Plot:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    first = next(iter(found.values()))
    tiles: list[list[Slice | None]] = [
        [first[k], *(s[k] if k < len(s) else None for s in found.values())] for k in range(len(first))
    ]
    heights = [row[0].fixed.shape[0] * row[0].height_per_width / row[0].fixed.shape[1] for row in tiles if row[0]]
    heights.append(heights[0])
    size = (_TILE_INCHES * (len(found) + 1), _TILE_INCHES * sum(heights) + 0.35)
    layout = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.03, wspace=0, hspace=0)
    figure = Figure(figsize=size, dpi=PICTURE_DPI, layout=layout)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(heights), len(found) + 1, squeeze=False, height_ratios=heights)
    for panel in axes.flat:
        panel.set_axis_off()
    for row, panels in zip(tiles, axes, strict=False):
        for i, (tile, panel) in enumerate(zip(row, panels, strict=True)):
            if tile is not None:
                draw_image(panel, tile.fixed if i == 0 else tile.moved, tile)
    colours = None
    for tile, panel in zip(tiles[0][1:], axes[-1][1:], strict=True):
        if tile is not None and tile.jacobian is not None:
            colours = draw_jacobian(panel, tile.jacobian, tile)
    for name, panel in zip(["fixed", *found], axes[0], strict=True):
        panel.set_title(name, fontsize=8)
    if colours is not None:
        # Inside its empty tile, so that the bar takes no room from the pictures.
        place = axes[-1][0].inset_axes((0.08, 0.45, 0.84, 0.07))
        figure.colorbar(colours, cax=place, orientation="horizontal")
        place.tick_params(labelsize=7)
        place.set_title("local volume\n(1: kept, magenta: fold)", fontsize=7)
    condition = "no shift" if group.condition == UNSHIFTED else group.condition
    return Plot(
        file_name("pictures", group.dataset, group.condition, pair),
        f"{group.dataset}, {condition}, pair {pair}",
        f"Middle slices of the fixed image and of the moving image as moved by {', '.join(found)}, with the outlines "
        "of the fixed labels; below, the local change of volume.",
        png_of_few_colours(figure),
    )


def draw_image(axes: Axes, image: np.ndarray, tile: Slice) -> None:
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, (1, 99.5)) if finite.size else (0.0, 1.0)
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), **geometry(tile))
    if tile.fixed_labels is not None:
        from matplotlib.collections import LineCollection

        lines = LineCollection(outlines(tile.fixed_labels), colors=[OUTLINE_RGBA], linewidths=0.55)  # type: ignore[arg-type]
        axes.add_collection(lines, autolim=False)


def draw_jacobian(axes: Axes, jacobian: np.ndarray, tile: Slice) -> Any:
    """Draws the determinant around 1 and marks where it is not positive; returns what a colour bar needs."""
    drawn = axes.imshow(jacobian, cmap="RdBu_r", vmin=0, vmax=2, **geometry(tile))
    with np.errstate(invalid="ignore"):
        axes.imshow(_painted(jacobian <= 0, _FOLD_RGBA), **geometry(tile))
    return drawn


def geometry(tile: Slice) -> dict[str, Any]:
    """Returns the same extent in voxels for an image and for what is drawn over it on a finer grid."""
    height, width = tile.fixed.shape
    return {"extent": (0, width, height, 0), "aspect": tile.height_per_width, "interpolation": "nearest"}


def _painted(mask: np.ndarray, rgba: tuple[float, float, float, float]) -> np.ndarray:
    """Returns an RGBA image with this colour where the mask is set, transparent elsewhere."""
    image = np.zeros((*mask.shape, 4), dtype=np.float32)
    image[mask] = rgba
    return image
