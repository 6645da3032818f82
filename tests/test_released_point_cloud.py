"""The point-cloud network for lungs: its matching against plain loops, its spline, and real keypoints.

Weights are read from $REGBENCH_WEIGHTS, keypoints and landmarks from $REGBENCH_DATA.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from regbench.alignment import Alignment  # noqa: E402
from regbench.errors import MethodDeclined  # noqa: E402
from regbench.files.images import read_landmarks  # noqa: E402
from regbench.methods.nets import point_cloud as nets  # noqa: E402
from regbench.methods.point_cloud import PointCloudLung  # noqa: E402
from regbench.metrics.evaluate import evaluate  # noqa: E402
from regbench.pair import BlindPair, Pair  # noqa: E402
from regbench.volume import Grid, Image, Landmarks  # noqa: E402

FILES = {
    "copd-to-l2r": "copd-to-l2r_ours.pth",
    "4dct-to-copd-1": "4dct-to-copd_ours_fold1.pth",
    "4dct-to-copd-2": "4dct-to-copd_ours_fold2.pth",
}


def _points(n: int, seed: int) -> torch.Tensor:
    return torch.rand(n, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _released(model: str) -> PointCloudLung:
    folder = os.environ.get("REGBENCH_WEIGHTS")
    if not folder:
        pytest.skip("REGBENCH_WEIGHTS does not say where released weights are")
    return PointCloudLung(model=model, weights=str(Path(folder) / "point_cloud_lung" / FILES[model]))  # type: ignore[arg-type]


def test_edges_join_neighbours_both_ways() -> None:
    points = _points(30, 0)
    edges, reverse = nets.neighbour_edges(points, 4)
    order = torch.cdist(points, points).argsort(dim=1)[:, 1:5].tolist()
    expected = {(i, j) for i, near in enumerate(order) for j in near}
    assert {(i, j) for i, j in edges.tolist()} == expected | {(j, i) for i, j in expected}
    assert torch.equal(edges[reverse], edges.flip(1))


def test_messages_are_the_least_of_cost_and_disagreement() -> None:
    """Against the definition, written as loops."""
    candidates, edges = _points(3 * 5, 1).view(3, 5, 3), torch.tensor([[0, 1], [2, 0]])
    known = torch.rand(2, 5, generator=torch.Generator().manual_seed(2))
    told = nets._told(known, candidates, edges)
    for edge, (start, stop) in enumerate(edges.tolist()):
        for there in range(5):
            costs = [
                float(known[edge, here])
                + 10 * float((candidates[start, here] - candidates[stop, there]).square().sum())
                for here in range(5)
            ]
            assert float(told[edge, there]) == pytest.approx(min(costs), abs=1e-4)


def test_points_with_the_same_features_are_matched() -> None:
    """A shifted cloud whose features tell the points apart is matched point by point, in any order of the points."""
    fixed, shift = _points(60, 3), torch.tensor([0.05, -0.02, 0.08])
    order = torch.randperm(60, generator=torch.Generator().manual_seed(4))
    features = 20 * torch.eye(60)
    found = nets.matched(fixed, (fixed + shift)[order], features, features[order])
    torch.testing.assert_close(found, shift.expand(60, 3), atol=1e-3, rtol=0)


def test_neighbours_tell_each_other_all_but_what_they_were_told() -> None:
    """Against belief propagation written as loops over points, neighbours and candidates: four rounds of messages."""
    n = 14
    fixed, moving = _points(n, 6).numpy(), _points(n, 7).numpy()
    features, others = 0.3 * _points(n, 8).numpy(), 0.3 * _points(n, 9).numpy()
    order = np.linalg.norm(fixed[:, None] - moving, axis=-1).argsort(axis=1)
    candidates = moving[order] - fixed[:, None]
    cost = ((others[order] - features[:, None]) ** 2).mean(-1)
    near = np.linalg.norm(fixed[:, None] - fixed, axis=-1).argsort(axis=1)[:, 1 : nets.NEIGHBOURS + 1]
    edges = {(i, int(j)) for i in range(n) for j in near[i]} | {(int(j), i) for i in range(n) for j in near[i]}
    assert len(edges) < n * (n - 1), "a cloud where all are neighbours tells little"
    messages = {edge: np.zeros(n) for edge in edges}
    for _ in range(4):
        told = {}
        for i, j in edges:
            known = cost[i] + sum(messages[k, m] for k, m in edges if m == i and k != j)
            apart = ((candidates[i][:, None] - candidates[j]) ** 2).sum(-1)
            told[i, j] = (known[:, None] + 10 * apart).min(axis=0)
        messages = told
    beliefs = np.stack([cost[i] + sum(messages[k, m] for k, m in edges if m == i) for i in range(n)])
    weights = np.exp(-50 * (beliefs - beliefs.min(axis=1, keepdims=True)))
    expected = (candidates * (weights / weights.sum(axis=1, keepdims=True))[..., None]).sum(axis=1)
    found = nets.matched(*(torch.from_numpy(part) for part in (fixed, moving, features, others)))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-3)


def test_the_spline_keeps_linear_displacements_on_every_grid() -> None:
    """Nothing is bent, so nothing is relaxed: exact on all voxels, with the last axis first."""
    points, matrix = _points(80, 5), torch.tensor([[0.1, 0, 0.2], [0, -0.3, 0], [0.05, 0, 0.1]])
    shape = (12, 16, 20)
    field = nets.dense_field(points, points @ matrix + 0.25, shape)
    axes = [torch.linspace(-1, 1, n) for n in shape]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij")).flip(0).movedim(0, -1)
    torch.testing.assert_close(field.movedim(0, -1), places @ matrix + 0.25, atol=1e-4, rtol=0)


def test_declines_images_without_keypoints() -> None:
    grid = Grid.from_spacing((8, 8, 8))
    image, points = Image(np.zeros(grid.shape), grid), Landmarks(np.ones((5, 3)))
    with pytest.raises(MethodDeclined, match="the moving image has no keypoints"):
        PointCloudLung().register(BlindPair("p", image, image, fixed_keypoints=Landmarks(np.ones((50, 3)))))
    with pytest.raises(MethodDeclined, match="has 5 keypoints; at least 41"):
        PointCloudLung().register(BlindPair("p", image, image, fixed_keypoints=points, moving_keypoints=points))


@pytest.mark.parametrize("model", FILES)
def test_released_files_load(model: str) -> None:
    method = _released(model)
    method.prepare()
    assert method.model_size()[0] == 26_880


@pytest.mark.real
@pytest.mark.slow
def test_real_lungs_come_close() -> None:
    """Landmarks of Learn2Reg case 1, 20 mm apart; the keypoints of the two sides in different orders."""
    folder = os.environ.get("REGBENCH_DATA")
    if not folder:
        pytest.skip("REGBENCH_DATA does not say where real keypoints are")
    below = Path(folder) / "learn2reg_layout" / "L2RTest" / "ground-truth"
    grid = Grid((192, 192, 208), np.diag([1.75, 1.25, 1.75, 1.0]))
    landmarks, keypoints = (
        [read_landmarks(below / kind / f"LungCT_0001_{side}.csv", grid) for side in ("0000", "0001")]
        for kind in ("landmarksTr", "keypointsTr")
    )
    mixed = np.random.default_rng(0).permutation(keypoints[1].points_mm)
    image = Image(np.zeros(grid.shape), grid)
    pair = Pair(
        "p",
        image,
        image,
        fixed_landmarks=landmarks[0],
        moving_landmarks=landmarks[1],
        fixed_keypoints=keypoints[0],
        moving_keypoints=Landmarks(mixed),
    )
    alignment = Alignment(pair, _released("copd-to-l2r").register(pair.blind()))
    assert evaluate(alignment, ["tre_mm"])["tre_mm"]["mean"] == pytest.approx(2.07, abs=0.05)
