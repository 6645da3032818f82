"""The contract suite on methods that break one promise each: that promise is found broken, in plain words."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regbench.contract import phantom
from regbench.contract.checks import checks_of, pair_of
from regbench.contract.judging import Finding
from regbench.contract.paperwork import read_papers
from regbench.displacement import Displacement
from regbench.errors import MethodDeclined, MethodError
from regbench.methods.card import Card
from regbench.pair import BlindPair, Pair

CARD = Card("mine", "mine:Mine", "a method", "classical", "none", "deformable", "nobody", "none")
TASKS = (phantom.unmoved, phantom.shifted, phantom.bent, phantom.sheared)
Act = Callable[[BlindPair, Displacement], Any]


def pair_behind(seen: BlindPair) -> Pair:
    """The phantom that has these images."""
    for task in TASKS:
        pair = pair_of(task, seen.ndim)
        if np.array_equal(pair.fixed.array[..., :3], seen.fixed.array[..., :3]):
            return pair
    raise MethodDeclined("not one of ours")


@dataclass(frozen=True)
class Oracle:
    """Knows the truth, and does something with it."""

    act: Act = field(default=lambda seen, truth: truth)

    def register(self, pair: BlindPair) -> Any:
        truth = pair_behind(pair).truth
        assert truth is not None
        if not truth.grid.matches(pair.fixed.grid):
            raise MethodDeclined("too thin")
        return self.act(pair, truth)


def findings(method: Any, card: Card = CARD, ndim: int = 2) -> list[Finding]:
    return [finding for _, check in checks_of(card, method, ndim) for finding in check()]


def broken(act: Act, **others: Any) -> dict[str, str]:
    """The promises that a method breaks, with the words that tell so."""
    found = findings(Oracle(act), **others)
    return {finding.promise: finding.words for finding in found if finding.verdict == "wrong"}


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_truth_breaks_no_promise(ndim: int) -> None:
    found = findings(Oracle(), ndim=ndim)
    assert {finding.verdict for finding in found} == {"ok", "declined"}
    assert [finding.promise for finding in found if finding.verdict == "declined"] == ["copes with a thin image"]
    assert len(found) == 13 and all(finding.ndim == ndim for finding in found)


def test_a_convention_is_named() -> None:
    def in_lps(seen: BlindPair, truth: Displacement) -> Displacement:
        return Displacement(truth.vectors_mm * np.array([-1, -1, 1])[: seen.ndim], truth.grid)

    found = broken(in_lps, ndim=3)
    assert list(found) == [
        "follows a shift",
        "follows a smooth field",
        "follows a shift of sheared grids, or declines them",
    ]
    assert all("it looks like LPS instead of RAS" in found[promise] for promise in list(found)[:2])


def test_what_does_not_move_is_told_apart_from_what_moves_wrongly() -> None:
    found = broken(lambda seen, truth: Displacement.identity(truth.grid))
    assert "it hardly moves anything" in found["follows a shift"]

    def noise(seen: BlindPair, truth: Displacement) -> Displacement:
        return Displacement(np.random.default_rng(2).normal(0, 6, truth.vectors_mm.shape), truth.grid)

    found = broken(noise)
    assert "no usual mix-up explains it" in found["follows a smooth field"]
    assert "it moves things by" in found["leaves alone what has not moved"]


def test_a_drift_is_told_in_voxels() -> None:
    def half_a_voxel_off(seen: BlindPair, truth: Displacement) -> Displacement:
        return Displacement(truth.vectors_mm + 0.5 * truth.grid.linear.sum(axis=1), truth.grid)

    assert "all together by 0.7 voxels in one direction" in broken(half_a_voxel_off)["leaves alone what has not moved"]


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda seen, truth: truth.vectors_mm, "register returned ndarray, not a Displacement"),
        (lambda seen, truth: Displacement(truth.vectors_mm.transpose(1, 0, 2), truth.grid), "its axes are reversed"),
        (lambda seen, truth: Displacement(np.moveaxis(truth.vectors_mm, -1, 0), truth.grid), "components come first"),
        (lambda seen, truth: Displacement.identity(seen.moving.grid), "it lies on the moving grid"),
        (lambda seen, truth: Displacement(truth.vectors_mm * np.nan, truth.grid), "components are NaN or infinite"),
        (lambda seen, truth: seen.fixed_labels, "a method sees images, masks and keypoints only"),
        (lambda seen, truth: seen.fixed.array.__setitem__(0, 0), "it writes into its input"),
        (lambda seen, truth: 1 / 0, "register raised ZeroDivisionError: division by zero"),
        (lambda seen, truth: sys.exit(3), "register raised SystemExit"),
    ],
)
def test_what_is_no_field_is_explained_and_ends_the_trial(returned: Act, words: str) -> None:
    found = broken(returned)
    assert list(found) == ["gives one finite field on the fixed grid"]
    assert words in found["gives one finite field on the fixed grid"]


def test_declining_is_no_fault() -> None:
    def decline(seen: BlindPair, truth: Displacement) -> Displacement:
        raise MethodDeclined("wants cubic voxels")

    (finding,) = findings(Oracle(decline))
    assert (finding.verdict, finding.words) == ("declined", "wants cubic voxels")


def test_input_that_is_changed_is_named() -> None:
    def scale(seen: BlindPair, truth: Displacement) -> Displacement:
        base = seen.moving.array.base
        assert isinstance(base, np.ndarray)
        base.setflags(write=True)
        seen.moving.array.setflags(write=True)
        seen.moving.array[...] *= 1.5
        return truth

    before = pair_of(phantom.bent, 2).moving.array.copy()
    found = broken(scale)
    assert list(found) == ["leaves its input unchanged"] and "the moving image" in found["leaves its input unchanged"]
    np.testing.assert_array_equal(pair_of(phantom.bent, 2).moving.array, before)


def test_traces_are_found() -> None:
    def leave_traces(seen: BlindPair, truth: Displacement) -> Displacement:
        Path("field.nii").write_text("x")
        tempfile.mkdtemp(prefix="engine-")
        print("iteration 1")
        subprocess.run(["echo", "said by a program"], check=True)
        return truth

    found = broken(leave_traces)
    assert set(found) == {"leaves no files behind", "keeps standard output clean"}
    assert "field.nii" in found["leaves no files behind"] and "engine-" in found["leaves no files behind"]
    assert "iteration 1" in found["keeps standard output clean"]


def test_the_suite_itself_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = findings(Oracle(lambda seen, truth: (print("said"), truth)[1]))
    assert [f.promise for f in found if f.verdict == "wrong"] == ["keeps standard output clean"]
    print("mine")
    assert capfd.readouterr().out == "mine\n"
    assert list(tmp_path.iterdir()) == [] and Path.cwd() == tmp_path


def test_every_way_of_not_repeating_itself_is_told_apart() -> None:
    promise = "gives the same answer after other pairs"
    rng, calls, seen_names = np.random.default_rng(1), [], {}

    def slightly(truth: Displacement, by: float) -> Displacement:
        return Displacement(truth.vectors_mm + by, truth.grid)

    def random(seen: BlindPair, truth: Displacement) -> Displacement:
        return slightly(truth, rng.uniform(0, 0.1))

    def remembering(seen: BlindPair, truth: Displacement) -> Displacement:
        calls.append(float(seen.fixed.array.sum()))
        return slightly(truth, 0.1 * (len(set(calls)) > 2))

    def by_name(seen: BlindPair, truth: Displacement) -> Displacement:
        return slightly(truth, 0.001 * len(seen.name))

    def kept_by_name(seen: BlindPair, truth: Displacement) -> Displacement:
        kept: Displacement = seen_names.setdefault(seen.name, truth)
        return kept

    assert "every call gives another answer (by up to 0.0" in broken(random)[promise]
    assert "depends on the pairs that came before" in broken(remembering)[promise]
    assert "depends on the name of the pair" in broken(by_name)[promise]
    assert "is it kept by name?" in broken(kept_by_name)["tells pairs of one name apart"]


def test_a_method_may_say_that_it_is_not_deterministic() -> None:
    rng = np.random.default_rng(1)
    card = Card(*[getattr(CARD, name) for name in list(vars(CARD))[:8]], deterministic="no: samples differ")
    method = Oracle(lambda seen, truth: Displacement(truth.vectors_mm + rng.uniform(0, 0.1), truth.grid))
    (finding,) = [f for f in findings(method, card) if f.promise == "gives the same answer after other pairs"]
    assert finding.verdict == "note" and "samples differ" in finding.words


def test_an_inverse_must_lead_back() -> None:
    def with_inverse(sign: float) -> Act:
        def both(seen: BlindPair, truth: Displacement) -> Displacement:
            return Displacement(truth.vectors_mm, truth.grid, Displacement(sign * truth.vectors_mm, truth.grid))

        return both

    rigid = Card(*[getattr(CARD, name) for name in list(vars(CARD))[:5]], "rigid", "nobody", "none")
    good = [f for f in findings(Oracle(with_inverse(-1.0)), rigid) if f.promise == "its inverse leads back"]
    assert [f.verdict for f in good] == ["ok"]
    assert "there and back ends 14.4 mm away" in broken(with_inverse(1.0), card=rigid)["its inverse leads back"]


@pytest.mark.parametrize(("error", "verdict"), [(MethodError("one value"), "declined"), (ValueError("shape"), "note")])
def test_a_hard_image_may_end_in_a_sentence_but_not_in_a_traceback(error: Exception, verdict: str) -> None:
    @dataclass(frozen=True)
    class FussyOracle(Oracle):
        def register(self, pair: BlindPair) -> Any:
            if np.ptp(pair.moving.array) == 0:
                raise error
            return super().register(pair)

    (finding,) = [f for f in findings(FussyOracle()) if f.promise == "copes with a flat image"]
    assert finding.verdict == verdict and str(error) in finding.words


def test_papers_are_read() -> None:
    class Loose:
        pass

    bare = Card("x", "x:X", "", "classical", "none", "deformable", "", "")
    told = {f.promise: f for f in read_papers(bare, Loose, {"torch", "json"})}
    assert all(finding.verdict == "note" and finding.ndim == 0 for finding in told.values())
    assert "no summary and no citation and no licence" in told["its card is complete"].words
    assert "imports torch at its top" in told["is quick to import"].words
    assert all(f.verdict == "ok" for f in read_papers(CARD, Oracle, set()))
