"""Pictures of one case: what was aligned, how well, and by which deformation, in up to three planes.

Each kind of picture shows one thing: the images; both in one (checkerboard); the outlines of the fixed and of the
moved labels on the moved image; a grid that follows the deformation; the local change of volume; and what is left of
the difference between the images, before and after. Intensities are scaled to each image's own range first, so that a
difference is a share of that range; between two kinds of contrast it says little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regbench.errors import StoreError
from regbench.reports.figures import png_of_few_colours
from regbench.reports.slices import (
    PICTURE_DPI,
    Slice,
    draw_image,
    draw_jacobian,
    geometry,
    outlines,
    read_slices,
)
from regbench.store import reason_of, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOVED_OUTLINE_RGBA = (0.34, 0.71, 0.91, 0.95)
_GRID_LINES = 26
_TILES = 7
_LARGEST_ERROR = 0.5
_TILE_INCHES = 1.55
_LARGE_TILE_INCHES = 3.2


def _has_all(tile: Slice) -> bool:
    return True


def _draw_fixed(axes: Axes, tile: Slice) -> None:
    _draw_gray(axes, tile.fixed, tile)


def _draw_before(axes: Axes, tile: Slice) -> None:
    assert tile.before is not None
    _draw_gray(axes, tile.before, tile)


def _draw_moved(axes: Axes, tile: Slice) -> None:
    _draw_gray(axes, tile.moved, tile)


def _draw_checkerboard(axes: Axes, tile: Slice) -> None:
    rows, columns = np.indices(tile.fixed.shape)
    width = max(2, tile.fixed.shape[1] // _TILES)
    height = max(2, round(width / tile.height_per_width))
    is_fixed = (rows // height + columns // width) % 2 == 0
    both = np.where(is_fixed, in_range(tile.fixed), in_range(tile.moved))
    axes.imshow(both, cmap="gray", vmin=0, vmax=1, **geometry(tile))


def _draw_outlines(axes: Axes, tile: Slice) -> None:
    from matplotlib.collections import LineCollection

    draw_image(axes, tile.moved, tile)
    if tile.moved_labels is not None:
        lines = LineCollection(
            outlines(tile.moved_labels),  # type: ignore[arg-type]
            colors=[_MOVED_OUTLINE_RGBA],
            linewidths=0.55,
        )
        axes.add_collection(lines, autolim=False)


def _draw_grid(axes: Axes, tile: Slice) -> None:
    from matplotlib.collections import LineCollection

    assert tile.shift is not None
    height, width = tile.fixed.shape
    rows, columns = np.indices((height, width))
    places = np.stack([columns + 0.5 + tile.shift[..., 0], rows + 0.5 + tile.shift[..., 1]], axis=-1)
    step = max(1, round(width / _GRID_LINES))
    upright_step = max(1, round(step / tile.height_per_width))
    lines = [*places[upright_step // 2 :: upright_step], *places[:, step // 2 :: step].transpose(1, 0, 2)]
    axes.imshow(np.ones((height, width, 3)), **geometry(tile))
    axes.add_collection(LineCollection(lines, colors="#0b3c5d", linewidths=0.55), autolim=False)


def _draw_volume(axes: Axes, tile: Slice) -> Any:
    assert tile.jacobian is not None
    return draw_jacobian(axes, tile.jacobian, tile)


def _draw_error_before(axes: Axes, tile: Slice) -> Any:
    assert tile.before is not None
    return _draw_error(axes, tile.before, tile)


def _draw_error_after(axes: Axes, tile: Slice) -> Any:
    return _draw_error(axes, tile.moved, tile)


def _draw_error(axes: Axes, image: np.ndarray, tile: Slice) -> Any:
    error = np.abs(in_range(tile.fixed) - in_range(image))
    return axes.imshow(error, cmap="magma", vmin=0, vmax=_LARGEST_ERROR, **geometry(tile))


def _draw_gray(axes: Axes, image: np.ndarray, tile: Slice) -> None:
    axes.imshow(in_range(image), cmap="gray", vmin=0, vmax=1, **geometry(tile))


def in_range(image: np.ndarray) -> np.ndarray:
    """Returns an image scaled to 0..1 between its 1st and its 99.5th percentile, cut off there; 0 where not finite."""
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, (1, 99.5)) if finite.size else (0.0, 1.0)
    scaled = (np.nan_to_num(image, nan=low, posinf=high, neginf=low) - low) / max(high - low, 1e-6)
    return np.asarray(np.clip(scaled, 0, 1))


_Draw = Callable[["Axes", Slice], Any]
_Has = Callable[[Slice], bool]
# What is drawn: the name of its file, to its title, how it is drawn, and what a slice must have for it.
KINDS: dict[str, tuple[str, _Draw, _Has]] = {
    "fixed": ("fixed", _draw_fixed, _has_all),
    "moving": ("moving, before", _draw_before, lambda tile: tile.before is not None),
    "moved": ("moving, moved", _draw_moved, _has_all),
    "checkerboard": ("checkerboard", _draw_checkerboard, _has_all),
    "outlines": ("label outlines", _draw_outlines, lambda tile: tile.fixed_labels is not None),
    "grid": ("deformation grid", _draw_grid, lambda tile: tile.shift is not None),
    "jacobian": ("Jacobian", _draw_volume, lambda tile: tile.jacobian is not None),
    "error-before": ("error before", _draw_error_before, lambda tile: tile.before is not None),
    "error-after": ("error after", _draw_error_after, _has_all),
}
LEGEND = (
    "Checkerboard: fixed and moved image by turns. Label outlines: fixed in yellow, moved in blue, on the moved image. "
    "Deformation grid: where a regular grid on the fixed image looks in the moving one. Jacobian: local change of "
    "volume, 1 (white) keeps it, magenta folds. Error: difference of intensities as a share of their range."
)


def kinds_of(slices: Sequence[Slice]) -> list[str]:
    """Returns the kinds of pictures that these slices allow, in order."""
    return [kind for kind, (_, _, has) in KINDS.items() if slices and all(has(tile) for tile in slices)]


def case_sheet(slices: Sequence[Slice], without: Sequence[str] = ()) -> bytes:
    """Returns all kinds of pictures side by side, a row per plane, as PNG."""
    kinds = [kind for kind in kinds_of(slices) if kind not in without]
    heights = [_height(tile) for tile in slices]
    figure, axes = _tiles(len(slices), len(kinds), heights, _TILE_INCHES)
    for row, tile in zip(axes, slices, strict=True):
        for kind, panel in zip(kinds, row, strict=True):
            colours = KINDS[kind][1](panel, tile)
            if colours is not None and tile is slices[-1]:
                _colour_bar(figure, panel, colours, kind)
    for kind, panel in zip(kinds, axes[0], strict=True):
        panel.set_title(KINDS[kind][0], fontsize=8)
    return png_of_few_colours(figure)


def kind_sheet(slices: Sequence[Slice], kind: str) -> bytes:
    """Returns one kind of picture in all planes side by side, as PNG."""
    heights = [max(_height(tile) for tile in slices)]
    figure, axes = _tiles(1, len(slices), heights, _LARGE_TILE_INCHES)
    for panel, tile in zip(axes[0], slices, strict=True):
        colours = KINDS[kind][1](panel, tile)
        if colours is not None:
            _colour_bar(figure, panel, colours, kind)
    figure.suptitle(KINDS[kind][0], fontsize=10)
    return png_of_few_colours(figure)


def _height(tile: Slice) -> float:
    """Returns the height of a plane per width."""
    return tile.fixed.shape[0] * tile.height_per_width / tile.fixed.shape[1]


def _tiles(n_rows: int, n_columns: int, heights: Sequence[float], inches: float) -> tuple[Figure, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.015, h_pad=0.03, wspace=0, hspace=0)
    size = (inches * n_columns, inches * sum(heights) + 0.65)
    figure = Figure(figsize=size, dpi=PICTURE_DPI, layout=layout)
    FigureCanvasAgg(figure)
    axes = figure.subplots(n_rows, n_columns, squeeze=False, height_ratios=heights)
    for panel in axes.flat:
        panel.set_axis_off()
    return figure, axes


def _colour_bar(figure: Figure, panel: Axes, colours: Any, kind: str) -> None:
    # Below its panel, so that the pictures of a row keep one size.
    place = panel.inset_axes((0.1, -0.1, 0.8, 0.04))
    bar = figure.colorbar(colours, cax=place, orientation="horizontal")
    bar.set_ticks([0, 1, 2] if kind == "jacobian" else [0, _LARGEST_ERROR])
    place.tick_params(labelsize=7, length=2)


def write_case(pictures: Path, folder: Path) -> list[Path]:
    """Writes `overview.png` and a PNG per kind of picture from a picture file; the paths. StoreError if impossible."""
    slices = read_slices(pictures)
    if not slices:
        raise StoreError(f"{pictures} cannot be read as pictures of a case; run the case again")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be made: {reason_of(error)}") from None
    written = [folder / "overview.png", *(folder / f"{kind}.png" for kind in kinds_of(slices))]
    write_whole(written[0], case_sheet(slices))
    for path in written[1:]:
        write_whole(path, kind_sheet(slices, path.stem))
    return written
