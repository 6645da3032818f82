"""SYMNet and LapIRN with their released weights, against the fields and the scores of the released code.

The weights are below $REGBENCH_WEIGHTS, with `golden/` beside them; tests are skipped where it is not set.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.files.images import read_image, read_labels
from regbench.methods.lapirn import ConditionalLapirn, LapirnDiff, LapirnDisp
from regbench.methods.nets.lapirn import Lapirn
from regbench.methods.nets.symnet import SymNet
from regbench.methods.released import ReleasedNetwork
from regbench.methods.symnet import SymnetOasis
from regbench.methods.table import CARDS, build
from regbench.metrics.evaluate import evaluate
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels

FILES = {
    "symnet-oasis": "symnet/SYMNet_neurite_oasis_smo30_update_80000.pth",
    "lapirn-disp-oasis": "lapirn/LapIRN_disp_fea7.pth",
    "lapirn-diff-oasis": "lapirn/LapIRN_diff_fea7.pth",
    "clapirn-oasis": "clapirn/LDR_OASIS_NCC_unit_disp_add_fea4_reg01_10_lite_stagelvl3_60000.pth",
}
GOLDEN = {
    "symnet-oasis": "symnet",
    "lapirn-disp-oasis": "lapirn_disp",
    "lapirn-diff-oasis": "lapirn_diff",
    "clapirn-oasis": "clapirn_reg0.1",
}
PARAMETERS = {
    "symnet-oasis": 862_351,
    "lapirn-disp-oasis": 923_748,
    "lapirn-diff-oasis": 923_748,
    "clapirn-oasis": 503_744,
}
# FreeSurfer numbers in the order of the 35 labels of neurite-OASIS.
FREESURFER = (2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 26, 28, 30)
FREESURFER += (31, 41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60, 62, 63)


@cache
def _folder() -> Path:
    if "REGBENCH_WEIGHTS" not in os.environ:
        pytest.skip("$REGBENCH_WEIGHTS is not set: released weights are not part of regbench")
    return Path(os.environ["REGBENCH_WEIGHTS"])


@cache
def _data() -> Path:
    if "REGBENCH_DATA" not in os.environ:
        pytest.skip("$REGBENCH_DATA is not set")
    return Path(os.environ["REGBENCH_DATA"])


def _method(name: str, **parameters: Any) -> ReleasedNetwork:
    method = build(name, {"weights": str(_folder() / FILES[name]), **parameters})
    assert isinstance(method, ReleasedNetwork)
    return method


def _golden_pair() -> tuple[torch.Tensor, torch.Tensor]:
    stored = np.load(_folder() / "golden" / "pair_3d.npz")
    fixed, moving = (torch.from_numpy(stored[side])[None, None] for side in ("fixed", "moving"))
    return fixed, moving


def _golden_field(name: str) -> np.ndarray:
    field: np.ndarray = np.load(_folder() / "golden" / f"{GOLDEN[name]}.npz")["displacement_voxels"]
    return field


@pytest.mark.parametrize("name", FILES)
def test_the_field_is_that_of_the_released_code(name: str) -> None:
    method = _method(name)
    method.prepare()
    assert method.model_size()[0] == PARAMETERS[name]
    with torch.inference_mode():
        forward, back = method.fields(method._loaded[0], *_golden_pair())
    np.testing.assert_allclose(forward[0].numpy(), _golden_field(name), atol=1e-4)
    assert (back is not None) == (name == "symnet-oasis")


@pytest.mark.parametrize("name", FILES)
def test_half_precision_stays_near(name: str) -> None:
    method = _method(name)
    method.prepare()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        forward, _ = method.fields(method._loaded[0], *_golden_pair())
    assert forward.dtype == torch.float32
    off = np.abs(forward[0].numpy() - _golden_field(name))
    assert off.mean() < 0.02 and off.max() < 0.3


def test_the_way_through_regbench_changes_nothing() -> None:
    """The golden field again, from images that are stored in another order and come back on their own grid."""
    fixed, moving = _golden_pair()
    shape = tuple(fixed.shape[2:])
    lia = np.array([[-1.0, 0, 0, 3], [0, 0, 1, -5], [0, -1, 0, 8], [0, 0, 0, 1]])
    stored = [np.flip(image[0, 0].numpy().transpose(2, 0, 1), 1).copy() for image in (fixed, moving)]
    order = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    flip = np.diag([1.0, -1.0, 1.0, 1.0])
    flip[1, 3] = shape[0] - 1
    grid = Grid(stored[0].shape, lia @ order @ flip)
    images = [Image(array, grid) for array in stored]
    displacement = _method("symnet-oasis").register(Pair("golden", *images).blind())
    truth = Displacement(np.moveaxis(_golden_field("symnet-oasis"), 0, -1) @ lia[:3, :3].T, Grid(shape, lia))
    expected = np.flip(truth.vectors_mm.transpose(2, 0, 1, 3), 1)
    np.testing.assert_allclose(displacement.vectors_mm, expected, atol=1e-4)


def test_symnet_gives_both_directions() -> None:
    """There and back ends nearly where it began."""
    network = SymNet()
    network.load_state_dict(torch.load(_folder() / FILES["symnet-oasis"], map_location="cpu", weights_only=True))
    fixed, moving = _golden_pair()
    with torch.inference_mode():
        there, back = (field[0].movedim(0, -1).numpy() for field in network(fixed, moving))
    grid = Grid.from_spacing(there.shape[:3])
    image = Image(moving[0, 0].numpy(), grid)
    pair = Pair("golden", Image(fixed[0, 0].numpy(), grid), image)
    alignment = Alignment(pair, Displacement(there, grid, Displacement(back, grid)))
    error = evaluate(alignment, ["ice_mm"])["ice_mm"]["mean"]
    assert error < 0.15 * np.linalg.norm(there, axis=-1).mean()


def test_more_regularisation_gives_smoother_fields() -> None:
    fixed, moving = _golden_pair()
    rough = []
    for weight in (0.0, 0.1, 1.0):
        method = _method("clapirn-oasis", regularisation=weight)
        method.prepare()
        with torch.inference_mode():
            forward, _ = method.fields(method._loaded[0], fixed, moving)
        rough.append(float(forward.diff(dim=2).square().mean()))
    assert rough[0] > rough[1] > rough[2]


def test_the_regularisation_has_a_range() -> None:
    with pytest.raises(Exception, match=r"regularisation 1.5: the network knows 0 \(least\) to 1"):
        ConditionalLapirn(regularisation=1.5)


def test_untrained_networks_have_the_released_layout() -> None:
    """Without any weights: the names and sizes that the released state dicts have."""
    assert sum(p.numel() for p in SymNet().parameters()) == PARAMETERS["symnet-oasis"]
    keys = list(Lapirn().state_dict())
    assert len(keys) == 48 and "model_lvl2.model_lvl1.resblock_group_lvl1.8.conv2.weight" in keys
    conditional = Lapirn(8, 16, 8, is_conditional=True)
    assert len(conditional.state_dict()) == 228
    assert sum(p.numel() for p in conditional.parameters()) == PARAMETERS["clapirn-oasis"]


@pytest.mark.parametrize(
    ("network", "extra"),
    [(SymNet(), ()), (Lapirn(), ()), (Lapirn(8, 16, 8, is_conditional=True), (torch.tensor([[0.3]]),))],
    ids=["symnet", "lapirn", "clapirn"],
)
def test_networks_leave_their_input_alone(network: torch.nn.Module, extra: tuple[torch.Tensor, ...]) -> None:
    torch.manual_seed(0)
    fixed, moving = torch.rand(1, 1, 16, 32, 16), torch.rand(1, 1, 16, 32, 16)
    before = fixed.clone(), moving.clone()
    with torch.inference_mode():
        first = network(fixed, moving, *extra)
        again = network(fixed, moving, *extra)
    assert torch.equal(fixed, before[0]) and torch.equal(moving, before[1])
    first, again = (one if isinstance(one, torch.Tensor) else one[0] for one in (first, again))
    assert first.shape == (1, 3, 16, 32, 16) and torch.equal(first, again)


def test_conventions() -> None:
    assert SymnetOasis().convention.multiple == 16
    for cls in (LapirnDisp, LapirnDiff):
        assert cls().convention.shape == (160, 192, 144) and cls().convention.multiple is None
    assert LapirnDisp(orientation="LAS").convention.orientation == "LAS"
    assert ConditionalLapirn().convention.shape == (160, 192, 224)


@pytest.mark.parametrize("name", FILES)
def test_cards_say_what_networks_were_trained_on(name: str) -> None:
    trained_on = CARDS[name].trained_on
    first, last = trained_on["subjects"].split(" ... ")
    assert trained_on["dataset"] == "neurite-oasis" and first == "OASIS_OAS1_0001_MR1"
    assert last == ("OASIS_OAS1_0283_MR1" if name == "symnet-oasis" else "OASIS_OAS1_0457_MR1")


def _subject(name: str) -> tuple[Image, Labels]:
    """A real brain with the 35 labels of neurite-OASIS, all in one affine space."""
    folder = _data() / "neurite_oasis" / f"OASIS_OAS1_{name}_MR1"
    if name != "test_scan":
        return read_image(folder / "aligned_norm.nii.gz"), read_labels(folder / "aligned_seg35.nii.gz")
    grid = _subject("0001")[0].grid
    stored = np.load(_data() / "voxelmorph_pair" / "test_scan.npz")
    number = np.zeros(int(stored["seg"].max()) + 1, np.uint8)
    number[list(FREESURFER)] = np.arange(1, 36)
    return Image(stored["vol"], grid), Labels(number[stored["seg"].astype(int)], grid)


def _middle(volume: Any, shape: tuple[int, ...]) -> Any:
    start = [(n - m) // 2 for n, m in zip(volume.grid.shape, shape, strict=True)]
    affine = np.array(volume.grid.affine)
    affine[:3, 3] = volume.grid.to_world(np.array(start, dtype=float))
    array = volume.array[tuple(slice(s, s + m) for s, m in zip(start, shape, strict=True))]
    return type(volume)(array, Grid(shape, affine))


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "subjects", "shape", "dice", "folds"),
    [
        ("symnet-oasis", ("0002", "0001"), (160, 192, 224), 0.7672, 0.00),
        ("lapirn-disp-oasis", ("test_scan", "0001"), (160, 192, 144), 0.7537, 0.14),
        ("clapirn-oasis", ("0002", "test_scan"), (160, 192, 224), 0.7424, 0.21),
    ],
)
def test_scores_on_real_brains_are_those_of_the_released_code(
    name: str, subjects: tuple[str, str], shape: tuple[int, ...], dice: float, folds: float
) -> None:
    (moving_image, moving_labels), (fixed_image, fixed_labels) = (
        [_middle(volume, shape) for volume in _subject(subject)] for subject in subjects
    )
    pair = Pair(name, fixed_image, moving_image, fixed_labels=fixed_labels, moving_labels=moving_labels)
    displacement = _method(name).register(pair.blind())
    scores = evaluate(Alignment(pair, displacement), ["dice", "fold_percent"])
    assert scores["dice"]["mean"] == pytest.approx(dice, abs=0.002)
    assert scores["fold_percent"]["mean"] == pytest.approx(folds, abs=0.02)
