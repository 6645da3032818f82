"""Gradient descent on one pair of images: the displacement, or the velocity, that makes them more alike.

Conventions: everything lies on grids of the fixed image, corner voxels on corner voxels, so that what is found on one
grid is resized to the next. Displacements are in voxels of their grid, as in `methods.nets.spatial`. What is optimised
is an update on a control grid, in units of the level's mean voxel spacing along each array axis: so the step of the
descent means the same along all axes, and roughness is measured in mm per mm.

Levels are made coarse to fine, and each goes on with the update of the one before. Per step, on a level:

1. The update becomes a displacement: a velocity is integrated by scaling and squaring on the control grid, which is
   then resized to the level.
2. It is followed by the start, x -> S(x + w(x)); without integration the two are added up instead.
3. The moving image, or the features of it that a similarity compares, are read there in one interpolation.

The flow of a velocity has an inverse, that of its negative; so what is composed with it folds where the start does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from regbench.methods.nets.spatial import compose, identity_grid, integrate, resize_displacement, warp
from regbench.volume import Grid, Image
from regbench.warp import band_limited, resample

if TYPE_CHECKING:
    from regbench.methods.instance import Descent
    from regbench.methods.objectives.similarity import Similarity

# No axis is shrunk below these, so thin stacks keep their slices.
_SMALLEST_LEVEL, _SMALLEST_CONTROL = 8, 4
# The learning rate falls to this share of itself over the steps of a level.
_LAST_RATE = 0.1
_STEPS_PER_LOOK = 10
# Rounds of smoothing where a flow folds, and the Jacobian determinant below which it counts as folded.
_MOST_ROUNDS, _FOLDED = 20, 1e-3
_PARALLEL_AXES = 1e-3


@dataclass
class Found:
    """What the descent has found: displacements (1, ndim, *shape) in voxels of the fixed grid, and the losses by level.

    `back` is the inverse of the update, without the start, where there is one.
    """

    update: Tensor
    back: Tensor | None
    losses: list[list[float]]


@dataclass(frozen=True)
class Level:
    """One level: its grid, that of the control points, the images, and where its voxels lie in the moving one.

    `places` (1, *shape, ndim) and `turn` (ndim, ndim) lead to the normalised coordinates of `grid_sample`: those of
    voxel p moved by d voxels are places(p) + turn @ d.
    """

    grid: Grid
    control: Grid
    fixed: Tensor
    moving: Tensor
    places: Tensor
    turn: Tensor
    start: Tensor | None

    @property
    def spacing_mm(self) -> float:
        return float(self.grid.spacing_mm.mean())

    def warped(self, displacement: Tensor) -> Tensor:
        """The moving image or its features, read at p + d(p)."""
        positions = self.places + displacement.movedim(1, -1) @ self.turn.T
        return read_rows(self.moving, positions)


def descend(fixed: Image, moving: Image, start: np.ndarray | None, settings: Descent, similarity: Similarity) -> Found:
    """The update that makes two images more alike, from a start (ndim, *shape) in voxels of the fixed grid if given."""
    device = torch.device(settings.device)
    begun = None if start is None else torch.from_numpy(start)[None].to(device)
    update: Tensor | None = None
    losses: list[list[float]] = []
    spacing_mm = 1.0
    for shrink, steps in zip(settings.shrink, settings.steps, strict=True):
        level = make_level((fixed, moving), begun, shrink, settings, similarity)
        if update is None:
            update = torch.zeros((1, fixed.grid.ndim, *level.control.shape), device=device)
        else:
            update = _resized(update, level.control.shape) * (spacing_mm / level.spacing_mm)
        spacing_mm = level.spacing_mm
        update, told = _descend_level(level, update, steps, settings, similarity)
        losses.append(told)
    assert update is not None
    with torch.no_grad():

        def whole(part: Tensor) -> Tensor:
            moved = _flow(part, level.spacing_mm, level.control.spacing_mm, settings)
            return resize_displacement(moved, fixed.grid.shape)

        if settings.transformation == "displacement":
            return Found(whole(update), None, losses)
        update, forward = unfolded(update, begun, whole)
        return Found(forward, whole(-update), losses)


def unfolded(velocity: Tensor, start: Tensor | None, flow: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The velocity, smoothed where its flow, followed by the start, has folds that the start has not; and the flow.

    Flows have no folds, but what is computed of one on a grid may have a few where things are pressed together.
    """
    known = None if start is None else folded_cells(start)
    found = flow(velocity)
    pool = functional.max_pool3d if velocity.dim() == 5 else functional.max_pool2d
    adaptive = functional.adaptive_max_pool3d if velocity.dim() == 5 else functional.adaptive_max_pool2d
    mean = functional.avg_pool3d if velocity.dim() == 5 else functional.avg_pool2d
    for _ in range(_MOST_ROUNDS):
        folded = folded_cells(found) if start is None else folded_cells(compose(found, start))
        if known is not None and known.any():
            folded &= ~_seen_through(known, found)
        if not folded.any():
            break
        near = pool(adaptive(folded.to(velocity.dtype), velocity.shape[2:]), 3, 1, 1)
        weight = mean(near, 3, 1, 1)
        velocity = torch.lerp(velocity, mean(velocity, 3, 1, 1, count_include_pad=False), weight)
        found = flow(velocity)
    return velocity, found


