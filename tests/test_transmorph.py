"""TransMorph checkpoints of users: the network stated once more without windows, what is read off, what does not fit.

Here attention is among all tokens of a level at once, with a table of who is whose neighbour after the shift.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regbench.errors import MethodDeclined, MethodError
from regbench.methods.transmorph import TransMorphCheckpoint
from regbench.pair import BlindPair
from regbench.volume import Grid, Image

torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402

from regbench.methods.nets import transmorph as nets  # noqa: E402
from regbench.methods.nets.checkpoints import Checkpoint  # noqa: E402

State = dict[str, Any]
TINY = nets.Architecture(
    embedding=4,
    window=(2, 2, 2),
    depths=(1, 2, 2, 1),
    heads=(1, 2, 4, 4),
    mlp_ratio=2.0,
    head_channels=3,
    has_qkv_bias=False,
    has_patch_norm=True,
    position_shape=None,
    skips_tokens=True,
    skips_images=True,
)


def weights_of(architecture: nets.Architecture, seed: int = 0) -> State:
    """Random weights under the names of the network, and its grid as the authors' files have it."""
    random = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in nets.TransMorph(architecture).state_dict().items():
        state[name] = tensor
        if tensor.is_floating_point():
            scale = tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.5
            state[name] = torch.randn(tensor.shape, generator=random) * scale + (tensor if tensor.ndim == 1 else 0)
    shape = architecture.multiples
    return {**state, "spatial_trans.grid": torch.zeros(1, 3, *shape)}


# -- the network once more -----------------------------------------------------------------------------


def neighbours(shape: tuple[int, ...], window: tuple[int, ...], shifted: bool) -> tuple[Any, Any]:
    """Which tokens share a window, and which of those only the shift has brought together; (tokens, tokens) bool."""
    places = np.array(list(itertools.product(*(range(n) for n in shape))))
    size, end = np.array(window), np.array(shape)
    step = size // 2 if shifted else 0 * size
    moved = (places - step) % end
    tile = moved // size
    # In the last window of an axis, what was wrapped around stands behind what was not.
    wrapped = (places < step) if shifted else np.zeros_like(places, bool)
    same_window = (tile[:, None] == tile[None]).all(-1)
    strangers = (wrapped[:, None] != wrapped[None]).any(-1)
    return torch.from_numpy(same_window), torch.from_numpy(same_window & strangers)


Tiling = tuple[tuple[int, ...], tuple[int, ...], bool]


def attention(state: State, name: str, tokens: Any, tiling: Tiling) -> Any:
    """Multi-head attention of tokens (n, channels) with relative positions, over all pairs of tokens."""
    shape, window, shifted = tiling
    table = state[f"{name}.relative_position_bias_table"]
    n, channels = tokens.shape
    heads = table.shape[1]
    qkv = tokens @ state[f"{name}.qkv.weight"].T + state.get(f"{name}.qkv.bias", 0)
    query, key, value = qkv.view(n, 3, heads, channels // heads).unbind(1)
    same, strangers = neighbours(shape, window, shifted)
    places = torch.tensor(list(itertools.product(*(range(k) for k in shape))))
    step = torch.tensor(window) // 2 if shifted else torch.zeros(3, dtype=torch.long)
    inside = ((places - step) % torch.tensor(shape)) % torch.tensor(window)
    offset = inside[:, None] - inside[None] + torch.tensor(window) - 1
    b, c = 2 * window[1] - 1, 2 * window[2] - 1
    row = offset[..., 0] * b * c + offset[..., 1] * c + offset[..., 2]
    found = torch.empty_like(tokens).view(n, heads, -1)
    for head in range(heads):
        score = query[:, head] @ key[:, head].T / (channels // heads) ** 0.5 + table[row, head]
        score = torch.where(strangers, score - 100, score).masked_fill(~same, -torch.inf)
        found[:, head] = score.softmax(-1) @ value[:, head]
    return found.reshape(n, channels) @ state[f"{name}.proj.weight"].T + state[f"{name}.proj.bias"]


def norm(state: State, name: str, x: Any) -> Any:
    centred = x - x.mean(-1, keepdim=True)
    spread = (centred**2).mean(-1, keepdim=True)
    return centred / (spread + 1e-5) ** 0.5 * state[f"{name}.weight"] + state[f"{name}.bias"]


def block(state: State, name: str, tokens: Any, tiling: Tiling) -> Any:
    tokens = tokens + attention(state, f"{name}.attn", norm(state, f"{name}.norm1", tokens), tiling)
    hidden = norm(state, f"{name}.norm2", tokens) @ state[f"{name}.mlp.fc1.weight"].T + state[f"{name}.mlp.fc1.bias"]
    hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    return tokens + hidden @ state[f"{name}.mlp.fc2.weight"].T + state[f"{name}.mlp.fc2.bias"]


def merged(state: State, name: str, tokens: Any, shape: tuple[int, ...]) -> Any:
    x = tokens.view(*shape, -1)
    order = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 1))
    parts = [x[a::2, b::2, c::2] for a, b, c in order]
    together = torch.cat(parts, -1).flatten(0, 2)
    return norm(state, f"{name}.norm", together) @ state[f"{name}.reduction.weight"].T


