"""A registration problem: a fixed and a moving image with everything known about them.

`Pair` is what a dataset yields and what metrics see. `BlindPair` is what a method sees: the images,
their masks and automatically detected keypoints, but no labels, no landmarks, no truth.

What is in `fixed_excluded` and `moving_excluded` (not 0: a lesion, a resection, metal) has no known counterpart in the
other image and takes no part in scores, see `regbench.alignment`. Each lies on the grid of its own image and may be
given for one side alone. It is no mask: methods do not see it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from regbench.displacement import Displacement
from regbench.errors import DatasetError
from regbench.volume import Grid, Image, Labels, Landmarks


@dataclass(frozen=True, eq=False)
class BlindPair:
    """The part of a pair that a method may use."""

    name: str
    fixed: Image
    moving: Image
    fixed_mask: Labels | None = None
    moving_mask: Labels | None = None
    fixed_keypoints: Landmarks | None = None
    moving_keypoints: Landmarks | None = None

    @property
    def ndim(self) -> int:
        return self.fixed.grid.ndim


@dataclass(frozen=True, eq=False)
class Pair:
    """A pair of images to be registered (moving onto fixed) and what is known for scoring.

    `truth` is the displacement on the fixed grid that is known to be right, where it is known.
    Raises DatasetError if dimensions differ, if labels, masks, what is excluded or truth are on another grid than their
    image, or if all of an image is excluded.
    """

    name: str
    fixed: Image
    moving: Image
    fixed_id: str = "fixed"
    moving_id: str = "moving"
    fixed_labels: Labels | None = None
    moving_labels: Labels | None = None
    fixed_mask: Labels | None = None
    moving_mask: Labels | None = None
    fixed_excluded: Labels | None = None
    moving_excluded: Labels | None = None
    fixed_landmarks: Landmarks | None = None
    moving_landmarks: Landmarks | None = None
    fixed_keypoints: Landmarks | None = None
    moving_keypoints: Landmarks | None = None
    truth: Displacement | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.fixed.grid.ndim != self.moving.grid.ndim:
            raise DatasetError(
                f"pair {self.name}: fixed is {self.fixed.grid.ndim}-D and moving is {self.moving.grid.ndim}-D"
            )
        for side, image in (("fixed", self.fixed), ("moving", self.moving)):
            for part in ("labels", "mask", "excluded"):
                self._check_grid(f"{side} {part}", getattr(self, f"{side}_{part}"), image.grid)
            excluded: Labels | None = getattr(self, f"{side}_excluded")
            if excluded is not None and excluded.array.all():
                raise DatasetError(
                    f"pair {self.name}: all of the {side} image is excluded from scores; "
                    "its mask must be 0 where scores count"
                )
            for part in ("landmarks", "keypoints"):
                points = getattr(self, f"{side}_{part}")
                if points is not None and points.points_mm.shape[1] != image.grid.ndim:
                    raise DatasetError(f"pair {self.name}: {side} {part} are not {image.grid.ndim}-D points")
        self._check_grid("truth", self.truth, self.fixed.grid)

    def _check_grid(self, what: str, part: Labels | Displacement | None, grid: Grid) -> None:
        if part is not None and not part.grid.matches(grid):
            raise DatasetError(
                f"pair {self.name}: {what} and its image are on different grids "
                f"({part.grid.describe()} against {grid.describe()}); resample one onto the other first"
            )

    def blind(self) -> BlindPair:
        """The pair without labels, landmarks, truth, what is excluded, names of subjects and tags."""
        return BlindPair(
            name=self.name,
            fixed=self.fixed,
            moving=self.moving,
            fixed_mask=self.fixed_mask,
            moving_mask=self.moving_mask,
            fixed_keypoints=self.fixed_keypoints,
            moving_keypoints=self.moving_keypoints,
        )
