"""What is learned from: terms of the loss, phases, augmentation, known deformations, learning rates."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")

from support_training import Squares, write_recipe  # noqa: E402

from regbench.errors import ConfigError  # noqa: E402
from regbench.methods.nets.spatial import integrate, warp  # noqa: E402
from regbench.methods.nets.trainable import build_network  # noqa: E402
from regbench.training.augmentation import AffineMap, DeformedPairs, augmented, random_affine  # noqa: E402
from regbench.training.loop import train_from_config  # noqa: E402
from regbench.training.recipe import (  # noqa: E402
    AffineRecipe,
    AugmentationRecipe,
    DeformRecipe,
    LossRecipe,
    ScheduleRecipe,
    load_recipe,
)
from regbench.training.schedule import make_optimiser, rate  # noqa: E402
from regbench.training.sources import Batch  # noqa: E402
from regbench.training.terms import Terms, reduced_batch, term_names  # noqa: E402

EVERYTHING = {
    "similarity": {"lncc": {"weight": 0.5, "window": 3}, "mse": 2.0, "mind-ssc": {"weight": 1, "dilation": 1}},
    **dict.fromkeys(
        (
            "diffusion",
            "bending",
            "jacobian",
            "inverse_consistency",
            "gradicon",
            "dice",
            "cross_entropy",
            "truth",
        ),
        0.1,
    ),
}


@pytest.fixture(autouse=True)
def _no_picture(monkeypatch):
    monkeypatch.setattr("regbench.training.loop.draw_curves", lambda *_: None)


def quiet(_text: str) -> None: ...


def smooth_batch(n: int = 2, size: int = 48) -> Batch:
    """Smooth images of two bumps with labels, far from the border."""
    axis = np.arange(size, dtype=np.float32)
    rows, columns = np.meshgrid(axis, axis, indexing="ij")
    images = [
        np.exp(-((rows - 20 - k) ** 2 / 40 + (columns - 26) ** 2 / 80))
        + 0.6 * np.exp(-((rows - 30) ** 2 + (columns - 18 - k) ** 2) / 30)
        for k in range(n)
    ]
    fixed = torch.from_numpy(np.stack(images)[:, None])
    labels = (fixed > 0.5).to(torch.uint8)
    return Batch(fixed, fixed.clone(), labels, labels.clone(), torch.zeros(n, 2, size, size))


def within(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference away from the border."""
    inner = (..., slice(10, -10), slice(10, -10))
    return float((a[inner] - b[inner]).abs().max())


def test_every_term_by_name_has_a_gradient_and_its_weight():
    network = build_network({"kind": "unet", "channels": [4, 4]}, 2)
    with torch.no_grad():
        network.velocity.weight.normal_(std=0.5)
    batch = Squares().draw(np.random.default_rng(0), 2)
    loss = LossRecipe(**EVERYTHING, dice_rise=10)
    values = Terms(loss, np.array([1]))(network, batch, np.random.default_rng(0), 5, torch.float32)
    assert list(values) == term_names([loss])
    assert set(values) == {"lncc", "mse", "mind-ssc", *EVERYTHING} - {"similarity"}
    for name, value in values.items():
        gradients = torch.autograd.grad(value, network.parameters(), retain_graph=True, allow_unused=True)
        assert torch.isfinite(value), name
        if name != "jacobian":
            assert max(float(g.abs().max()) for g in gradients if g is not None) > 0, name
    double = LossRecipe(**{**EVERYTHING, **{k: 0.2 for k in EVERYTHING if k != "similarity"}}, dice_rise=10)
    twice = Terms(double, np.array([1]))(network, batch, np.random.default_rng(0), 5, torch.float32)
    for name in values:
        ratio = 1.0 if name in ("lncc", "mse", "mind-ssc") else 2.0
        assert float(twice[name].detach()) == pytest.approx(ratio * float(values[name].detach()), rel=1e-5), name
    late = Terms(loss, np.array([1]))(network, batch, np.random.default_rng(0), 50, torch.float32)
    assert float(late["dice"].detach()) == pytest.approx(2 * float(values["dice"].detach()), rel=1e-5)
    assert float(late["mse"].detach()) == pytest.approx(float(values["mse"].detach()), rel=1e-5)