def _seen_through(cells: Tensor, displacement: Tensor) -> Tensor:
    """Which cells a displacement leads to one of these cells, or next to one, bool as `cells`."""
    voxels = functional.pad(cells.to(displacement.dtype), [0, 1] * (cells.dim() - 2))
    pool = functional.max_pool3d if cells.dim() == 5 else functional.max_pool2d
    seen = warp(pool(voxels, 3, 1, 1), displacement) > 0
    for axis, n in enumerate(cells.shape[2:], start=2):
        seen = seen.narrow(axis, 0, n)
    return seen


def folded_cells(displacement: Tensor) -> Tensor:
    """The cells between voxels, bool (B, 1, *(n - 1)), that have a corner at which the field folds."""
    axes = range(displacement.dim() - 2)
    folded = None
    for corner in itertools.product((0, 1), repeat=len(axes)):
        jacobian = _corner_jacobian(displacement, corner)
        folded = jacobian < _FOLDED if folded is None else folded | (jacobian < _FOLDED)
    assert folded is not None
    return folded[:, None]


def _corner_jacobian(displacement: Tensor, corner: Sequence[int]) -> Tensor:
    """The Jacobian determinant (B, *(n - 1)) at one corner of each cell, from the edges that meet there."""
    rows: list[list[Tensor]] = []
    for axis in range(len(corner)):
        edges = displacement.diff(dim=2 + axis)
        for other, side in enumerate(corner):
            if other != axis:
                edges = edges.narrow(2 + other, side, edges.shape[2 + other] - 1)
        rows.append([edges[:, c] + float(c == axis) for c in range(len(corner))])
    if len(rows) == 2:
        return rows[0][0] * rows[1][1] - rows[0][1] * rows[1][0]
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def _descend_level(
    level: Level, update: Tensor, steps: int, settings: Descent, similarity: Similarity
) -> tuple[Tensor, list[float]]:
    """The update after the steps of a level, and the losses at every look at them."""
    update = update.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([update], lr=settings.learning_rate)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    losses: list[float] = []
    for step in range(steps):
        optimiser.zero_grad()
        moved = _flow(update, level.spacing_mm, level.control.spacing_mm, settings)
        displacement = resize_displacement(moved, level.grid.shape)
        loss = similarity(level.fixed, level.warped(_after(displacement, level.start, settings)))
        loss = loss + settings.weight * roughness(update * level.spacing_mm, level.control.spacing_mm)
        loss.backward()
        optimiser.step()
        rate.step()
        if step % _STEPS_PER_LOOK == 0 or step == steps - 1:
            # Reading a number waits for the GPU, so it is not done in every step.
            losses.append(float(loss.detach()))
            if len(losses) > 1 and losses[-2] - losses[-1] < settings.tolerance * abs(losses[-2]):
                break
    return update.detach(), losses


