"""The promises of a registration method, each tried on pairs with a known answer.

A check is a function that takes a `Trial`, the method with what it has answered so far, and yields findings. A finding
that is `wrong` breaks the contract, a `note` is something to know, `declined` is an honest refusal. Its words say what
is the matter and what to do. Answers are kept and shared, so that a pair is registered as seldom as possible.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from regbench.contract import phantom
from regbench.contract.asking import Answer, asked
from regbench.contract.conventions import explain
from regbench.contract.judging import Finding, Task, errors_mm, failure, miss_words, refusal
from regbench.displacement import Displacement
from regbench.methods.card import Card, Method
from regbench.pair import BlindPair, Pair
from regbench.volume import Grid, Image, Labels

# What a kind of transformation can follow.
_ABILITIES: dict[str, tuple[Task, ...]] = {
    "none": (phantom.unmoved,),
    "rigid": (phantom.unmoved, phantom.shifted),
    "affine": (phantom.unmoved, phantom.shifted, phantom.turned, phantom.stretched),
    "deformable": (phantom.unmoved, phantom.shifted, phantom.bent),
    "diffeomorphic": (phantom.unmoved, phantom.shifted, phantom.bent),
}
_TASK_WORDS = {
    "unmoved": "leaves alone what has not moved",
    "shifted": "follows a shift",
    "turned": "follows a rotation",
    "stretched": "follows a stretch",
    "bent": "follows a smooth field",
    "anatomy": "beats the identity on simulated brains",
}


@dataclass
class Trial:
    """A prepared method with what it has answered so far, in one dimension."""

    card: Card
    method: Method
    ndim: int
    answers: dict[str, Answer] = field(default_factory=dict)

    def answer(self, name: str, pair: BlindPair) -> Answer:
        """The answer to a pair; asked once for each name."""
        if name not in self.answers:
            self.answers[name] = asked(self.method, pair)
        return self.answers[name]

    def on(self, task: Task) -> Answer:
        """The answer to the pair of a task."""
        return self.answer(task.__name__, pair_of(task, self.ndim).blind())

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What a method of this kind can follow; networks know the anatomy that they were trained for."""
        if self.card.paradigm == "learned":
            return (phantom.anatomy,)
        return _ABILITIES[self.card.transformation]

    @property
    def main(self) -> Pair:
        """The pair of the hardest task, on which most promises are tried."""
        return pair_of(self.tasks[-1], self.ndim)

    @property
    def first(self) -> Answer:
        """The answer to that pair."""
        return self.on(self.tasks[-1])

    @property
    def between(self) -> Answer:
        """The answer to another pair that has the same name."""
        if self.tasks[-1] is phantom.anatomy:
            pair = dataclasses.replace(self.main.blind(), fixed=self.main.moving, moving=self.main.fixed)
        else:
            other = pair_of(phantom.shifted if len(self.tasks) > 2 else phantom.bent, self.ndim)
            pair = dataclasses.replace(other.blind(), name=self.main.name)
        return self.answer("between", pair)

    @property
    def grids(self) -> tuple[Grid, Grid]:
        return self.main.fixed.grid, self.main.moving.grid


@cache
def pair_of(task: Task, ndim: int) -> Pair:
    """The pair of a task, made once."""
    return task(ndim)


def checks_of(card: Card, method: Method, ndim: int) -> Iterator[tuple[str, Callable[[], list[Finding]]]]:
    """Every check, its subject and the call that makes it; they end early where a method has no answer at all."""
    trial = Trial(card, method, ndim)
    for check in CHECKS:
        yield (check.__doc__ or "").rstrip("."), lambda check=check: list(check(trial))  # type: ignore[misc]
        if trial.first.displacement is None:
            return


# -- the promises -------------------------------------------------------------------------------------


def gives_one_field(trial: Trial) -> Iterator[Finding]:
    """One finite field on the fixed grid."""
    promise = "gives one finite field on the fixed grid"
    if trial.first.error is None:
        yield Finding(promise, trial.ndim, words=f"in {trial.first.seconds:.1f} s")
    else:
        yield Finding(promise, trial.ndim, *failure(trial.first.error, trial.grids))