def up(state: State, name: str, x: Any, skipped: Any) -> Any:
    x = functional.interpolate(x, scale_factor=2, mode="trilinear")
    x = x if skipped is None else torch.cat([x, skipped], 1)
    return normed(state, f"{name}.conv2", normed(state, f"{name}.conv1", x))


def normed(state: State, name: str, x: Any) -> Any:
    x = functional.conv3d(x, state[f"{name}.0.weight"], padding=1)
    centred = x - x.mean((2, 3, 4), keepdim=True)
    x = centred / ((centred**2).mean((2, 3, 4), keepdim=True) + 1e-5) ** 0.5
    return torch.where(x > 0, x, 0.01 * x)


def displacement(state: State, architecture: nets.Architecture, fixed: Any, moving: Any) -> Any:
    images = torch.cat([moving, fixed], 1)
    embed = "transformer.patch_embed"
    x = functional.conv3d(images, state[f"{embed}.proj.weight"], state[f"{embed}.proj.bias"], stride=4)
    shape = tuple(x.shape[2:])
    tokens = norm(state, f"{embed}.norm", x[0].flatten(1).T)
    features = []
    for level, depth in enumerate(architecture.depths):
        name = f"transformer.layers.{level}"
        for i in range(depth):
            tokens = block(state, f"{name}.blocks.{i}", tokens, (shape, architecture.window, bool(i % 2)))
        features.append(norm(state, f"transformer.norm{level}", tokens).T.reshape(1, -1, *shape))
        if level < 3:
            tokens = merged(state, f"{name}.downsample", tokens, shape)
            shape = tuple(n // 2 for n in shape)
    skips = features[2::-1] if architecture.skips_tokens else [None] * 3
    x = features[3]
    for i, skipped in enumerate(skips):
        x = up(state, f"up{i}", x, skipped)
    half = functional.avg_pool3d(images, 3, 2, 1)
    has = architecture.skips_images
    x = up(state, "up3", x, normed(state, "c1", half) if has else None)
    x = up(state, "up4", x, normed(state, "c2", images) if has else None)
    return functional.conv3d(x, state["reg_head.0.weight"], state["reg_head.0.bias"], padding=1)


def images(shape: tuple[int, ...]) -> tuple[Any, Any]:
    random = torch.Generator().manual_seed(1)
    fixed, moving = torch.rand(2, 1, 1, *shape, generator=random)
    return fixed, moving


@pytest.mark.parametrize("shifted", [False, True])
def test_a_block_is_attention_among_the_tokens_of_a_window(shifted: bool) -> None:
    window, shape = (2, 3, 4), (4, 6, 8)
    architecture = nets.Architecture(6, window, (1,) * 4, (3,) * 4, 2.0, 4, True, True, None, True, True)
    made = nets._Block(6, 3, shifted, architecture)
    random = torch.Generator().manual_seed(3)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.7, generator=random)
    state = {f"b.{name}": tensor for name, tensor in made.state_dict().items()}
    tokens = torch.randn(*shape, 6, generator=random)
    with torch.inference_mode():
        wanted = block(state, "b", tokens.flatten(0, 2), (shape, window, shifted))
        assert float((made(tokens).flatten(0, 2) - wanted).abs().max()) < 1e-4
        other = block(state, "b", tokens.flatten(0, 2), (shape, window, not shifted))
    assert float((wanted - other).abs().max()) > 0.1


