"""`identity`: no registration, what every other method is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from regbench.displacement import Displacement
from regbench.pair import BlindPair


@dataclass(frozen=True)
class Identity:
    """The images as they lie in world coordinates."""

    def register(self, pair: BlindPair) -> Displacement:
        """A displacement of zero on the fixed grid."""
        return Displacement.identity(pair.fixed.grid)
