"""LKU-Net, Fourier-Net, LessNet and the VoxelMorph networks of 2018: their real weights, fields and overlap.

Weights and fields are read from $REGBENCH_WEIGHTS, which holds one folder per network and `golden/`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from regbench.alignment import Alignment  # noqa: E402
from regbench.errors import ConfigError, MethodDeclined, MethodError  # noqa: E402
from regbench.files.images import read_image, read_labels  # noqa: E402
from regbench.methods.nets import streams  # noqa: E402
from regbench.methods.released import ReleasedNetwork  # noqa: E402
from regbench.methods.table import CARDS, build, resolve_parameters  # noqa: E402
from regbench.methods.weights_table import WEIGHTS  # noqa: E402
from regbench.metrics.evaluate import evaluate  # noqa: E402
from regbench.pair import BlindPair, Pair  # noqa: E402
from regbench.volume import Grid, Image, Labels  # noqa: E402

# Method, its parameters, its released file, the file of its field, the parameters of its network.
RELEASED: dict[str, tuple[str, dict[str, Any], str, str | None, int]] = {
    "lku-2d-0.05": ("lku-net-2d", {}, "lku_net/lku2d_oasis_smooth0.05.pth", "lku2d_0.05", 779_606),
    "lku-2d-0.1": ("lku-net-2d", {"smoothness": 0.1}, "lku_net/lku2d_oasis_smooth0.1.pth", "lku2d_0.1", 779_606),
    "lku-3d": ("lku-net", {}, "lku_net/lku3d_ixi_c4.pth", "lku3d_ixi", 522_950),
    "fourier": ("fourier-net", {}, "fourier_net/fourier2d_oasis.pth", "fourier2d", 379_158),
    "fourier-diff": ("fourier-net-diff", {}, "fourier_net/fourier2d_oasis_diff.pth", "fourier2d_diff", 379_158),
    "less-8": ("lessnet", {"channels": 8}, "lessnet/lessnet3d_ixi_c8.pth", "lessnet3d_c8", 126_904),
    "less-16": ("lessnet", {}, "lessnet/lessnet3d_ixi_c16.pth", "lessnet3d_c16", 481_648),
    "less-8-diff": ("lessnet-diff", {}, "lessnet/lessnet3d_ixi_c8_diff.pth", "lessnet3d_c8_diff", 126_904),
    "vm1-cc": (
        "voxelmorph-2018",
        {"model": "vm1-cc"},
        "voxelmorph_2018/cvpr2018_vm1_cc.h5",
        "voxelmorph_vm1_cc",
        259_675,
    ),
    "vm1-l2": ("voxelmorph-2018", {"model": "vm1-l2"}, "voxelmorph_2018/cvpr2018_vm1_l2.h5", None, 259_675),
    "vm2-cc": ("voxelmorph-2018", {}, "voxelmorph_2018/cvpr2018_vm2_cc.h5", "voxelmorph_vm2_cc", 300_547),
    "vm2-l2": ("voxelmorph-2018", {"model": "vm2-l2"}, "voxelmorph_2018/cvpr2018_vm2_l2.h5", None, 300_547),
}
GOLDEN = [name for name, row in RELEASED.items() if row[3] is not None]
METHODS = list(dict.fromkeys(row[0] for row in RELEASED.values()))
DICE_2D = {"lku-2d-0.05": 0.7013, "lku-2d-0.1": 0.6839, "fourier": 0.6868, "fourier-diff": 0.6688}
# FreeSurfer's numbers of the 35 labels of neurite-OASIS, in the order of these.
FREESURFER = [
    *(2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 26, 28, 30, 31),
    *(41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60, 62, 63),
]


def _weights_folder() -> Path:
    folder = os.environ.get("REGBENCH_WEIGHTS")
    if not folder:
        pytest.skip("REGBENCH_WEIGHTS does not say where released weights are")
    return Path(folder)


def _data() -> Path:
    folder = os.environ.get("REGBENCH_DATA")
    if not folder:
        pytest.skip("REGBENCH_DATA does not say where real images are")
    return Path(folder)


def _built(name: str, **more: Any) -> ReleasedNetwork:
    method, parameters, file, _, _ = RELEASED[name]
    if file.endswith(".h5"):
        pytest.importorskip("h5py")
    given = {**parameters, **more}
    given.setdefault("weights", str(_weights_folder() / file))
    built = build(method, resolve_parameters(method, given, f"methods.{method}"))
    assert isinstance(built, ReleasedNetwork)
    return built


def _oasis_slice(number: int) -> tuple[Image, Labels]:
    folder = _data() / "neurite_oasis" / f"OASIS_OAS1_{number:04d}_MR1"
    return read_image(folder / "slice_norm.nii.gz"), read_labels(folder / "slice_seg24.nii.gz")


def _oasis_brain(name: str) -> tuple[Image, Labels]:
    """A subject of neurite-OASIS by number, or `test_scan`, which lies in the same space."""
    if name != "test_scan":
        folder = _data() / "neurite_oasis" / f"OASIS_OAS1_{name}_MR1"
        return read_image(folder / "aligned_norm.nii.gz"), read_labels(folder / "aligned_seg35.nii.gz")
    grid = _oasis_brain("0001")[0].grid
    numbers = np.zeros(256, np.uint8)
    numbers[FREESURFER] = np.arange(1, len(FREESURFER) + 1)
    with np.load(_data() / "voxelmorph_pair" / "test_scan.npz") as stored:
        return Image(stored["vol"], grid), Labels(numbers[stored["seg"].astype(np.intp)], grid)


def _pair(fixed: tuple[Image, Labels], moving: tuple[Image, Labels]) -> Pair:
    return Pair("p", fixed[0], moving[0], fixed_labels=fixed[1], moving_labels=moving[1])


def _dice(method: ReleasedNetwork, pair: Pair) -> float:
    """The mean over the labels of either image; one that the other lacks counts 0, as in the figures to reproduce."""
    alignment = Alignment(pair, method.register(pair.blind()))
    per_label = evaluate(alignment, ["dice"])["dice"]["per_label"]
    return float(np.mean(np.nan_to_num(list(per_label.values()))))


@pytest.mark.parametrize("rows_at_a_time", [None, 8])
@pytest.mark.parametrize("name", GOLDEN)
def test_gives_the_field_of_the_released_code(
    name: str, rows_at_a_time: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 1e-3 voxels, with the strictly loaded state dict; also where images are cut into rows."""
    if rows_at_a_time is not None:
        monkeypatch.setattr(streams, "_ONEDNN_FROM", 0)
    method = _built(name)
    with np.load(_weights_folder() / "golden" / f"{RELEASED[name][3]}.npz") as stored:
        expected = stored["displacement_voxels"]
    if method.convention.ndim == 2:
        images = [_oasis_slice(1)[0].array, _oasis_slice(2)[0].array]
    else:
        with np.load(_weights_folder() / "golden" / "pair_3d.npz") as stored:
            images = [stored["fixed"], stored["moving"]]
    method.prepare()
    fixed, moving = (torch.from_numpy(np.array(image))[None, None] for image in images)
    with torch.inference_mode():
        field, inverse = method.fields(method._loaded[0], fixed, moving)
    assert inverse is None
    np.testing.assert_allclose(field[0].numpy(), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", RELEASED)
def test_every_released_file_loads_and_has_its_parameters(name: str) -> None:
    method = _built(name)
    method.prepare()
    assert method.model_size()[0] == RELEASED[name][4]
    released = WEIGHTS[method.released_as]
    assert method.weight_file().stat().st_size == released.n_bytes


@pytest.mark.real
@pytest.mark.parametrize("name", DICE_2D)
def test_overlap_of_real_slices(name: str) -> None:
    assert _dice(_built(name), _pair(_oasis_slice(1), _oasis_slice(2))) == pytest.approx(DICE_2D[name], abs=0.002)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "moving", "fixed", "dice"),
    [
        ("vm2-cc", "0002", "0001", 0.7419),
        ("lku-3d", "test_scan", "0001", 0.6470),
        ("less-16", "0002", "test_scan", 0.5331),
    ],
)
def test_overlap_of_real_brains(name: str, moving: str, fixed: str, dice: float) -> None:
    assert _dice(_built(name), _pair(_oasis_brain(fixed), _oasis_brain(moving))) == pytest.approx(dice, abs=0.002)


