"""Random changes of training pairs: mirroring, affine maps, contrast, bias, noise; and known deformations of one scan.

Everything is drawn from a numpy generator in host memory, so a GPU sees the same changes as a CPU. Affine maps turn
about the middle of the grid. Where the right displacement is known, it follows what happens to the images: if the
fixed image is read at C x and the moving one at B x, the displacement u becomes B^-1 (C x + u(C x)) - x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from regbench.methods.nets.spatial import compose, identity_grid, integrate, warp
from regbench.training.recipe import AffineRecipe, AugmentationRecipe, DeformRecipe
from regbench.training.sources import Batch, PairSource

# Intensities stay where `methods.trained.network_input` has them.
_LARGEST = 1.5
_BIAS_NODES = 4
_SQUARINGS = 6


def augmented(batch: Batch, recipe: AugmentationRecipe, rng: np.random.Generator, spacing_mm: np.ndarray) -> Batch:
    """The batch with random changes, on the device on which it is."""
    if recipe.flip:
        batch = _flipped(batch, [axis for axis in recipe.flip if rng.random() < 0.5])
    if any(recipe.affine.model_dump().values()):
        batch = _moved(batch, recipe.affine, rng, spacing_mm)
    if recipe.gamma or recipe.bias or recipe.noise:
        fixed, moving = (_relit(image, recipe, rng) for image in (batch.fixed, batch.moving))
        batch = replace(batch, fixed=fixed, moving=moving)
    return batch


# -- geometry ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AffineMap:
    """x -> c + matrix (x - c) + shift in voxels, c the middle of the grid."""

    matrix: np.ndarray
    shift: np.ndarray

    @property
    def inverse(self) -> AffineMap:
        back = np.linalg.inv(self.matrix)
        return AffineMap(back, -back @ self.shift)

    def of(self, points: Tensor) -> Tensor:
        """Where points (1, ndim, *shape) in voxels of their own grid are led to."""
        ndim = points.shape[1]
        matrix, shift = (torch.tensor(a, dtype=points.dtype, device=points.device) for a in (self.matrix, self.shift))
        sides = [(n - 1) / 2 for n in points.shape[2:]]
        middle = torch.tensor(sides, dtype=points.dtype, device=points.device).view(1, -1, *[1] * ndim)
        turned = torch.einsum("ij,bj...->bi...", matrix, points - middle)
        return turned + middle + shift.view(1, -1, *[1] * ndim)


def random_affine(recipe: AffineRecipe, rng: np.random.Generator, spacing_mm: np.ndarray) -> AffineMap:
    """A random map; lengths and angles are those in mm, whatever the voxel size along each axis."""
    ndim = len(spacing_mm)
    linear = np.eye(ndim)
    for a in range(ndim):
        for b in range(a + 1, ndim):
            angle = math.radians(rng.uniform(-1, 1) * recipe.rotation_degrees)
            turn = np.eye(ndim)
            turn[a, a] = turn[b, b] = math.cos(angle)
            turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
            linear = linear @ turn
    shear = np.eye(ndim) + np.triu(rng.uniform(-1, 1, (ndim, ndim)) * recipe.shear, 1)
    scale = np.diag(1.0 + rng.uniform(-1, 1, ndim) * recipe.scale)
    shift_mm = rng.uniform(-1, 1, ndim) * recipe.translation_mm
    return AffineMap((linear @ shear @ scale) * spacing_mm[None, :] / spacing_mm[:, None], shift_mm / spacing_mm)


def _flipped(batch: Batch, axes: list[int]) -> Batch:
    dims = [2 + axis for axis in axes]

    def flip(part: Tensor | None) -> Any:
        return part if part is None or not dims else part.flip(dims)

    displacement = flip(batch.displacement)
    if displacement is not None and axes:
        displacement[:, axes] = -displacement[:, axes]
    names = ("fixed", "moving", "fixed_labels", "moving_labels")
    return replace(batch, **{name: flip(getattr(batch, name)) for name in names}, displacement=displacement)


def _moved(batch: Batch, recipe: AffineRecipe, rng: np.random.Generator, spacing_mm: np.ndarray) -> Batch:
    points = identity_grid(tuple(batch.fixed.shape[2:]), batch.fixed)
    maps = [[random_affine(recipe, rng, spacing_mm) for _ in range(2)] for _ in range(len(batch.fixed))]
    fixed, moving = (torch.cat([pair[side].of(points) - points for pair in maps]) for side in (0, 1))
    displacement = batch.displacement
    if displacement is not None:
        reached = points + fixed + warp(displacement, fixed)
        displacement = torch.cat([pair[1].inverse.of(reached[k : k + 1]) - points for k, pair in enumerate(maps)])
    return Batch(
        warp(batch.fixed, fixed, padding="zeros"),
        warp(batch.moving, moving, padding="zeros"),
        _warped_labels(batch.fixed_labels, fixed),
        _warped_labels(batch.moving_labels, moving),
        displacement,
        batch.labelled,
    )


def _warped_labels(labels: Tensor | None, displacement: Tensor) -> Tensor | None:
    if labels is None:
        return None
    return warp(labels.to(displacement.dtype), displacement, mode="nearest", padding="zeros").to(labels.dtype)


# -- intensities ------------------------------------------------------------------------------------------


def _relit(images: Tensor, recipe: AugmentationRecipe, rng: np.random.Generator) -> Tensor:
    n, ndim = len(images), images.dim() - 2

    def column(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(images.device).view(n, 1, *[1] * ndim)

    if recipe.gamma:
        images = images.clamp_min(0) ** column(np.exp(recipe.gamma * rng.standard_normal(n)))
    if recipe.bias:
        nodes = rng.standard_normal((n, 1, *[_BIAS_NODES] * ndim)).astype(np.float32) * recipe.bias
        mode = "trilinear" if ndim == 3 else "bilinear"
        coarse = torch.from_numpy(nodes).to(images.device)
        smooth = functional.interpolate(coarse, size=images.shape[2:], mode=mode, align_corners=True)
        images = images * smooth.exp()
    if recipe.noise:
        spread = column(rng.uniform(0, recipe.noise, n))
        images = images + spread * torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32)).to(spread)
    return images.clamp(0, _LARGEST)


# -- pairs of one scan ------------------------------------------------------------------------------------


class DeformedPairs:
    """The fixed images of another source, each with itself under a random deformation that is known.

    The moving image is the fixed one read at phi(x) = S(A x), so the right displacement is A^-1 S^-1 x - x.
    """

    def __init__(self, inner: PairSource, recipe: DeformRecipe) -> None:
        self._inner, self._recipe = inner, recipe
        self.grid, self.label_values = inner.grid, inner.label_values
        self.placement = getattr(inner, "placement", "world")
        self.supervision = "synthetic"

    def draw(self, rng: np.random.Generator, batch: int) -> Batch:
        """Scans with themselves."""
        return self.deformed(self._inner.draw(rng, batch), rng)

    def deformed(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """The fixed images of a batch, and what has become of them."""
        maps = [random_affine(self._recipe.affine, rng, self.grid.spacing_mm) for _ in range(len(batch.fixed))]
        points = identity_grid(self.grid.shape, batch.fixed)
        velocity = self._velocity(rng, len(maps))
        there, back = integrate(velocity, _SQUARINGS), integrate(-velocity, _SQUARINGS)
        first = torch.cat([affine.of(points) - points for affine in maps])
        phi = compose(first, there)
        truth = torch.cat([affine.inverse.of(points + back[k : k + 1]) - points for k, affine in enumerate(maps)])
        return Batch(
            batch.fixed,
            warp(batch.fixed, phi, padding="zeros"),
            batch.fixed_labels,
            _warped_labels(batch.fixed_labels, phi),
            truth,
            batch.labelled,
        )

    def _velocity(self, rng: np.random.Generator, n: int) -> Tensor:
        """A smooth velocity in voxels (n, ndim, *shape)."""
        from scipy.ndimage import gaussian_filter

        shape, spacing_mm = self.grid.shape, self.grid.spacing_mm
        if not self._recipe.smooth_mm:
            return torch.zeros(n, len(shape), *shape)
        sigma = (0, 0, *(self._recipe.length_mm / spacing_mm))
        noise = gaussian_filter(rng.standard_normal((n, len(shape), *shape), dtype=np.float32), sigma, mode="reflect")
        noise *= self._recipe.smooth_mm / max(float(noise.std()), 1e-12)
        return torch.from_numpy(noise / spacing_mm.reshape(1, -1, *[1] * len(shape)).astype(np.float32))

    def facts(self) -> dict[str, Any]:
        """Those of the other source, and the deformations."""
        return {**self._inner.facts(), "deformed": self._recipe.model_dump()}
