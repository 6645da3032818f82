"""Every method of the table keeps the contract; a new row is tested without being named here.

The checks are those of `regbench methods test` (regbench/contract), here in this process and with quick settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from regbench.contract import phantom
from regbench.contract.checks import checks_of, pair_of
from regbench.environments import home_of
from regbench.methods.card import Card, Method
from regbench.methods.table import CARDS
from regbench.resources import limit_torch_threads
from regbench.targets import build_method, method_parameters

# Settings that keep the tests quick; a method that is not named here is tested with its defaults.
_THREE = {"shrink": (4, 2, 1), "iterations": (30, 15, 0), "smoothing_voxels": (2.0, 1.0, 0.0)}
_COARSE = {"metric": "ncc", "levels": 2, "iterations": 40, "samples": 1000}
QUICK: dict[str, dict[str, Any]] = {
    "rigid": {"samples": 5000, "shrink": (2, 1)},
    "affine": {"samples": 5000, "shrink": (2, 1)},
    "demons": {"iterations": (40, 20, 10)},
    "demons-symmetric": {"iterations": (40, 20, 10)},
    "demons-jena": {"iterations": (60,)},
    "ants-syn": {"preset": "quick", "initial": "moments"},
    "ants-quick": {"initial": "moments"},
    "ants-syn-cc": _THREE,
    "ants-so-jena": {**_THREE, "radius_voxels": 2},
    "greedy": {"initial": "moments", "iterations": (40, 20), "inverse": True},
    # In mm, as published, but as much as these voxels need.
    "greedy-jena": {"iterations": (40, 20), "smoothing": (4.5, 1.8)},
    "elastix-bspline": _COARSE,
    "elastix-affine-bspline": _COARSE,
    "convexadam": {"iterations": 30, "grid_voxels": 4, "search_steps": 3},
    "adam-instance": {"preset": "fast"},
    "instance-optimise": {"steps": (30, 20, 10)},
}
TRIALS = [
    pytest.param(card, ndim, id=f"{card.name}-{ndim}d")
    for card in CARDS.values()
    if card.name not in ("command", "trained")
    for ndim in card.dimensions
]


@cache
def _prepared(name: str) -> Method:
    """A method, shared by all its tests, so that state kept between calls would show."""
    method = build_method(name, method_parameters(name, QUICK.get(name, {}), f"methods.{name}"))
    getattr(method, "prepare", lambda: None)()
    limit_torch_threads(1)
    return method


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The simulated brains that learned methods are tried on are made anew, in a cache of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    pair_of.cache_clear()


def _skip_what_cannot_run(card: Card, ndim: int) -> None:
    home = home_of(card.name)
    if home.missing or home.python is not None:
        pytest.skip("; ".join(need.install_hint for need in home.missing) or "runs in an environment of its own")
    if card.weights is not None:
        from regbench.methods.trained import weight_file

        if weight_file(card.weights, ndim) is None:
            pytest.skip(f"no weights '{card.weights}' for {ndim}-D images are shipped")


@pytest.mark.parametrize(("card", "ndim"), TRIALS)
def test_keeps_the_contract(card: Card, ndim: int) -> None:
    """On oblique grids of opposite handedness, where a sign, an axis or a unit that is wrong makes things worse."""
    _skip_what_cannot_run(card, ndim)
    findings = [finding for _, check in checks_of(card, _prepared(card.name), ndim) for finding in check()]
    broken = [f"{f.verdict}: {f.promise}: {f.words}" for f in findings if f.verdict in ("wrong", "note")]
    assert not broken, "\n".join(broken)
    assert {f.verdict for f in findings} <= {"ok", "declined"}
    kept = {f.promise for f in findings if f.verdict == "ok"}
    assert {"gives one finite field on the fixed grid", "gives the same answer after other pairs"} <= kept


@pytest.mark.parametrize("ndim", [2, 3])
def test_identity_moves_nothing(ndim: int) -> None:
    assert _prepared("identity").register(phantom.bent(ndim).blind()).max_mm == 0