def follows_what_its_kind_can_follow(trial: Trial) -> Iterator[Finding]:
    """Known displacements between oblique grids of opposite handedness."""
    missed: list[tuple[Task, Displacement, Pair]] = []
    for task in trial.tasks:
        answer, pair, promise = trial.on(task), pair_of(task, trial.ndim), _TASK_WORDS[task.__name__]
        if answer.displacement is None:
            assert answer.error is not None
            yield Finding(promise, trial.ndim, *failure(answer.error, trial.grids))
            continue
        before, after, limit = errors_mm(task, answer.displacement, pair)
        if after <= limit:
            yield Finding(promise, trial.ndim, words=f"{after:.1f} mm of {before:.1f} mm remain")
        else:
            missed.append((task, answer.displacement, pair))
    moved = [(found.vectors_mm, pair) for task, found, pair in missed if task is not phantom.unmoved]
    reason = explain(moved) if moved else None
    for task, found, pair in missed:
        # A network that knows other anatomy is not to blame for what it does with brains.
        is_foreign = task is phantom.anatomy and trial.card.trained_on.get("dataset") != "mni-cohort" and not reason
        words = miss_words(task, found, pair, reason)
        yield Finding(_TASK_WORDS[task.__name__], trial.ndim, "note" if is_foreign else "wrong", words)


def repeats_itself(trial: Trial) -> Iterator[Finding]:
    """The same answer after another pair, and under another name of the pair."""
    promise, first, seen = "gives the same answer after other pairs", trial.first, trial.main.blind()
    renamed = dataclasses.replace(seen, name="another-name")
    _ = trial.between
    again = trial.answer("again", renamed)
    if _same(first, again):
        yield Finding(promise, trial.ndim)
    elif not trial.card.deterministic.startswith("yes"):
        yield Finding(promise, trial.ndim, "note", f"not this one, whose card says: {trial.card.deterministic}")
    elif not _same(again, trial.answer("once more", renamed)):
        words = (
            f"every call gives another answer{_difference(first, again)}: give it a field `seed` and use it, or say in "
            "its card that it is not deterministic"
        )
        yield Finding(promise, trial.ndim, "wrong", words)
    elif _same(first, trial.answer("same name", seen)):
        words = "its answer depends on the name of the pair, which says nothing about the images"
        yield Finding(promise, trial.ndim, "wrong", words)
    else:
        words = f"its answer depends on the pairs that came before{_difference(first, again)}: keep nothing from them"
        yield Finding(promise, trial.ndim, "wrong", words)


def tells_pairs_apart(trial: Trial) -> Iterator[Finding]:
    """Different pairs of one name have different answers."""
    promise, first = "tells pairs of one name apart", trial.first.displacement
    if first is not None and first.max_mm > 0 and _same(trial.first, trial.between):
        words = "another pair of the same name gets the same field: is it kept by name?"
        yield Finding(promise, trial.ndim, "wrong", words)
    else:
        yield Finding(promise, trial.ndim)


def knows_the_way_back(trial: Trial) -> Iterator[Finding]:
    """An inverse, where there is one, leads back."""
    found = trial.first.displacement
    if found is None or found.inverse is None:
        return
    promise, error_mm = "its inverse leads back", _way_back_mm(found, found.inverse, trial.main)
    if error_mm <= max(1.0, 0.2 * found.max_mm):
        yield Finding(promise, trial.ndim, words=f"to {error_mm:.2f} mm")
    else:
        words = (
            f"there and back ends {error_mm:.1f} mm away; the inverse takes moving points y to fixed points y + v(y), "
            "on a grid of its own, in RAS mm"
        )
        yield Finding(promise, trial.ndim, "wrong", words)


def copes_with_masks(trial: Trial) -> Iterator[Finding]:
    """A pair with masks is no obstacle."""
    seen = trial.main.blind()
    masked = dataclasses.replace(seen, fixed_mask=_body(seen.fixed), moving_mask=_body(seen.moving))
    yield from _no_surprise(trial, "copes with masks", "masked", masked)


def copes_with_hard_images(trial: Trial) -> Iterator[Finding]:
    """Flat images and thin stacks end in a field or in a sentence."""
    seen = pair_of(phantom.shifted, trial.ndim).blind()
    flat = Image(np.ones(seen.moving.grid.shape, np.float32), seen.moving.grid)
    yield from _no_surprise(trial, "copes with a flat image", "flat", dataclasses.replace(seen, moving=flat))
    thin = dataclasses.replace(seen, fixed=_thinned(seen.fixed), moving=_thinned(seen.moving))
    yield from _no_surprise(trial, "copes with a thin image", "thin", thin)


