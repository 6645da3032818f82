"""Made-up training pairs: the truth is the truth, contrasts share nothing, and a seed says it all."""

import dataclasses
import json

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from regbench.datasets.mni_cohort import MniCohort  # noqa: E402
from regbench.errors import ConfigError  # noqa: E402
from regbench.methods.nets.spatial import compose, warp  # noqa: E402
from regbench.methods.table import CARDS  # noqa: E402
from regbench.methods.trained import load_network, network_input, read_facts, weight_file  # noqa: E402
from regbench.training.loop import train_from_config  # noqa: E402
from regbench.training.shape_images import Canvas, draw_head, draw_shapes, highest, scaled  # noqa: E402
from regbench.training.shapes import ShapeSource, _displacements  # noqa: E402
from regbench.training.sources import build_source  # noqa: E402
from regbench.warp import resample  # noqa: E402

SMALL = {2: ShapeSource(ndim=2, shape=(48, 56), spacing_mm=3.5), 3: ShapeSource(shape=(24, 32, 24), spacing_mm=6)}


def _canvas(shape=(48, 56), spacing_mm=3.5, seed=0):
    return Canvas(shape, spacing_mm, torch.Generator().manual_seed(seed))


def _dice(fixed, moving, values):
    shares = []
    for value in values:
        a, b = fixed == value, moving == value
        if a.any() or b.any():
            shares.append(2 * int((a & b).sum()) / int(a.sum() + b.sum()))
    return np.mean(shares)


def _inside(tensor, margin):
    return tensor[(..., *[slice(margin, -margin)] * (tensor.dim() - 2))]


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_batch_is_what_the_loop_expects(ndim):
    source = SMALL[ndim]
    batch = source.draw(np.random.default_rng(0), 3)
    shape = (3, 1, *source.grid.shape)
    for image in (batch.fixed, batch.moving):
        assert image.shape == shape
        assert image.dtype == torch.float32
        assert image.min() >= 0
        assert 1.0 <= image.max() <= 1.5
    for labels in (batch.fixed_labels, batch.moving_labels):
        assert labels.shape == shape
        assert set(labels.unique().tolist()) <= {0, *source.label_values.tolist()}
    assert batch.displacement.shape == (3, ndim, *source.grid.shape)
    assert all(torch.isfinite(getattr(batch, f.name)).all() for f in dataclasses.fields(batch) if f.name != "labelled")


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=6, deadline=None)
def test_a_pair_depends_on_the_generator_alone(seed):
    source = SMALL[2]
    first = source.draw(np.random.default_rng(seed), 2)
    source.draw(np.random.default_rng(7), 1)
    torch.manual_seed(1)
    second = source.draw(np.random.default_rng(seed), 2)
    assert torch.equal(first.fixed, second.fixed)
    assert torch.equal(first.displacement, second.displacement)
    assert torch.equal(first.moving[:1], source.draw(np.random.default_rng(seed), 1).moving)
    assert not torch.equal(first.fixed[0], first.fixed[1])


@pytest.mark.parametrize(("ndim", "least"), [(2, 0.80), (3, 0.65)])
def test_the_truth_brings_the_labels_together(ndim, least):
    source = SMALL[ndim]
    batch = source.draw(np.random.default_rng(1), 6)
    moved = warp(batch.moving_labels.float(), batch.displacement, mode="nearest").long()
    before = _dice(batch.fixed_labels, batch.moving_labels, source.label_values)
    after = _dice(batch.fixed_labels, moved, source.label_values)
    assert after > least
    assert after > before + 0.1


@pytest.mark.parametrize(("shape", "spacing_mm"), [((96, 112), 2.0), ((48, 64, 48), 3.0)])
def test_the_fixed_side_is_the_moving_side_after_the_truth(shape, spacing_mm):
    source = ShapeSource(ndim=len(shape), shape=shape, spacing_mm=spacing_mm)
    fixed, moving, truth = (d[None] for d in _displacements(_canvas(shape, spacing_mm, 3), source))
    error_voxels = _inside(compose(truth, moving) - fixed, 12).norm(dim=1)
    assert error_voxels.mean() < 0.05
    assert error_voxels.max() < 0.3
    assert _inside(truth, 12).norm(dim=1).mean() * spacing_mm > 2


