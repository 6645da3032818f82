"""Images, label maps and landmarks in files: every format there and back, slices, and every kind of bad file."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from oblique_grids import oblique_grid, random_image, rotation

from regbench.errors import DatasetError, StoreError
from regbench.files import atomic
from regbench.files.images import files_of, read_image, read_labels, read_landmarks, write_image, write_labels
from regbench.files.planes import plane_grid
from regbench.volume import Grid, Image, Labels
from regbench.warp import sample_at


def _nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 2, 3, 1]) if affine is None else affine), path)
    return path


@pytest.fixture(scope="module")
def ramp() -> np.ndarray:
    return np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)


# -- there and back -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".npz", ".mha", ".nrrd"])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, ndim: int, suffix: str, seed: int) -> None:
    folder = tmp_path_factory.mktemp("round")
    rng = np.random.default_rng(seed)
    grid = oblique_grid(rng, ndim, rng.uniform(-50, 50, ndim))
    image = random_image(rng, grid)
    labels = Labels(rng.integers(0, 400, grid.shape), grid)
    write_image(folder / f"i{suffix}", image)
    write_labels(folder / f"l{suffix}", labels)
    image_back, labels_back = read_image(folder / f"i{suffix}"), read_labels(str(folder / f"l{suffix}"))
    assert (image_back.array == image.array).all()
    assert (labels_back.array == labels.array).all()
    # NIfTI holds affines in single precision.
    assert image_back.grid.matches(grid, 1e-4)
    assert labels_back.grid.matches(image_back.grid, 1e-9)
    assert sorted(p.name for p in folder.iterdir()) == sorted([f"i{suffix}", f"l{suffix}"])


def test_simpleitk_sees_our_nifti_where_we_see_it(tmp_path: Path) -> None:
    from regbench.files.itk import grid_of

    grid = oblique_grid(np.random.default_rng(1), 3, np.zeros(3))
    write_image(tmp_path / "a.nii.gz", random_image(np.random.default_rng(2), grid))
    assert grid_of(sitk.ReadImage(str(tmp_path / "a.nii.gz"))).matches(grid, 1e-3)


def test_a_sheared_grid_survives_in_nifti_and_is_refused_by_mha(tmp_path: Path) -> None:
    affine = np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]])
    image = Image(np.zeros((3, 4, 5)), Grid((3, 4, 5), affine))
    write_image(tmp_path / "a.nii", image)
    assert read_image(tmp_path / "a.nii").grid.matches(image.grid, 1e-5)
    with pytest.raises(DatasetError, match="right angles"):
        write_image(tmp_path / "a.mha", image)
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii"]


def test_a_trailing_axis_of_one_is_dropped_and_scaling_is_applied(tmp_path: Path, ramp: np.ndarray) -> None:
    image = read_image(_nifti(tmp_path / "a.nii.gz", ramp[..., None]))
    assert image.array.shape == (4, 5, 6)
    assert tuple(image.grid.spacing_mm) == (1, 2, 3)
    scaled = nib.Nifti1Image(ramp.astype(np.int16), np.eye(4))
    scaled.header.set_slope_inter(2.0, 1.0)
    nib.save(scaled, tmp_path / "b.nii")
    raw = nib.load(tmp_path / "b.nii")
    assert (read_image(tmp_path / "b.nii").array == np.asarray(raw.dataobj, np.float32)).all()


def test_npz_arrays_under_the_usual_names(tmp_path: Path, ramp: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", vol=ramp, seg=(ramp > 5).astype(float), affine=np.diag([2.0, 2, 2, 1]))
    assert (read_image(tmp_path / "a.npz").array == ramp).all()
    assert read_labels(tmp_path / "a.npz").array.sum() == (ramp > 5).sum()
    assert tuple(read_labels(tmp_path / "a.npz").grid.spacing_mm) == (2, 2, 2)
    np.savez(tmp_path / "b.npz", anything=ramp)
    assert tuple(read_image(tmp_path / "b.npz").grid.spacing_mm) == (1, 1, 1)
    np.save(tmp_path / "c.npy", ramp[:, :, 0])
    assert read_image(tmp_path / "c.npy").grid.shape == (4, 5)
    np.savez(tmp_path / "d.npz", one=ramp, two=ramp)
    with pytest.raises(DatasetError, match="holds one, two; name its array vol"):
        read_image(tmp_path / "d.npz")


# -- Analyze --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [False, True])
def test_analyze_pairs_with_either_data_file(tmp_path: Path, ramp: np.ndarray, compressed: bool) -> None:
    image = nib.AnalyzeImage(ramp[..., None].astype(np.int16), np.diag([-0.8, 1.5, 0.8, 1]))
    nib.save(image, tmp_path / "S01.brain.img")
    data = tmp_path / "S01.brain.img"
    if compressed:
        (tmp_path / "S01.brain.img.gz").write_bytes(gzip.compress(data.read_bytes()))
        data.unlink()
        data = tmp_path / "S01.brain.img.gz"
    for path in (tmp_path / "S01.brain.hdr", data):
        found = read_image(path)
        assert (found.array == ramp).all()
        assert np.allclose(found.grid.spacing_mm, [0.8, 1.5, 0.8])
        assert found.grid.orientation == "LAS"
        assert files_of(path) == [tmp_path / "S01.brain.hdr", data]
    data.unlink()
    with pytest.raises(DatasetError, match=r"S01.brain.hdr: its other half S01.brain.img is missing"):
        read_image(tmp_path / "S01.brain.hdr")
    with pytest.raises(DatasetError, match="other half"):
        files_of(tmp_path / "S01.brain.hdr")


def test_nifti_pairs_keep_their_affine(tmp_path: Path, ramp: np.ndarray) -> None:
    nib.save(nib.Nifti1Pair(ramp, np.diag([1.0, 2, 3, 1])), tmp_path / "a.img")
    assert read_image(tmp_path / "a.hdr").grid.orientation == "RAS"


def test_header_and_data_files_of_meta_images_belong_together(tmp_path: Path, ramp: np.ndarray) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(ramp), str(tmp_path / "a.mhd"))
    assert files_of(tmp_path / "a.mhd") == [tmp_path / "a.mhd", tmp_path / "a.raw"]
    assert files_of(tmp_path / "a.nii.gz") == [tmp_path / "a.nii.gz"]


# -- slices ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("axis", "rows"), [(0, [1, 2]), (1, [0, 2]), (2, [0, 1])])
def test_a_singleton_axis_makes_an_image_two_dimensional(tmp_path: Path, axis: int, rows: list[int]) -> None:
    shape = [5, 6, 7]
    shape[axis] = 1
    affine = np.array([[-1.0, 0, 0, 80], [0, 2, 0, -12], [0, 0, 3, 96], [0, 0, 0, 1]])
    image = read_image(_nifti(tmp_path / "s.nii.gz", np.ones(shape, np.float32), affine))
    assert image.grid.shape == tuple(n for n in shape if n > 1)
    assert (image.grid.affine == affine[np.ix_([*rows, 3], [*rows, 3])]).all()


def test_a_two_dimensional_nifti_is_read_and_written(tmp_path: Path) -> None:
    image = read_image(_nifti(tmp_path / "s.nii", np.ones((5, 6), np.float32)))
    assert image.grid.shape == (5, 6)
    write_image(tmp_path / "t.nii.gz", image)
    assert nib.load(tmp_path / "t.nii.gz").shape == (5, 6)
    assert read_image(tmp_path / "t.nii.gz").grid.matches(image.grid)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_slices_of_one_plane_share_one_space_whatever_their_axes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame, start = rotation(rng, 3), rng.uniform(-50, 50, 3)
    points = start + rng.uniform(-20, 20, (30, 2)) @ frame[:, :2].T
    flat = []
    for _ in range(2):
        turn = rotation(rng, 2)
        affine = np.eye(4)
        affine[:3, :2] = frame[:, :2] @ turn * rng.uniform(0.5, 3, 2)
        affine[:3, 2] = frame[:, 2] * rng.uniform(1, 5)
        affine[:3, 3] = start + frame[:, :2] @ rng.uniform(-9, 9, 2)
        grid = plane_grid((5, 6), affine, (0, 1))
        assert np.allclose(grid.spacing_mm, np.linalg.norm(affine[:3, :2], axis=0), rtol=1e-6)
        voxel = np.linalg.lstsq(affine[:3, :2], (points - affine[:3, 3]).T, rcond=None)[0].T
        flat.append(grid.to_world(voxel))
    assert np.allclose(flat[0], flat[1], atol=1e-3)


def test_a_plane_with_parallel_axes_is_refused() -> None:
    with pytest.raises(DatasetError, match="not invertible"):
        plane_grid((3, 3), np.array([[1.0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]]), (0, 1))


# -- bad files ------------------------------------------------------------------------------------------


def _bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """A damaged or unsuitable file of every kind, with words of the sentence that it should give."""
    rng = np.random.default_rng(0)
    good = _nifti(folder / "good.nii.gz", rng.standard_normal((20, 20, 20)).astype(np.float32))
    (folder / "truncated.nii.gz").write_bytes(good.read_bytes()[:5000])
    (folder / "corrupt.nii.gz").write_bytes(bytes(rng.integers(0, 256, 4000, dtype=np.uint8)))
    (folder / "text.nii").write_text("this is not an image\n" * 50)
    plain = _nifti(folder / "plain.nii", np.ones((20, 20, 20), np.float32))
    (folder / "short.nii").write_bytes(plain.read_bytes()[:2000])
    (folder / "empty.nii.gz").touch()
    (folder / "folder.nii").mkdir()
    (folder / "broken.npz").write_bytes(b"PK not a zip")
    (folder / "broken.mha").write_text("ObjectType = Image\nNDims = 3\n")
    np.savez(folder / "pickled.npz", vol=np.array([{"a": 1}], dtype=object))
    (folder / "photo.png").write_bytes(b"\x89PNG")
    nan = np.ones((4, 4, 4), np.float32)
    nan[0, 0, :3] = np.nan
    _nifti(folder / "nan.nii.gz", nan)
    colours = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    _nifti(folder / "rgb.nii.gz", colours)
    _nifti(folder / "series.nii.gz", np.zeros((4, 4, 4, 3), np.float32))
    _nifti(folder / "complex.nii.gz", np.zeros((4, 4, 4), np.complex64))
    flat = nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), None)
    flat.header.set_sform(np.diag([0.0, 1, 1, 1]), 1)
    nib.save(flat, folder / "flat.nii")
    return {
        "missing.nii.gz": (folder / "missing.nii.gz", "no such file"),
        **{
            name: (folder / name, words)
            for name, words in (
                ("truncated.nii.gz", "cannot be read"),
                ("corrupt.nii.gz", "cannot be read"),
                ("text.nii", "cannot be read"),
                ("short.nii", "cannot be read"),
                ("empty.nii.gz", "is empty"),
                ("folder.nii", "is a folder"),
                ("broken.npz", "cannot be read"),
                ("broken.mha", "cannot be read"),
                ("pickled.npz", "cannot be read"),
                ("photo.png", "picture"),
                ("nan.nii.gz", "3 of 64 voxels are NaN"),
                ("rgb.nii.gz", "colours"),
                ("series.nii.gz", "4x4x4x3 values"),
                ("complex.nii.gz", "not real numbers"),
                ("flat.nii", "not invertible"),
            )
        },
    }


def test_each_bad_image_gives_one_sentence_with_its_path(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for path, words in _bad_files(tmp_path).values():
        with pytest.raises(DatasetError) as caught:
            read_image(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: "), message
        assert words in message, message
        assert "\n" not in message
        assert len(message) < 400
    assert capfd.readouterr().out == ""


def test_labels_must_be_whole_numbers(tmp_path: Path, ramp: np.ndarray) -> None:
    assert read_labels(_nifti(tmp_path / "float.nii.gz", ramp)).array.dtype == np.uint8
    for name, array, words in (
        ("half", ramp + 0.5, "not whole numbers"),
        ("negative", -ramp, "between 0 and"),
        ("nan", np.where(ramp == 3, np.nan, ramp), "not whole numbers"),
    ):
        with pytest.raises(DatasetError, match=words) as caught:
            read_labels(_nifti(tmp_path / f"{name}.nii.gz", array.astype(np.float32)))
        assert str(caught.value).startswith(str(tmp_path / f"{name}.nii.gz"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path: Path, ramp: np.ndarray) -> None:
    path = _nifti(tmp_path / "a.nii", ramp)
    path.chmod(0)
    with pytest.raises(DatasetError, match=r"a\.nii"):
        read_image(path)


# -- writing --------------------------------------------------------------------------------------------


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_text("old")
    with (
        pytest.raises(StoreError, match=r"a.npz: cannot be written \(No space left on device\)"),
        atomic.replaced(path) as part,
    ):
        part.write_text("half")
        raise OSError(28, "No space left on device")
    with pytest.raises(KeyboardInterrupt), atomic.replaced(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_places_and_formats_that_cannot_be_written(tmp_path: Path) -> None:
    image = Image(np.zeros((3, 3, 3)), Grid.from_spacing((3, 3, 3)))
    (tmp_path / "file").write_text("")
    for suffix in (".nii.gz", ".mha", ".npz"):
        with pytest.raises(StoreError, match="cannot be written"):
            write_image(tmp_path / "file" / f"a{suffix}", image)
    with pytest.raises(StoreError, match=r"cannot write '.mhd' files"):
        write_image(tmp_path / "a.mhd", image)


def test_suffixes() -> None:
    assert atomic.full_suffix(Path("S01.brain.IMG.gz")) == ".img.gz"
    assert atomic.stem_of(Path("S01.brain.nii.gz")) == "S01.brain"
    assert atomic.stem_of(Path("plain")) == "plain"


# -- landmarks ------------------------------------------------------------------------------------------


GRID = Grid((10, 20, 30), np.array([[-2.0, 0, 0, 5], [0, 3, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]]))


def _csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "points.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text", ["1,2,3\n4,5,6.5\n", "x,y,z\n1,2,3\n4,5,6.5\n\n", "\ufeff,Y,X,Z\np1,2,1,3\np2,5,4,6.5\n"]
)
def test_landmarks_are_voxel_coordinates_of_their_image(tmp_path: Path, text: str) -> None:
    points = read_landmarks(_csv(tmp_path, text), GRID).points_mm
    assert np.allclose(points, [[3, 12, 19], [-3, 21, 33]])


def test_landmark_voxels_hit_the_voxels_of_the_image(tmp_path: Path) -> None:
    array = np.zeros(GRID.shape, np.uint8)
    array[1, 2, 3] = 7
    point = read_landmarks(_csv(tmp_path, "1.000,2.000,3.000\n"), GRID).points_mm
    assert sample_at(Labels(array, GRID), point)[0] == 7


def test_landmarks_in_mm_say_so(tmp_path: Path) -> None:
    points = read_landmarks(_csv(tmp_path, "landmark,x_mm,y_mm,z_mm\n1,3,12,19\n"), GRID).points_mm
    assert np.allclose(points, [[3, 12, 19]])


def test_two_dimensional_landmarks(tmp_path: Path) -> None:
    grid = Grid.from_spacing((10, 10), 2.0)
    assert np.allclose(read_landmarks(_csv(tmp_path, "1,2\n"), grid).points_mm, [[2, 4]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (",,\n", "has no landmarks"),
        ("a,b,c\n1,2,3\n", "not understood"),
        ("1,2\n", "not understood"),
        ("x,y,z\n1,2\n", "line 2"),
        ("1,2,3\n1,two,3\n", "line 2"),
        ("1,2,3\n1,nan,3\n", "line 2"),
        ("1,2,3\n1,-20,3\n", "landmark 2 lies outside"),
        ("x_mm,y_mm,z_mm\n100,0,0\n", "landmark 1 lies outside"),
    ],
)
def test_bad_landmark_files(tmp_path: Path, text: str, words: str) -> None:
    path = _csv(tmp_path, text)
    with pytest.raises(DatasetError, match=words) as caught:
        read_landmarks(path, GRID)
    assert str(caught.value).startswith(f"{path}: ")


# -- real files -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> Path:
    folder = os.environ.get("REGBENCH_DATA")
    if not folder:
        pytest.skip("$REGBENCH_DATA is not set")
    return Path(folder)


@pytest.mark.real
def test_real_files_of_every_layout(real: Path) -> None:
    oasis = real / "neurite_oasis" / "OASIS_OAS1_0001_MR1"
    assert read_image(oasis / "aligned_norm.nii.gz").grid.describe() == "160x192x224 voxels of 1x1x1 mm, LIA"
    assert len(read_labels(oasis / "aligned_seg35.nii.gz").values) == 35
    assert read_image(oasis / "slice_norm.nii.gz").grid.shape == (160, 192)
    loni = real / "layouts/LPBA40_loni_quarter/LPBA40/delineation_space/S05"
    brain = read_image(loni / "S05.delineation.skullstripped.hdr")
    labels = read_labels(loni / "S05.delineation.structure.label.hdr")
    assert brain.grid.matches(labels.grid)
    assert len(labels.values) > 40
    assert brain.array[labels.array > 0].mean() > 2 * brain.array[labels.array == 0].mean()
    atlas = real / "slices_2d"
    image = read_image(atlas / "Atlases/OASIS-TRT-20-1_slice118.nii.gz")
    assert read_labels(atlas / "Labels/OASIS-TRT-20-1_DKT31_CMA_labels_slice118.nii.gz").grid.matches(image.grid)
    pair = real / "voxelmorph_pair"
    assert read_image(pair / "test_scan.npz").grid.shape == read_labels(pair / "subject_1_seg.npz").grid.shape
    lung = real / "learn2reg_layout/L2RTest/ground-truth"
    mask = read_labels(lung / "masksTr/LungCT_0001_0000.nii.gz")
    points = lung / "landmarksTr/LungCT_0001_0000.csv"
    assert len(read_landmarks(points, mask.grid)) == len(points.read_text().split())
