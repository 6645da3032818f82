"""`mni-cohort`: a cohort of simulated subjects on real anatomy, with known correspondence, and no download.

Every subject is the MNI152 template (see `mni_template`) seen through its own random diffeomorphism, with
its own tissue contrast, bias field and Rician noise; all from one seed. Because the maps are known, every
pair carries its true displacement, which no data set of real scans has.

What it is good for: trying regbench, guarding a method in CI, controlled experiments. What it is not: a
substitute for scans. All subjects share one topology, and their differences are smooth by construction,
which suits smooth deformation models.

Subjects: `train-000` ..., `validation-000` ..., `test-000` ...; the three splits use disjoint random
streams. Pair protocols: `random:N` (N ordered pairs of one split without repetition), `disjoint:N` (no subject
twice), `consecutive`, `all-ordered`.

Licence: the template is free to use with the ICBM copyright notice (see nilearn); generated images are yours.
Citation: Fonov et al., NeuroImage 54 (2011) 313-327; Fonov et al., NeuroImage 47 (2009) S102.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from regbench.datasets.array_cache import cached_arrays
from regbench.datasets.diffeomorphisms import VelocityScales, correspondence, flow, random_velocity
from regbench.datasets.mni_template import (
    TISSUES,
    blurred_template,
    cortex_labels,
    forget_template,
    load_template,
    parcel_table,
    template_hash,
)
from regbench.datasets.protocol import PairRef, select_pairs
from regbench.displacement import Displacement
from regbench.errors import ConfigError
from regbench.files.cache import cache_folder
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels
from regbench.warp import SIGMA_PER_VOXEL, linear_samples, sample_displacement

VERSION = 1
SPLITS = {"train": 256, "validation": 8, "test": 24}
LABEL_SETS = ("parcels", "cortex", "tissues")
_CENTRE_MM = {3: (0.0, -17.0, 5.0), 2: (0.0, -17.0)}
_EXTENT_MM = {3: (160.0, 192.0, 160.0), 2: (160.0, 192.0)}
_SLICE_Z_MM = 8.0
_FLOW_SPACING_MM = 4.0
_SCALES = {
    3: VelocityScales((34.0, 17.0, 9.0), (2.2, 1.8, 1.0)),
    2: VelocityScales((34.0, 17.0, 9.0), (2.2, 2.0, 1.2)),
}


@dataclass(frozen=True)
class Appearance:
    """How a subject's scan looks: ranges of tissue means (of 1), bias field and noise, drawn per subject."""

    csf: tuple[float, float] = (0.10, 0.30)
    grey: tuple[float, float] = (0.46, 0.62)
    white: tuple[float, float] = (0.74, 0.94)
    texture: float = 0.5
    bias: float = 0.12
    bias_length_mm: float = 60.0
    noise: float = 0.03


@dataclass(frozen=True)
class Subject:
    """One generated subject: image, label maps, and its flow to and from the template (mm, on a coarse grid)."""

    image: Image
    labels: dict[str, Labels]
    to_template: Displacement
    from_template: Displacement


