"""What engines ask of a pair, refused in a sentence before they are started.

Given what they cannot handle, some of them end with an error code, some with a signal, some with a field of noise.
"""

from __future__ import annotations

from regbench.errors import MethodDeclined, MethodError
from regbench.pair import BlindPair


def demand_right_angles(pair: BlindPair, engine: str) -> None:
    """Raises MethodDeclined for a sheared grid, which ITK images cannot express."""
    if pair.fixed.grid.is_sheared or pair.moving.grid.is_sheared:
        raise MethodDeclined(f"{engine} needs grids without shear; resample the image onto one first")


def demand_voxels(pair: BlindPair, least: int, engine: str) -> None:
    """Raises MethodDeclined where an axis of an image is shorter than the engine's filters need."""
    for side, image in (("fixed", pair.fixed), ("moving", pair.moving)):
        if min(image.grid.shape) < least:
            size = "x".join(map(str, image.grid.shape))
            raise MethodDeclined(f"{engine} needs at least {least} voxels along each axis; the {side} image has {size}")


def demand_content(pair: BlindPair) -> None:
    """Raises MethodError for an image of one value, in which there is nothing to match."""
    for side, image in (("fixed", pair.fixed), ("moving", pair.moving)):
        if image.array.max() <= image.array.min():
            raise MethodError(f"{pair.name}: the {side} image is flat; there is nothing to match")