def test_differences_have_the_sizes_that_are_asked_for():
    source = SMALL[3]
    lengths = [_displacements(_canvas((24, 32, 24), 6.0, s), source)[2].norm(dim=0).mean() * 6 for s in range(20)]
    assert 4 < np.mean(lengths) < 10
    assert min(lengths) > 1
    assert max(lengths) < 20


def test_without_warps_both_sides_see_the_same_anatomy():
    still = dataclasses.replace(SMALL[2], deformation=0.0, rotation_degrees=0.0, scale=0.0, shift_mm=0.0)
    batch = still.draw(np.random.default_rng(0), 2)
    assert batch.displacement.abs().max() < 1e-4
    assert torch.equal(batch.fixed_labels, batch.moving_labels)
    assert not torch.allclose(batch.fixed, batch.moving, atol=0.05)


def test_affine_differences_are_affine_and_within_bounds():
    source = dataclasses.replace(SMALL[2], deformation=0.0)
    for seed in range(8):
        truth = _inside(_displacements(_canvas(seed=seed), source)[2][None], 2)[0]
        matrix = torch.stack([torch.diff(truth, dim=1)[:, 5, 5], torch.diff(truth, dim=2)[:, 5, 5]], dim=1)
        assert torch.diff(truth, n=2, dim=1).abs().max() < 1e-3
        assert torch.diff(truth, n=2, dim=2).abs().max() < 1e-3
        turned, _, right = torch.linalg.svd(torch.eye(2) + matrix)
        rotation = turned @ right
        assert abs(float(torch.rad2deg(torch.atan2(rotation[1, 0], rotation[0, 0])))) <= 10.5
        assert torch.linalg.svdvals(torch.eye(2) + matrix).sub(1).abs().max() <= 0.11


def test_the_two_contrasts_share_nothing_unless_they_are_alike():
    def agreement(alike):
        source = dataclasses.replace(
            SMALL[2], alike=alike, deformation=0.0, rotation_degrees=0.0, scale=0.0, shift_mm=0.0
        )
        found = []
        batch = source.draw(np.random.default_rng(5), 40)
        for fixed, moving, labels in zip(batch.fixed, batch.moving, batch.fixed_labels, strict=True):
            inside = labels > 0
            found.append(np.corrcoef(fixed[inside].numpy(), moving[inside].numpy())[0, 1])
        return np.mean(found)

    assert agreement(1.0) > 0.6
    assert abs(agreement(0.0)) < 0.3


@pytest.mark.parametrize("draw", [draw_head, draw_shapes])
@pytest.mark.parametrize("shape", [(48, 56), (24, 32, 24)])
@pytest.mark.parametrize("most", [8, 24])
def test_memberships_add_up_and_labels_are_few_enough(draw, shape, most):
    for seed in range(4):
        anatomy = draw(_canvas(shape, 160 / shape[0], seed), most)
        assert anatomy.classes.min() >= 0
        assert torch.allclose(anatomy.classes.sum(0), torch.ones(shape), atol=1e-4)
        assert len(anatomy.tissues) == len(anatomy.classes)
        assert anatomy.labels.min() >= 0
        assert anatomy.labels.max() <= most
        assert len(anatomy.labels.unique()) >= 4


def test_a_head_is_nested_and_stands_in_a_zero_background():
    anatomy = draw_head(_canvas((96, 112), 2.0, 2), 24)
    tissue = torch.tensor(anatomy.tissues)[anatomy.classes.argmax(0)]
    places = _canvas((96, 112), 2.0).places_mm().norm(dim=0)
    inwards = [float(places[tissue == t].mean()) for t in (0, 2, 3)]
    assert inwards[0] > inwards[1] > inwards[2]
    border = torch.cat([tissue[0], tissue[-1], tissue[:, 0], tissue[:, -1]])
    assert (border == 0).float().mean() > 0.7


@pytest.mark.parametrize("length_mm", [4.0, 10.0])
def test_noise_has_unit_size_and_its_length(length_mm):
    field = _canvas((160, 160), 1.0).noise(24, length_mm)
    assert float(field.square().mean()) == pytest.approx(1.0, abs=0.25)
    slope = torch.diff(field, dim=1).square().mean() / field.square().mean()
    # White noise under a Gaussian of sigma s has the slope 1 / (2 s^2).
    assert float(slope) == pytest.approx(1 / (2 * length_mm**2), rel=0.35)


