"""Networks that `regbench train` made, as methods: what a weight file tells, and what is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

from regbench.config import check_config, load_config  # noqa: E402
from regbench.errors import ConfigError, MethodDeclined, MethodError  # noqa: E402
from regbench.methods.nets.trainable import NETWORKS, build_network, check_network  # noqa: E402
from regbench.methods.trained import (  # noqa: E402
    Trained,
    VoxelMorph,
    load_network,
    network_input,
    read_facts,
    trained_on_of,
    weight_file,
)
from regbench.pair import BlindPair  # noqa: E402
from regbench.plan import make_plan  # noqa: E402
from regbench.targets import method_card  # noqa: E402
from regbench.volume import Grid, Image  # noqa: E402

SHAPE, SPACING = (32, 48), 3.0


def _grid(shape: tuple[int, ...] = SHAPE, spacing: float = SPACING) -> Grid:
    affine = np.diag([spacing] * len(shape) + [1.0])
    affine[:-1, -1] = -spacing * (np.array(shape) - 1) / 2
    return Grid(shape, affine)


def _facts(settings: dict[str, Any], grid: Grid, placement: str = "world", **more: Any) -> dict[str, Any]:
    return {
        "network": {"ndim": grid.ndim, **check_network(settings, grid.ndim, "network")},
        "grid": {"shape": list(grid.shape), "affine": grid.affine.tolist(), "placement": placement},
        "supervision": "labels",
        "trained_on": {
            "dataset": "mni-cohort",
            "parameters": {"ndim": grid.ndim},
            "subjects": ["train-000", "train-001"],
        },
        **more,
    }


def _weights(path: Path, settings: dict[str, Any], grid: Grid | None = None, seed: int = 0, **more: Any) -> Path:
    """A weight file of a network whose fields are some voxels large."""
    grid = grid or _grid()
    torch.manual_seed(seed)
    network = build_network(settings, grid.ndim)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith(("velocity.weight", "field.weight")):
                weight.normal_(std=0.5)
    state = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    safetensors_torch.save_file(state, str(path), metadata={"regbench": json.dumps(_facts(settings, grid, **more))})
    return path


def _image(grid: Grid, seed: int = 0) -> Image:
    """A smooth image of bumps, the same in world coordinates on any grid."""
    rng = np.random.default_rng(seed)
    points = grid.world_points()
    bumps = [(rng.uniform(-30, 30, grid.ndim), rng.uniform(6, 12)) for _ in range(12)]
    values = sum(np.exp(-((points - centre) ** 2).sum(-1) / (2 * width**2)) for centre, width in bumps)
    return Image(np.asarray(values, dtype=np.float32), grid)


def _pair(fixed: Grid, moving: Grid | None = None) -> BlindPair:
    return BlindPair("pair", _image(fixed, 0), _image(moving or fixed, 1))


# -- every kind ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(NETWORKS))
def test_every_kind_is_read_back_as_it_was_written(kind: str, tmp_path: Path) -> None:
    settings = {"kind": kind, "affine": kind == "dual-stream", "width": 0.5}
    path = _weights(tmp_path / "model.safetensors", settings)
    loaded = load_network(path)
    torch.manual_seed(0)
    assert set(loaded.network.state_dict()) == set(build_network(settings, 2).state_dict())
    assert not loaded.network.training

    pair = _pair(_grid())
    found = Trained(weights=str(path)).register(pair)
    with torch.inference_mode():
        images = [torch.from_numpy(network_input(image, _grid()))[None, None] for image in (pair.fixed, pair.moving)]
        expected = loaded.network(*images)[0].movedim(0, -1).numpy() * SPACING
    assert np.allclose(found.vectors_mm, expected, atol=1e-5)
    assert 0.5 < found.max_mm < 100


def test_a_field_is_the_same_on_any_grid_of_the_fixed_image(tmp_path: Path) -> None:
    """Finer, turned and mirrored voxels of one image see one displacement in mm."""
    method = Trained(weights=str(_weights(tmp_path / "model.safetensors", {"kind": "unet", "affine": True})))
    whole = method.register(_pair(_grid()))
    # Voxel (i, j) of that grid is voxel (31 - j, i) of the other.
    turned = Grid((SHAPE[1], SHAPE[0]), _grid().affine @ np.array([[0, -1, SHAPE[0] - 1], [1, 0, 0], [0, 0, 1.0]]))
    found = method.register(_pair(turned, _grid()))
    expected = whole.vectors_mm[::-1].transpose(1, 0, 2)
    assert np.allclose(found.vectors_mm, expected, atol=0.02 * whole.max_mm)


def test_weights_of_the_first_layout_are_still_read() -> None:
    for ndim in (2, 3):
        path = weight_file("voxelmorph-cohort", ndim)
        assert path is not None and "kind" not in read_facts(path)["network"]
        assert load_network(path).grid.ndim == ndim


def test_a_network_may_work_wherever_the_fixed_image_is(tmp_path: Path) -> None:
    """With `placement: fixed`, a pair far away and larger than the training grid gets the same answer."""
    near = Trained(weights=str(_weights(tmp_path / "near.safetensors", {"channels": [4, 4]})))
    anywhere = Trained(
        weights=str(_weights(tmp_path / "anywhere.safetensors", {"channels": [4, 4]}, placement="fixed"))
    )
    pair = _pair(_grid())
    moved = [Image(image.array, Grid(SHAPE, _moved(image.grid, 500.0))) for image in (pair.fixed, pair.moving)]
    far = BlindPair("far", *moved)
    assert np.allclose(anywhere.register(far).vectors_mm, near.register(pair).vectors_mm, atol=1e-3)
    assert near.register(far).max_mm != pytest.approx(near.register(pair).max_mm, rel=0.1)
    found = load_network(tmp_path / "anywhere.safetensors").grid_for(_grid((41, 80), 2.0))
    assert found.shape == (28, 54) and np.allclose(found.spacing_mm, SPACING)
    assert np.allclose(found.to_world((np.array(found.shape) - 1) / 2), 0)


def _moved(grid: Grid, by_mm: float) -> np.ndarray:
    affine = grid.affine.copy()
    affine[:-1, -1] += by_mm
    return affine


# -- what a weight file tells --------------------------------------------------------------------------


def test_the_card_is_completed_by_the_weight_file(tmp_path: Path) -> None:
    settings = {"kind": "transformer", "transformation": "displacement", "affine": True}
    path = _weights(tmp_path / "model.safetensors", settings, licence="CC-BY-4.0", supervision="synthetic")
    card = method_card("trained", {"weights": str(path)})
    assert (card.supervision, card.transformation, card.licence) == ("synthetic", "deformable", "CC-BY-4.0")
    assert (card.paradigm, card.dimensions, card.weights) == ("learned", (2,), str(path))
    assert card.trained_on["subjects"] == ["train-000", "train-001"]
    assert "Chen" in card.citation and "transformer" in card.summary and "32x48" in card.grids
    velocity = _weights(tmp_path / "other.safetensors", {"affine": True})
    assert method_card("trained", {"weights": str(velocity)}).transformation == "diffeomorphic"
    assert method_card("trained").supervision == "image"


def test_a_shipped_name_has_the_card_of_the_table_and_own_weights_have_theirs(tmp_path: Path) -> None:
    assert method_card("voxelmorph-cohort", {"weights": "voxelmorph-cohort"}) == method_card("voxelmorph-cohort")
    path = _weights(tmp_path / "model.safetensors", {"channels": [4, 4]})
    assert method_card("voxelmorph-cohort", {"weights": str(path)}).dimensions == (2,)


def test_what_came_before_is_part_of_what_a_network_was_trained_on() -> None:
    shapes = {"dataset": "shapes"}
    first = {"trained_on": {"dataset": "mni-cohort", "subjects": ["a"]}, "start": {"trained_on": shapes}}
    assert trained_on_of({}) == {"dataset": "not stated"}
    assert trained_on_of(first) == {"dataset": "mni-cohort", "subjects": ["a"], "before": [shapes]}
    again = {"trained_on": {"dataset": "mni-cohort", "subjects": ["a"]}, "start": first}
    assert trained_on_of(again) == trained_on_of(first)
    other = {"trained_on": {"dataset": "mni-cohort", "subjects": ["b"]}, "start": first}
    assert trained_on_of(other)["before"] == [{"dataset": "mni-cohort", "subjects": ["a"]}, shapes]


def test_facts_are_read_without_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _weights(tmp_path / "model.safetensors", {"channels": [4, 4]})
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    assert read_facts(path)["network"]["kind"] == "unet"


# -- in a config ---------------------------------------------------------------------------------------


def _config(folder: Path, *methods: Any) -> Path:
    path = folder / "config.yaml"
    dataset = {"mni-cohort": {"ndim": 2, "spacing_mm": 8, "pairs": "random:1"}}
    path.write_text(yaml.safe_dump({"datasets": [dataset], "methods": list(methods)}))
    return path


def test_a_weight_file_in_a_config_is_a_method_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "nets").mkdir()
    path = _weights(tmp_path / "nets" / "model.safetensors", {"kind": "pyramid"})
    entry = {"weights": "nets/model.safetensors"}
    config = load_config(_config(tmp_path, {"my-net": entry}, {"trained": {**entry, "as": "again"}}))
    assert [(e.name, e.label, e.parameters["weights"]) for e in config.methods] == [
        ("trained", "my-net", str(path)),
        ("trained", "again", str(path)),
    ]
    first = make_plan(config).cases[0]
    assert (first.method, first.method_name, first.supervision, first.verdict) == ("my-net", "trained", "labels", None)
    _weights(path, {"kind": "pyramid"}, seed=1)
    assert make_plan(config).cases[0].key != first.key


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"my-net": {"weights": "none.safetensors"}}, "there is no file"),
        ({"my-net": {"weights": "none.pth"}}, "unknown method 'my-net'"),
        ({"trained": {"weights": "voxelmorph-kohort"}}, "'voxelmorph-kohort' is not a .safetensors file"),
        ({"trained": {}}, "parameter 'weights' is missing"),
        ({"my-net": {"weights": "model.safetensors", "devise": "cpu"}}, "did you mean 'device'?"),
        ({"my-net": {"weights": "alien.safetensors"}}, "alien.safetensors was not written by `regbench train`"),
        ({"my-net": {"weights": "newer.safetensors"}}, "network.kind: unknown network 'mamba'"),
    ],
)
def test_what_is_wrong_in_a_config_is_one_sentence(entry: dict[str, Any], words: str, tmp_path: Path) -> None:
    _weights(tmp_path / "model.safetensors", {"channels": [4, 4]})
    safetensors_torch.save_file({"weight": torch.zeros(2)}, str(tmp_path / "alien.safetensors"))
    newer = {**_facts({}, _grid()), "network": {"kind": "mamba", "ndim": 2}}
    metadata = {"regbench": json.dumps(newer)}
    safetensors_torch.save_file({"weight": torch.zeros(2)}, str(tmp_path / "newer.safetensors"), metadata=metadata)
    problems = check_config(_config(tmp_path, entry))[1]
    assert len(problems) == 1 and words in problems[0] and "\n" not in problems[0]


# -- files that do not fit -----------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"not weights", b"\xff" * 64, b"\x02" + bytes(7) + b"{}"])
def test_a_file_that_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.safetensors was not written by `regbench train`"):
        VoxelMorph(weights=str(path))


def test_a_torn_file_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    path = _weights(tmp_path / "model.safetensors", {"channels": [4, 4]})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MethodError, match=r"model\.safetensors do not fit"):
        Trained(weights=str(path)).prepare()


def test_settings_that_do_not_fit_the_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    state = build_network({"channels": [4, 4]}, 2).state_dict()
    metadata = {"regbench": json.dumps(_facts({"channels": [8, 8]}, _grid()))}
    safetensors_torch.save_file(dict(state), str(path), metadata=metadata)
    with pytest.raises(MethodError, match="do not fit the network that they name") as caught:
        Trained(weights=str(path)).prepare()
    assert "\n" not in str(caught.value)


def test_a_grid_that_the_network_cannot_take_is_refused(tmp_path: Path) -> None:
    path = _weights(tmp_path / "model.safetensors", {"kind": "pyramid"}, _grid((20, 24)))
    with pytest.raises(ConfigError, match="20x24 voxels, and its network needs multiples of 8"):
        Trained(weights=str(path)).prepare()


def test_a_network_of_another_dimension_is_a_refusal_of_the_pair(tmp_path: Path) -> None:
    method = Trained(weights=str(_weights(tmp_path / "model.safetensors", {"channels": [4, 4]})))
    with pytest.raises(MethodDeclined, match="not for 3-D images"):
        method.register(_pair(_grid((8, 8, 8))))
    facts = _facts({}, _grid())
    facts["grid"] = {"shape": [8, 8, 8], "affine": np.eye(4).tolist()}
    path = tmp_path / "mixed.safetensors"
    safetensors_torch.save_file({"w": torch.zeros(1)}, str(path), metadata={"regbench": json.dumps(facts)})
    with pytest.raises(ConfigError, match="the network is for 2-D images, these are 3-D"):
        Trained(weights=str(path))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_a_refusal_with_a_reason() -> None:
    with pytest.raises(MethodDeclined, match="no CUDA GPU"):
        VoxelMorph(device="cuda").prepare()


def test_network_input_does_not_depend_on_the_intensity_scale() -> None:
    grid = Grid.from_spacing((20, 20), 2.0)
    array = np.random.default_rng(0).random((20, 20))
    target = Grid.from_spacing((12, 12), 3.0)
    assert np.allclose(
        network_input(Image(array, grid), target), network_input(Image(700 * array, grid), target), atol=1e-5
    )