@pytest.mark.real
def test_a_slice_on_another_grid_is_registered_as_well() -> None:
    """Turned, reversed and cut slices give the same overlap: the way to the network's grid and back is right."""
    method, pairs = _built("fourier"), []
    for turned in (False, True):
        sides = [_oasis_slice(1), _oasis_slice(2)]
        pairs.append(_pair(*[tuple(_turned(part) for part in side) if turned else side for side in sides]))  # type: ignore[arg-type]
    there, turned_dice = (_dice(method, pair) for pair in pairs)
    assert turned_dice == pytest.approx(there, abs=0.002)


def _turned(part: Image | Labels) -> Image | Labels:
    """The same picture with its axes exchanged and one reversed, and without its empty margin of 8 pixels."""
    n = part.grid.shape[1]
    change = np.array([[0.0, 1, 8], [-1, 0, n - 1 - 8], [0, 0, 1]])
    array = part.array.T[::-1][8:-8, 8:-8]
    return type(part)(array, Grid(array.shape, part.grid.affine @ change))


def test_keras_layers_are_found_by_their_number(tmp_path: Path) -> None:
    """conv3d_9 comes before conv3d_10, and kernels (d, h, w, in, out) become (out, in, d, h, w)."""
    h5py = pytest.importorskip("h5py")
    from regbench.methods.nets.voxelmorph_2018 import VoxelMorph2018, load_keras

    torch.manual_seed(0)
    expected, path = VoxelMorph2018("vm1"), tmp_path / "small.h5"
    names = [*(f"conv3d_{number}" for number in range(5, 15)), "flow"]
    with h5py.File(path, "w") as stored:
        stored.create_group("model_weights/leaky_re_lu_5")
        for name, module in zip(names, expected.convolutions, strict=True):
            group = stored.create_group(f"model_weights/{name}/{name}_3")
            group["kernel:0"] = module.weight.detach().permute(2, 3, 4, 1, 0).numpy()
            group["bias:0"] = module.bias.detach().numpy()
    found = VoxelMorph2018("vm1")
    load_keras(found, path)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, found.state_dict()[name]), name
    with pytest.raises(ValueError, match="11 convolutions, where 12"):
        load_keras(VoxelMorph2018("vm2"), path)


