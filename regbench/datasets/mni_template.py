"""The anatomy behind the `mni-cohort` data: a template image, tissue maps and a parcellation.

Source: the MNI152 ICBM 2009a symmetric template with its grey- and white-matter probability maps
(Fonov et al., NeuroImage 54, 2011), 1 mm, skull-stripped, as shipped inside the nilearn package; nothing
is downloaded. CSF is what remains of the brain mask.

The parcellation is regbench's own and geometric: each voxel takes the name of the nearest seed point
among those of its tissue. Borders between tissues are visible in the image; borders between two
parcels of one tissue, such as along the cortex, are not. It is NOT an anatomical atlas: names say
roughly where a parcel lies, and nothing more.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from regbench.errors import DatasetError
from regbench.volume import Grid

FILES = {
    "t1": "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
    "grey": "mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz",
    "white": "mni_icbm152_wm_tal_nlin_sym_09a_converted.nii.gz",
}
TISSUES = {1: "CSF", 2: "grey matter", 3: "white matter"}

# Seed points of the right hemisphere in mm (x mirrored for the left), a name and a place each.
_CORTEX = {
    "frontal pole": (22, 60, 8),
    "superior frontal": (18, 34, 48),
    "middle frontal": (42, 34, 24),
    "inferior frontal": (50, 22, 4),
    "orbitofrontal": (24, 32, -16),
    "precentral": (40, -8, 52),
    "paracentral": (8, -18, 62),
    "postcentral": (48, -26, 48),
    "superior parietal": (24, -60, 58),
    "inferior parietal": (50, -48, 38),
    "precuneus": (10, -60, 38),
    "lateral occipital": (38, -80, 8),
    "medial occipital": (10, -84, 10),
    "ventral occipital": (24, -62, -10),
    "superior temporal": (58, -20, 4),
    "inferior temporal": (56, -34, -18),
    "temporal pole": (40, 12, -30),
    "medial temporal": (26, -18, -22),
    "insula": (38, 4, 2),
    "anterior cingulate": (6, 36, 14),
    "posterior cingulate": (6, -34, 32),
}
_DEEP_GREY = {"thalamus region": (12, -18, 8), "putamen region": (26, 4, 0), "caudate region": (12, 14, 10)}
_WHITE = {
    "frontal white matter": (22, 30, 18),
    "central white matter": (24, -10, 32),
    "parietal white matter": (26, -46, 34),
    "occipital white matter": (26, -74, 8),
    "temporal white matter": (44, -22, -12),
}
_CEREBELLUM = ((20, -60, -38), (40, -62, -38), (6, -54, -16), (8, -72, -30), (22, -42, -44), (8, -60, -48))
_BRAINSTEM = ((4, -26, -26), (4, -36, -46), (4, -40, -60))
_VENTRICLES = ((8, -2, 16), (10, 18, 6), (22, -36, 8), (3, -14, 2))
_VENTRICLE_REACH_MM = 20.0
# The part of the template files that holds the brain, with a margin.
_BRAIN_BOX = (slice(20, 178), slice(20, 214), slice(0, 162))


@dataclass(frozen=True, eq=False)
class Template:
    """Template arrays on one 1 mm grid: T1, tissue fractions (csf, grey, white), tissue and parcel labels."""

    grid: Grid
    t1: np.ndarray
    fractions: np.ndarray
    tissues: np.ndarray
    parcels: np.ndarray
    parcel_names: dict[int, str]


def template_bytes(name: str) -> bytes:
    """The bytes of one template file inside the nilearn package; DatasetError if nilearn lacks it."""
    try:
        return (resources.files("nilearn") / "datasets" / "data" / FILES[name]).read_bytes()
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise DatasetError(
            "mni-cohort: the MNI152 template is not in the installed nilearn; pip install 'nilearn>=0.10,<1'"
        ) from error


@lru_cache(maxsize=1)
def template_hash() -> str:
    """The sha256 over the three template files, part of the content hash of every generated image."""
    digest = hashlib.sha256()
    for name in sorted(FILES):
        digest.update(template_bytes(name))
    return digest.hexdigest()


@lru_cache(maxsize=1)
def load_template() -> Template:
    """The template with its parcellation, at 1 mm; kept in memory (about 150 MB) once per process."""
    import gzip

    import nibabel as nib

    arrays = {}
    for name in FILES:
        image = nib.Nifti1Image.from_bytes(gzip.decompress(template_bytes(name)))
        arrays[name] = np.asarray(image.dataobj[_BRAIN_BOX], dtype=np.float32) / 255.0
    affine = np.array(image.affine)
    affine[:3, 3] += affine[:3, :3] @ [box.start for box in _BRAIN_BOX]
    grid = Grid(arrays["t1"].shape, affine)
    brain = ndimage.binary_fill_holes(arrays["t1"] > 0.02)
    grey, white = arrays["grey"] * brain, arrays["white"] * brain
    scale = np.maximum(grey + white, 1.0)
    grey, white = grey / scale, white / scale
    fractions = np.stack([brain - grey - white, grey, white], axis=-1).astype(np.float32)
    # Slight smoothing before the arg-max takes out single-voxel specks without moving the borders.
    smooth = np.stack([ndimage.gaussian_filter(fractions[..., c], 0.7) for c in range(3)], axis=-1)
    tissues = np.where(brain, smooth.argmax(-1) + 1, 0).astype(np.uint8)
    parcels, names = _parcellate(tissues, grid)
    return Template(grid, arrays["t1"] * brain, fractions, tissues, parcels, names)


@lru_cache(maxsize=2)
def blurred_template(sigma_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Tissue fractions (*shape, 3) and T1 texture (*shape) of the template, blurred by a Gaussian.

    The texture is what the T1 image shows beyond its mean per tissue: the anatomy inside the tissues.
    """
    template = load_template()
    weights = template.fractions.reshape(-1, 3)
    means = np.linalg.lstsq(weights.T @ weights, weights.T @ template.t1.ravel(), rcond=None)[0]
    texture = template.t1 - template.fractions @ means.astype(np.float32)
    if sigma_mm <= 0:
        return template.fractions, texture
    fractions = np.stack([ndimage.gaussian_filter(template.fractions[..., c], sigma_mm) for c in range(3)], axis=-1)
    return fractions, ndimage.gaussian_filter(texture, sigma_mm)


