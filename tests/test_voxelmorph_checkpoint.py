"""VoxelMorph checkpoints of users: all layouts, what is read off them, and what does not fit.

The arithmetic is stated once more here, with functions over a state dict alone, apart from the modules.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regbench.errors import ConfigError, MethodDeclined, MethodError
from regbench.methods.voxelmorph_checkpoint import VoxelMorphCheckpoint
from regbench.pair import BlindPair
from regbench.volume import Grid, Image

torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402

State = dict[str, Any]
_CONV = {2: functional.conv2d, 3: functional.conv3d}
_POOL = {2: functional.max_pool2d, 3: functional.max_pool3d}
_MODE = {2: "bilinear", 3: "trilinear"}


def convolutions(ndim: int, *layers: tuple[str, int, int], kernel: int = 3) -> State:
    """Random weights of convolutions: name, channels in, channels out."""
    random = torch.Generator().manual_seed(len(layers) + ndim)
    state = {}
    for name, n_in, n_out in layers:
        size = 1 if "out_layer" in name else kernel
        scale = 2 * (n_in * size**ndim) ** -0.5
        state[f"{name}.weight"] = torch.randn(n_out, n_in, *[size] * ndim, generator=random) * scale
        state[f"{name}.bias"] = torch.randn(n_out, generator=random) * 0.1
    return state


def strided(ndim: int) -> State:
    names = ["downarm.0", "downarm.1", "uparm.0", "uparm.1", "extras.0", "extras.1"]
    channels = ((2, 4), (4, 6), (6, 6), (10, 5), (7, 4), (4, 3))
    layers = [(f"unet_model.{name}.main", *pair) for name, pair in zip(names, channels, strict=True)]
    return convolutions(ndim, *layers, ("flow", 3, ndim))


def pooled(ndim: int, half: bool = False) -> State:
    names = (
        "encoder.0.0 encoder.0.1 encoder.1.0 encoder.1.1 decoder.0.0 decoder.0.1 decoder.1.0 decoder.1.1 remaining.0"
    )
    last = 5 if half else 9
    channels = ((2, 3), (3, 4), (4, 6), (6, 6), (6, 6), (6, 6), (12, 5), (5, 5), (last, 4))
    layers = [(f"unet_model.{name}.main", *pair) for name, pair in zip(names.split(), channels, strict=True)]
    return convolutions(ndim, *layers, ("flow", 4, ndim))


def pairwise(ndim: int) -> State:
    down, up = "model.downsampling_conv_blocks", "model.upsampling_conv_blocks"
    layers = [(f"{down}.0.conv_block.conv0", 2, 4), (f"{down}.1.conv_block.conv0", 4, 6)]
    layers += [("model.lowest_resolution_conv_block.conv0", 6, 6), (f"{up}.0.conv_block.conv0", 12, 5)]
    layers += [(f"{up}.1.conv_block.conv0", 9, 4), ("model.out_layer.conv0", 4, ndim), ("flow_layer.conv0", ndim, ndim)]
    return convolutions(ndim, *layers)


# -- the arithmetic once more --------------------------------------------------------------------------


def conv(state: State, name: str, x: Any, slope: float | None = 0.2, stride: int = 1) -> Any:
    weight = state[f"{name}.weight"]
    found = _CONV[x.ndim - 2](x, weight, state[f"{name}.bias"], stride=stride, padding=weight.shape[-1] // 2)
    return found if slope is None else torch.where(found > 0, found, slope * found)


def twice(x: Any) -> Any:
    for axis in range(2, x.ndim):
        x = x.repeat_interleave(2, axis)
    return x


def flow_strided(state: State, x: Any) -> Any:
    a = conv(state, "unet_model.downarm.0.main", x, stride=2)
    b = conv(state, "unet_model.downarm.1.main", a, stride=2)
    c = torch.cat([twice(conv(state, "unet_model.uparm.0.main", b)), a], 1)
    d = torch.cat([twice(conv(state, "unet_model.uparm.1.main", c)), x], 1)
    return conv(
        state, "flow", conv(state, "unet_model.extras.1.main", conv(state, "unet_model.extras.0.main", d)), None
    )


def flow_pooled(state: State, x: Any, half: bool = False) -> Any:
    def both(part: str, y: Any) -> Any:
        return conv(state, f"unet_model.{part}.1.main", conv(state, f"unet_model.{part}.0.main", y))

    pool = _POOL[x.ndim - 2]
    a = both("encoder.0", x)
    b = both("encoder.1", pool(a, 2))
    c = torch.cat([twice(both("decoder.0", pool(b, 2))), b], 1)
    d = both("decoder.1", c)
    d = d if half else torch.cat([twice(d), a], 1)
    return conv(state, "flow", conv(state, "unet_model.remaining.0.main", d), None)


def flow_pairwise(state: State, x: Any) -> Any:
    mode = _MODE[x.ndim - 2]

    def larger(y: Any) -> Any:
        return functional.interpolate(y, scale_factor=2, mode=mode, align_corners=True)

    def block(name: str, y: Any) -> Any:
        return conv(state, f"model.{name}.conv0", y, 0.0)

    pool = _POOL[x.ndim - 2]
    a = block("downsampling_conv_blocks.0.conv_block", x)
    b = block("downsampling_conv_blocks.1.conv_block", pool(a, 2))
    c = block("lowest_resolution_conv_block", pool(b, 2))
    c = block("upsampling_conv_blocks.0.conv_block", torch.cat([larger(c), b], 1))
    c = block("upsampling_conv_blocks.1.conv_block", torch.cat([larger(c), a], 1))
    return conv(state, "flow_layer.conv0", conv(state, "model.out_layer.conv0", c, None), None)


def at(field: Any, places: np.ndarray) -> np.ndarray:
    """Linear interpolation of (ndim, *shape) at voxels (*shape, ndim), 0 outside, corner by corner."""
    array = field.numpy()
    shape = np.array(array.shape[1:])
    base = np.floor(places).astype(int)
    found = np.zeros((len(array), *places.shape[:-1]))
    for corner in np.ndindex(*[2] * len(shape)):
        index = base + corner
        weight = np.prod(1 - np.abs(places - index), axis=-1)
        inside = ((index >= 0) & (index < shape)).all(-1)
        clipped = np.moveaxis(np.clip(index, 0, shape - 1), -1, 0)
        found += np.where(inside, weight, 0) * array[(slice(None), *clipped)]
    return found


def integral(velocity: Any, squarings: int) -> Any:
    """Scaling and squaring of (1, ndim, *shape) with nothing but indices."""
    u = velocity[0].double() / 2**squarings
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in u.shape[1:]), indexing="ij"), -1)
    for _ in range(squarings):
        u = u + torch.from_numpy(at(u, grid + np.moveaxis(u.numpy(), 0, -1)))
    return u[None].float()


def resized(field: Any, factor: float) -> Any:
    return functional.interpolate(field, scale_factor=factor, mode=_MODE[field.ndim - 2], align_corners=True)


def displacement(flow: Any, squarings: int, downsize: int, half: bool = False) -> Any:
    if not squarings:
        return flow
    if downsize > 1 and not half:
        flow = resized(flow, 1 / downsize) / downsize
    flow = integral(flow, squarings)
    return resized(flow * downsize, downsize) if downsize > 1 else flow


def images(ndim: int) -> tuple[Any, Any]:
    random = torch.Generator().manual_seed(7)
    shape = (8, 12, 16)[:ndim]
    fixed, moving = torch.rand(2, 1, 1, *shape, generator=random)
    return fixed, moving


def saved(path: Path, state: State, **config: Any) -> str:
    torch.save({"config": config, "model_state": state} if config else state, path)
    return str(path)


def answer(method: VoxelMorphCheckpoint, fixed: Any, moving: Any) -> Any:
    method.prepare()
    with torch.inference_mode():
        return method.fields(method._loaded[0], fixed, moving)[0]


CASES: dict[str, tuple[Callable[[int], State], Callable[[State, Any], Any], int, int, bool]] = {
    "0.1": (strided, flow_strided, 7, 2, False),
    "0.2": (pooled, flow_pooled, 7, 2, False),
    "0.2 half": (lambda n: pooled(n, True), lambda s, x: flow_pooled(s, x, True), 7, 2, True),
    "0.3": (pairwise, flow_pairwise, 5, 1, False),
}


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("name", CASES)
def test_each_layout_gives_what_the_arithmetic_says(tmp_path: Path, name: str, ndim: int) -> None:
    make, flow, squarings, downsize, half = CASES[name]
    state = make(ndim)
    fixed, moving = images(ndim)
    raw = flow(state, torch.cat([moving, fixed], 1))
    wanted = displacement(raw, squarings, downsize, half)
    found = answer(VoxelMorphCheckpoint(weights=saved(tmp_path / "net.pt", state)), fixed, moving)
    assert float(wanted.abs().max()) > 0.05
    assert float((found - wanted).abs().max()) < 1e-4
    # The images are not taken for each other.
    swapped = answer(VoxelMorphCheckpoint(weights=str(tmp_path / "net.pt")), moving, fixed)
    assert float((swapped - wanted).abs().max()) > 0.01


def test_the_config_in_a_file_says_what_becomes_of_the_flow(tmp_path: Path) -> None:
    fixed, moving = images(3)
    state = pooled(3)
    raw = flow_pooled(state, torch.cat([moving, fixed], 1))
    path = saved(tmp_path / "net.pt", state, inshape=[8, 12, 16], int_steps=4, int_downsize=1)
    found = answer(VoxelMorphCheckpoint(weights=path), fixed, moving)
    assert float((found - displacement(raw, 4, 1)).abs().max()) < 1e-4
    found = answer(VoxelMorphCheckpoint(weights=path, transformation="displacement"), fixed, moving)
    assert float((found - raw).abs().max()) < 1e-5
    found = answer(VoxelMorphCheckpoint(weights=path, squarings=3, downsize=2), fixed, moving)
    assert float((found - displacement(raw, 3, 2)).abs().max()) < 1e-4


def test_grids_among_the_weights_tell_how_the_flow_is_integrated(tmp_path: Path) -> None:
    from regbench.methods.nets.checkpoints import read_checkpoint
    from regbench.methods.nets.voxelmorph_unet import flow_of, trained_shape

    full, coarse = torch.zeros(1, 3, 16, 24, 32), torch.zeros(1, 3, 4, 6, 8)
    state = pooled(3) | {"transformer.grid": full}
    checkpoint = read_checkpoint(Path(saved(tmp_path / "a.pt", {f"module.{name}": t for name, t in state.items()})))
    assert flow_of(checkpoint, None, None).squarings == 0
    assert trained_shape(checkpoint) == (16, 24, 32)
    checkpoint = read_checkpoint(Path(saved(tmp_path / "b.pt", state | {"integrate.transformer.grid": coarse})))
    assert (flow_of(checkpoint, None, None).squarings, flow_of(checkpoint, None, None).downsize) == (7, 4)
    VoxelMorphCheckpoint(weights=str(tmp_path / "b.pt")).prepare()


def test_it_registers_images_on_any_grid_and_gives_both_directions_where_asked(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pt", pairwise(3))
    random = np.random.default_rng(0)
    grids = [Grid((9, 14, 11), np.diag([-2.0, 2, 2, 1])), Grid((10, 10, 12), np.diag([2.0, 2, 2, 1]))]
    fixed, moving = (Image(random.random(grid.shape, np.float32), grid) for grid in grids)
    pair = BlindPair("p", fixed, moving)
    method = VoxelMorphCheckpoint(weights=path, spacing_mm=2.0, orientation="LIA", inverse=True)
    found = method.register(pair)
    assert found.grid.matches(grids[0]) and np.isfinite(found.vectors_mm).all()
    assert found.inverse is not None and found.inverse.grid.matches(grids[1])
    assert method.convention.multiple == 4 and method.model_size()[0] == sum(t.numel() for t in pairwise(3).values())
    fixed_shape = VoxelMorphCheckpoint(weights=path, shape=(16, 16, 20), spacing_mm=2.0)
    assert fixed_shape.register(pair).inverse is None
    assert (fixed_shape.convention.shape, fixed_shape.convention.multiple) == ((16, 16, 20), None)
    with pytest.raises(MethodError, match="multiples of 4"):
        VoxelMorphCheckpoint(weights=path, shape=(16, 15, 20)).register(pair)
    with pytest.raises(MethodError, match="orientation LA does not go with"):
        VoxelMorphCheckpoint(weights=path, orientation="LA").register(pair)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    def refusal(state: State, **parameters: Any) -> str:
        with pytest.raises(MethodError) as caught:
            VoxelMorphCheckpoint(weights=saved(tmp_path / "net.pt", state), **parameters).prepare()
        return str(caught.value)

    state = pooled(3)
    missing = {name: t for name, t in state.items() if name != "unet_model.decoder.0.1.main.bias"}
    assert "key 'unet_model.decoder.0.1.main.bias' is missing" in refusal(missing)
    wrong = state | {"unet_model.decoder.1.0.main.weight": torch.zeros(5, 13, 3, 3, 3)}
    told = refusal(wrong)
    assert "key 'unet_model.decoder.1.0.main.weight' has the shape (5, 13, 3, 3, 3) where (5, 12, 3, 3, 3)" in told
    assert "key 'extra.weight' belongs to nothing" in refusal(state | {"extra.weight": torch.zeros(1)})
    assert "of none of the layouts of VoxelMorph" in refusal({"encoder.weight": torch.zeros(1)})
    assert "it takes 4 channels" in refusal({**state, "unet_model.encoder.0.0.main.weight": torch.zeros(3, 4, 3, 3, 3)})
    assert "goes with squarings" in refusal(pooled(3, half=True), transformation="displacement")
    assert "made without integration" in refusal(state, transformation="velocity", squarings=0)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path(tmp_path / "harm").touch, ())

    torch.save({"model_state": pooled(2), "extra": Harm()}, tmp_path / "net.pt")
    with pytest.raises(MethodError, match="no checkpoint that can be read safely"):
        VoxelMorphCheckpoint(weights=str(tmp_path / "net.pt")).prepare()
    assert not (tmp_path / "harm").exists()
    # Numbers of numpy are what scores beside the weights often are.
    torch.save({"state_dict": pooled(2), "best": np.float64(0.7), "epoch": np.int64(3)}, tmp_path / "net.pt")
    VoxelMorphCheckpoint(weights=str(tmp_path / "net.pt")).prepare()


def test_without_weights_and_with_wrong_parameters_it_says_what_to_do() -> None:
    with pytest.raises(MethodDeclined, match=r"give a checkpoint of yours, \{voxelmorph: \{weights:"):
        VoxelMorphCheckpoint().prepare()
    wrong: tuple[dict[str, Any], ...] = (
        {"orientation": "LIR"},
        {"orientation": "X"},
        {"shape": (16,)},
        {"spacing_mm": 0.0},
        {"squarings": 20},
        {"downsize": 0},
        {"transformation": "displacement", "squarings": 3},
        {"weights": "model.safetensors"},
    )
    for parameters in wrong:
        with pytest.raises(ConfigError):
            VoxelMorphCheckpoint(**parameters)
