"""Descent on the pair: what it gains on its start, what it must not break, and how a start is named and counted."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support_runs import METHODS_FILE, tiny_config, write_pairs

from regbench import targets
from regbench.alignment import Alignment
from regbench.cli import invoke
from regbench.config import check_config
from regbench.contract import phantom
from regbench.displacement import Displacement
from regbench.environments import home_of
from regbench.errors import ConfigError, MethodDeclined, MethodError
from regbench.leaks import trainings_of
from regbench.methods import table
from regbench.methods.card import Method
from regbench.methods.identity import Identity
from regbench.methods.instance import AdamInstance, Descent, InstanceOptimise
from regbench.metrics.evaluate import evaluate
from regbench.pair import BlindPair, Pair
from regbench.parameters import as_plain
from regbench.plan import make_plan
from regbench.volume import Grid, Image, Labels
from regbench.warp import warp

torch = pytest.importorskip("torch")
pair_descent = pytest.importorskip("regbench.methods.nets.pair_descent")

QUICK: dict[str, Any] = {"shrink": (2, 1), "steps": (30, 30)}


@dataclass(frozen=True)
class Half:
    """Half of the truth of a pair: a start that leaves something to do."""

    truth: Displacement

    def register(self, pair: BlindPair) -> Displacement:
        return Displacement(0.5 * self.truth.vectors_mm, pair.fixed.grid)


def regularity(pair: Pair, found: Displacement) -> tuple[float, float]:
    """Per cent of voxels that fold, and of volume."""
    scores = evaluate(Alignment(pair, found), ["fold_percent", "ndv_percent"])
    return tuple(v["mean"] if isinstance(v, dict) else v for v in scores.values())  # type: ignore[return-value]


def start_of(entry: Any, **others: Any) -> Method:
    return targets.build_method(
        "instance-optimise", targets.method_parameters("instance-optimise", {"start": entry, **others}, "methods.io")
    )


# -- what it finds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("transformation", ["velocity", "displacement"])
def test_it_comes_nearer_to_the_truth_than_its_start(ndim: int, transformation: Any) -> None:
    pair = phantom.bent(ndim)
    assert pair.truth is not None
    start = Half(pair.truth)
    found = InstanceOptimise(start=start, transformation=transformation, **QUICK).register(pair.blind())
    begun = phantom.error_mm(start.register(pair.blind()), pair)
    assert phantom.error_mm(found, pair) < 0.7 * begun


@pytest.mark.parametrize("ndim", [2, 3])
def test_from_no_start_it_follows_a_smooth_field_and_knows_the_way_back(ndim: int) -> None:
    pair = phantom.bent(ndim)
    found = AdamInstance(shrink=(4, 2, 1), steps=(30, 30, 30)).register(pair.blind())
    assert phantom.error_mm(found, pair) < 0.35 * phantom.error_mm(Displacement.identity(pair.fixed.grid), pair)
    assert found.inverse is not None
    back = found.inverse
    # There and back along the middle of the image, where no border is near.
    there = found.vectors_mm
    returned = np.stack(
        [warp(Image(np.ascontiguousarray(back.vectors_mm[..., c]), back.grid), found).array for c in range(ndim)], -1
    )
    body = np.asarray(pair.fixed.array > 0.3)
    assert np.linalg.norm((there + returned)[body], axis=-1).mean() < 0.1 * np.linalg.norm(there[body], axis=-1).mean()


@pytest.mark.parametrize("similarity", ["mse", "ncc", "mind-ssc", "nmi", {"lncc": {"window": 7}}])
def test_every_similarity_leads_to_the_truth(similarity: Any) -> None:
    """On oblique grids of opposite handedness, where features along axes would not be those of the other image."""
    pair = phantom.bent(2)
    found = AdamInstance(similarity=similarity, shrink=(4, 2, 1), steps=(30, 30, 30)).register(pair.blind())
    assert phantom.error_mm(found, pair) < 0.6 * phantom.error_mm(Displacement.identity(pair.fixed.grid), pair)


def test_other_contrast_is_followed_by_features_and_information() -> None:
    pair = phantom.shifted(2)
    image = pair.moving.array
    other = dataclasses.replace(pair.blind(), moving=Image(np.where(image > 0.02, 1.5 - image, 0.0), pair.moving.grid))
    before = phantom.error_mm(Displacement.identity(pair.fixed.grid), pair)
    for similarity in ("mind-ssc", "nmi"):
        found = AdamInstance(similarity=similarity, shrink=(4, 2, 1), steps=(30, 30, 30)).register(other)
        assert phantom.error_mm(found, pair) < 0.7 * before, similarity


# -- what it must not break ---------------------------------------------------------------------------


def rough_pair(ndim: int) -> Pair:
    """Two images of noise, which tear at a field wherever they can."""
    grid = Grid((24, 22, 20)[:ndim], np.diag([*(1.0, 1.5, 2.0)[:ndim], 1.0]))
    rng = np.random.default_rng(ndim)
    fixed, moving = (Image(rng.normal(size=grid.shape).astype(np.float32), grid) for _ in range(2))
    labels = Labels(np.ones(grid.shape, np.uint8), grid)
    return Pair("rough", fixed, moving, fixed_labels=labels, moving_labels=labels)


@pytest.mark.parametrize("ndim", [2, 3])
def test_velocities_do_not_fold_even_where_hardly_anything_keeps_them_smooth(ndim: int) -> None:
    pair = rough_pair(ndim)
    settings: dict[str, Any] = {"smoothness": 0.02, "similarity": "mse", **QUICK}
    folds, volume = regularity(pair, AdamInstance(**settings).register(pair.blind()))
    assert (folds, volume) == (0.0, pytest.approx(0.0, abs=1e-3))
    refined = InstanceOptimise(start=AdamInstance(**settings), **settings).register(pair.blind())
    folds, volume = regularity(pair, refined)
    assert (folds, volume) == (0.0, pytest.approx(0.0, abs=1e-3))
    # The images do tear: without integration the same settings fold.
    torn = AdamInstance(transformation="displacement", **settings).register(pair.blind())
    assert regularity(pair, torn)[0] > 0.3


def test_folds_of_a_start_stay_and_none_are_added() -> None:
    pair = phantom.bent(2)
    vectors = np.zeros((*pair.fixed.grid.shape, 2), np.float32)
    vectors[12:15, 12:16, 0] = [[8.0], [0.0], [-8.0]]
    folded = Displacement(vectors, pair.fixed.grid)

    @dataclass(frozen=True)
    class Folded:
        def register(self, seen: BlindPair) -> Displacement:
            return folded

    before = regularity(pair, folded)
    after = regularity(pair, InstanceOptimise(start=Folded(), **QUICK).register(pair.blind()))
    assert before[0] > 0
    # The same folds, seen through a field that makes a little more or less of the place where they are.
    assert after[0] <= 1.5 * before[0]


@pytest.mark.parametrize("ndim", [2, 3])
def test_folded_cells_are_those_with_a_corner_that_folds(ndim: int) -> None:
    shape = (6, 7, 8)[:ndim]
    field = torch.zeros((1, ndim, *shape))
    assert not pair_descent.folded_cells(field).any()
    # One voxel moved beyond its neighbour along the first axis.
    field[(0, 0, *(3,) * ndim)] = 1.5
    found = pair_descent.folded_cells(field)[0, 0]
    assert found.shape == tuple(n - 1 for n in shape)
    expected = torch.zeros_like(found)
    expected[(slice(3, 4), *(slice(2, 4),) * (ndim - 1))] = True
    assert torch.equal(found, expected)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_flow_that_folds_on_its_grid_is_made_smooth_where_it_does(ndim: int) -> None:
    torch.manual_seed(ndim)
    quiet = torch.zeros((1, ndim, *(24,) * ndim))
    velocity = quiet.clone()
    inner = (slice(None), slice(None), *(slice(2, 10),) * ndim)
    velocity[inner] = 3.0 * torch.randn_like(velocity[inner])

    def flow(part: Any) -> Any:
        return pair_descent.integrate(part, 6)

    assert pair_descent.folded_cells(flow(velocity)).any()
    smoothed, found = pair_descent.unfolded(velocity, None, flow)
    assert not pair_descent.folded_cells(found).any()
    torch.testing.assert_close(found, flow(smoothed))
    far = (slice(None), slice(None), *(slice(14, None),) * ndim)
    assert torch.equal(smoothed[far], velocity[far]) and float(found.abs().max()) > 0.3
    # Together with a start that has no folds, the whole has none either.
    start = (
        0.9 * torch.sin(torch.arange(24.0)).expand_as(quiet) * (torch.arange(ndim) == ndim - 1).view(1, -1, *[1] * ndim)
    )
    assert not pair_descent.folded_cells(start).any()
    _, found = pair_descent.unfolded(velocity, start, flow)
    assert not pair_descent.folded_cells(pair_descent.compose(found, start)).any()


@pytest.mark.parametrize("ndim", [2, 3])
def test_folds_of_a_start_are_no_reason_to_smooth_an_update(ndim: int) -> None:
    start = torch.zeros((1, ndim, *(16,) * ndim))
    start[(0, 0, *(8,) * ndim)] = 3.0
    assert pair_descent.folded_cells(start).any()
    velocity = 0.7 * torch.sin(0.4 * torch.arange(16.0)).expand_as(start).contiguous()
    smoothed, _ = pair_descent.unfolded(velocity, start, lambda part: pair_descent.integrate(part, 6))
    assert torch.equal(smoothed, velocity)


def test_an_update_is_as_long_along_every_axis() -> None:
    """One unit of it is `unit_mm` in the coarse direction as in the fine one."""
    update = torch.ones((1, 2, 6, 5))
    for transformation in ("velocity", "displacement"):
        settings = AdamInstance(transformation=transformation)
        voxels = pair_descent._flow(update, 3.0, np.array([1.5, 4.0]), settings)
        torch.testing.assert_close(voxels[0, :, 3, 3], torch.tensor([2.0, 0.75]))


def test_the_start_is_read_where_the_update_leads() -> None:
    index = torch.arange(12.0)
    start = torch.stack([0.25 * index.view(-1, 1).expand(12, 9), torch.zeros(12, 9)])[None]
    update = torch.zeros((1, 2, 12, 9))
    update[:, 0] = 2.0
    whole = torch.clamp(index + 2.0, max=11.0) * 0.25 + 2.0
    for read in (pair_descent._after, pair_descent.followed):
        torch.testing.assert_close(read(update, start, AdamInstance())[0, 0, :, 4], whole)
        added = read(update, start, AdamInstance(transformation="displacement"))
        torch.testing.assert_close(added, update + start)


def test_a_level_goes_on_with_what_the_one_before_has_found() -> None:
    pair = phantom.bent(2).blind()
    coarse = AdamInstance(shrink=(2,), steps=(30,)).register(pair).vectors_mm
    carried = AdamInstance(shrink=(2, 1), steps=(30, 0)).register(pair).vectors_mm
    assert np.linalg.norm(carried - coarse, axis=-1).mean() < 0.05 * np.linalg.norm(coarse, axis=-1).mean()


def test_roughness_is_measured_in_mm() -> None:
    """A linear field has the squares of its slopes, whatever the spacing along each axis."""
    spacing = np.array([1.0, 2.5])
    index = np.indices((9, 7)) * spacing[:, None, None]
    slopes = np.array([[0.1, -0.3], [0.2, 0.4]])
    field = torch.tensor(np.einsum("cw,wij->cij", slopes, index))[None]
    assert float(pair_descent.roughness(field, spacing)) == pytest.approx(np.square(slopes).mean())


def test_the_same_answer_twice_and_for_any_name() -> None:
    pair = phantom.bent(3).blind()
    method = AdamInstance(**QUICK)
    first = method.register(pair)
    method.register(phantom.shifted(3).blind())
    again = method.register(dataclasses.replace(pair, name="other"))
    np.testing.assert_array_equal(first.vectors_mm, again.vectors_mm)


def test_without_steps_the_start_comes_back() -> None:
    pair = phantom.bent(3)
    assert pair.truth is not None
    start = Half(pair.truth)
    found = InstanceOptimise(start=start, shrink=(2, 1), steps=(0, 0)).register(pair.blind())
    np.testing.assert_allclose(found.vectors_mm, start.register(pair.blind()).vectors_mm, atol=1e-4)


def test_the_way_back_leads_through_that_of_the_start() -> None:
    pair = phantom.shifted(2)
    assert pair.truth is not None
    half = Displacement(0.5 * pair.truth.vectors_mm, pair.fixed.grid)
    moving = pair.moving.grid
    back = Displacement(np.broadcast_to(-half.vectors_mm[0, 0], (*moving.shape, 2)).copy(), moving)

    @dataclass(frozen=True)
    class HalfShift:
        def register(self, seen: BlindPair) -> Displacement:
            return dataclasses.replace(half, inverse=back)

    found = InstanceOptimise(start=HalfShift(), **QUICK).register(pair.blind())
    assert phantom.error_mm(found, pair) < 0.4 * phantom.error_mm(half, pair)
    inverse = found.inverse
    assert inverse is not None
    returned = np.stack(
        [warp(Image(np.ascontiguousarray(inverse.vectors_mm[..., c]), inverse.grid), found).array for c in range(2)],
        -1,
    )
    body = np.asarray(pair.fixed.array > 0.3)
    assert np.linalg.norm((found.vectors_mm + returned)[body], axis=-1).mean() < 0.5
    assert inverse.grid is moving
    assert InstanceOptimise(start=Identity(), **QUICK).register(pair.blind()).inverse is None


def test_it_ends_early_where_nothing_is_gained(caplog: pytest.LogCaptureFixture) -> None:
    pair = phantom.unmoved(2)
    same = dataclasses.replace(pair.blind(), moving=pair.fixed)
    calls = 0

    class Counting:
        def prepare(self, image: Any) -> Any:
            return image

        def __call__(self, fixed: Any, moved: Any) -> Any:
            nonlocal calls
            calls += 1
            return (fixed - moved).square().mean()

    settings = AdamInstance(shrink=(1,), steps=(200,), smoothness=1.0)
    pair_descent.descend(same.fixed, same.moving, None, settings, Counting())
    assert calls < 40
    with caplog.at_level(logging.DEBUG, "regbench.methods.instance"):
        AdamInstance(**QUICK).register(pair.blind())
    assert "level 0: " in caplog.text and "level 1: " in caplog.text


def test_images_on_any_grids_are_read_through_world_coordinates() -> None:
    """A moving image on a grid that is turned about and shifted, so that only its affine tells where it lies."""
    pair = phantom.shifted(3)
    flip = np.diag([-1.0, 1.0, -1.0, 1.0])
    flip[0, -1], flip[2, -1] = pair.moving.grid.shape[0] - 1, pair.moving.grid.shape[2] - 1
    turned_grid = Grid(pair.moving.grid.shape[::-1], (pair.moving.grid.affine @ flip)[:, [2, 1, 0, 3]])
    turned = Image(np.ascontiguousarray(pair.moving.array[::-1, :, ::-1].T), turned_grid)
    other = dataclasses.replace(pair.blind(), moving=turned)
    one, two = (AdamInstance(**QUICK).register(seen) for seen in (pair.blind(), other))
    assert np.linalg.norm(one.vectors_mm - two.vectors_mm, axis=-1).mean() < 0.05
    assert one.max_mm > 3


def test_rows_of_a_reading_are_the_whole_reading() -> None:
    integrate = pytest.importorskip("regbench.methods.nets.spatial").integrate
    torch.manual_seed(0)
    for shape in ((5, 6), (4, 5, 6)):
        field = integrate(torch.randn(1, len(shape), *shape), 4).requires_grad_()
        image = torch.randn(1, 2, *(n + 1 for n in shape))
        positions = pair_descent._normalised(field, tuple(image.shape[2:]))
        whole = torch.nn.functional.grid_sample(image, positions.flip(-1), padding_mode="border", align_corners=True)
        rows = pair_descent.read_rows(image, positions)
        torch.testing.assert_close(rows, whole)
        weights = torch.randn_like(whole)
        (expected,) = torch.autograd.grad((whole * weights).sum(), field, retain_graph=True)
        (found,) = torch.autograd.grad((rows * weights).sum(), field)
        torch.testing.assert_close(found, expected)


# -- what it refuses ----------------------------------------------------------------------------------


def test_flat_images_are_one_sentence() -> None:
    pair = phantom.shifted(2).blind()
    flat = Image(np.ones(pair.moving.grid.shape), pair.moving.grid)
    with pytest.raises(MethodError, match="the moving image is flat"):
        AdamInstance().register(dataclasses.replace(pair, moving=flat))


def test_an_image_of_hardly_any_contrast_is_registered() -> None:
    pair = phantom.shifted(2).blind()
    dots = np.zeros(pair.fixed.grid.shape)
    dots[12, 12] = 1.0
    found = AdamInstance(**QUICK).register(dataclasses.replace(pair, fixed=Image(dots, pair.fixed.grid)))
    assert np.isfinite(found.vectors_mm).all()


def test_a_missing_gpu_is_a_reason() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(MethodDeclined, match="torch finds no CUDA GPU"):
        AdamInstance(device="cuda").prepare()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shrink": (2, 1), "steps": (5,)}, "one number for each level"),
        ({"shrink": (1, 2), "steps": (5, 5)}, "must become smaller"),
        ({"steps": (-1, 5, 5, 5)}, "must not be negative"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"squarings": 17}, "between 0 and 16"),
        ({"similarity": "lnc"}, r"unknown similarity 'lnc'; did you mean 'lncc'\?"),
        ({"similarity": {"lncc": {"windw": 3}}}, r"unknown parameter 'windw'; did you mean 'window'\?"),
        ({"similarity": {"lncc": None, "mse": None}}, "give one name"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=rf"methods\.adam-instance.*{words}"):
        AdamInstance(**settings)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("demonss", r"methods\.io\.start: unknown method 'demonss'; did you mean 'demons'\?"),
        ({"demons": {"iteratons": [3]}}, r"methods\.io\.start\.demons: unknown parameter 'iteratons'"),
        ({"demons": {"shrink": [2]}}, r"methods\.demons: shrink"),
        ({"greedy": {"preset": "ful"}}, r"methods\.io\.start\.greedy: unknown preset 'ful'"),
        ({"demons": None, "identity": None}, r"methods\.io\.start: .* is not a method"),
        (3, r"methods\.io\.start: 3 is not a method"),
        ({"demons": 3}, r"methods\.io\.start\.demons: parameters must be written"),
        ("nowhere.py:Class", r"methods\.io\.start: .*there is no file"),
    ],
)
def test_a_start_that_is_wrong_is_one_sentence_with_its_place(start: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        start_of(start)


def test_it_may_stand_in_a_config_without_a_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text('datasets: [{mni-cohort: {ndim: 2, pairs: "disjoint:2"}}]\nmethods: [instance-optimise]\n')
    assert invoke(["validate", str(config)]) == 0, capsys.readouterr().err


def test_a_config_tells_the_line_of_a_wrong_start(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "datasets: [mni-cohort]\nmethods:\n  - identity\n  - instance-optimise: {start: {demons: {shrnk: [2]}}}\n"
    )
    (problem,) = check_config(path)[1]
    assert "line 4" in problem and "methods.instance-optimise.start.demons: unknown parameter 'shrnk'" in problem


# -- how a start is named and counted -----------------------------------------------------------------


def test_starts_of_every_kind_are_built(tmp_path: Path) -> None:
    for entry in ("identity", {"demons": {"iterations": [3, 2, 1]}}, {"greedy": {"preset": "full"}}):
        method = start_of(entry)
        assert isinstance(method, InstanceOptimise) and hasattr(method.start, "register")
    nested = start_of({"instance-optimise": {"start": "identity", **QUICK}}, **QUICK)
    assert isinstance(nested, InstanceOptimise) and isinstance(nested.start.start, Identity)
    users = start_of({f"{METHODS_FILE}:Steady": {"seconds": 0.5}}, seed=7)
    # The seed goes to a start that has one, unless it was given.
    assert (users.start.seconds, users.start.seed) == (0.5, 7)  # type: ignore[attr-defined]
    assert start_of({f"{METHODS_FILE}:Steady": {"seed": 3}}, seed=7).start.seed == 3  # type: ignore[attr-defined]


def test_a_start_is_read_relative_to_the_config(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(METHODS_FILE.read_text())
    path = tmp_path / "config.yaml"
    entries = ["instance-optimise: {start: mine.py:Steady}", "instance-optimise: {start: {mine.py:Steady: }, as: io2}"]
    path.write_text("datasets: [mni-cohort]\nmethods:\n" + "".join(f"  - {entry}\n" for entry in entries))
    config, problems = check_config(path)
    assert problems == [] and config is not None
    assert [list(entry.parameters["start"]) for entry in config.methods] == [[f"{tmp_path / 'mine.py'}:Steady"]] * 2


def test_parameters_stay_what_they_are_when_they_are_read_back() -> None:
    first = targets.method_parameters(
        "instance-optimise", {"start": {"demons": {"shrink": [2, 1], "iterations": [5, 5]}}}, "x"
    )
    again = targets.method_parameters("instance-optimise", as_plain(first), "x")
    assert again == first and first["start"]["demons"]["smoothing_voxels"] == 1.0


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return write_pairs(tmp_path, ["a"])


def planned(csv: Path, start: Any, **others: Any) -> Any:
    entry = {"name": "instance-optimise", "label": "io", "parameters": {"start": start, **others}}
    return make_plan(tiny_config(csv, [entry])).cases[0]


def test_the_key_of_a_case_follows_its_start(csv: Path, tmp_path: Path) -> None:
    base = planned(csv, "demons").key
    assert planned(csv, {"demons": {}}).key == planned(csv, {"demons": {"smoothing_voxels": 1.0}}).key == base
    others = [
        planned(csv, "demons-symmetric"),
        planned(csv, {"demons": {"smoothing_voxels": 1.5}}),
        planned(csv, "demons", learning_rate=0.1),
        planned(csv, "voxelmorph-cohort"),
        planned(csv, "voxelmorph-cohort-sup"),
    ]
    assert len({base, *(case.key for case in others)}) == 6


def test_the_key_follows_the_weights_and_the_file_of_a_start_and_not_its_place(csv: Path, tmp_path: Path) -> None:
    keys = []
    for name, addition in (("one", ""), ("two", ""), ("three", "\n# edited\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(METHODS_FILE.read_text() + addition)
        keys.append(planned(csv, f"{tmp_path / name / 'mine.py'}:Steady").key)
    assert keys[0] == keys[1] != keys[2]
    file = tmp_path / "weights.bin"
    hashes = []
    for content in (b"1", b"2"):
        file.write_bytes(content)
        hashes.append(planned(csv, {"symnet-oasis": {"weights": str(file)}}).key)
    assert hashes[0] != hashes[1]


def test_versions_of_both_stand_in_the_rows(csv: Path) -> None:
    case = planned(csv, {"greedy": {"initial": "none"}})
    assert case.method_version == f"{table.method_version(table.card('instance-optimise'))} from " + (
        table.method_version(table.card("greedy"))
    )


def card_from(start: Any, **others: Any) -> Any:
    parameters = targets.method_parameters("instance-optimise", {"start": start, **others}, "methods.io")
    return targets.method_card("instance-optimise", as_plain(parameters))


def test_the_card_takes_over_what_the_start_is() -> None:
    learned = card_from("symnet-oasis")
    symnet = table.card("symnet-oasis")
    assert (learned.paradigm, learned.supervision, learned.trained_on) == ("hybrid", "image", symnet.trained_on)
    assert (learned.dimensions, learned.weights, learned.grids) == ((3,), "symnet-oasis", symnet.grids)
    assert symnet.citation in learned.citation and symnet.licence in learned.licence
    assert card_from("voxelmorph-cohort-sup").supervision == "labels"
    classical = card_from("demons")
    assert (classical.paradigm, classical.supervision, dict(classical.trained_on)) == ("classical", "none", {})
    assert {package.module for package in classical.packages} == {"torch", "SimpleITK"}
    kinds = {
        ("demons", "velocity"): "diffeomorphic",
        ("demons-symmetric", "velocity"): "deformable",
        ("demons", "displacement"): "deformable",
        ("affine", "velocity"): "diffeomorphic",
    }
    for (start, transformation), kind in kinds.items():
        assert card_from(start, transformation=transformation).transformation == kind
    assert card_from({"instance-optimise": {"start": "symnet-oasis"}}).paradigm == "hybrid"


def test_the_card_of_the_table_is_that_of_its_default_start() -> None:
    plain, complete = table.card("instance-optimise"), card_from("voxelmorph-cohort")
    for part in ("paradigm", "supervision", "transformation", "trained_on", "dimensions"):
        assert getattr(plain, part) == getattr(complete, part), part


def test_leaks_are_those_of_the_start() -> None:
    def trainings(start: Any) -> Any:
        parameters = targets.method_parameters("instance-optimise", {"start": start}, "x")
        return trainings_of("instance-optimise", as_plain(parameters))

    assert trainings("symnet-oasis") == trainings_of("symnet-oasis", {}) != []
    assert trainings("demons") == []


def test_a_start_that_cannot_run_is_a_skip_with_its_reason(csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    case = planned(csv, "elastix-bspline")
    assert case.verdict is not None
    assert case.verdict[0] == "skipped" and "needs elastix" in case.verdict[1]


def test_weights_of_a_start_that_are_not_there_are_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REGBENCH_CACHE", str(tmp_path))
    method: Any = start_of("symnet-oasis")
    with pytest.raises(MethodDeclined, match="regbench weights fetch symnet-oasis"):
        method.prepare()


def test_it_runs_where_its_start_has_to() -> None:
    parameters = as_plain(targets.method_parameters("instance-optimise", {"start": "fireants-greedy"}, "x"))
    fireants = table.card("fireants-greedy")
    assert targets.method_card("instance-optimise", parameters).environment == fireants.environment
    home, alone = home_of("instance-optimise", None, parameters), home_of("fireants-greedy")
    assert home.python == alone.python
    assert home.version.endswith(f" from {alone.version}")


def test_settings_are_read_where_nothing_checks_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a start need not have pydantic."""

    def absent(*_: Any) -> Any:
        raise ModuleNotFoundError("No module named 'pydantic'")

    monkeypatch.setattr("regbench.methods.instance.check_similarity", absent)
    settings: Descent = AdamInstance(similarity={"lncc": {"window": 7}})
    assert settings._similarity().window == 7  # type: ignore[attr-defined]


def test_the_size_of_a_network_is_told_and_that_of_others_is_not() -> None:
    method: Any = start_of("voxelmorph-cohort")
    method.prepare()
    assert method.model_size()[0] > 10_000
    assert getattr(start_of("demons"), "model_size", None) is None
