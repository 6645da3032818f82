"""The simulated cohort: reproducible bytes, disjoint splits, a truth that is true, and a forgiving cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from regbench.datasets.diffeomorphisms import VelocityScales, correspondence, flow, random_velocity
from regbench.datasets.mni_cohort import SPLITS, Appearance, MniCohort
from regbench.datasets.mni_template import TISSUES, cortex_labels, load_template, parcel_table
from regbench.datasets.protocol import PairRef, select_pairs
from regbench.displacement import Displacement
from regbench.errors import ConfigError
from regbench.pair import Pair
from regbench.volume import Grid
from regbench.warp import sample_displacement, warp


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGBENCH_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module", params=[2, 3])
def cohort(request: pytest.FixtureRequest) -> MniCohort:
    # Slices are quick at 2 mm; volumes are coarse here.
    return MniCohort(ndim=request.param, spacing_mm={2: 2.0, 3: 6.0}[request.param], pairs="random:2")


@pytest.fixture(scope="module")
def pair(cohort: MniCohort) -> Pair:
    return cohort.load(cohort.pair_refs()[0])


# -- subjects and pairs -----------------------------------------------------------------------------------


def test_splits_are_disjoint_named_and_listed_without_images() -> None:
    cohort = MniCohort()
    names = {split: cohort.subjects(split) for split in SPLITS}
    assert names["train"][0] == "train-000"
    assert [len(names[split]) for split in ("train", "validation", "test")] == [256, 8, 24]
    everyone = [name for split in names.values() for name in split]
    assert len(set(everyone)) == len(everyone)
    assert all(ref.fixed in names["test"] and ref.moving in names["test"] for ref in cohort.pair_refs())


def test_subjects_of_different_splits_are_different_people() -> None:
    cohort = MniCohort(ndim=2, spacing_mm=4.0)
    images = [cohort.subject(f"{split}-000").image.array for split in SPLITS]
    assert np.abs(images[0] - images[1]).mean() > 0.02
    assert np.abs(images[1] - images[2]).mean() > 0.02


def test_one_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    base = MniCohort(ndim=2, spacing_mm=4.0)
    first, again = base._generate("test-003"), base._generate("test-003")
    assert all(first[key].tobytes() == again[key].tobytes() for key in first)
    other = MniCohort(ndim=2, spacing_mm=4.0, seed=1)._generate("test-003")
    assert np.abs(first["image"] - other["image"]).mean() > 0.02
    # What the cache gives back is what was generated.
    stored = base.subject("test-003")
    assert (base.subject("test-003").image.array == first["image"]).all()
    assert (stored.labels["parcels"].array == first["parcels"]).all()


def test_the_anatomy_does_not_depend_on_voxel_size_or_appearance() -> None:
    base = MniCohort(ndim=2, spacing_mm=4.0)
    fine = MniCohort(ndim=2, spacing_mm=2.0, appearance=Appearance(noise=0.1))
    assert (base.subject("test-001").to_template.vectors_mm == fine.subject("test-001").to_template.vectors_mm).all()


def test_the_fingerprint_follows_what_shapes_a_pair() -> None:
    ref = PairRef("a", "test-000", "test-001")
    cohorts = [
        MniCohort(),
        MniCohort(seed=1),
        MniCohort(spacing_mm=3.0),
        MniCohort(ndim=2),
        MniCohort(labels="tissues"),
        MniCohort(deformation=0.5),
        MniCohort(appearance=Appearance(noise=0.1)),
    ]
    prints = [cohort.fingerprint(ref) for cohort in cohorts]
    assert len(set(prints)) == len(prints)
    assert MniCohort(pairs="consecutive").fingerprint(ref) == prints[0]
    assert prints[0] != MniCohort().fingerprint(PairRef("b", "test-001", "test-000"))


def test_the_manifest_is_plain_data() -> None:
    import json

    manifest = MniCohort(pairs="random:1").manifest()
    assert json.loads(json.dumps(manifest)) == json.loads(json.dumps(dict(manifest)))
    assert len(manifest["subjects"]) == 2


def test_pair_protocols() -> None:
    names = ["a", "b", "c", "d"]
    assert select_pairs(names, "consecutive", 0, "x") == [("a", "b"), ("b", "c"), ("c", "d")]
    assert len(set(select_pairs(names, "all-ordered", 0, "x"))) == 12
    drawn = select_pairs(names, "random:5", 0, "x")
    assert drawn == select_pairs(names, "random:5", 0, "x")
    assert drawn != select_pairs(names, "random:5", 1, "x")
    assert len(set(drawn)) == 5
    assert all(fixed != moving for fixed, moving in drawn)


@pytest.mark.parametrize("protocol", ["random", "random:-1", "random:0", "random:13", "some", "random:2.5"])
def test_bad_pair_protocols_are_config_errors(protocol: str) -> None:
    with pytest.raises(ConfigError, match=r"^here: "):
        select_pairs(["a", "b", "c", "d"], protocol, 0, "here")


@pytest.mark.parametrize(
    "given",
    [{"ndim": 4}, {"split": "tset"}, {"labels": "all"}, {"spacing_mm": 0.5}, {"spacing_mm": 20}, {"deformation": -1}],
)
def test_bad_parameters_are_config_errors(given: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"datasets\.mni-cohort"):
        MniCohort(**given)  # type: ignore[arg-type]


# -- images and labels --------------------------------------------------------------------------------------


def test_pairs_have_images_labels_and_truth_on_one_grid(cohort: MniCohort, pair: Pair) -> None:
    assert pair.fixed.grid.ndim == cohort.ndim
    assert pair.truth is not None
    assert pair.fixed.grid.matches(pair.truth.grid)
    assert pair.moving.grid.matches(pair.fixed.grid)
    assert np.allclose(pair.fixed.grid.spacing_mm, cohort.spacing_mm)
    assert (pair.fixed_id, pair.moving_id) == tuple(pair.name.split("_"))


def test_there_are_thirty_parcels_with_left_and_right(cohort: MniCohort) -> None:
    labels = cohort.subject("test-000").labels["parcels"]
    assert len(labels.values) >= 30
    names = [labels.names[int(value)] for value in labels.values]
    left = {name.removeprefix("left ") for name in names if name.startswith("left ")}
    right = {name.removeprefix("right ") for name in names if name.startswith("right ")}
    assert left == right
    assert len(left) >= 15
    # Left parcels lie left of right ones, in RAS.
    points = labels.grid.world_points()[..., 0]
    for value, name in zip(labels.values, names, strict=True):
        if name.startswith("right ") and "cingulate" not in name:
            partner = next(int(v) for v in labels.values if labels.names[int(v)] == "left " + name[6:])
            assert points[labels.array == value].mean() > points[labels.array == partner].mean()


def _explained(image: np.ndarray, labels: np.ndarray) -> float:
    """The share of the intensity variance over labelled voxels that lies between the labels, 0 to 1."""
    image, labels = image[labels > 0].astype(float), labels[labels > 0]
    between = sum((labels == v).sum() * (image[labels == v].mean() - image.mean()) ** 2 for v in np.unique(labels))
    return float(between / ((image - image.mean()) ** 2).sum())


@pytest.mark.parametrize("name", ["test-000", "test-001", "test-002"])
def test_tissues_are_visible_in_the_image_and_cortical_parcels_much_less(name: str) -> None:
    subject = MniCohort(ndim=2).subject(name)
    tissues, cortex = subject.labels["tissues"], subject.labels["cortex"]
    assert set(tissues.values) == set(TISSUES)
    assert set(cortex.values) <= set(cortex_labels())
    means = [subject.image.array[tissues.array == t].mean() for t in (1, 2, 3)]
    assert means[0] < means[1] < means[2]
    visible = _explained(subject.image.array, tissues.array)
    assert visible > 0.5
    assert _explained(subject.image.array, cortex.array) < visible - 0.2


def test_every_parcel_of_the_table_exists_in_the_template() -> None:
    assert set(np.unique(load_template().parcels)) == {0, *parcel_table()}


def test_images_have_their_own_contrast_bias_and_noise() -> None:
    cohort = MniCohort(ndim=2)
    images = [cohort.subject(f"test-00{i}").image.array for i in range(4)]
    brightness = [float(image[image > 0].mean()) for image in images]
    assert np.std(brightness) > 0.01
    quiet = MniCohort(ndim=2, appearance=Appearance(noise=0.0, bias=0.0))
    noise = images[0] - quiet.subject("test-000").image.array
    assert 0.02 < noise[images[0] > 0.1].std() < 0.2
    assert (images[0] >= 0).all()
    assert images[0][0, 0] == 0


# -- the truth ----------------------------------------------------------------------------------------------


def test_the_truth_is_the_correspondence_through_the_template(cohort: MniCohort, pair: Pair) -> None:
    assert pair.truth is not None
    fixed, moving = cohort.subject(pair.fixed_id), cohort.subject(pair.moving_id)
    points = pair.fixed.grid.world_points()
    seen = points + sample_displacement(fixed.to_template, points)
    target = pair.truth.targets()
    reached = target + sample_displacement(moving.to_template, target)
    assert np.abs(reached - seen).max() < 1e-2


def test_the_truth_holds_for_every_neighbour_of_the_test_split() -> None:
    cohort = MniCohort(ndim=2, spacing_mm=4.0, pairs="consecutive")
    points = cohort.grid.world_points()
    for ref in cohort.pair_refs():
        truth, fixed, moving = cohort.load(ref).truth, cohort.subject(ref.fixed), cohort.subject(ref.moving)
        assert truth is not None
        reached = truth.targets() + sample_displacement(moving.to_template, truth.targets())
        assert np.abs(reached - points - sample_displacement(fixed.to_template, points)).max() < 1e-2, ref.id


def test_the_truth_aligns_the_labels(cohort: MniCohort, pair: Pair) -> None:
    assert pair.truth is not None
    assert pair.fixed_labels is not None
    assert pair.moving_labels is not None
    tissues = [cohort.subject(name).labels["tissues"] for name in (pair.fixed_id, pair.moving_id)]
    inside = tissues[0].array > 0

    def agreement(field: Displacement) -> float:
        return float((warp(tissues[1], field).array == tissues[0].array)[inside].mean())

    before, after = agreement(Displacement.identity(pair.fixed.grid)), agreement(pair.truth)
    # Nearest sampling of a coarse map twice costs voxels at borders, more at 6 mm.
    assert after > before + 0.1
    assert after > {2: 0.85, 3: 0.7}[cohort.ndim]


def test_the_truth_has_a_realistic_size_and_never_folds(cohort: MniCohort, pair: Pair) -> None:
    assert pair.truth is not None
    brain = pair.fixed.array > 0.05
    length = np.linalg.norm(pair.truth.vectors_mm, axis=-1)[brain]
    assert 2.0 < length.mean() < 10.0
    assert 6.0 < length.max() < 30.0
    steps = [
        np.diff(pair.truth.targets(), axis=axis)[tuple(slice(0, n - 1) for n in pair.fixed.grid.shape)]
        for axis in range(cohort.ndim)
    ]
    assert (np.linalg.det(np.stack(steps, axis=-1)) > 0).all()


def test_no_deformation_means_no_displacement() -> None:
    cohort = MniCohort(ndim=2, spacing_mm=4.0, deformation=0.0)
    pair = cohort.load(cohort.pair_refs()[0])
    assert pair.truth is not None
    assert pair.truth.max_mm == 0
    assert pair.fixed_labels is not None
    assert pair.moving_labels is not None
    assert (pair.fixed_labels.array == pair.moving_labels.array).all()


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_flow_and_its_inverse_cancel(ndim: int) -> None:
    grid = Grid.from_spacing((36,) * ndim, 4.0)
    strengths = (2.2, 1.8, 1.0)
    velocity = random_velocity(grid, VelocityScales(strengths_mm=strengths), np.random.default_rng(ndim))
    there, back = flow(velocity), flow(velocity, -1.0)
    assert there.max_mm > 4
    points = grid.world_points()
    middle = points + there.vectors_mm
    residual = np.linalg.norm(middle + sample_displacement(back, middle) - points, axis=-1)
    # Small against the 4 mm of the grid on which it is computed: a twentieth on average, half of it at worst.
    assert residual.mean() < 0.2
    assert residual.max() < 2.0
    # The map is the identity on the border of its grid.
    assert np.abs(there.vectors_mm[0]).max() == 0
    # Newton steps take the rest of the error out.
    identity = Displacement.identity(grid)
    solved = correspondence(identity, there, back, grid)
    reached = solved.targets() + sample_displacement(there, solved.targets())
    assert np.abs(reached - points).max() < 1e-2


def test_the_inverse_is_exact_up_to_interpolation() -> None:
    """The residual of a flow and its inverse vanishes as the grid gets finer."""
    residuals = []
    for n, spacing in ((19, 8.0), (37, 4.0), (73, 2.0)):
        grid = Grid.from_spacing((n, n), spacing)
        angle = grid.world_points() * (2 * np.pi / 144)
        window = np.prod(np.sin(angle / 2) ** 2, axis=-1, keepdims=True)
        velocity = Displacement(6 * window * np.sin(3 * angle)[..., ::-1], grid)
        there, back = flow(velocity), flow(velocity, -1.0)
        middle = grid.world_points() + there.vectors_mm
        left = middle + sample_displacement(back, middle) - grid.world_points()
        residuals.append(np.linalg.norm(left, axis=-1).mean())
    assert residuals[0] > 2 * residuals[1] > 4 * residuals[2]


# -- the cache ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 half a file", b"nonsense"])
def test_a_damaged_cache_file_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, damage: bytes
) -> None:
    monkeypatch.setenv("REGBENCH_CACHE", str(tmp_path))
    cohort = MniCohort(ndim=2, spacing_mm=8.0, pairs="random:1")
    ref = cohort.pair_refs()[0]
    good = cohort.load(ref)
    files = sorted((tmp_path / "mni-cohort").iterdir())
    assert len(files) == 3
    for path in files:
        path.write_bytes(damage)
    again = cohort.load(ref)
    assert (again.fixed.array == good.fixed.array).all()
    assert again.truth is not None
    assert good.truth is not None
    assert (again.truth.vectors_mm == good.truth.vectors_mm).all()
    assert "making it again" in caplog.text
    assert sorted((tmp_path / "mni-cohort").iterdir()) == files


def test_a_cut_cache_file_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGBENCH_CACHE", str(tmp_path))
    cohort = MniCohort(ndim=2, spacing_mm=8.0)
    good = cohort.subject("test-000").image.array
    (path,) = (tmp_path / "mni-cohort").iterdir()
    path.write_bytes(path.read_bytes()[:-200])
    assert (cohort.subject("test-000").image.array == good).all()


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REGBENCH_CACHE", str(tmp_path / "file"))
    assert MniCohort(ndim=2, spacing_mm=8.0).subject("test-000").image.array.max() > 0


def test_disjoint_pairs_share_no_subject_and_have_a_limit():
    chosen = select_pairs([f"s{i}" for i in range(24)], "disjoint:12", 0, "here")
    assert len({name for pair in chosen for name in pair}) == 24
    assert chosen != select_pairs([f"s{i}" for i in range(24)], "disjoint:12", 1, "here")
    with pytest.raises(ConfigError, match=r"here: 13 pairs .* 1 to 12 \(disjoint\)"):
        select_pairs([f"s{i}" for i in range(24)], "disjoint:13", 0, "here")
