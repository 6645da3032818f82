"""Training pairs without data: made-up label maps, two random warps of each, and two contrasts that share nothing.

A network that learns from them to align what is the same anatomy cannot rely on intensities, and so takes images of
any contrast. Anatomy and painting are in `training.shape_images`. A pair is made thus, with c the made-up anatomy:

    fixed(x) = c(phi_f(x))     moving(y) = c(phi_m(y))     phi = exp(v) after a random affine map

so the truth is u(x) = phi_m^-1(phi_f(x)) - x, with phi_m^-1 = A_m^-1 after exp(-v_m): exact but for interpolation.

Idea: Hoffmann et al., "SynthMorph", IEEE Transactions on Medical Imaging 41 (2022) 543-558.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regbench.errors import ConfigError
from regbench.training.sources import Batch
from regbench.volume import Grid

if TYPE_CHECKING:
    from torch import Tensor

    from regbench.training.shape_images import Anatomy, Canvas

_SHAPES = {2: (80, 96), 3: (48, 64, 48)}
# Blurring lengths of the velocities in mm, and the standard deviation of each of their components.
_SCALES_MM = ((34.0, 2.4), (17.0, 2.0), (9.0, 1.0))
_SQUARINGS = 4
_NUMBERS = ("heads", "alike", "noise", "deformation", "rotation_degrees", "scale", "shift_mm")


@dataclass(frozen=True)
class ShapeSource:
    """Pairs of made-up images on a grid of `shape` (the size of a brain if not given) and `spacing_mm`.

    `heads`: the share of the maps that look like a brain; the rest are shapes of no meaning. `labels`: at most so many
    in a map. `alike`: the share of the pairs whose two sides have one contrast, up to gamma, bias field and noise.
    `noise`: a factor on texture and noise. `deformation`: a factor on the smooth warps, whose sizes vary; at 1 the two
    of a pair differ by 2 to 10 mm.
    `rotation_degrees`, `scale`, `shift_mm`: largest affine difference of a pair.
    """

    ndim: int = 3
    shape: tuple[int, ...] = ()
    spacing_mm: float = 3.0
    heads: float = 0.75
    labels: int = 24
    alike: float = 0.3
    noise: float = 1.0
    deformation: float = 1.0
    rotation_degrees: float = 10.0
    scale: float = 0.1
    shift_mm: float = 10.0

    supervision = "synthetic"
    placement = "fixed"

    def __post_init__(self) -> None:
        if self.ndim not in (2, 3):
            raise ConfigError(f"synth-shapes: ndim is {self.ndim}; known: 2, 3")
        if self.shape and (len(self.shape) != self.ndim or min(self.shape) < 16):
            raise ConfigError(f"synth-shapes: shape needs {self.ndim} axes of 16 voxels or more")
        if not 0.5 <= self.spacing_mm <= 10:
            raise ConfigError(f"synth-shapes: spacing_mm is {self.spacing_mm:g}; it must lie between 0.5 and 10")
        if not 8 <= self.labels <= 64:
            raise ConfigError(f"synth-shapes: labels is {self.labels}; it must lie between 8 and 64")
        for name in _NUMBERS:
            value, most = getattr(self, name), {"heads": 1.0, "alike": 1.0, "scale": 0.5}.get(name, math.inf)
            if not 0 <= value <= most:
                raise ConfigError(f"synth-shapes: {name} is {value:g}; it must lie between 0 and {most:g}")

    @property
    def grid(self) -> Grid:
        shape = self.shape or _SHAPES[self.ndim]
        affine = np.diag([self.spacing_mm] * self.ndim + [1.0])
        affine[:-1, -1] = -self.spacing_mm * (np.array(shape) - 1) / 2
        return Grid(shape, affine)

    @property
    def label_values(self) -> np.ndarray:
        return np.arange(1, self.labels + 1)

    def facts(self) -> dict[str, Any]:
        """No data, and the parameters of the generator."""
        nothing = {"dataset": "none (made-up shapes)", "families": {}, "subjects": []}
        return {**nothing, "generator": dataclasses.asdict(self)}

    def draw(self, rng: np.random.Generator, batch: int) -> Batch:
        """Pairs with label maps and the true displacement."""
        import torch

        drawn = [self._pair(int(rng.integers(2**63))) for _ in range(batch)]
        return Batch(*(torch.stack(parts) for parts in zip(*drawn, strict=True)))

    def _pair(self, seed: int) -> tuple[Tensor, ...]:
        """Fixed and moving image, fixed and moving labels (1, *shape), and the truth (ndim, *shape) in voxels."""
        import torch

        from regbench.training.shape_images import Canvas

        canvas = Canvas(self.grid.shape, self.spacing_mm, torch.Generator().manual_seed(seed))
        anatomy = self._anatomy(canvas)
        fixed, moving, truth = _displacements(canvas, self)
        means_f, means_m = self._contrasts(canvas, anatomy)
        image_f, labels_f = _scan(canvas, anatomy, means_f, fixed, self.noise)
        image_m, labels_m = _scan(canvas, anatomy, means_m, moving, self.noise)
        return image_f, image_m, labels_f, labels_m, truth

    def _anatomy(self, canvas: Canvas) -> Anatomy:
        from regbench.training.shape_images import draw_head, draw_shapes

        return (draw_head if canvas.happens(self.heads) else draw_shapes)(canvas, self.labels)

    def _contrasts(self, canvas: Canvas, anatomy: Anatomy) -> tuple[Tensor, Tensor]:
        """The intensities (classes,) of both sides."""
        from regbench.training.shape_images import draw_means

        fixed, moving = (draw_means(canvas, anatomy.tissues, canvas.happens(0.6)) for _ in range(2))
        return (fixed, fixed) if canvas.happens(self.alike) else (fixed, moving)


def _scan(canvas: Canvas, anatomy: Anatomy, means: Tensor, displacement: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """An image (1, *shape) float32 and its labels (1, *shape) int64, seen through a displacement in voxels."""
    import torch

    from regbench.methods.nets.spatial import warp
    from regbench.training.shape_images import acquire

    clean = torch.tensordot(means, anatomy.classes, dims=1)
    seen = warp(torch.stack([clean, 1 - anatomy.classes[0]])[None], displacement[None])[0]
    return acquire(canvas, seen[0], seen[1], noise)[None], _nearest(anatomy.labels, displacement)[None]


def _nearest(labels: Tensor, displacement: Tensor) -> Tensor:
    """Labels (*shape) at the nearest voxel of the displaced ones, those of the border outside."""
    import torch

    index = torch.zeros(labels.shape, dtype=torch.int64)
    for axis, n in enumerate(labels.shape):
        place = torch.arange(n).view([-1 if a == axis else 1 for a in range(labels.dim())]) + displacement[axis]
        index = index * n + place.round_().clamp_(0, n - 1).long()
    return labels.flatten()[index]


# -- warps ----------------------------------------------------------------------------------------------


def _displacements(canvas: Canvas, source: ShapeSource) -> tuple[Tensor, Tensor, Tensor]:
    """What the fixed and the moving side see of the anatomy, and the truth: (ndim, *shape) in voxels each.

    All of it is smooth, and computed at half resolution.
    """
    import torch

    from regbench.methods.nets.spatial import identity_grid, integrate, resize_displacement, warp

    shape = tuple(max(4, round(n / 2)) for n in canvas.shape)
    steps_mm = torch.tensor(
        [canvas.spacing_mm * (n - 1) / (m - 1) for n, m in zip(canvas.shape, shape, strict=True)]
    ).view(1, -1, *[1] * canvas.ndim)
    velocities = _velocities(canvas, source.deformation, shape) / steps_mm
    flow_f, flow_m, back_m = integrate(torch.cat([velocities, -velocities[1:]]), _SQUARINGS).split(1)
    affine_f, affine_m = _affine(canvas, source), _affine(canvas, source)
    voxels = identity_grid(shape, flow_f)

    def mapped(affine: Tensor, places: Tensor) -> Tensor:
        middle = torch.tensor([(m - 1) / 2 for m in shape]).view_as(steps_mm)
        mm = ((places - middle) * steps_mm)[0]
        turned = torch.tensordot(affine[:-1, :-1], mm, dims=1) + affine[:-1, -1].view(-1, *[1] * canvas.ndim)
        return turned / steps_mm + middle

    def after(places: Tensor, flow: Tensor) -> Tensor:
        return places + warp(flow, places - voxels)

    fixed, moving = after(mapped(affine_f, voxels), flow_f), after(mapped(affine_m, voxels), flow_m)
    truth = mapped(torch.linalg.inv(affine_m), after(fixed, back_m))
    found = resize_displacement(torch.cat([fixed, moving, truth]) - voxels, canvas.shape)
    return found[0], found[1], found[2]


def _velocities(canvas: Canvas, deformation: float, shape: tuple[int, ...]) -> Tensor:
    """Two velocities (2, ndim, *shape) in mm, on a coarser grid with the same corners."""
    import torch

    from regbench.training.shape_images import Canvas

    coarse = Canvas(shape, canvas.spacing_mm * (canvas.shape[0] - 1) / (shape[0] - 1), canvas.generator)
    total = torch.zeros(2, canvas.ndim, *shape)
    for length_mm, strength_mm in _SCALES_MM:
        size = deformation * strength_mm * canvas.one(0.2, 1.3)
        total += size * coarse.noise(2 * canvas.ndim, length_mm).view_as(total)
    return total


def _affine(canvas: Canvas, source: ShapeSource) -> Tensor:
    """Half of an affine difference, (ndim + 1, ndim + 1), in mm from the middle of the grid."""
    import torch

    ndim = canvas.ndim
    generator = torch.zeros(ndim + 1, ndim + 1)
    angles = math.radians(source.rotation_degrees) / 2 * canvas.uniform(-1, 1, ndim * (ndim - 1) // 2)
    for value, (row, column) in zip(angles, [(0, 1), (0, 2), (1, 2)], strict=False):
        generator[row, column], generator[column, row] = -value, value
    generator.diagonal()[:ndim] = math.log1p(source.scale) / 2 * canvas.uniform(-1, 1, ndim)
    generator[:ndim, ndim] = source.shift_mm / 2 * canvas.uniform(-1, 1, ndim)
    # How far from the identity varies, so that pairs that are aligned already are seen as well.
    return torch.linalg.matrix_exp(generator * canvas.one(0, 1))
