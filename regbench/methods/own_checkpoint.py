"""Networks that only their users have weights of: trained with the code of others, read from a checkpoint.

What such a network wants to see is partly in its file and partly said by parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regbench.displacement import Displacement
from regbench.errors import ConfigError, MethodDeclined, MethodError
from regbench.methods.released import Intensity, ReleasedNetwork
from regbench.pair import BlindPair

if TYPE_CHECKING:
    from torch import nn

    from regbench.methods.nets.checkpoints import Checkpoint


@dataclass(frozen=True)
class OwnCheckpoint(ReleasedNetwork):
    """The shared part of networks whose weights, and so whose shape, only their users have; not a method of its own.

    `orientation`: the world directions of the axes of the arrays that it was trained on, as in RAS or LIA (2-D: RA);
    `shape`: their shape, which it then always gets; `spacing_mm` and `intensity` of them.
    """

    orientation: str | None = None
    shape: tuple[int, ...] | None = None
    spacing_mm: float = 1.0
    intensity: Intensity = "min-max"
    # The file that was read, one at most.
    _read: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        letters = self.orientation
        directions = [next((i for i, pair in enumerate(("RL", "AP", "SI")) if c in pair), -1) for c in letters or ""]
        if letters is not None and (sorted(directions) not in ([0, 1], [0, 1, 2])):
            raise ConfigError(f"orientation: '{letters}' names no directions of axes, such as RAS or LIA, or RA in 2-D")
        if self.shape is not None and (len(self.shape) not in (2, 3) or min(self.shape) < 1):
            raise ConfigError(
                f"shape: {list(self.shape)} is not the shape of a 2-D or 3-D image, such as [160, 192, 224]"
            )
        if self.weights is not None and self.weights.endswith(".safetensors"):
            raise ConfigError(
                f"weights: {self.weights} is no checkpoint; what `regbench train` made goes with `trained`"
            )
        if self.spacing_mm <= 0:
            raise ConfigError(f"spacing_mm: is {self.spacing_mm:g}; it must be more than 0")

    def directions(self, ndim: int) -> str:
        """The orientation for this many axes; MethodError if the one that was given is for another number."""
        letters = self.orientation or "RAS"[:ndim]
        if len(letters) != ndim:
            raise MethodError(f"orientation {letters} does not go with weights for {ndim}-D images")
        return letters

    def weight_file(self) -> Path:
        """The user's file; MethodDeclined where none was given."""
        if self.weights is None:
            example = f"{{{self.released_as}: {{weights: path/to/checkpoint.pt}}}}"
            raise MethodDeclined(f"{self.released_as} has no weights of its own; give a checkpoint of yours, {example}")
        return super().weight_file()

    def checkpoint(self) -> Checkpoint:
        """What the user's file holds, read once; MethodError in one sentence if it is no checkpoint."""
        from regbench.methods.nets.checkpoints import read_checkpoint

        path = self.weight_file()
        if not self._read:
            try:
                self._read.append(read_checkpoint(path))
            except Exception as error:  # torch and zipfile raise what they like on a file that is no checkpoint
                reason = " ".join(str(error).split()) or type(error).__name__
                raise MethodError(f"{path}: is no checkpoint that can be read safely: {reason[:160]}") from error
        found: Checkpoint = self._read[0]
        return found

    def prepare(self) -> None:
        """Loads the network, so that `register` finds it in memory, and lets the file go."""
        super().prepare()
        self._read.clear()

    def load_weights(self, network: nn.Module, path: Path) -> None:
        from regbench.methods.nets.checkpoints import fill

        fill(network, self.checkpoint().weights)

    def refused(self, error: ValueError) -> MethodError:
        """The sentence for a file that is of another network."""
        return MethodError(f"{self.weights}: not the weights of a {self.released_as} network: {error}")

    def register(self, pair: BlindPair) -> Displacement:
        """The displacement on the fixed grid in mm."""
        if not self._loaded:
            self.prepare()
        return super().register(pair)
