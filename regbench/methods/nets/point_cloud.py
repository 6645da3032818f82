"""A graph network on two clouds of keypoints of a lung, the matching of its features, and a dense field from them.

Bigalke et al., MICCAI 2022; written from the description of the released weights, whose state dicts it loads. Points
are (n, 3) in units of -1 to 1 along each axis of the fixed image, last axis first. The network describes each point by
the shape of the cloud around it. Matching looks for a displacement of every fixed point among the nearest moving
points, neighbours agreeing, by loopy belief propagation; a thin-plate spline makes the rest of the field.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from regbench.slabs import row_slabs

NEIGHBOURS = 10
# The moving cloud of the training is four times as dense.
MOVING_NEIGHBOURS = 40
CANDIDATES = 256

# The published loop runs five times; what the fifth computes is not used.
_UPDATES = 4
_DISAGREEMENT = 10.0
_SHARPNESS = 50.0
_STEP = 4
_RELAXATION = 0.1
_TINY = 1e-6
_EDGES_AT_ONCE = 64
_VALUES_AT_ONCE = 1 << 22


class FeatureNet(nn.Module):
    """64 features for every point of a cloud."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = EdgeConvolution(3, 32), EdgeConvolution(32, 32), EdgeConvolution(32, 64)
        self.conv4 = nn.Sequential(nn.Conv1d(64, 64, 1, bias=False), nn.InstanceNorm1d(64), nn.Conv1d(64, 64, 1))

    def forward(self, points: Tensor, n_neighbours: int) -> Tensor:
        """Features (n, 64) of points (n, 3), which are looked at with their nearest neighbours, themselves included."""
        near = nearest(points, points, n_neighbours)
        features = self.conv3(self.conv2(self.conv1(points, near), near), near)
        described: Tensor = self.conv4(features.T[None])[0].T
        return described


class EdgeConvolution(nn.Module):
    """Features of each point from those of its neighbours relative to its own."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        widths = [(2 * n_in, n_out), (n_out, n_out), (n_out, n_out)]
        layers = [
            module
            for a, b in widths
            for module in (nn.Conv2d(a, b, 1, bias=False), nn.InstanceNorm2d(b), nn.LeakyReLU(inplace=True))
        ]
        self.conv = nn.Sequential(*layers)

    def forward(self, features: Tensor, near: Tensor) -> Tensor:
        """Features (n, n_out) of points with features (n, n_in) and neighbours (n, k)."""
        own = features[:, None].expand(-1, near.shape[1], -1)
        edges = torch.cat([features[near] - own, own], dim=2)
        convolved: Tensor = self.conv(edges.permute(2, 0, 1)[None])
        return convolved[0].amax(dim=2).T


def matched(fixed: Tensor, moving: Tensor, fixed_features: Tensor, moving_features: Tensor) -> Tensor:
    """The displacement (n, 3) of every fixed point, the mean of its candidates under what is known in the end."""
    near = nearest(fixed, moving, min(CANDIDATES, len(moving)))
    candidates = moving[near] - fixed[:, None]
    cost = torch.stack([_difference(a, moving_features[b]) for a, b in zip(fixed_features, near, strict=True)])
    edges, reverse = neighbour_edges(fixed, min(NEIGHBOURS, len(fixed) - 1))
    messages = cost.new_zeros((len(edges), cost.shape[1]))
    for _ in range(_UPDATES):
        # What a point tells a neighbour is all it knows but from that neighbour.
        known = (cost + _received(messages, edges, len(fixed)))[edges[:, 0]] - messages[reverse]
        messages = _told(known, candidates, edges)
    beliefs = torch.softmax(-_SHARPNESS * (cost + _received(messages, edges, len(fixed))), dim=1)
    return (candidates * beliefs[..., None]).sum(dim=1)


def nearest(points: Tensor, others: Tensor, k: int) -> Tensor:
    """Indices (n, k) of the points of another cloud that are nearest to each point."""
    pieces = [
        torch.cdist(points[rows], others).topk(k, dim=1, largest=False).indices
        for rows in row_slabs((len(points), len(others)), _VALUES_AT_ONCE)
    ]
    return torch.cat(pieces)


def neighbour_edges(points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Edges (m, 2), each in both directions, between points of which one is near the other; and where the other is."""
    near = nearest(points, points, k + 1)
    n = len(points)
    here = torch.arange(n, device=points.device).repeat_interleave(k + 1)
    codes = torch.cat([here * n + near.flatten(), near.flatten() * n + here]).unique()
    start, stop = codes // n, codes % n
    # A point is its own nearest neighbour, and no edge.
    start, stop = start[start != stop], stop[start != stop]
    reverse = torch.searchsorted(start * n + stop, stop * n + start)
    return torch.stack([start, stop], dim=1), reverse


def _difference(features: Tensor, others: Tensor) -> Tensor:
    return (others - features).square().mean(dim=1)


def _received(messages: Tensor, edges: Tensor, n_points: int) -> Tensor:
    """The sum of the messages to each point, (n, candidates)."""
    total = messages.new_zeros((n_points, messages.shape[1]))
    return total.index_add_(0, edges[:, 1], messages)


def _told(known: Tensor, candidates: Tensor, edges: Tensor) -> Tensor:
    """For each candidate of the end of an edge, the least of what the candidates of its start cost and disagree."""
    told = torch.empty_like(known)
    for first in range(0, len(edges), _EDGES_AT_ONCE):
        some = slice(first, first + _EDGES_AT_ONCE)
        start, stop = candidates[edges[some, 0]], candidates[edges[some, 1]]
        # |a - b|^2 = |a|^2 + |b|^2 - 2 a b: the product is all that has candidates of both.
        total = torch.baddbmm(
            (known[some] + _DISAGREEMENT * start.square().sum(dim=2))[:, None],
            stop,
            start.transpose(1, 2),
            alpha=-2 * _DISAGREEMENT,
        )
        told[some] = total.amin(dim=2) + _DISAGREEMENT * stop.square().sum(dim=2)
    return told


def dense_field(points: Tensor, displacements: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """The field (3, *shape), in the units of the points, of a thin-plate spline through displacements (n, 3).

    It is computed at every fourth voxel and interpolated linearly.
    """
    spline = _fitted(points.double(), displacements.double()).float()
    coarse = [max(n // _STEP, 2) for n in shape]
    axes = [torch.linspace(-1, 1, n, device=points.device) for n in coarse]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flip(-1).reshape(-1, 3)
    field = torch.empty_like(places)
    for rows in row_slabs((len(places), len(points)), _VALUES_AT_ONCE):
        bent = _kernel(torch.cdist(places[rows], points)) @ spline[:-4]
        field[rows] = bent + spline[-4] + places[rows] @ spline[-3:]
    values = field.T.reshape(1, 3, *coarse)
    return functional.interpolate(values, size=shape, mode="trilinear", align_corners=True)[0]


def _fitted(points: Tensor, values: Tensor) -> Tensor:
    """Weights of the points, offset and slopes of a spline, (n + 4, 3)."""
    n = len(points)
    affine = torch.cat([points.new_ones((n, 1)), points], dim=1)
    system = points.new_zeros((n + 4, n + 4))
    system[:n, :n] = _kernel(torch.cdist(points, points))
    system[:n, :n].diagonal().add_(_RELAXATION)
    system[:n, n:], system[n:, :n] = affine, affine.T
    return torch.linalg.solve(system, functional.pad(values, (0, 0, 0, 4)))


def _kernel(distance: Tensor) -> Tensor:
    return distance.square() * torch.log(distance + _TINY)
