"""The networks that `regbench train` can train: a table of plain rows, their settings, and how they are built.

Every network takes the fixed and the moving image, (B, 1, *shape) with intensities of about 0 to 1, in 2-D or 3-D, and
gives the displacement (B, ndim, *shape) in voxels of their grid, pull-back (see `nets.spatial`). Each axis must be a
multiple of the attribute `multiple`. They predict at half resolution and start near the identity; `mind-pyramid`
predicts at full resolution, and registers before it has learnt anything.

    network: {kind: dual-stream, transformation: velocity, affine: true, stages: 1, width: 1.5}

This module imports no torch at its top; it reads configs, too.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from regbench.errors import ConfigError
from regbench.parameters import as_plain, check_parameters, nearest

if TYPE_CHECKING:
    from torch import nn

TransformationKind = Literal["velocity", "displacement"]


@dataclass(frozen=True)
class NetworkSettings:
    """What all networks have.

    `transformation`: velocity (stationary, integrated by scaling and squaring, free of folds) or displacement.
    `affine`: an affine map comes first. `stages`: that many networks, one after the other from coarse to fine images.
    `checkpointing`: less memory in training for more time. `width`: a factor on all channels, to match sizes.
    """

    transformation: TransformationKind = "velocity"
    squarings: int = 6
    affine: bool = False
    stages: int = 1
    checkpointing: bool = False
    width: float = 1.0


@dataclass(frozen=True)
class UNetSettings(NetworkSettings):
    """`channels` from half resolution downwards."""

    channels: tuple[int, ...] = (32, 32, 48, 64)


@dataclass(frozen=True)
class LargeKernelSettings(NetworkSettings):
    """`channels` from half resolution downwards; all but the first have large kernels."""

    channels: tuple[int, ...] = (16, 20, 24, 28)


@dataclass(frozen=True)
class PyramidSettings(NetworkSettings):
    """`channels` of every layer, `levels` of the pyramid, residual `blocks` in each level."""

    channels: tuple[int, ...] = (16,)
    levels: int = 3
    blocks: int = 5


@dataclass(frozen=True)
class DualStreamSettings(NetworkSettings):
    """`channels` of the levels from half resolution downwards, `radius` of the search in voxels of each level."""

    channels: tuple[int, ...] = (16, 24, 32, 32)
    radius: int = 1


@dataclass(frozen=True)
class MindPyramidSettings(NetworkSettings):
    """`channels` of the levels from the resolution of the images downwards."""

    squarings: int = 4
    channels: tuple[int, ...] = (8, 16, 24, 32)


@dataclass(frozen=True)
class TransformerSettings(NetworkSettings):
    """`channels`, `depths` (blocks) and `heads` of the levels from quarter resolution downwards.

    `window` in tokens; 4 in 3-D and 8 in 2-D if not given.
    """

    channels: tuple[int, ...] = (16, 32, 64)
    depths: tuple[int, ...] = (2, 2, 4)
    heads: tuple[int, ...] = (2, 4, 8)
    window: int | None = None


@dataclass(frozen=True)
class NetworkRow:
    """A network of the table: its class as `module:Class`, its settings, and where the idea is from."""

    target: str
    summary: str
    citation: str
    settings: type[NetworkSettings]


NETWORKS: dict[str, NetworkRow] = {
    "unet": NetworkRow(
        "regbench.methods.nets.unet:RegistrationUNet",
        "VoxelMorph-style U-Net on both images at once",
        "Balakrishnan et al., IEEE Transactions on Medical Imaging 38 (2019) 1788-1800",
        UNetSettings,
    ),
    "lku-net": NetworkRow(
        "regbench.methods.nets.trainable_lku:LargeKernelUNet",
        "the U-Net with kernels of 5, 3 and 1 voxels side by side below half resolution",
        "Jia et al., Machine Learning in Medical Imaging (2022), LNCS 13583, 151-160",
        LargeKernelSettings,
    ),
    "pyramid": NetworkRow(
        "regbench.methods.nets.pyramid:LaplacianPyramid",
        "three networks from coarse to fine images, each adds to the field of the coarser one",
        "Mok and Chung, MICCAI (2020), LNCS 12263, 211-221",
        PyramidSettings,
    ),
    "dual-stream": NetworkRow(
        "regbench.methods.nets.dual_stream:DualStreamPyramid",
        "features of each image apart, compared by local correlation from coarse to fine, fields composed",
        "Sun et al., CVPR (2018) 8934-8943; Kang et al., Medical Image Analysis 75 (2022) 102302",
        DualStreamSettings,
    ),
    "mind-pyramid": NetworkRow(
        "regbench.methods.nets.mind_pyramid:MindPyramid",
        "self-similarity descriptors matched from coarse to fine, scores of the matches learnt, fields composed",
        "Heinrich et al., MICCAI (2013), LNCS 8149, 187-194; Heinrich, MICCAI (2019), LNCS 11769, 50-58",
        MindPyramidSettings,
    ),
    "transformer": NetworkRow(
        "regbench.methods.nets.transformer:WindowTransformer",
        "TransMorph-like: attention in shifted windows as the encoder, a convolutional decoder",
        "Chen et al., Medical Image Analysis 82 (2022) 102615; Liu et al., ICCV (2021) 10012-10022",
        TransformerSettings,
    ),
}

_LARGEST = {"squarings": 12, "stages": 4, "levels": 5, "blocks": 20, "radius": 4, "window": 16}


def check_network(settings: Mapping[str, Any], ndim: int, where: str) -> dict[str, Any]:
    """The complete settings of a network as JSON data, with its `kind`; ConfigError, beginning with `where`.

    Settings without `kind`, as older weight files have them, are those of the U-Net; `ndim` may be among them.
    """
    given = dict(settings)
    kind, told = given.pop("kind", "unet"), given.pop("ndim", ndim)
    if kind not in NETWORKS:
        known = ", ".join(NETWORKS)
        raise ConfigError(f"{where}.kind: unknown network '{kind}'{nearest(str(kind), list(NETWORKS))}; known: {known}")
    if told != ndim or ndim not in (2, 3):
        raise ConfigError(f"{where}.ndim: the network is for {told}-D images, these are {ndim}-D")
    complete = as_plain(check_parameters(NETWORKS[kind].settings, given, where))
    if complete.get("window", 0) is None:
        complete["window"] = 4 if ndim == 3 else 8
    _check_ranges(complete, where)
    return {"kind": kind, **complete}


def _check_ranges(settings: Mapping[str, Any], where: str) -> None:
    for name, value in settings.items():
        numbers = value if isinstance(value, list) else [value]
        if any(not isinstance(n, str | bool) and not n > 0 for n in numbers) or not numbers:
            raise ConfigError(f"{where}.{name}: must be more than 0, not {value!r}")
        if name in _LARGEST and value > _LARGEST[name]:
            raise ConfigError(f"{where}.{name}: must be at most {_LARGEST[name]}, not {value!r}")
    lengths = {name: len(settings[name]) for name in ("channels", "depths", "heads") if name in settings}
    if len(set(lengths.values())) > 1:
        words = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise ConfigError(f"{where}: channels, depths and heads need one number per level: {words}")
    for n, n_heads in zip(settings["channels"], settings.get("heads", []), strict=False):
        if n % n_heads:
            raise ConfigError(f"{where}.channels: {n} cannot be shared among {n_heads} heads; take a multiple of it")
    if "levels" in settings and lengths["channels"] != 1:
        raise ConfigError(f"{where}.channels: a pyramid has one number of channels for all layers, such as [16]")


def transformation_of(settings: Mapping[str, Any]) -> Literal["deformable", "diffeomorphic"]:
    """What the fields of a network are: an affine head keeps the orientation, so velocities stay diffeomorphic."""
    return "diffeomorphic" if settings.get("transformation", "velocity") == "velocity" else "deformable"


def multiple_of(settings: Mapping[str, Any], ndim: int) -> int:
    """What each axis of the images must be a multiple of; builds the network without its weights."""
    import torch

    with torch.device("meta"):
        return int(build_network(settings, ndim).multiple)  # type: ignore[arg-type]


def build_network(settings: Mapping[str, Any], ndim: int) -> nn.Module:
    """The network with these settings, random but near its start (see above); ConfigError if they do not fit."""
    from regbench.methods.nets.affine_head import AffineHead
    from regbench.methods.nets.stages import Staged

    settings = check_network(settings, ndim, "network")
    networks = [_one_network(settings, ndim) for _ in range(settings["stages"])]
    if len(networks) == 1 and not settings["affine"]:
        return networks[0]
    return Staged(networks, AffineHead(ndim, settings["checkpointing"]) if settings["affine"] else None)


def _one_network(settings: Mapping[str, Any], ndim: int) -> nn.Module:
    row = NETWORKS[settings["kind"]]
    module, _, name = row.target.partition(":")
    cls = getattr(importlib.import_module(module), name)
    not_passed = {"affine", "stages", "width", "channels"}
    own = {f.name: settings[f.name] for f in fields(row.settings) if f.name not in not_passed}
    own = {key: tuple(value) if isinstance(value, list) else value for key, value in own.items()}
    network: nn.Module = cls(ndim, channels=_scaled(settings), **own)
    return network


def _scaled(settings: Mapping[str, Any]) -> tuple[int, ...]:
    """The channels times `width`; where there are heads, whole multiples of theirs."""
    parts = settings.get("heads") or [1] * len(settings["channels"])
    pairs = zip(settings["channels"], parts, strict=True)
    return tuple(max(round(n * settings["width"] / part), 1) * part for n, part in pairs)


def parameter_count(settings: Mapping[str, Any], ndim: int) -> int:
    """The number of parameters of a network; takes no memory for them."""
    import torch

    with torch.device("meta"):
        return sum(p.numel() for p in build_network(settings, ndim).parameters())


def width_for(settings: Mapping[str, Any], ndim: int, n_parameters: int) -> float:
    """The `width` (two digits) that brings a network nearest to a number of parameters."""
    widths = [step / 100 for step in range(10, 801)]
    low, high = 0, len(widths) - 1
    while high - low > 1:
        middle = (low + high) // 2
        too_many = parameter_count({**settings, "width": widths[middle]}, ndim) > n_parameters
        low, high = (low, middle) if too_many else (middle, high)
    return min(
        (widths[low], widths[high]),
        key=lambda width: abs(parameter_count({**settings, "width": width}, ndim) - n_parameters),
    )