@pytest.mark.parametrize("skips", [True, False])
def test_a_checkpoint_gives_what_the_arithmetic_says(tmp_path: Path, skips: bool) -> None:
    import dataclasses

    architecture = dataclasses.replace(TINY, skips_tokens=skips, skips_images=skips)
    state = weights_of(architecture)
    torch.save({"epoch": 3, "state_dict": state, "best_dsc": np.float64(0.7)}, tmp_path / "net.pth.tar")
    method = TransMorphCheckpoint(weights=str(tmp_path / "net.pth.tar"))
    method.prepare()
    fixed, moving = images(architecture.multiples)
    with torch.inference_mode():
        found, back = method.fields(method._loaded[0], fixed, moving)
        wanted = displacement(state, architecture, fixed, moving)
    assert back is None
    assert float(wanted.std()) > 0.1
    assert float((found - wanted).abs().max()) < 1e-3 * float(wanted.abs().max())


@pytest.mark.parametrize(
    ("name", "changes", "millions"),
    [
        ("large", {"embedding": 128, "depths": (2, 2, 12, 2), "heads": (4, 4, 8, 16)}, 108.34),
        ("small", {"embedding": 48, "heads": (4, 4, 4, 4)}, 11.76),
        ("tiny", {"embedding": 6, "heads": (2, 2, 4, 4)}, 0.24),
        ("published", {}, 46.77),
        ("learned positions", {"embedding": 6, "heads": (2, 2, 4, 4), "position_shape": (40, 48, 56)}, None),
        ("biases", {"embedding": 6, "heads": (1, 2, 3, 4), "has_qkv_bias": True, "has_patch_norm": False}, None),
    ],
)
def test_published_variants_are_read_off_their_weights(
    name: str, changes: dict[str, Any], millions: float | None
) -> None:
    import dataclasses

    published = nets.Architecture(96, (5, 6, 7), (2, 2, 4, 2), (4, 4, 8, 8), 4.0, 16, False, True, None, True, True)
    wanted = dataclasses.replace(published, **changes)
    with torch.device("meta"):
        network = nets.TransMorph(wanted)
    state = dict(network.state_dict())
    for key in state:
        if key.endswith("relative_position_index"):
            state[key] = nets.relative_positions((5, 6, 7))
    found = nets.architecture_of(Checkpoint(state, {"spatial_trans.grid": (160, 192, 224)}, {}))
    assert found == wanted
    assert found.multiples == (160, 192, 224)
    if millions is not None:
        assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_it_registers_images_of_another_grid(tmp_path: Path) -> None:
    torch.save(weights_of(TINY), tmp_path / "net.pth")
    method = TransMorphCheckpoint(weights=str(tmp_path / "net.pth"), spacing_mm=2.0)
    grid = Grid((20, 24, 22), np.diag([2.0, 2.0, 2.0, 1.0]))
    random = np.random.default_rng(0)
    fixed, moving = (Image(random.random(grid.shape, np.float32), grid) for _ in range(2))
    found = method.register(BlindPair("p", fixed, moving))
    assert found.grid.matches(grid) and np.isfinite(found.vectors_mm).all() and np.abs(found.vectors_mm).max() > 0.1
    assert method.convention.shape == (64, 64, 64) and method.convention.orientation == "LIA"
    with pytest.raises(MethodError, match="must be multiples of 64x64x64"):
        TransMorphCheckpoint(weights=str(tmp_path / "net.pth"), shape=(64, 64, 80)).register(
            BlindPair("p", fixed, moving)
        )


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    def refusal(state: State) -> str:
        torch.save(state, tmp_path / "net.pth")
        with pytest.raises(MethodError) as caught:
            TransMorphCheckpoint(weights=str(tmp_path / "net.pth")).prepare()
        return str(caught.value)

    state = weights_of(TINY)
    assert "'transformer.patch_embed.proj.weight' is missing" in refusal({"conv.weight": torch.zeros(1)})
    lacking = {name: t for name, t in state.items() if name != "up2.conv2.0.weight"}
    assert "key 'up2.conv2.0.weight' is missing" in refusal(lacking)
    wrong = {**state, "reg_head.0.bias": torch.zeros(4)}
    assert "key 'reg_head.0.bias' has the shape (4,) where (3,) is expected" in refusal(wrong)
    other = {name: t for name, t in state.items() if ".layers.3." not in name}
    assert "it has 3 levels" in refusal(other)
    with pytest.raises(MethodDeclined, match="transmorph has no weights of its own"):
        TransMorphCheckpoint().prepare()