def test_highest_is_argmax():
    scores = torch.rand(7, 9, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(highest(scores), scores.argmax(0))


def test_scaled_images_have_their_percentile_at_one_whatever_their_unit():
    image = torch.rand(64, 64, generator=torch.Generator().manual_seed(0)) + 0.1
    image[:10] = 0
    assert np.percentile(scaled(image)[10:], 99.5) == pytest.approx(1.0, abs=0.01)
    assert torch.allclose(scaled(image), scaled(300 * image), atol=1e-5)
    assert torch.equal(scaled(torch.zeros(8, 8)), torch.zeros(8, 8))


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"ndim": 4}, "ndim is 4"),
        ({"ndim": 2, "shape": [16, 16, 16]}, "2 axes"),
        ({"shape": [8, 32, 32]}, "16 voxels"),
        ({"spacing_mm": 0}, "spacing_mm is 0"),
        ({"labels": 2}, "labels is 2"),
        ({"heads": 1.5}, "heads is 1.5"),
        ({"deformation": -1}, "deformation is -1"),
        ({"noise": -1}, "noise is -1"),
        ({"lables": 3}, "did you mean 'labels'"),
    ],
)
def test_wrong_parameters_are_one_sentence(parameters, words):
    with pytest.raises(ConfigError, match="synth-shapes") as caught:
        build_source("synth-shapes", parameters)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_training_needs_no_data_and_says_so(tmp_path):
    recipe = {
        "name": "tiny",
        "source": {"synth-shapes": {"ndim": 2, "shape": [32, 48], "spacing_mm": 4}},
        "network": {"kind": "dual-stream", "channels": [4, 4]},
        "loss": {"similarity": {}, "diffusion": 0.1, "truth": 1.0, "dice": 1.0},
        "schedule": {"steps": 4, "validate_every": 2, "threads": 1},
        "validation": {"pairs": 2},
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    facts = read_facts(train_from_config(path, tmp_path / "run", lambda _: None))
    assert facts["supervision"] == "synthetic"
    assert facts["trained_on"]["subjects"] == []
    assert "none" in facts["trained_on"]["dataset"]
    assert facts["grid"]["placement"] == "fixed"
    assert "train-0" not in json.dumps(facts)


@pytest.mark.parametrize("ndim", CARDS["synth-shapes"].dimensions)
def test_the_shipped_network_saw_no_data(ndim):
    path = weight_file("synth-shapes", ndim)
    assert path is not None
    facts = read_facts(path)
    while facts:
        assert facts["supervision"] == "synthetic"
        assert facts["trained_on"]["subjects"] == []
        facts = facts["start"]


def test_the_shipped_networks_are_small():
    sizes = [weight_file("synth-shapes", ndim).stat().st_size for ndim in CARDS["synth-shapes"].dimensions]
    assert sum(sizes) <= 5_000_000


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("ndim", [2, 3])
def test_the_shipped_network_aligns_brains_of_any_contrast(ndim, inverted):
    cohort = MniCohort(ndim=ndim, spacing_mm=4, pairs="disjoint:1", labels="tissues")
    pair = cohort.load(cohort.pair_refs()[0])
    trained = load_network(weight_file("synth-shapes", ndim))
    grid = trained.grid_for(pair.fixed.grid)
    fixed, moving = (network_input(image, grid) for image in (pair.fixed, pair.moving))
    if inverted:
        moving = np.where(moving > 0, 1.2 - moving, 0).clip(0).astype(np.float32)
    with torch.inference_mode():
        found = trained.network(torch.from_numpy(fixed)[None, None], torch.from_numpy(moving)[None, None])
    labels = [
        torch.from_numpy(resample(m, grid).array.astype(np.float32)) for m in (pair.fixed_labels, pair.moving_labels)
    ]
    moved = warp(labels[1][None, None], found, mode="nearest")[0, 0]
    assert _dice(labels[0], moved, (1, 2, 3)) > _dice(*labels, (1, 2, 3)) + 0.04
