"""Checkpoints that users trained with the code of others: reading them safely, and saying what does not fit.

A file holds a state dict, alone or under a usual key beside a config and an optimiser. Only tensors, plain Python data
and numpy numbers are read out of it; anything else in it is refused by torch. Buffers that only hold the coordinates
of a grid (`...grid`) are no weights: they are set apart, and tell the shape that the network was built for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_STATE_KEYS = ("model_state", "state_dict", "model_state_dict", "model", "net", "network")
_WRAPPERS = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a file by name, the shapes of its grids by name, and its `config`, empty where it has none."""

    weights: dict[str, Tensor]
    grids: dict[str, tuple[int, ...]]
    config: Mapping[str, Any]


def read_checkpoint(path: Path) -> Checkpoint:
    """The content of a checkpoint; ValueError if it holds no state dict, torch's own errors if it cannot be read."""
    with torch.serialization.safe_globals(_numpy_numbers()):
        content = torch.load(path, map_location="cpu", weights_only=True)
    config: Mapping[str, Any] = {}
    if isinstance(content, Mapping) and isinstance(content.get("config"), Mapping):
        config = content["config"]
    state = content
    if isinstance(content, Mapping):
        state = next((content[key] for key in _STATE_KEYS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(state, Mapping) or not any(isinstance(value, Tensor) for value in state.values()):
        raise ValueError("it holds no state dict")
    tensors = {_unwrapped(str(name)): value for name, value in state.items() if isinstance(value, Tensor)}
    grids = {name: tuple(value.shape[2:]) for name, value in tensors.items() if name.endswith(".grid")}
    return Checkpoint({name: value for name, value in tensors.items() if name not in grids}, grids, config)


def _numpy_numbers() -> list[Any]:
    """What torch must know to read numbers of numpy, such as a best validation score, and nothing more than those."""
    from numpy._core.multiarray import scalar

    kinds = (np.float64, np.float32, np.int64, np.int32, np.bool_)
    return [scalar, np.dtype, *{type(np.dtype(kind)) for kind in kinds}]


def _unwrapped(name: str) -> str:
    """The name without the prefixes of what parallel or compiled models are wrapped in."""
    prefix = next((prefix for prefix in _WRAPPERS if name.startswith(prefix)), None)
    return name if prefix is None else _unwrapped(name.removeprefix(prefix))


def fill(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Puts weights into a network that must have exactly these; ValueError names the first that does not fit."""
    own = network.state_dict()
    for name, tensor in own.items():
        if name not in weights:
            raise ValueError(f"key '{name}' is missing")
        if weights[name].shape != tensor.shape:
            shapes = " where ".join(str(tuple(t.shape)) for t in (weights[name], tensor))
            raise ValueError(f"key '{name}' has the shape {shapes} is expected")
    surplus = next((name for name in weights if name not in own), None)
    if surplus is not None:
        raise ValueError(f"key '{surplus}' belongs to nothing in this network")
    network.load_state_dict(dict(weights), strict=True)
