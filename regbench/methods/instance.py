"""`instance-optimise`, `adam-instance`: gradient descent on the pair itself, from another method's field or from none.

The network of a learned method has seen other pairs; what is left of the difference on this one is taken out by
descent on its two images, which no label is needed for. From no start at all the same descent is a classical method
that runs on a GPU as well. How it works is told in `regbench.methods.nets.pair_descent`.

Intensities of each image go through their percentiles 0.5 and 99.5 to 0 and 1 first, and are cut a little outside of
these. Masks are not used.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import ConfigError, MethodDeclined
from regbench.methods.card import Card, Method
from regbench.methods.demands import demand_content
from regbench.methods.objectives.similarity import SIMILARITIES, Similarity, check_similarity
from regbench.pair import BlindPair
from regbench.volume import Grid, Image
from regbench.warp import sample_displacement

if TYPE_CHECKING:
    from regbench.methods.nets.pair_descent import Found

logger = logging.getLogger(__name__)

_PERCENTILES = (0.5, 99.5)
_LOWEST, _HIGHEST = -0.2, 1.5
# Weights of roughness that suit the scales of the similarities, chosen on brains at 3 mm, slices and hippocampi.
_SMOOTHNESS = {
    "lncc": 0.7,
    "ncc": 0.2,
    "mse": 0.01,
    "mind-ssc": 0.15,
    "nmi": 0.7,
    "mi": 0.7,
    "monai-lncc": 0.7,
    "monai-mi": 0.7,
}
# Transformations whose fields have no folds.
_WITHOUT_FOLDS = ("none", "rigid", "affine", "diffeomorphic")


@dataclass(frozen=True, kw_only=True)
class Descent:
    """What both methods share; not a method of its own."""

    similarity: str | dict[str, dict[str, Any] | None] = "lncc"
    transformation: Literal["velocity", "displacement"] = "velocity"
    shrink: tuple[float, ...] = (8, 4, 2, 1)
    steps: tuple[int, ...] = (50, 50, 50, 50)
    learning_rate: float = 0.3
    smoothness: float | None = None
    control_voxels: float = 2.0
    squarings: int = 6
    tolerance: float = 1e-4
    device: Literal["cpu", "cuda"] = "cpu"

    _NAME: ClassVar[str]

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ConfigError(f"methods.{self._NAME}: {problem}")
        self._similarity()

    def _problem(self) -> str:
        """What is wrong with the parameters, or ""."""
        if not self.shrink or len(self.shrink) != len(self.steps):
            return f"shrink {list(self.shrink)} and steps {list(self.steps)} must have one number for each level"
        if min(self.shrink) < 1 or any(a <= b for a, b in zip(self.shrink, self.shrink[1:], strict=False)):
            return f"shrink {list(self.shrink)} must become smaller from level to level, down to 1 at the least"
        if min(*self.steps, self.smoothness or 0, self.tolerance) < 0:
            return "steps, smoothness and tolerance must not be negative"
        if self.learning_rate <= 0 or self.control_voxels < 1:
            return "learning_rate must be above 0, and control_voxels 1 at the least"
        return "" if 0 <= self.squarings <= 16 else f"squarings is {self.squarings}; it must lie between 0 and 16"

    @property
    def weight(self) -> float:
        """The weight of roughness: the one given, or what suits the similarity."""
        return _SMOOTHNESS[self._named_similarity()[0]] if self.smoothness is None else self.smoothness

    def _named_similarity(self) -> tuple[str, dict[str, Any]]:
        """Name and settings of the similarity."""
        wanted = {self.similarity: {}} if isinstance(self.similarity, str) else self.similarity
        if len(wanted) != 1:
            raise ConfigError(
                f"methods.{self._NAME}.similarity: give one name, or one with its settings, as {{lncc: {{window: 7}}}}"
            )
        ((name, settings),) = wanted.items()
        return name, settings or {}

    def _similarity(self) -> Similarity:
        """The similarity of that name with those settings; ConfigError for what is not known."""
        where = f"methods.{self._NAME}.similarity"
        name, settings = self._named_similarity()
        try:
            values = check_similarity(name, settings, where)
        except ModuleNotFoundError:
            # The environment of a start has no need of what checks types, and has been sent nothing unchecked.
            values = settings
        similarity: Similarity = SIMILARITIES[name](**values)
        return similarity

    def prepare(self) -> None:
        """Imports torch and what its optimisers load when they are first used (seconds), so that neither is timed."""
        import torch
        import torch._dynamo

        if self.device == "cuda" and not torch.cuda.is_available():
            raise MethodDeclined("device is cuda, and torch finds no CUDA GPU; use `device: cpu`")

    def _descended(self, pair: BlindPair, start: Displacement | None) -> Displacement:
        """The start, if there is one, refined on the images of the pair."""
        from regbench.methods.nets.pair_descent import descend, levels_words

        demand_content(pair)
        grid = pair.fixed.grid
        voxels = None if start is None else _voxels(start.vectors_mm, grid)
        found = descend(_scaled(pair.fixed), _scaled(pair.moving), voxels, self, self._similarity())
        logger.debug("%s: %s", pair.name, "; ".join(levels_words(found.losses)))
        return self._whole(found, voxels, start, grid)

    def _whole(self, found: Found, voxels: np.ndarray | None, start: Displacement | None, grid: Grid) -> Displacement:
        """The update after the start in mm, with the way back where it is known."""
        import torch

        from regbench.methods.nets.pair_descent import followed

        begun = None if voxels is None else torch.from_numpy(voxels)[None].to(found.update.device)
        forward = _vectors_mm(followed(found.update, begun, self).cpu().numpy()[0], grid)
        if found.back is None:
            return Displacement(forward, grid)
        back = Displacement(_vectors_mm(found.back.cpu().numpy()[0], grid), grid)
        if start is None:
            return Displacement(forward, grid, back)
        if start.inverse is None:
            return Displacement(forward, grid)
        reached = start.inverse.targets()
        inverse = Displacement.from_targets(reached + sample_displacement(back, reached), start.inverse.grid)
        return Displacement(forward, grid, inverse)


@dataclass(frozen=True, kw_only=True)
class AdamInstance(Descent):
    """Descent from no displacement at all, coarse to fine.

    `similarity` is a name, or a name with its settings: {lncc: {window: 7}}; there are lncc, ncc, mse for one modality,
    mind-ssc, nmi and mi for any. `transformation: velocity` integrates a stationary velocity with `squarings`, whose
    field has no folds; `displacement` adds what it finds. `shrink` has a factor for each level (of the narrowest
    voxel spacing) with at most `steps` of Adam, whose `learning_rate` is in voxels of the level; a level ends when ten
    steps gain less than the share `tolerance` of the loss. `smoothness` weights the squared derivatives of velocity or
    displacement, mm per mm; null takes what suits the similarity (0.7 for lncc). Control points are `control_voxels`
    voxels of the level apart.
    """

    _NAME: ClassVar[str] = "adam-instance"

    def register(self, pair: BlindPair) -> Displacement:
        """The displacement on the fixed grid, with its inverse on the same grid where it is a flow."""
        return self._descended(pair, None)


@dataclass(frozen=True, kw_only=True)
class InstanceOptimise(Descent):
    """Another method's field refined on the pair.

    `start` is any method: a name, or a name with its parameters, such as {demons: {iterations: [50, 25]}}. With
    `transformation: velocity` its field is composed with the flow of a velocity, which adds no folds to it; with
    `displacement` an update is added. `seed` is that of the start, where it has one. All other parameters are those of
    adam-instance.
    """

    start: Any = "voxelmorph-cohort"
    shrink: tuple[float, ...] = (4, 2, 1)
    steps: tuple[int, ...] = (50, 50, 50)
    seed: int = 0

    _NAME: ClassVar[str] = "instance-optimise"
    # The parameter that holds another method: whoever builds this one builds that one first (`regbench.targets`).
    of_method: ClassVar[str] = "start"

    @classmethod
    def completed_card(cls, card: Card, parameters: Mapping[str, Any], start: Card) -> Card:
        """The card with what it takes over from the card of the start."""
        smooth = parameters.get("transformation", "velocity") == "velocity" and start.transformation in _WITHOUT_FOLDS
        return dataclasses.replace(
            card,
            summary=f"{card.summary}; here of {start.name}",
            paradigm="hybrid" if start.paradigm in ("learned", "hybrid") else "classical",
            supervision=start.supervision,
            transformation="diffeomorphic" if smooth else "deformable",
            citation=card.citation if start.citation in ("", "none") else f"{card.citation}; start: {start.citation}",
            licence=card.licence if start.licence in ("", card.licence) else f"{card.licence}; start: {start.licence}",
            dimensions=tuple(n for n in card.dimensions if n in start.dimensions),
            grids=start.grids,
            packages=tuple(dict.fromkeys((*card.packages, *start.packages))),
            programs=start.programs,
            environment=start.environment,
            trained_on=start.trained_on,
            weights=start.weights,
            deterministic=card.deterministic if start.deterministic == "yes" else start.deterministic,
        )

    def prepare(self) -> None:
        """Prepares the start as well."""
        super().prepare()
        getattr(self._method, "prepare", lambda: None)()

    @property
    def model_size(self) -> Any:
        """What the start says of its size; AttributeError where it says nothing."""
        return self._method.model_size  # type: ignore[attr-defined]

    def register(self, pair: BlindPair) -> Displacement:
        """The displacement on the fixed grid, with its inverse where the start has one and the update is a flow."""
        return self._descended(pair, self._method.register(pair))

    @property
    def _method(self) -> Method:
        if not hasattr(self.start, "register"):
            raise ConfigError(f"methods.{self._NAME}.start: {self.start!r} is the name of a method, which is not built")
        method: Method = self.start
        return method


def _scaled(image: Image) -> Image:
    """The image with the range between its percentiles brought to 0..1, and what lies far outside of it cut."""
    low, high = np.percentile(image.array, _PERCENTILES)
    if high <= low:
        # All but a few voxels are equal.
        low, high = float(image.array.min()), float(image.array.max())
    return Image(np.clip((image.array - low) / (high - low), _LOWEST, _HIGHEST), image.grid)


def _voxels(vectors_mm: np.ndarray, grid: Grid) -> np.ndarray:
    """Displacements (ndim, *shape) in voxels of vectors (*shape, ndim) in mm, float32."""
    return _turned(np.moveaxis(vectors_mm, -1, 0), np.linalg.inv(grid.linear))


def _vectors_mm(voxels: np.ndarray, grid: Grid) -> np.ndarray:
    """Vectors (*shape, ndim) in mm of displacements (ndim, *shape) in voxels, float32."""
    return np.moveaxis(_turned(voxels, grid.linear), 0, -1)


def _turned(components: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """`matrix` (ndim, ndim) times the components (ndim, *shape), float32, with one component of scratch memory."""
    out = np.zeros(components.shape, np.float32)
    for world, row in enumerate(matrix):
        for factor, component in zip(row, components, strict=True):
            if factor:
                out[world] += np.float32(factor) * component
    return out