def forget_template() -> None:
    """Frees what `load_template` and `blurred_template` keep in memory, about half a gigabyte."""
    load_template.cache_clear()
    blurred_template.cache_clear()


def parcel_table() -> dict[int, str]:
    """The names of all parcels by label number, without reading the template."""
    names: dict[int, str] = {}
    for group in (_CORTEX, _DEEP_GREY, _WHITE, {"cerebellar cortex": 0, "cerebellar white matter": 0}):
        for name in group:
            for side in ("left", "right"):
                names[len(names) + 1] = f"{side} {name}"
    for side in ("left", "right"):
        names[len(names) + 1] = f"{side} lateral ventricle"
    names[len(names) + 1] = "brainstem"
    return names


def cortex_labels() -> tuple[int, ...]:
    """The label numbers of the cortical parcels: the label set with the least intensity information."""
    return tuple(range(1, 2 * len(_CORTEX) + 1))


def _parcellate(tissues: np.ndarray, grid: Grid) -> tuple[np.ndarray, dict[int, str]]:
    names = parcel_table()
    number = {name: label for label, name in names.items()}
    voxels = np.argwhere(tissues > 0)
    points = grid.to_world(voxels)
    tissue = tissues[tuple(voxels.T)]
    side = np.where(points[:, 0] < 0, "left", "right")
    folded = points * [0, 1, 1] + np.abs(points) * [1, 0, 0]
    territory = _territory(folded)
    label = np.zeros(len(voxels), dtype=np.uint8)

    def assign(chosen: np.ndarray, seeds: dict[str, tuple[int, int, int]]) -> None:
        nearest = cKDTree(np.array(list(seeds.values()), float)).query(folded[chosen])[1]
        keys = list(seeds)
        table = np.array([[number[f"{s} {key}"] for s in ("left", "right")] for key in keys])
        label[chosen] = table[nearest, (side[chosen] == "right").astype(int)]

    cerebrum = territory == 0
    assign(cerebrum & (tissue == 2), {**_CORTEX, **_DEEP_GREY})
    assign(cerebrum & (tissue == 3), _WHITE)
    for tissue_number, name in ((2, "cerebellar cortex"), (3, "cerebellar white matter")):
        assign((territory == 1) & (tissue == tissue_number), {name: (0, 0, 0)})
    label[(territory == 2) & (tissue >= 2)] = number["brainstem"]
    ventricle = (tissue == 1) & (cKDTree(np.array(_VENTRICLES, float)).query(folded)[0] < _VENTRICLE_REACH_MM)
    assign(ventricle & cerebrum & (folded[:, 0] < 34), {"lateral ventricle": (0, 0, 0)})
    parcels = np.zeros(tissues.shape, np.uint8)
    parcels[tuple(voxels.T)] = label
    return parcels, names


def _territory(folded: np.ndarray) -> np.ndarray:
    """0 cerebrum, 1 cerebellum, 2 brainstem for points in mm with x folded to the right, (N,)."""
    groups = ([*_CORTEX.values(), *_DEEP_GREY.values(), *_WHITE.values(), *_VENTRICLES], _CEREBELLUM, _BRAINSTEM)
    distances = np.stack([cKDTree(np.array(seeds, float)).query(folded)[0] for seeds in groups])
    return distances.argmin(axis=0)