@dataclass(frozen=True)
class MniCohort:
    """The data set; parameters with their defaults. `ndim: 2` gives axial slices with their own 2-D maps."""

    spacing_mm: float = 2.0
    ndim: int = 3
    split: str = "test"
    pairs: str = "random:8"
    labels: str = "parcels"
    deformation: float = 1.0
    seed: int = 0
    appearance: Appearance = field(default_factory=Appearance)

    def __post_init__(self) -> None:
        if self.ndim not in (2, 3):
            raise ConfigError(f"datasets.mni-cohort: ndim is {self.ndim}; known: 2, 3")
        if self.split not in SPLITS:
            raise ConfigError(f"datasets.mni-cohort: unknown split '{self.split}'; known: {', '.join(SPLITS)}")
        if self.labels not in LABEL_SETS:
            raise ConfigError(f"datasets.mni-cohort: unknown labels '{self.labels}'; known: {', '.join(LABEL_SETS)}")
        if not 1.0 <= self.spacing_mm <= 8.0:
            raise ConfigError(f"datasets.mni-cohort: spacing_mm is {self.spacing_mm:g}; it must lie between 1 and 8")
        if not 0.0 <= self.deformation <= 1.25:
            raise ConfigError(
                f"datasets.mni-cohort: deformation is {self.deformation:g}; it must lie between 0 and 1.25"
            )

    # -- what exists, without generating anything ---------------------------------------------------

    def subjects(self, split: str | None = None) -> list[str]:
        """The names of the subjects of a split (default: this data set's own)."""
        split = split or self.split
        return [f"{split}-{i:03d}" for i in range(SPLITS[split])]

    def pair_refs(self) -> Sequence[PairRef]:
        """The pairs of the protocol, in order; opens and generates nothing."""
        chosen = select_pairs(self.subjects(), self.pairs, self.seed, "datasets.mni-cohort.pairs")
        return [PairRef(f"{f}_{m}", f, m) for f, m in chosen]

    def fingerprint(self, ref: PairRef) -> str:
        """The content hash of a pair: template files, generator version and all parameters that shape it."""
        parts = [self._subject_key(ref.fixed), self._subject_key(ref.moving), self.labels]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def manifest(self) -> dict[str, Any]:
        """What identifies the data for the record: template hash, generator version, parameters, subjects."""
        used = sorted({name for ref in self.pair_refs() for name in (ref.fixed, ref.moving)})
        return {"template_sha256": template_hash(), "version": VERSION, "parameters": asdict(self), "subjects": used}

    # -- images -----------------------------------------------------------------------------------

    def load(self, ref: PairRef) -> Pair:
        """The pair with labels and true displacement; subjects are generated once and cached on disk."""
        self._generate_missing(ref)
        fixed, moving = self.subject(ref.fixed), self.subject(ref.moving)
        return Pair(
            name=ref.id,
            fixed=fixed.image,
            moving=moving.image,
            fixed_id=ref.fixed,
            moving_id=ref.moving,
            fixed_labels=fixed.labels[self.labels],
            moving_labels=moving.labels[self.labels],
            truth=self._truth(ref, fixed, moving),
            tags={"modality": "simulated T1", "split": self.split},
        )

    @property
    def grid(self) -> Grid:
        """The grid of every subject: along the world axes, centred on the brain."""
        return self._centred_grid(self.spacing_mm)

    def subject(self, name: str) -> Subject:
        """One subject, from the cache or generated (a second or two at 2 mm)."""
        arrays = cached_arrays(self._subject_path(name), lambda: self._generate(name))
        grid, flow_grid = self.grid, self._centred_grid(_FLOW_SPACING_MM)
        parcels, names = arrays["parcels"], parcel_table()
        cortex = np.where(parcels <= max(cortex_labels()), parcels, 0)
        return Subject(
            image=Image(arrays["image"], grid),
            labels={
                "parcels": Labels(parcels, grid, names),
                "cortex": Labels(cortex, grid, {k: names[k] for k in cortex_labels()}),
                "tissues": Labels(arrays["tissues"], grid, TISSUES),
            },
            to_template=Displacement(arrays["to_template"], flow_grid),
            from_template=Displacement(arrays["from_template"], flow_grid),
        )

    def scan(self, name: str) -> tuple[Image, Labels]:
        """The image of one subject and its map of the chosen label set."""
        subject = self.subject(name)
        return subject.image, subject.labels[self.labels]

    def _generate_missing(self, ref: PairRef) -> None:
        """Puts all subjects of this data set into the cache if one of the pair is missing, and lets the template go.

        So the template is read once, and its memory does not count as that of the method that runs next.
        """
        if all(self._subject_path(name).exists() for name in (ref.fixed, ref.moving)):
            return
        for name in dict.fromkeys([ref.fixed, *(n for r in self.pair_refs() for n in (r.fixed, r.moving))]):
            self.subject(name)
            if not self._subject_path(name).exists():
                return  # there is no cache to fill: the disk is full, or read-only
        forget_template()

    def _subject_path(self, name: str) -> Path:
        return cache_folder("mni-cohort") / f"{self._subject_key(name)[:24]}.npz"

    def _centred_grid(self, spacing_mm: float) -> Grid:
        # Shapes are multiples of 8 voxels, which suits multi-resolution methods and networks alike.
        shape = tuple(int(8 * np.ceil(e / spacing_mm / 8)) for e in _EXTENT_MM[self.ndim])
        affine = np.diag([spacing_mm] * self.ndim + [1.0])
        affine[:-1, -1] = [c - spacing_mm * (n - 1) / 2 for c, n in zip(_CENTRE_MM[self.ndim], shape, strict=True)]
        return Grid(shape, affine)

    def _subject_key(self, name: str) -> str:
        shaping = [template_hash(), VERSION, self.ndim, self.spacing_mm, self.deformation, self.seed, name]
        return hashlib.sha256(json.dumps([*shaping, asdict(self.appearance)]).encode()).hexdigest()

    def _rng(self, name: str, purpose: str) -> np.random.Generator:
        digest = hashlib.sha256(f"{self.seed}/{self.ndim}/{name}/{purpose}".encode()).digest()
        return np.random.default_rng(np.frombuffer(digest[:16], dtype=np.uint32))

    def _generate(self, name: str) -> dict[str, np.ndarray]:
        template = load_template()
        flow_grid = self._centred_grid(_FLOW_SPACING_MM)
        scales = _SCALES[self.ndim]
        scaled = VelocityScales(scales.lengths_mm, tuple(s * self.deformation for s in scales.strengths_mm))
        velocity = random_velocity(flow_grid, scaled, self._rng(name, "anatomy"))
        to_template = flow(velocity)
        points = self.grid.world_points()
        seen = points + sample_displacement(to_template, points)
        if self.ndim == 2:
            seen = np.concatenate([seen, np.full((*seen.shape[:-1], 1), _SLICE_Z_MM)], axis=-1)
        voxel = np.clip(template.grid.to_voxel(seen), 0, np.array(template.grid.shape) - 1.0)
        nearest = tuple(np.moveaxis(np.floor(voxel + 0.5).astype(np.intp), -1, 0))
        clean = self._contrast(voxel, self._rng(name, "contrast"))
        image = self._acquire(clean, self._rng(name, "acquisition"))
        return {
            "image": image.astype(np.float32),
            "parcels": template.parcels[nearest],
            "tissues": template.tissues[nearest],
            "to_template": to_template.vectors_mm,
            "from_template": flow(velocity, -1.0).vectors_mm,
        }

    def _contrast(self, template_voxel: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The noise-free scan: tissue means weighted by partial volume, plus the template's own texture."""
        look = self.appearance
        means = np.array([rng.uniform(*look.csf), rng.uniform(*look.grey), rng.uniform(*look.white)])
        # The point spread of a scanner of this voxel size; the template has 1 mm of its own.
        fractions, texture = blurred_template(SIGMA_PER_VOXEL * float(np.sqrt(max(self.spacing_mm**2 - 1.0, 0.0))))
        scan = fractions @ means.astype(np.float32) + look.texture * texture
        return linear_samples(scan, template_voxel)

    def _acquire(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The scan with a smooth multiplicative bias field and Rician noise."""
        look = self.appearance
        smooth = ndimage.gaussian_filter(
            rng.standard_normal(clean.shape), look.bias_length_mm / self.spacing_mm, mode="reflect"
        )
        biased = clean * np.exp(look.bias * smooth / max(smooth.std(), 1e-12))
        noise = rng.standard_normal((2, *clean.shape)) * look.noise
        noisy = np.hypot(biased + noise[0], noise[1])
        # Skull-stripped like the template: outside the head there is no signal, and no noise floor.
        return np.where(clean > 0.02, noisy, 0.0)

    def _truth(self, ref: PairRef, fixed: Subject, moving: Subject) -> Displacement:
        key = hashlib.sha256(f"{self._subject_key(ref.fixed)}/{self._subject_key(ref.moving)}".encode()).hexdigest()
        path = cache_folder("mni-cohort") / f"{key[:24]}.truth.npz"

        def make() -> dict[str, np.ndarray]:
            truth = correspondence(fixed.to_template, moving.to_template, moving.from_template, self.grid)
            return {"vectors_mm": truth.vectors_mm}

        return Displacement(cached_arrays(path, make)["vectors_mm"], self.grid)
