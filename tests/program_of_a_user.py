"""A registration program as a user may have one: reads two NIfTI files, finds a known shift, writes it in some form.

program_of_a_user.py FORM FIXED MOVING OUTPUT X Y [Z]     X, Y, Z: the shift in mm, RAS
"""

from __future__ import annotations

import sys

import nibabel as nib
import numpy as np
import SimpleITK as sitk


def main(form: str, fixed_file: str, moving_file: str, output: str, *shift_words: str) -> None:
    fixed, moving = nib.load(fixed_file), nib.load(moving_file)
    shift = np.array([float(word) for word in shift_words])
    ndim = len(shift)
    shape = fixed.shape[:ndim]
    lps = shift * np.array([-1.0, -1.0, 1.0])[:ndim]
    if form == "itk-warp":
        write_warp(output, np.broadcast_to(lps, (*shape, ndim)), fixed)
    elif form == "l2r":
        # Moving index minus fixed index, for every fixed voxel.
        index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).astype(float)
        world = index @ fixed.affine[:ndim, :ndim].T + fixed.affine[:ndim, 3] + shift
        there = (world - moving.affine[:ndim, 3]) @ np.linalg.inv(moving.affine[:ndim, :ndim]).T
        nib.save(nib.Nifti1Image((there - index).astype(np.float32), fixed.affine), output)
    elif form == "itk-transform":
        sitk.WriteTransform(sitk.TranslationTransform(ndim, lps.tolist()), output)
    elif form == "regbench":
        from regbench.displacement import Displacement
        from regbench.files.fields import save_field
        from regbench.volume import Grid

        affine = np.eye(ndim + 1)
        affine[:ndim, :ndim], affine[:ndim, ndim] = fixed.affine[:ndim, :ndim], fixed.affine[:ndim, 3]
        save_field(output, Displacement(np.broadcast_to(shift, (*shape, ndim)), Grid(shape, affine)), exact=True)
    elif form == "niftyreg":
        index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
        positions = index @ fixed.affine[:ndim, :ndim].T + fixed.affine[:ndim, 3] + shift
        layout = (*shape, *[1] * (4 - ndim), ndim)
        image = nib.Nifti1Image(positions.reshape(layout).astype(np.float32), fixed.affine)
        image.header.set_intent(1007, (), "NREG_TRANS")
        nib.save(image, output)
    elif form == "ants":
        # Half of it in a warp, half in a matrix, as antsRegistration names them.
        write_warp(f"{output}1Warp.nii.gz", np.broadcast_to(lps / 2, (*shape, ndim)), fixed)
        half = sitk.AffineTransform(ndim)
        half.SetTranslation((lps / 2).tolist())
        sitk.WriteTransform(half, f"{output}0GenericAffine.mat")
    print(f"found {shift}")


def write_warp(path: str, vectors: np.ndarray, fixed: nib.Nifti1Image) -> None:
    ndim = vectors.shape[-1]
    array = vectors.reshape(*vectors.shape[:-1], *[1] * (4 - ndim), ndim)
    image = nib.Nifti1Image(array.astype(np.float32), fixed.affine)
    image.header.set_intent(1007)
    nib.save(image, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
