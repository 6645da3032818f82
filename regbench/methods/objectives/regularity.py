"""How irregular displacements are: (B, ndim, *shape) in voxels of their own grid (see `methods.nets.spatial`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from regbench.methods.nets.spatial import compose
from regbench.methods.objectives.arithmetic import closed_form, full_precision
from regbench.slabs import row_slabs

# Ten arrays of this many elements stay near a core; a GPU wants all at once.
_SLAB_POINTS = 1 << 16

# A finite difference: a factor for each shift in voxels.
Stencil = Mapping[tuple[int, ...], float]


class _Term(NamedTuple):
    """A squared derivative along some axes, and its weight."""

    weight: float
    axes: tuple[int, ...]
    stencil: Stencil


@full_precision
def diffusion(displacement: Tensor, spacing: Sequence[float] | None = None) -> Tensor:
    """The mean over axes and components of the squared forward differences, 0 for a translation.

    With the `spacing` of the voxels along each axis lengths take the place of voxels. Closed form: MONAI's takes
    5 times as long and 6 times the memory (96x112x96, one core), and its central differences miss alternating fields.
    """
    ndim = displacement.dim() - 2
    return _energy(displacement, _first_differences(ndim, 1.0 / ndim), spacing)


@full_precision
def bending(displacement: Tensor, spacing: Sequence[float] | None = None) -> Tensor:
    """The mean over components of the sum of squared second derivatives, mixed ones twice, 0 for a linear field.

    By central differences, each over all voxels at which it exists; `spacing` as in `diffusion`. Closed form: MONAI's
    takes 8 times as long and 14 times the memory (96x112x96, one core).
    """
    ndim = displacement.dim() - 2
    pure = [
        _Term(1.0, (a, a), {_along(ndim, a, -1): 1.0, _along(ndim): -2.0, _along(ndim, a, 1): 1.0}) for a in range(ndim)
    ]
    mixed = [_Term(2.0, (a, b), _mixed_difference(ndim, a, b)) for a, b in combinations(range(ndim), 2)]
    return _energy(displacement, [*pure, *mixed], spacing)


def _first_differences(ndim: int, weight: float) -> list[_Term]:
    return [_Term(weight, (axis,), {_along(ndim): -1.0, _along(ndim, axis, 1): 1.0}) for axis in range(ndim)]


def _mixed_difference(ndim: int, a: int, b: int) -> Stencil:
    def corner(i: int, j: int) -> tuple[int, ...]:
        return tuple(i if axis == a else j if axis == b else 0 for axis in range(ndim))

    return {corner(i, j): i * j / 4 for i in (-1, 1) for j in (-1, 1)}


def _along(ndim: int, axis: int = 0, shift: int = 0) -> tuple[int, ...]:
    return tuple(shift if a == axis else 0 for a in range(ndim))


def _energy(field: Tensor, terms: Sequence[_Term], spacing: Sequence[float] | None) -> Tensor:
    """The weighted sum of the mean squares of finite differences of a field (B, ndim, *shape)."""
    sizes = [float(size) for size in spacing] if spacing is not None else [1.0] * field.shape[1]

    def work(inputs: Sequence[Tensor], needed: Sequence[bool]) -> tuple[Tensor, Sequence[Tensor | None]]:
        components = inputs[0].flatten(0, 1)
        gradient = torch.zeros_like(components) if needed[0] else None
        value = field.new_zeros(())
        for weight, axes, stencil in terms:
            for k, component in enumerate(components):
                difference = _difference(component, stencil)
                unit = sizes[k % len(sizes)] / prod(sizes[axis] for axis in axes)
                scale = weight * unit**2 / max(difference.numel() * len(components), 1)
                value += scale * torch.linalg.vector_norm(difference).square()
                if gradient is not None:
                    for shift, factor in stencil.items():
                        _shifted(gradient[k], shift, stencil).add_(difference, alpha=2 * scale * factor)
        return value, [None if gradient is None else gradient.view_as(field)]

    return closed_form(work, field)


def _difference(component: Tensor, stencil: Stencil) -> Tensor:
    (first, factor), *others = stencil.items()
    difference = _shifted(component, first, stencil) * factor
    for shift, factor in others:
        difference.add_(_shifted(component, shift, stencil), alpha=factor)
    return difference


def _shifted(values: Tensor, shift: Sequence[int], stencil: Stencil) -> Tensor:
    """The values (*shape) at a shift from each voxel at which the whole stencil lies inside, as a view."""
    for axis, shifts in enumerate(zip(*stencil, strict=True)):
        low, high = min(shifts), max(shifts)
        room = values.shape[axis] - (high - low)
        values = values.narrow(axis, shift[axis] - low if room > 0 else 0, max(room, 0))
    return values


@full_precision
def jacobian_penalty(displacement: Tensor, margin: float = 0.0) -> Tensor:
    """The mean of max(0, margin - J), with J the Jacobian determinant by forward differences; 0 without folds."""

    def work(inputs: Sequence[Tensor], needed: Sequence[bool]) -> tuple[Tensor, Sequence[Tensor | None]]:
        fields = inputs[0]
        gradient = torch.zeros_like(fields) if needed[0] else None
        n_cells = max(fields.shape[0] * prod(n - 1 for n in fields.shape[2:]), 1)
        slab_points = _SLAB_POINTS if fields.device.type == "cpu" else fields.numel()
        value = fields.new_zeros(())
        for k, field in enumerate(fields):
            for rows in row_slabs([fields.shape[2] - 1, *fields.shape[3:]], slab_points):
                nearby = slice(rows.start, rows.stop + 1)
                slopes = _slopes(field[:, nearby])
                lacking = functional.relu(margin - _determinant(slopes))
                value += lacking.sum() / n_cells
                if gradient is not None and bool(lacking.any()):
                    _add_cofactors(gradient[k, :, nearby], slopes, (lacking > 0) / -n_cells)
        return value, [gradient]

    return closed_form(work, displacement)


def _slopes(field: Tensor) -> list[list[Tensor]]:
    """The derivatives by axis i (row) of component c (column) of x + d(x), each (*(n - 1)), by forward differences."""
    ndim = len(field)
    stencil = dict.fromkeys(product((0, 1), repeat=ndim), 0.0)
    rows = []
    for i in range(ndim):
        ends = [_along(ndim, i, 1), _along(ndim)]
        row = [torch.sub(*(_shifted(component, end, stencil) for end in ends)) for component in field]
        row[i] += 1.0
        rows.append(row)
    return rows


def _determinant(slopes: list[list[Tensor]]) -> Tensor:
    first, *others = slopes
    if not others:
        return first[0]
    terms = [value * _determinant(_without(others, c)) for c, value in enumerate(first)]
    return sum((-term if c % 2 else term for c, term in enumerate(terms[1:], 1)), terms[0])


def _without(rows: list[list[Tensor]], column: int) -> list[list[Tensor]]:
    return [row[:column] + row[column + 1 :] for row in rows]


def _add_cofactors(gradient: Tensor, slopes: list[list[Tensor]], factor: Tensor) -> None:
    """Adds the derivatives of the determinants, times a factor, to the gradient (ndim, *shape) by the field."""
    ndim = len(slopes)
    stencil = dict.fromkeys(product((0, 1), repeat=ndim), 0.0)
    for i in range(ndim):
        for c in range(ndim):
            cofactor = _determinant(_without(slopes[:i] + slopes[i + 1 :], c)) * factor * (-1) ** (i + c)
            _shifted(gradient[c], _along(ndim, i, 1), stencil).add_(cofactor)
            _shifted(gradient[c], _along(ndim), stencil).sub_(cofactor)


@full_precision
def inverse_consistency(forward: Tensor, backward: Tensor) -> Tensor:
    """The mean squared length in voxels of the way there and back, over both orders; 0 for inverse fields."""
    ways = (compose(forward, backward), compose(backward, forward))
    return torch.stack([way.square().sum(1).mean() for way in ways]).mean()


@full_precision
def gradient_inverse_consistency(forward: Tensor, backward: Tensor) -> Tensor:
    """The mean squared Frobenius norm of the derivative of the way there and back, by forward differences.

    0 for fields that are inverse up to a translation. Source: Tian et al., CVPR 2023 (GradICON).
    """
    way = compose(forward, backward)
    return _energy(way, _first_differences(way.shape[1], float(way.shape[1])), None)
