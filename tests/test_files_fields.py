"""Displacement fields in files: every format there and back, agreement with ITK and ANTs, and doubtful files."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from oblique_grids import oblique_grid, random_field, random_image, registrations, rotation

from regbench.displacement import Displacement
from regbench.errors import DatasetError, InvalidDisplacement, StoreError
from regbench.files import itk
from regbench.files.fields import FORMATS, load_field, read_ants_transforms, read_itk_warp, save_field, write_itk_warp
from regbench.files.images import write_image
from regbench.volume import Grid
from regbench.warp import warp

FIXED = Grid.from_spacing((6, 7, 8), (1.0, 2.0, 1.5))


def _field(grid: Grid = FIXED) -> Displacement:
    return random_field(np.random.default_rng(3), grid)


def _save(path: Path, array: np.ndarray, intent: int = 0, affine: np.ndarray | None = None) -> Path:
    image = nib.Nifti1Image(array, FIXED.affine if affine is None else affine)
    image.header["intent_code"] = intent
    nib.save(image, path)
    return path


# -- there and back -------------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(case=registrations())
def test_every_format_returns_the_field(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[Displacement, Grid]
) -> None:
    field, moving = case
    folder = tmp_path_factory.mktemp("fields")
    for format in FORMATS:
        if format == "itk-transform" or (format.startswith("fsl") and field.grid.ndim == 2):
            continue
        for suffix in (".npz", ".nii.gz", ".mha", ".nrrd"):
            path = folder / f"{format}{suffix}"
            try:
                save_field(path, field, format, moving, exact=True)
            except StoreError:
                assert not path.exists()
                continue
            back = load_field(path, field.grid, moving, format)
            assert np.abs(back.vectors_mm - field.vectors_mm).max() < 2e-4, path.name
    written = {path.name for path in folder.iterdir()}
    assert {"regbench.npz", "itk.nii.gz", "itk.mha", "itk.nrrd", "learn2reg.nii.gz", "voxelmorph.npz"} <= written


def test_the_default_format_is_half_precision_with_a_known_error(tmp_path: Path) -> None:
    field = _field()
    save_field(tmp_path / "u.npz", field)
    back = load_field(tmp_path / "u.npz", FIXED, FIXED)
    error = np.abs(back.vectors_mm - field.vectors_mm)
    assert error.max() > 0
    assert (error <= np.abs(field.vectors_mm) / 2048 + 1e-7).all()
    large = Displacement(np.full((*FIXED.shape, 3), 70000.0), FIXED)
    save_field(tmp_path / "large.npz", large)
    assert (load_field(tmp_path / "large.npz", FIXED, FIXED).vectors_mm == 70000).all()


def test_formats_are_detected_where_they_are_certain(tmp_path: Path) -> None:
    field, moving = _field(), oblique_grid(np.random.default_rng(1), 3, np.array([3.0, 6, 6]))
    for name, format in (
        ("a.npz", "regbench"),
        ("b.npz", "learn2reg"),
        ("disp_0001_0002.nii.gz", "learn2reg"),
        ("c.npz", "voxelmorph"),
        ("d.nii.gz", "voxelmorph"),
        ("e.nii.gz", "itk"),
        ("f.mha", "itk"),
    ):
        save_field(tmp_path / name, field, format, moving, exact=True)
        back = load_field(tmp_path / name, FIXED, moving)
        assert np.abs(back.vectors_mm - field.vectors_mm).max() < 1e-4, name
    half = np.broadcast_to(np.float16(1), (3, 3, 4, 4))
    even = Grid.from_spacing((6, 8, 8))
    np.savez(tmp_path / "old.npz", half)
    assert np.allclose(load_field(tmp_path / "old.npz", even, even).vectors_mm, 1, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "intent", "words"),
    [
        ((6, 7, 8, 3), 0, "learn2reg or fsl-relative or fsl-absolute"),
        ((6, 7, 8, 3), 2006, "fsl-relative or fsl-absolute"),
        ((6, 7, 8, 1, 3), 0, "which format: itk"),
        ((6, 7, 8, 3), 2007, "fnirtfileutils"),
        ((6, 7, 8, 4), 0, "fits no format"),
        ((6, 7, 9, 3), 0, "fits no format"),
    ],
)
def test_doubtful_nifti_files_name_the_formats(tmp_path: Path, shape: tuple[int, ...], intent: int, words: str) -> None:
    path = _save(tmp_path / "u.nii.gz", np.zeros(shape, np.float32), intent)
    with pytest.raises((DatasetError, InvalidDisplacement), match=words) as caught:
        load_field(path, FIXED, FIXED)
    assert str(caught.value).startswith(f"{path}: ")


def test_doubtful_arrays_name_the_formats(tmp_path: Path) -> None:
    np.savez(tmp_path / "g.npz", np.zeros((1, 6, 7, 8, 3)))
    with pytest.raises(DatasetError, match="grid-sample-aligned or grid-sample-unaligned"):
        load_field(tmp_path / "g.npz", FIXED, FIXED)
    cube = Grid.from_spacing((3, 3, 3))
    np.savez(tmp_path / "c.npz", np.zeros((3, 3, 3, 3)))
    with pytest.raises(DatasetError, match="learn2reg or voxelmorph"):
        load_field(tmp_path / "c.npz", cube, cube)
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(DatasetError, match="holds a, b"):
        load_field(tmp_path / "two.npz", FIXED, FIXED)
    with pytest.raises(DatasetError, match="unknown field format 'itkk'"):
        load_field(tmp_path / "two.npz", FIXED, FIXED, "itkk")


def _niftyreg(path: Path, vectors: np.ndarray, affine: np.ndarray, kind: int) -> Path:
    """A file as NiftyReg writes its transformations: 5-D, a vector, with a name and a kind of its own."""
    image = nib.Nifti1Image(vectors.astype(np.float32), affine)
    image.header.set_intent(1007, (), "NREG_TRANS")
    image.header["intent_p1"] = kind
    nib.save(image, path)
    return path


@pytest.mark.parametrize("ndim", [2, 3])
def test_niftyreg_fields_are_positions_or_displacements_in_ras(ndim: int, tmp_path: Path) -> None:
    """The same map from scratch: voxel by voxel, x + u(x) with x from the affine of the file."""
    rng = np.random.default_rng(6)
    grid = oblique_grid(rng, ndim, np.full(ndim, 20.0))
    affine = np.eye(4)
    affine[:ndim, :ndim], affine[:ndim, 3] = grid.linear, grid.origin_mm
    u = rng.uniform(-5, 5, (*grid.shape, ndim))
    positions = np.empty_like(u)
    for index in np.ndindex(*grid.shape):
        positions[index] = (affine @ [*index, *[0] * (3 - ndim), 1])[:ndim] + u[index]
    layout = (*grid.shape, *[1] * (4 - ndim), ndim)
    files = {
        "niftyreg-deformation": _niftyreg(tmp_path / "def.nii.gz", positions.reshape(layout), affine, 0),
        "niftyreg-displacement": _niftyreg(tmp_path / "disp.nii.gz", u.reshape(layout), affine, 1),
    }
    moving = oblique_grid(rng, ndim, np.full(ndim, 20.0))
    for format, path in files.items():
        for given_format in (None, format):
            found = load_field(path, grid, moving, given_format)
            np.testing.assert_allclose(found.vectors_mm, u, atol=1e-4)


def test_niftyreg_files_are_not_taken_for_anything_else(tmp_path: Path) -> None:
    zeros = np.zeros((6, 7, 8, 1, 3))
    path = _niftyreg(tmp_path / "n.nii.gz", zeros, FIXED.affine, 0)
    with pytest.raises(DatasetError, match="holds a niftyreg-deformation, not an ITK warp"):
        load_field(path, FIXED, FIXED, "itk")
    with pytest.raises(DatasetError, match="holds a niftyreg-deformation, not a niftyreg-displacement"):
        load_field(path, FIXED, FIXED, "niftyreg-displacement")
    with pytest.raises(DatasetError, match="not an ITK warp"):
        read_ants_transforms([path], FIXED)
    for kind in (2, 5):
        with pytest.raises(DatasetError, match=rf"control points or velocities of NiftyReg .* {kind}\), not a field"):
            load_field(_niftyreg(tmp_path / f"{kind}.nii.gz", zeros, FIXED.affine, kind), FIXED, FIXED)


def _deeds(path: Path, blocks: np.ndarray) -> Path:
    """The file of deedsBCV: (3, *points) as little-endian floats, blocks one after the other, first axis fastest."""
    path.write_bytes(b"".join(block.astype("<f4").tobytes(order="F") for block in blocks))
    return path


@pytest.mark.parametrize("step", [1, 3, 4])
def test_deeds_fields_are_enlarged_as_its_program_does(step: int, tmp_path: Path) -> None:
    """Voxel by voxel: eight neighbours on the coarse grid, none beyond its last point."""
    rng = np.random.default_rng(step)
    shape = (13, 11, 9)
    points = tuple(n // step for n in shape)
    blocks = rng.uniform(-3, 3, (3, *points))
    fixed = Grid(shape, oblique_grid(rng, 3, np.zeros(3)).affine)
    moving = Grid(shape, oblique_grid(rng, 3, np.zeros(3)).affine)

    def enlarged(block: np.ndarray, index: tuple[int, ...]) -> float:
        place = [i / (n / p) for i, n, p in zip(index, shape, points, strict=True)]
        total = 0.0
        for corner in np.ndindex(2, 2, 2):
            weight, at = 1.0, []
            for where, step_up, p in zip(place, corner, points, strict=True):
                low = int(np.floor(where))
                weight *= (where - low) if step_up else 1 - (where - low)
                at.append(min(low + step_up, p - 1))
            total += weight * block[tuple(at)]
        return total

    found = load_field(_deeds(tmp_path / "a_displacements.dat", blocks), fixed, moving).in_voxels(moving)
    for index in [(0, 0, 0), (12, 10, 8), (5, 7, 2), (3, 0, 8), (8, 4, 4)]:
        # The first block runs along the second axis of the image, the second along the first.
        wanted = [enlarged(blocks[block], index) for block in (1, 0, 2)]
        np.testing.assert_allclose(found[index], wanted, atol=1e-4)


def test_deeds_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = _deeds(tmp_path / "a_displacements.dat", np.zeros((3, 5, 5, 5)))
    cube = Grid.from_spacing((10, 10, 10))
    assert load_field(path, cube, cube).max_mm == 0
    with pytest.raises(InvalidDisplacement, match=r"375 numbers do not fill .* of shape \(6, 7, 8\)"):
        load_field(path, FIXED, FIXED)
    with pytest.raises(InvalidDisplacement, match="two 3-D images of one shape"):
        load_field(path, cube, FIXED)
    with pytest.raises(InvalidDisplacement, match="1 of 375 components are NaN"):
        load_field(_deeds(path, np.where(np.arange(375) == 7, np.nan, 0.0).reshape(3, 5, 5, 5)), cube, cube)


@pytest.mark.parametrize("format", ["deeds", "niftyreg-deformation", "itk-transform", "itkk"])
def test_formats_that_are_only_read_are_not_written(format: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"cannot be written as '{format}'; known: regbench, itk, learn2reg"):
        save_field(tmp_path / "u.nii.gz", _field(), format, FIXED)


def test_a_field_of_another_fixed_image_or_with_nan_is_invalid(tmp_path: Path) -> None:
    save_field(tmp_path / "u.npz", _field())
    with pytest.raises(InvalidDisplacement, match="made for a fixed image of 6x7x8"):
        load_field(tmp_path / "u.npz", Grid.from_spacing((6, 7, 8)), FIXED)
    array = np.zeros((6, 7, 8, 3), np.float32)
    array[0, 0, 0, 0] = np.inf
    np.savez(tmp_path / "nan.npz", array)
    with pytest.raises(InvalidDisplacement, match=r"nan\.npz: .*1 of 1008 components are NaN"):
        load_field(tmp_path / "nan.npz", FIXED, FIXED)


def test_unreadable_field_files_are_named(tmp_path: Path) -> None:
    save_field(tmp_path / "good.nii.gz", _field())
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "good.nii.gz").read_bytes()[:900])
    (tmp_path / "bad.npz").write_bytes(b"PK")
    (tmp_path / "bad.mat").write_text("nothing")
    (tmp_path / "empty.mha").touch()
    for name in ("cut.nii.gz", "bad.npz", "bad.mat", "empty.mha", "missing.npz"):
        with pytest.raises(DatasetError) as caught:
            load_field(tmp_path / name, FIXED, FIXED)
        assert str(caught.value).startswith(str(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_fields_that_cannot_be_written_say_why(tmp_path: Path) -> None:
    for name, format, words in (
        ("u.txt", None, "cannot write a field as"),
        ("u.npz", "learn2reg", "give its grid"),
    ):
        with pytest.raises(StoreError, match=words):
            save_field(tmp_path / name, _field(), format)
    with pytest.raises(StoreError, match="cannot be written as"):
        save_field(tmp_path / "u.nii.gz", _field(), "grid-sample-aligned", FIXED)
    with pytest.raises(StoreError, match="known:"):
        save_field(tmp_path / "u.npz", _field(), "elastix", FIXED)


# -- ITK and ANTs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [2, 3])
def test_simpleitk_reads_our_warp_as_we_mean_it(tmp_path: Path, ndim: int) -> None:
    rng = np.random.default_rng(ndim)
    grid = oblique_grid(rng, ndim, np.zeros(ndim))
    field = _field(grid)
    write_itk_warp(tmp_path / "w.nii.gz", field)
    image = sitk.ReadImage(str(tmp_path / "w.nii.gz"))
    assert image.GetDimension() == ndim
    read = itk.displacement_from_sitk(image, grid)
    assert np.abs(read.vectors_mm - field.vectors_mm).max() < 1e-4
    sitk.WriteImage(image, str(tmp_path / "theirs.nii.gz"))
    assert np.abs(read_itk_warp(tmp_path / "theirs.nii.gz", grid).vectors_mm - field.vectors_mm).max() < 1e-4


def test_intent_1006_holds_ras_vectors_for_itk_and_for_us(tmp_path: Path) -> None:
    vectors = np.broadcast_to(np.float32([1, 2, 3]), (6, 7, 8, 3))[:, :, :, None]
    for intent, expected in ((1007, [-1, -2, 3]), (1006, [1, 2, 3])):
        path = _save(tmp_path / f"{intent}.nii.gz", vectors, intent)
        ours = load_field(path, FIXED, FIXED).vectors_mm
        theirs = itk.displacement_from_sitk(sitk.ReadImage(str(path)), FIXED).vectors_mm
        assert np.allclose(ours, expected)
        assert np.allclose(theirs, expected)


def test_a_warp_on_another_grid_is_interpolated(tmp_path: Path) -> None:
    coarse = Grid.from_spacing((5, 5, 5), 4.0)
    linear = Displacement(coarse.world_points() @ np.diag([0.1, -0.05, 0.2]) + [1, 2, 3], coarse)
    write_itk_warp(tmp_path / "w.nii.gz", linear)
    found = read_itk_warp(tmp_path / "w.nii.gz", FIXED)
    assert np.allclose(found.vectors_mm, FIXED.world_points() @ np.diag([0.1, -0.05, 0.2]) + [1, 2, 3], atol=1e-5)


def _affine_matrix(rng: np.random.Generator, ndim: int) -> np.ndarray:
    matrix = np.eye(ndim + 1)
    matrix[:ndim, :ndim] += 0.05 * rotation(rng, ndim)
    matrix[:ndim, ndim] = rng.uniform(-2, 2, ndim)
    return matrix


@pytest.mark.parametrize("ndim", [2, 3])
def test_ants_lists_are_composed_in_their_order(tmp_path: Path, ndim: int) -> None:
    rng = np.random.default_rng(ndim)
    fixed = Grid.from_spacing((9,) * ndim, 1.5)
    field, matrix = _field(fixed), _affine_matrix(rng, ndim)
    write_itk_warp(tmp_path / "1Warp.nii.gz", field)
    sitk.WriteTransform(itk.affine_to_sitk(matrix), str(tmp_path / "0GenericAffine.mat"))
    paths = [tmp_path / "1Warp.nii.gz", tmp_path / "0GenericAffine.mat"]
    found = read_ants_transforms(paths, fixed)
    assert np.abs(found.vectors_mm - field.then(matrix).vectors_mm).max() < 1e-5
    # The other way round the warp is read where the affine leads to.
    chain = sitk.CompositeTransform(
        [sitk.DisplacementFieldTransform(itk.displacement_to_sitk(field)), itk.affine_to_sitk(np.linalg.inv(matrix))]
    )
    inverse = read_ants_transforms(paths[::-1], fixed, invert=[True, False])
    assert np.abs(inverse.vectors_mm - itk.displacement_of_transform(chain, fixed).vectors_mm).max() < 1e-4
    alone = load_field(paths[1], fixed, fixed)
    assert np.abs(alone.vectors_mm - Displacement.from_affine(matrix, fixed).vectors_mm).max() < 1e-5


def test_bad_transform_lists(tmp_path: Path) -> None:
    write_itk_warp(tmp_path / "w.nii.gz", _field())
    sitk.WriteTransform(sitk.AffineTransform(2), str(tmp_path / "flat.mat"))
    with pytest.raises(DatasetError, match="0 files"):
        read_ants_transforms([], FIXED)
    with pytest.raises(DatasetError, match=r"w\.nii\.gz: a warp cannot be inverted"):
        read_ants_transforms([tmp_path / "w.nii.gz"], FIXED, [True])
    with pytest.raises(InvalidDisplacement, match="2-D, the fixed image 3-D"):
        read_ants_transforms([tmp_path / "flat.mat"], FIXED)
    with pytest.raises(DatasetError, match="no such file"):
        read_ants_transforms([tmp_path / "no.mat"], FIXED)


def test_ants_applies_our_files_as_we_warp(tmp_path: Path) -> None:
    ants = pytest.importorskip("ants")
    rng = np.random.default_rng(8)
    fixed, moving = (oblique_grid(rng, 3, np.zeros(3), 10, 14) for _ in range(2))
    image, field = random_image(rng, moving), random_field(rng, fixed, 2.0)
    matrix = _affine_matrix(rng, 3)
    write_image(tmp_path / "moving.nii.gz", image)
    write_image(tmp_path / "fixed.nii.gz", random_image(rng, fixed))
    write_itk_warp(tmp_path / "1Warp.nii.gz", field)
    sitk.WriteTransform(itk.affine_to_sitk(matrix), str(tmp_path / "0GenericAffine.mat"))
    paths = [str(tmp_path / "1Warp.nii.gz"), str(tmp_path / "0GenericAffine.mat")]
    theirs = ants.apply_transforms(
        ants.image_read(str(tmp_path / "fixed.nii.gz")), ants.image_read(str(tmp_path / "moving.nii.gz")), paths
    ).numpy()
    total = read_ants_transforms(paths, fixed)
    ours = warp(image, total).array
    voxel = moving.to_voxel(total.targets())
    inside = np.all((voxel > 0.01) & (voxel < np.array(moving.shape) - 1.01), axis=-1)
    assert inside.sum() > 200
    assert np.abs(ours - theirs)[inside].max() < 2e-4


@pytest.mark.real
def test_the_official_learn2reg_fields_align_their_landmarks() -> None:
    folder = os.environ.get("REGBENCH_DATA")
    if not folder:
        pytest.skip("$REGBENCH_DATA is not set")
    from regbench.files.images import read_image, read_landmarks

    golden = Path(folder) / "golden_l2r"
    # Case 1 is a whole-voxel translation, and its field undoes it exactly.
    fixed, moving = (read_image(golden / f"imagesTr/Toy_0001_000{i}.nii.gz") for i in (0, 1))
    field = load_field(golden / "disp/disp_0001_0001.nii.gz", fixed.grid, moving.grid)
    points = [
        read_landmarks(golden / f"keypointsTr/Toy_0001_000{i}.csv", image.grid).points_mm
        for i, image in enumerate((fixed, moving))
    ]
    index = tuple(np.rint(fixed.grid.to_voxel(points[0])).astype(int).T)
    assert np.allclose(points[0] + field.vectors_mm[index], points[1], atol=1e-3)
    assert field.max_mm > 1
