"""How a pair, a displacement and parameters travel between two interpreters: arrays as .npy files, the rest as JSON.

Nothing is pickled. Numbers arrive as they left, to the last bit: arrays by their bytes, affines as JSON numbers, which
Python writes in full. Needs numpy and the ground floor only, since it is read on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import ConfigError
from regbench.pair import BlindPair
from regbench.volume import Grid, Image, Labels, Landmarks

_SIDES = ("fixed", "moving")
_TUPLE, _PATH = "(tuple)", "(path)"


def pack_pair(pair: BlindPair, folder: Path) -> dict[str, Any]:
    """The description of a pair whose arrays were written into `folder`."""
    told: dict[str, Any] = {"name": pair.name}
    for side in _SIDES:
        for part in (side, f"{side}_mask"):
            volume: Image | Labels | None = getattr(pair, part)
            if volume is not None:
                told[part] = _pack(volume.array, volume.grid, folder / f"{part}.npy")
        points: Landmarks | None = getattr(pair, f"{side}_keypoints")
        if points is not None:
            told[f"{side}_keypoints"] = str(_write(points.points_mm, folder / f"{side}_keypoints.npy"))
    return told


def unpack_pair(told: Mapping[str, Any]) -> BlindPair:
    """The pair that `pack_pair` described."""
    parts: dict[str, Any] = {side: Image(*_unpack(told[side])) for side in _SIDES}
    for side in _SIDES:
        if f"{side}_mask" in told:
            parts[f"{side}_mask"] = Labels(*_unpack(told[f"{side}_mask"]))
        if f"{side}_keypoints" in told:
            parts[f"{side}_keypoints"] = Landmarks(np.load(told[f"{side}_keypoints"]))
    return BlindPair(name=told["name"], **parts)


def pack_displacement(displacement: Displacement, folder: Path, name: str = "field") -> dict[str, Any]:
    """The description of a displacement, and of its inverse, whose arrays were written into `folder`."""
    told = _pack(displacement.vectors_mm, displacement.grid, folder / f"{name}.npy")
    if displacement.inverse is not None:
        told["inverse"] = pack_displacement(displacement.inverse, folder, f"{name}-inverse")
    return told


def unpack_displacement(told: Mapping[str, Any]) -> Displacement:
    """The displacement that `pack_displacement` described."""
    inverse = unpack_displacement(told["inverse"]) if "inverse" in told else None
    return Displacement(*_unpack(told), inverse)


def pack_parameters(values: Any, where: str = "parameters") -> Any:
    """Checked parameters as JSON that keeps what is a tuple and what is a path; ConfigError for anything else."""
    if isinstance(values, tuple):
        return {_TUPLE: [pack_parameters(value, where) for value in values]}
    if isinstance(values, list):
        return [pack_parameters(value, where) for value in values]
    if isinstance(values, Mapping):
        return {str(key): pack_parameters(value, f"{where}.{key}") for key, value in values.items()}
    if isinstance(values, PurePath):
        return {_PATH: str(values)}
    if values is None or isinstance(values, bool | int | float | str):
        return values
    raise ConfigError(f"{where}: a {type(values).__name__} cannot be handed to another interpreter")


def unpack_parameters(told: Any) -> Any:
    """The parameters that `pack_parameters` described."""
    if isinstance(told, list):
        return [unpack_parameters(value) for value in told]
    if isinstance(told, Mapping):
        if set(told) == {_TUPLE}:
            return tuple(unpack_parameters(value) for value in told[_TUPLE])
        if set(told) == {_PATH}:
            return Path(told[_PATH])
        return {key: unpack_parameters(value) for key, value in told.items()}
    return told


def _pack(array: np.ndarray, grid: Grid, path: Path) -> dict[str, Any]:
    return {"file": str(_write(array, path)), "shape": list(grid.shape), "affine": grid.affine.tolist()}


def _unpack(told: Mapping[str, Any]) -> tuple[np.ndarray, Grid]:
    return np.load(told["file"]), Grid(tuple(told["shape"]), np.array(told["affine"]))


def _write(array: np.ndarray, path: Path) -> Path:
    np.save(path, array, allow_pickle=False)
    return path