def test_pairs_without_labels_count_for_no_label_term():
    network = build_network({"kind": "unet", "channels": [4, 4]}, 2)
    batch = Squares().draw(np.random.default_rng(0), 3)
    terms = Terms(LossRecipe(dice=1.0), np.array([1]))

    def dice(part: Batch) -> float | None:
        found = terms(network, part, np.random.default_rng(0), 0, torch.float32)
        return None if "dice" not in found else float(found["dice"].detach())

    one = {f: getattr(batch, f)[1:2] for f in ("fixed", "moving", "fixed_labels", "moving_labels")}
    assert dice(replace(batch, labelled=torch.tensor([False, True, False]))) == pytest.approx(dice(Batch(**one)))
    assert dice(replace(batch, labelled=torch.tensor([False, False, False]))) is None


def test_flat_keys_mean_what_they_meant():
    assert LossRecipe(similarity="lncc", window=7).similarities == [("lncc", 1.0, {"window": 7})]
    assert LossRecipe(similarity="mse", similarity_weight=0.3).similarities == [("mse", 0.3, {})]
    assert LossRecipe(similarity_weight=0).similarities == []
    assert LossRecipe(similarity="none", dice=1).similarities == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss": {"similarity": "lnc"}}, "line \\d+: loss.similarity: unknown similarity 'lnc'; did you mean 'lncc'"),
        ({"loss": {"similarity": {"lncc": {"windw": 3}}}}, "did you mean 'window'"),
        ({"loss": {"similarity": {"lncc": -1}}}, "weight of lncc must be 0 or more"),
        ({"loss": {"similarity": {"lncc": 1}, "window": 3}}, "loss.window: belongs to the similarity"),
        ({"loss": {"similarity": "none"}}, "nothing is left to learn from"),
        ({"loss": {"dise": 1}}, "loss.dise: unknown key; did you mean 'dice'"),
        ({"network": {"kind": "unett", "channels": [4]}}, "unknown network 'unett'; did you mean 'unet'"),
        ({"network": {"chanels": [4]}}, "did you mean 'channels'"),
        ({"source": {"shapes": {}}}, "unknown source 'shapes'"),
        ({"source": {"squares": {"m": 3}}}, "unknown parameter 'm'"),
        ({"dataset": {"mni-kohort": {}}, "spacing_mm": 2}, "unknown dataset 'mni-kohort'; did you mean 'mni-cohort'"),
        ({"dataset": {"mni-cohort": {"ndimm": 2}}, "spacing_mm": 2}, "did you mean 'ndim'"),
        ({"dataset": {"mni-cohort": {}}}, "spacing_mm: give the voxel size"),
        ({"schedule": {"precision": "float16"}}, "float16 needs `device: cuda`"),
        ({"schedule": {"optimiser": "lion"}}, "schedule.optimiser"),
        ({"validation": {"split": "a", "fraction": 0.1}}, "split and fraction exclude each other"),
        ({"phases": [{"until": 5}, {"until": 5}]}, "`until` must grow"),
        ({"phases": [{"loss": {"dise": 1}}]}, "phases\\[1\\].loss.dise: unknown key; did you mean 'dice'"),
        ({"phases": [{"untill": 3}]}, "did you mean 'until'"),
        ({"source": {"squares": {"n": 20}}, "phases": [{"reduce": 4}]}, "20x20 voxels reduced by 4"),
        ({"augmentation": {"flip": [2]}}, "axes of 2-D images are 0 to 1"),
        ({"augmentation": {"affine": {"rotate": 2}}}, "augmentation.affine.rotate: unknown key"),
        ({"validation": {"score": "similarity"}, "loss": {"similarity": None, "dice": 1}}, "the loss has none"),
        ({"source": {"squares": {"with_labels": False}}, "loss": {"dice": 1}}, "no labels"),
        ({"start_from": "nowhere.safetensors"}, "does not exist; train it first"),
        ({"deform": {}}, "deforms by itself"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_one_sentence(tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words) as caught:
        train_from_config(write_recipe(tmp_path, **changes), tmp_path / "run", quiet)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_sentence(tmp_path):
    from regbench.errors import MethodDeclined

    with pytest.raises(MethodDeclined, match=r"schedule\.device is cuda"):
        train_from_config(write_recipe(tmp_path, schedule={"device": "cuda"}), tmp_path / "run", quiet)


def test_phases_change_the_loss_and_the_resolution(tmp_path, monkeypatch):
    recipe = load_recipe(
        write_recipe(
            tmp_path, phases=[{"until": 2, "loss": {"diffusion": 0}, "reduce": 2}, {"until": 4, "loss": {"dice": 1}}]
        )
    )
    losses = [recipe.loss_in(recipe.phase(step)) for step in range(6)]
    assert [loss.diffusion for loss in losses] == [0, 0, 0.5, 0.5, 0.5, 0.5]
    assert [loss.dice for loss in losses] == [0, 0, 1, 1, 0, 0]
    assert [recipe.phase(step).reduce for step in range(6)] == [2, 2, 1, 1, 1, 1]
    seen, reduce = [], reduced_batch
    monkeypatch.setattr(
        "regbench.training.loop.reduced_batch", lambda batch, by: seen.append(reduce(batch, by)) or seen[-1]
    )
    train_from_config(tmp_path / "recipe.yaml", tmp_path / "run", quiet)
    assert [part.fixed.shape[-1] for part in seen] == [8, 8, 16, 16, 16, 16]
    with (tmp_path / "run" / "training.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [bool(row["diffusion"]) for row in rows] == [False, False, True, True, True, True]
    assert [bool(row["dice"]) for row in rows] == [False, False, True, True, False, False]


def test_a_reduced_batch_shows_the_same_pairs_on_half_the_voxels():
    batch = Squares(n=32).draw(np.random.default_rng(1), 2)
    batch = replace(batch, displacement=batch.displacement + 1)
    half = reduced_batch(batch, 2)
    assert half.fixed.shape == half.fixed_labels.shape == (2, 1, 16, 16)
    assert torch.equal(half.displacement[..., 3, 3], batch.displacement[..., 6, 6] / 2)
    assert half.fixed[0, 0, 4, 4] == pytest.approx(float(batch.fixed[0, 0, 8:10, 8:10].mean()))
    assert half.fixed_labels.sum() * 4 == pytest.approx(float(batch.fixed_labels.sum()), rel=0.5)


def test_the_truth_follows_what_augmentation_does_to_the_images():
    batch = smooth_batch()
    affine = AffineRecipe(rotation_degrees=8, scale=0.08, shear=0.05, translation_mm=4)
    recipe = AugmentationRecipe(flip=(0, 1), affine=affine)
    for seed in range(3):
        changed = augmented(batch, recipe, np.random.default_rng(seed), np.array([2.0, 2.0]))
        assert within(changed.fixed, changed.moving) > 0.1
        assert within(changed.fixed, warp(changed.moving, changed.displacement)) < 0.03
    assert changed.fixed_labels.dtype == torch.uint8


def test_the_truth_that_was_there_before_follows_too():
    batch = smooth_batch()
    # An inverse pair of fields that differ from place to place.
    rows = torch.arange(48.0).view(1, 1, 48, 1).expand(2, 1, 48, 48)
    velocity = torch.cat([0.1 * (rows - 24), 3.0 * torch.sin(rows / 8)], dim=1)
    shifted = replace(batch, moving=warp(batch.fixed, integrate(-velocity, 6)), displacement=integrate(velocity, 6))
    assert within(shifted.fixed, warp(shifted.moving, shifted.displacement)) < 0.03
    affine = AffineRecipe(rotation_degrees=8, translation_mm=4)
    for recipe in (AugmentationRecipe(flip=(0,)), AugmentationRecipe(flip=(0, 1)), AugmentationRecipe(affine=affine)):
        for seed in range(4):
            changed = augmented(shifted, recipe, np.random.default_rng(seed), np.array([2.0, 2.0]))
            assert within(changed.fixed, warp(changed.moving, changed.displacement)) < 0.04


def test_affine_maps_have_their_size_in_millimetres():
    turn = random_affine(AffineRecipe(rotation_degrees=90), np.random.default_rng(0), np.array([1.0, 4.0]))
    in_mm = np.diag([1.0, 4.0]) @ turn.matrix @ np.diag([1.0, 0.25])
    assert np.allclose(in_mm.T @ in_mm, np.eye(2))
    shift = random_affine(AffineRecipe(translation_mm=8), np.random.default_rng(0), np.array([2.0, 4.0])).shift
    assert np.all(np.abs(shift) <= [4, 2])
    affine = AffineMap(turn.matrix, np.array([1.0, 2.0]))
    points = torch.rand(1, 2, 6, 6, dtype=torch.float64) * 6
    assert torch.allclose(affine.inverse.of(affine.of(points)), points)


def test_intensities_change_and_geometry_does_not():
    batch = smooth_batch()
    changed = augmented(
        batch, AugmentationRecipe(gamma=0.3, bias=0.2, noise=0.05), np.random.default_rng(0), np.ones(2)
    )
    assert within(changed.fixed, batch.fixed) > 0.05
    assert changed.fixed_labels is batch.fixed_labels and changed.displacement is batch.displacement
    assert changed.fixed.min() >= 0 and changed.fixed.max() <= 1.5
    assert augmented(batch, AugmentationRecipe(), np.random.default_rng(0), np.ones(2)) is batch


def test_a_scan_and_its_deformation_know_each_other():
    class Bumps(Squares):
        def draw(self, rng, batch):
            return smooth_batch(batch)

    recipe = DeformRecipe(
        affine=AffineRecipe(rotation_degrees=10, scale=0.1, translation_mm=4), smooth_mm=3, length_mm=14
    )
    source = DeformedPairs(Bumps(n=48), recipe)
    batch = source.draw(np.random.default_rng(0), 2)
    assert within(batch.fixed, batch.moving) > 0.1
    assert within(batch.fixed, warp(batch.moving, batch.displacement)) < 0.05
    labels = warp(batch.moving_labels.float(), batch.displacement, mode="nearest")
    assert float((labels != batch.fixed_labels).float().mean()) < 0.02
    assert source.facts()["deformed"]["smooth_mm"] == 3


def test_a_network_learns_a_shift(tmp_path):
    recipe = write_recipe(
        tmp_path,
        source={"squares": {"shift": [2, 1]}},
        loss={"similarity": None, "truth": 1.0, "diffusion": 0},
        schedule={"steps": 80, "validate_every": 80, "learning_rate": 0.01, "log_every": None},
        validation={"score": "dice"},
    )
    train_from_config(recipe, tmp_path / "run", quiet)
    scores = json.loads((tmp_path / "run" / "card.json").read_text())["validation"]["scores"]
    assert scores["dice"] > scores["dice_before"] + 0.2
    assert scores["error"] < 1.0


def test_a_training_on_known_truth_is_synthetic_and_chosen_by_its_error(tmp_path):
    loss = {"similarity": None, "truth": 1.0, "diffusion": 0}
    train_from_config(write_recipe(tmp_path, loss=loss), tmp_path / "run", quiet)
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert card["supervision"] == "synthetic" and card["validation"]["score"] == "truth"
    assert card["best_validation_score"] == pytest.approx(-card["validation"]["scores"]["error"], abs=1e-4)
    with (tmp_path / "run" / "training.csv").open() as stream:
        first = next(csv.DictReader(stream))
    drawn = Squares().draw(np.random.default_rng([0, 0]), 2)
    # An untrained network is the identity.
    assert float(first["truth"]) == pytest.approx(float(drawn.displacement.square().sum(1).sqrt().mean()), abs=0.01)


def test_learning_rates_follow_the_recipe():
    cosine = ScheduleRecipe(steps=100, warmup=9, final_rate=0.1)
    assert rate(0, cosine) == pytest.approx(0.1)
    assert rate(100, cosine) == pytest.approx(0.1)
    assert rate(50, cosine) == pytest.approx(0.55)
    steps = ScheduleRecipe(steps=100, warmup=0, decay="step", drop_every=10, drop=0.5, final_rate=0.2)
    assert [rate(s, steps) for s in (0, 9, 10, 20, 99)] == [1, 1, 0.5, 0.25, 0.2]
    assert rate(99, ScheduleRecipe(steps=100, warmup=0, decay="constant")) == 1


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_optimisers_by_name(name):
    weight = torch.nn.Parameter(torch.ones(3))
    optimiser = make_optimiser(ScheduleRecipe(optimiser=name, weight_decay=0.1, learning_rate=0.5), [weight])
    assert type(optimiser).__name__.lower() == name
    weight.sum().backward()
    optimiser.step()
    assert (weight < 1).all()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision_is_that_of_the_recipe(tmp_path, precision):
    recipe = load_recipe(write_recipe(tmp_path, schedule={"precision": precision}))
    assert recipe.schedule.numbers == precision
    assert load_recipe(write_recipe(tmp_path, schedule={"bfloat16": False})).schedule.numbers == "float32"
    seen = []

    def network(fixed, moving):
        seen.append(torch.nn.functional.conv2d(fixed, torch.ones(1, 1, 1, 1)).dtype)
        return torch.zeros(2, 2, 16, 16, requires_grad=True)

    batch = Squares().draw(np.random.default_rng(0), 2)
    Terms(recipe.loss, np.array([1]))(network, batch, np.random.default_rng(0), 0, getattr(torch, precision))
    assert seen == [getattr(torch, precision)]


def test_a_preview_tells_everything_and_writes_nothing(tmp_path, capsys, monkeypatch):
    from regbench.cli import invoke

    recipe = write_recipe(tmp_path, loss={"similarity": {"mse": 1}}, schedule={"steps": 1000})
    monkeypatch.chdir(tmp_path)
    assert invoke(["train", str(recipe), "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]
    shown = yaml.safe_load(text.split("\n\n")[0])
    assert shown["network"]["kind"] == "unet" and shown["loss"]["similarity"] == {"mse": {"weight": 1.0}}
    assert "seconds per step" in text and "for 1000 steps" in text
    shown["name"] = "again"
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(shown))
    assert load_recipe(tmp_path / "again.yaml").loss.similarities == load_recipe(recipe).loss.similarities


def test_the_command_shows_a_bar_on_a_terminal_and_exits_with_its_code(tmp_path, capsys, monkeypatch):
    from rich.console import Console

    from regbench.cli import invoke
    from regbench.cli.train_progress import TrainingProgress
    from regbench.training.loop import Progress, Training

    assert invoke(["train", str(write_recipe(tmp_path)), "-o", str(tmp_path / "run")]) == 0
    assert "step 6/6" in capsys.readouterr().err
    console = Console(force_terminal=True, width=100, record=True)
    with TrainingProgress(console) as shown:
        shown.show(Progress(3, 6, 1.0, 75.0, {"similarity": 0.5}, {"dice": 0.4}, 3))
    text = console.export_text()
    assert "3/6" in text and "75 s left" in text and "dice 0.4000" in text and "best: step 3" in text
    monkeypatch.setattr(
        Training, "_terms_now", lambda self: lambda *_: {"mse": torch.tensor(float("inf"), requires_grad=True)}
    )
    recipe = write_recipe(tmp_path, name="broken")
    assert invoke(["train", str(recipe), "-o", str(tmp_path / "other")]) == 1
    assert "the loss is not finite" in capsys.readouterr().err


def test_several_recipes_are_shown_one_after_the_other_and_share_no_folder(tmp_path, capsys):
    from regbench.cli import invoke

    paths = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        paths.append(str(write_recipe(tmp_path / name, name=name)))
    assert invoke(["train", *paths, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert shown.index("name: first") < shown.index("name: second")
    assert invoke(["train", *paths, "-o", str(tmp_path / "out")]) == 2
    assert "give one CONFIG" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
