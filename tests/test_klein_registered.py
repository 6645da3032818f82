"""The pairs of the comparison of Klein et al. that come registered: one moving image for each pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from layouts_on_disk import labels, scan, write_analyze

from regbench.datasets.klein import Klein2009
from regbench.errors import DatasetError


def _written(root: Path, missing: str = "") -> Path:
    for n in (1, 2, 10):
        write_analyze(root / f"LPBA40/Brains/l{n}", scan(n), compressed=False)
        write_analyze(root / f"LPBA40/Atlases/l{n}", labels((21, 22)), compressed=False)
        for other in {1, 2, 10} - {n}:
            name = f"l{n}_to_l{other}"
            if name != missing:
                write_analyze(root / f"LPBA40/registered_pairs/{name}", scan(2 * n + other), compressed=False)
                write_analyze(root / f"LPBA40/registered_label_pairs/{name}", labels((21, n)), compressed=False)
    return root


def test_each_pair_has_a_moving_image_of_its_own(tmp_path: Path) -> None:
    plain = Klein2009(str(_written(tmp_path)))
    data = Klein2009(str(tmp_path), registered=True)
    refs = data.pair_refs()
    assert [ref.id for ref in refs] == [ref.id for ref in plain.pair_refs()]
    assert {(ref.fixed, ref.moving) for ref in refs} >= {("l1", "l2"), ("l1", "l10"), ("l10", "l2")}
    for ref in refs:
        pair, fixed, moving = data.load(ref), int(ref.fixed[1:]), int(ref.moving[1:])
        assert pair.fixed.array[0, 0, 0] == 1000 * fixed
        assert pair.moving.array[0, 0, 0] == 1000 * (2 * moving + fixed)
        assert pair.moving_labels is not None and moving in np.unique(pair.moving_labels.array)
        assert data.fingerprint(ref) != plain.fingerprint(ref)


def test_a_pair_that_was_not_registered_is_told(tmp_path: Path) -> None:
    data = Klein2009(str(_written(tmp_path, missing="l2_to_l10")), registered=True)
    with pytest.raises(DatasetError, match="has no image l2_to_l10; leave out registered: true"):
        data.pair_refs()