@pytest.mark.parametrize("method", METHODS)
def test_refuses_what_is_not_its_file(method: str, tmp_path: Path) -> None:
    """In one sentence that names the file: rubbish, and a state dict of another network."""
    if method == "voxelmorph-2018":
        pytest.importorskip("h5py")
    rubbish, other = tmp_path / "rubbish.pth", tmp_path / "other.pth"
    rubbish.write_bytes(b"no weights at all")
    torch.save(torch.nn.Linear(2, 3).state_dict(), other)
    for path in (rubbish, other):
        built = build(method, resolve_parameters(method, {"weights": str(path)}, "methods.m"))
        with pytest.raises(MethodError, match=path.name):
            built.prepare()  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", METHODS)
def test_declines_images_of_the_other_dimension(method: str) -> None:
    card = CARDS[method]
    grid = Grid.from_spacing((16,) * (5 - card.dimensions[0]))
    image = Image(np.zeros(grid.shape), grid)
    with pytest.raises(MethodDeclined, match=f"{card.dimensions[0]}-D"):
        build(method, resolve_parameters(method, {}, "methods.m")).register(BlindPair("p", image, image))


def test_says_which_smoothness_there_is() -> None:
    with pytest.raises(ConfigError, match=r"0\.05 and 0\.1"):
        build("lku-net-2d", resolve_parameters("lku-net-2d", {"smoothness": 0.2}, "methods.m"))


@pytest.mark.parametrize("method", METHODS)
def test_cards_name_the_weights_that_the_defaults_load(method: str) -> None:
    built = build(method, resolve_parameters(method, {}, "methods.m"))
    assert isinstance(built, ReleasedNetwork)
    assert CARDS[method].weights == built.released_as
    assert CARDS[method].dimensions == (built.convention.ndim,)
    assert WEIGHTS[built.released_as].licence in CARDS[method].licence