def _rate(step: int, steps: int) -> float:
    """The share of the learning rate in a step: half a cosine, from 1 to its last value."""
    return _LAST_RATE + (1 - _LAST_RATE) * (0.5 + 0.5 * math.cos(math.pi * step / max(steps, 1)))


def _flow(update: Tensor, unit_mm: float, control_mm: np.ndarray, settings: Descent) -> Tensor:
    """The displacement of an update, in voxels of the control grid."""
    per_axis = torch.tensor(unit_mm / control_mm, dtype=update.dtype, device=update.device)
    voxels = update * per_axis.view(1, -1, *[1] * (update.dim() - 2))
    return integrate(voxels, settings.squarings) if settings.transformation == "velocity" else voxels


def _after(displacement: Tensor, start: Tensor | None, settings: Descent) -> Tensor:
    """The displacement with the start: composed for velocities, added up otherwise."""
    if start is None:
        return displacement
    if settings.transformation == "displacement":
        return displacement + start
    shape = displacement.shape[2:]
    positions = _normalised(identity_grid(tuple(shape), displacement) + displacement, tuple(shape))
    return displacement + read_rows(start, positions)


def followed(update: Tensor, start: Tensor | None, settings: Descent) -> Tensor:
    """The whole displacement of an update and the start that it was found for, without gradient."""
    with torch.no_grad():
        if start is None or settings.transformation == "displacement":
            return _after(update, start, settings)
        return compose(update, start)


def roughness(update_mm: Tensor, spacing_mm: np.ndarray) -> Tensor:
    """The mean over axes and components of the squared forward differences, mm per mm, of (B, ndim, *shape) in mm.

    The diffusion regulariser of `objectives.regularity` for grids whose spacing (ndim,) differs among axes.
    """
    parts = [
        functional.mse_loss(update_mm.narrow(axis, 1, n - 1), update_mm.narrow(axis, 0, n - 1)) / float(step) ** 2
        for axis, (n, step) in enumerate(zip(update_mm.shape[2:], spacing_mm, strict=True), start=2)
        if n > 1
    ]
    return torch.stack(parts).mean()


# -- levels -------------------------------------------------------------------------------------------


def make_level(
    images: tuple[Image, Image], start: Tensor | None, shrink: float, settings: Descent, similarity: Similarity
) -> Level:
    """The level of a fixed and a moving image whose voxels are `shrink` times the narrowest of the former."""
    fixed, moving = images
    spacing_mm = shrink * float(fixed.grid.spacing_mm.min())
    grid = shrunk_grid(fixed.grid, spacing_mm, _SMALLEST_LEVEL)
    device = torch.device(settings.device)
    seen = _tensor(on_grid(fixed, grid), device)
    features = similarity.prepare(seen)
    other = on_grid(moving, shrunk_grid(moving.grid, spacing_mm, _SMALLEST_LEVEL))
    if features is not seen and not _parallel(other.grid, grid):
        # Features that look along the axes are comparable only if both images have the same ones.
        other = resample(other, _covering(grid, other.grid), outside=float(other.array.min()))
    places, turn = _places(grid, other.grid, device)
    return Level(
        grid=grid,
        control=shrunk_grid(grid, settings.control_voxels * float(grid.spacing_mm.mean()), _SMALLEST_CONTROL),
        fixed=features,
        moving=similarity.prepare(_tensor(other, device)),
        places=places,
        turn=turn,
        start=None if start is None else resize_displacement(start, grid.shape),
    )


