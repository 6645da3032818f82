"""The shipped networks for images of any contrast, trained on made-up shapes alone (see `training.shapes`)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from regbench.errors import ConfigError
from regbench.methods.trained import Trained

_MOST_PASSES = 8


@dataclass(frozen=True)
class SynthShapes(Trained):
    """Registration by the networks that saw nothing but made-up label maps in made-up contrasts.

    `weights`: the name of the shipped files (2-D and 3-D), or a safetensors file that `regbench train` wrote.
    `passes`: how often the network is applied, each time to what the last one left; their fields are composed.
    """

    weights: str = "synth-shapes"
    passes: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.passes <= _MOST_PASSES:
            raise ConfigError(f"passes: is {self.passes}; it must lie between 1 and {_MOST_PASSES}")
        super().__post_init__()

    def prepare(self) -> None:
        """Loads the weights of every dimension there is."""
        from regbench.methods.nets.repeated import Repeated

        super().prepare()
        for ndim, trained in self._loaded.items():
            self._loaded[ndim] = dataclasses.replace(trained, network=Repeated(trained.network, self.passes))
