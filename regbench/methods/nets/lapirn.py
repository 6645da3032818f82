"""LapIRN: three networks for a quarter, half and full resolution, each correcting the displacement of the one below.

Mok and Chung, MICCAI 2020; the conditional form, whose residual blocks are steered by the weight of the regularisation,
Mok and Chung, MICCAI 2021. Written from the description of the released weights, whose state dicts it loads: there the
network of full resolution holds the one of half resolution, which holds that of a quarter. Every axis must be divisible
by 8. Displacements are in voxels, channel i along axis i; inside, fields keep the units of the training, -1 to 1 along
each axis, last axis first, in which a finer grid has the same values.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn
from torch.nn import functional

from regbench.methods.nets.blocks import convolution, halved, unit_to_voxels
from regbench.methods.nets.spatial import integrated, warped_rows
from regbench.methods.nets.streams import streamed

_SLOPE = 0.2
_LEVELS = 3
_BLOCKS = 5
_LARGEST_STEP = 0.4
_SQUARINGS = 7
_CODE = 64


class LapirnLevel(nn.Module):
    """The network of one resolution; `model_lvlN` is that of the next coarser one.

    `features` and `bottleneck` are its channels at its own and at half of its resolution, `embedding` those that it
    hands on.
    """

    def __init__(self, level: int, features: int, bottleneck: int, embedding: int, is_conditional: bool) -> None:
        super().__init__()
        n_in = 2 if level == 1 else 5
        self.input_encoder_lvl1 = _two_convolutions(n_in, features, features)
        self.down_conv = convolution(3, features, bottleneck, stride=2, bias=False)
        block = ConditionalBlock if is_conditional else ResidualBlock
        blocks = [(block(bottleneck), nn.LeakyReLU(_SLOPE, inplace=True)) for _ in range(_BLOCKS)]
        self.resblock_group_lvl1 = nn.Sequential(*[module for pair in blocks for module in pair])
        self.up = nn.ConvTranspose3d(bottleneck, embedding, 2, stride=2, bias=False)
        joined = embedding + features
        self.output_lvl1 = _two_convolutions(joined, joined // 2, 3)
        self._softsign = nn.Softsign()

    def encoded(self, images: list[Tensor], warp: Tensor | None) -> Tensor:
        """Features (1, features, *shape) of moving image, fixed image and field; the first is warped, if told how."""

        def read(rows: slice) -> list[Tensor]:
            first = images[0][:, :, rows] if warp is None else warped_rows(images[0], warp, rows)
            return [first, *(image[:, :, rows] for image in images[1:])]

        return streamed([self.input_encoder_lvl1], read, images[0].shape[2])

    def bottleneck(self, encoded: Tensor, embedding: Tensor | None, code: Tensor | None) -> Tensor:
        """Features at half of the resolution, from those at this one and what the coarser level hands on."""
        features = streamed([self.down_conv], lambda rows: [encoded[:, :, rows]], encoded.shape[2])
        if embedding is not None:
            features += embedding
        for module in self.resblock_group_lvl1:
            features = module(features, code) if isinstance(module, ConditionalBlock) else module(features)
        return features

    def step(self, encoded: Tensor, bottleneck: Tensor) -> Tensor:
        """The correction (1, 3, *shape) of the field of the coarser level, in its units."""

        def read(rows: slice) -> list[Tensor]:
            return [self.up(bottleneck[:, :, halved(rows)]), encoded[:, :, rows]]

        return streamed([self.output_lvl1, self._softsign], read, encoded.shape[2]).float().mul_(_LARGEST_STEP)


class Lapirn(LapirnLevel):
    """The three levels. `is_diffeomorphic`: fields are stationary velocities, integrated at every level."""

    def __init__(
        self,
        features: int = 28,
        bottleneck: int = 28,
        embedding: int = 28,
        is_diffeomorphic: bool = False,
        is_conditional: bool = False,
    ) -> None:
        super().__init__(_LEVELS, features, bottleneck, embedding, is_conditional)
        self._is_diffeomorphic = is_diffeomorphic
        coarser: LapirnLevel = self
        for level in range(_LEVELS - 1, 0, -1):
            # What the coarser levels hand on is added to the bottleneck of the next finer one.
            inner = LapirnLevel(level, features, bottleneck, bottleneck, is_conditional)
            coarser.add_module(f"model_lvl{level}", inner)
            coarser = inner

    def forward(self, fixed: Tensor, moving: Tensor, code: Tensor | None = None) -> Tensor:
        """Displacement (1, 3, *shape) in voxels, from images (1, 1, *shape); the conditional form has a code (1, 1)."""
        pyramid = [(fixed, moving)]
        for _ in range(_LEVELS - 1):
            pyramid.append((_pooled(pyramid[-1][0]), _pooled(pyramid[-1][1])))
        field = displacement = embedding = None
        for level in self._coarse_to_fine():
            fixed, moving = pyramid.pop()
            field = None if field is None else _doubled(field)
            images = [moving, fixed] if field is None else [moving, fixed, field]
            encoded = level.encoded(images, None if displacement is None else _doubled_displacement(displacement))
            displacement = None
            bottleneck = level.bottleneck(encoded, embedding, code)
            step = level.step(encoded, bottleneck)
            del encoded
            field = step if field is None else field.add_(step)
            embedding = level.up(bottleneck) if pyramid else None
            displacement = _in_voxels(field)
            if self._is_diffeomorphic:
                displacement = integrated(displacement, _SQUARINGS)
        assert displacement is not None
        return displacement

    def _coarse_to_fine(self) -> list[LapirnLevel]:
        levels: list[LapirnLevel] = [self]
        for number in range(_LEVELS - 1, 0, -1):
            inner = getattr(levels[0], f"model_lvl{number}")
            levels.insert(0, inner)
        return levels


class ResidualBlock(nn.Module):
    """Two convolutions, each after an activation, and the input added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = convolution(3, channels, channels, bias=False)
        self.conv2 = convolution(3, channels, channels, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Features (1, channels, *shape) of the same size."""
        change = self.conv1(functional.leaky_relu(features, _SLOPE))
        change = self.conv2(functional.leaky_relu_(change, _SLOPE))
        change += features
        return change


class ConditionalBlock(nn.Module):
    """A residual block whose features are normalised, scaled and shifted as a code says."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = [1, _CODE, _CODE, _CODE, _CODE]
        layers = [
            module
            for n_in, n_out in itertools.pairwise(widths)
            for module in (nn.Linear(n_in, n_out), nn.LeakyReLU(_SLOPE))
        ]
        self.mapping = nn.Sequential(*layers)
        self.ai1, self.ai2 = StyledNorm(channels), StyledNorm(channels)
        self.conv1 = convolution(3, channels, channels, bias=False)
        self.conv2 = convolution(3, channels, channels, bias=False)

    def forward(self, features: Tensor, code: Tensor) -> Tensor:
        """Features (1, channels, *shape) of the same size; `code` is (1, 1)."""
        style = self.mapping(code)
        change = self.conv1(functional.leaky_relu_(self.ai1(features, style), _SLOPE))
        change = self.conv2(functional.leaky_relu_(self.ai2(change, style), _SLOPE))
        change += features
        return change


class StyledNorm(nn.Module):
    """Each channel normalised over the image, then scaled by 1 + gamma and shifted by beta, linear in a style."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.style = nn.Linear(_CODE, 2 * channels)

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        """Features (1, channels, *shape) of the same size; `style` is (1, code)."""
        gamma, beta = self.style(style)[..., None, None, None].chunk(2, dim=1)
        return functional.instance_norm(features).mul_(1 + gamma).add_(beta)


def _two_convolutions(n_in: int, n_between: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        convolution(3, n_in, n_between, bias=False),
        nn.LeakyReLU(_SLOPE, inplace=True),
        convolution(3, n_between, n_out, bias=False),
    )


def _pooled(image: Tensor) -> Tensor:
    return functional.avg_pool3d(image, 3, stride=2, padding=1, count_include_pad=False)


def _doubled(field: Tensor) -> Tensor:
    """A field on the grid of twice the resolution, with the same values."""
    return functional.interpolate(field, scale_factor=2, mode="trilinear")


def _doubled_displacement(displacement: Tensor) -> Tensor:
    """A displacement in voxels on the grid of twice the resolution, in voxels of that grid.

    What is the same on both grids is the share of the distance between the outer voxels.
    """
    doubled = _doubled(displacement)
    for axis, n in enumerate(displacement.shape[2:]):
        doubled[:, axis] *= (2 * n - 1) / (n - 1)
    return doubled


def _in_voxels(field: Tensor) -> Tensor:
    return unit_to_voxels(field.flip(1))