def reads_or_declines_sheared_grids(trial: Trial) -> Iterator[Finding]:
    """A sheared grid is followed or refused, not misread."""
    if phantom.shifted not in trial.tasks:
        return
    promise, pair = "follows a shift of sheared grids, or declines them", phantom.sheared(trial.ndim)
    answer = trial.answer("sheared", pair.blind())
    if answer.displacement is None:
        assert answer.error is not None
        yield Finding(promise, trial.ndim, *refusal(answer.error, (pair.fixed.grid, pair.moving.grid)))
        return
    before, after, limit = errors_mm(phantom.shifted, answer.displacement, pair)
    words = f"{after:.1f} mm of {before:.1f} mm remain"
    if after <= limit:
        yield Finding(promise, trial.ndim, words=words)
    else:
        words += ": resample, or raise MethodDeclined where the fixed or the moving `grid.is_sheared`"
        yield Finding(promise, trial.ndim, "wrong", words)


def leaves_its_input_alone(trial: Trial) -> Iterator[Finding]:
    """The images are the same afterwards."""
    changed = sorted({name for answer in trial.answers.values() for name in answer.changed})
    if changed:
        words = f"it changes the {' and the '.join(changed)} that it gets; work on a copy, `np.array(image.array)`"
        yield Finding("leaves its input unchanged", trial.ndim, "wrong", words)
    else:
        yield Finding("leaves its input unchanged", trial.ndim)


def leaves_no_trace(trial: Trial) -> Iterator[Finding]:
    """No files in the working or the temporary folder, nothing on standard output."""
    left = max((answer.left_behind for answer in trial.answers.values()), key=len)
    if left:
        words = f"{', '.join(left[:4])}{' and more' if len(left) > 4 else ''}; use `tempfile.TemporaryDirectory()`"
        yield Finding("leaves no files behind", trial.ndim, "wrong", words)
    else:
        yield Finding("leaves no files behind", trial.ndim)
    said = next((answer.said for answer in trial.answers.values() if answer.said), "")
    if said:
        words = (
            f"it prints {said.strip()[:60]!r} on standard output, which belongs to the caller: use stderr or logging"
        )
        yield Finding("keeps standard output clean", trial.ndim, "wrong", words)
    else:
        yield Finding("keeps standard output clean", trial.ndim)


CHECKS: tuple[Callable[[Trial], Iterator[Finding]], ...] = (
    gives_one_field,
    follows_what_its_kind_can_follow,
    repeats_itself,
    tells_pairs_apart,
    knows_the_way_back,
    copes_with_masks,
    copes_with_hard_images,
    reads_or_declines_sheared_grids,
    leaves_its_input_alone,
    leaves_no_trace,
)


def _no_surprise(trial: Trial, promise: str, name: str, pair: BlindPair) -> Iterator[Finding]:
    answer = trial.answer(name, pair)
    if answer.error is None:
        yield Finding(promise, trial.ndim)
    else:
        verdict, words = refusal(answer.error, (pair.fixed.grid, pair.moving.grid))
        yield Finding(promise, trial.ndim, verdict, words)


def _body(image: Image) -> Labels:
    return Labels((image.array > 0.02 * float(image.array.max())).astype(np.uint8), image.grid)


def _thinned(image: Image) -> Image:
    """The three middle slices along the last axis."""
    first = image.grid.shape[-1] // 2 - 1
    affine = image.grid.affine.copy()
    affine[:-1, -1] = image.grid.to_world(np.array([*[0] * (image.grid.ndim - 1), first]))
    return Image(image.array[..., first : first + 3], Grid((*image.grid.shape[:-1], 3), affine))


def _same(one: Answer, other: Answer) -> bool:
    if one.displacement is None or other.displacement is None:
        return False
    return np.array_equal(one.displacement.vectors_mm, other.displacement.vectors_mm)


def _difference(one: Answer, other: Answer) -> str:
    if one.displacement is None or other.displacement is None:
        return ""
    largest = np.abs(one.displacement.vectors_mm - other.displacement.vectors_mm).max()
    return f" (by up to {largest:.2g} mm)"


def _way_back_mm(there: Displacement, back: Displacement, pair: Pair) -> float:
    """The mean distance between points of the body and where they end, there and back."""
    from scipy.ndimage import map_coordinates

    assert pair.fixed_labels is not None
    body = pair.fixed_labels.array > 0
    reached = there.targets()[body]
    index = back.grid.to_voxel(reached).T
    components = np.moveaxis(back.vectors_mm, -1, 0)
    returned = reached + np.stack([map_coordinates(c, index, order=1, mode="nearest") for c in components], axis=-1)
    return float(np.linalg.norm(returned - there.grid.world_points()[body], axis=-1).mean())