def shrunk_grid(grid: Grid, spacing_mm: float, smallest: int) -> Grid:
    """The grid with the same corner voxels whose spacing is about `spacing_mm` along every axis, never finer."""
    shape = []
    for n, step in zip(grid.shape, grid.spacing_mm, strict=True):
        wanted = round((n - 1) * min(1.0, float(step) / spacing_mm)) + 1
        shape.append(max(wanted, min(n, smallest)))
    if tuple(shape) == grid.shape:
        return grid
    ratios = [(n - 1) / max(m - 1, 1) for n, m in zip(grid.shape, shape, strict=True)]
    return Grid(tuple(shape), grid.affine @ np.diag([*ratios, 1.0]))


def on_grid(image: Image, grid: Grid) -> Image:
    """The image on a grid of its own field of view, smoothed as far as that is coarser."""
    return image if grid is image.grid else resample(band_limited(image, grid.spacing_mm), grid)


def _tensor(image: Image, device: torch.device) -> Tensor:
    return torch.from_numpy(image.array.copy())[None, None].to(device)


def _parallel(one: Grid, other: Grid) -> bool:
    """Whether the axes of two grids point the same way, each for each."""
    return bool(np.abs(one.linear / one.spacing_mm - other.linear / other.spacing_mm).max() < _PARALLEL_AXES)


def _covering(grid: Grid, other: Grid) -> Grid:
    """A grid with the voxels of `grid` that covers another one, as far as one extent of `grid` beyond it."""
    ends = np.array(list(np.ndindex(*[2] * grid.ndim))) * (np.array(other.shape) - 1)
    corners = grid.to_voxel(other.to_world(ends))
    extent = np.array(grid.shape) - 1
    low = np.clip(np.floor(corners.min(axis=0)), -extent, extent)
    high = np.clip(np.ceil(corners.max(axis=0)), low + 1, 2 * extent + 1)
    affine = np.array(grid.affine)
    affine[:-1, -1] = grid.to_world(low)
    return Grid(tuple(int(n) for n in high - low + 1), affine)


def _places(grid: Grid, moving: Grid, device: torch.device) -> tuple[Tensor, Tensor]:
    """`places` and `turn` of a level, whose field of view may differ from that of the moving image."""
    chain = moving.inverse @ grid.affine
    scale = 2.0 / np.maximum(np.array(moving.shape) - 1.0, 1.0)
    turn, offset = scale[:, None] * chain[:-1, :-1], scale * chain[:-1, -1] - 1.0
    turned = torch.tensor(turn, dtype=torch.float32, device=device)
    indices = identity_grid(grid.shape, turned).movedim(1, -1)
    return indices @ turned.T + torch.tensor(offset, dtype=torch.float32, device=device), turned


def _normalised(positions: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Coordinates (B, *shape, ndim) from -1 to 1 of positions (B, ndim, *shape) in voxels of a grid of `shape`."""
    scale = torch.tensor([2.0 / max(n - 1, 1) for n in shape], dtype=positions.dtype, device=positions.device)
    return positions.movedim(1, -1) * scale - 1.0


def read_rows(image: Tensor, positions: Tensor) -> Tensor:
    """`image` (1, C, *its shape), which gets no gradient, read at normalised positions (1, *shape, ndim).

    Each row of the first axis is a batch entry of its own for torch, which shares out nothing smaller among threads.
    """
    n_rows = positions.shape[1]
    rows = positions[0].unsqueeze(1).flip(-1)
    found = functional.grid_sample(
        image.expand(n_rows, *image.shape[1:]), rows, padding_mode="border", align_corners=True
    )
    return found.squeeze(2).transpose(0, 1)[None]


def _resized(update: Tensor, shape: tuple[int, ...]) -> Tensor:
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    return functional.interpolate(update, size=shape, mode=mode, align_corners=True)


def levels_words(losses: list[list[float]]) -> Iterator[str]:
    """A phrase for each level: from which loss to which, and in how many looks."""
    for index, told in enumerate(losses):
        if told:
            yield f"level {index}: {told[0]:.4f} to {told[-1]:.4f}"
