"""The metrics of regbench: one row each, with unit, direction, tolerance and definition.

A row is plain data and imports nothing; its function, `(Alignment) -> float | dict`, is imported when it is
asked for. A new metric is one function and one row. Rows without a function are costs that the runner measures, or
quantiles of another metric over pairs, which the summary adds.

The tolerance is the change, in the unit of the metric, below which two runs count as equal when they are
compared without repeats; costs have none, since they depend on the machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from regbench.errors import ConfigError
from regbench.parameters import nearest

Need = Literal["labels", "truth", "landmarks", "inverse"]


@dataclass(frozen=True)
class Metric:
    """What is known of a metric.

    `function` is "module:function", or None where no function of an alignment gives the value; `needs` is what a
    pair must have for it; `standard` says whether it belongs to the standard set; `target` is the best value where
    neither more nor less is better. `quantile_of` makes the row an aggregate over pairs: which quantile of which
    metric.
    """

    name: str
    unit: str
    direction: Literal["higher", "lower", "target"]
    tolerance: float
    definition: str
    source: str
    version: int = 1
    function: str | None = None
    needs: tuple[Need, ...] = ()
    standard: bool = True
    target: float | None = None
    quantile_of: tuple[str, float] | None = None


_ROWS = (
    Metric(
        name="dice",
        unit="1",
        direction="higher",
        tolerance=0.002,
        definition="2 |F n M| / (|F| + |M|) per label, mean over labels that the fixed and the moving map have; a "
        "label lost by the warp counts 0; labels are moved by the label warp that stands in the row",
        source="Dice 1945; label rule of Learn2Reg (Hering et al. 2023)",
        function="regbench.metrics.overlap:dice",
        needs=("labels",),
    ),
    Metric(
        name="jaccard",
        unit="1",
        direction="higher",
        tolerance=0.002,
        definition="|F n M| / |F u M| per label; labels as for dice",
        source="Jaccard 1912",
        function="regbench.metrics.overlap:jaccard",
        needs=("labels",),
        standard=False,
    ),
    Metric(
        name="volume_similarity",
        unit="1",
        direction="target",
        target=0.0,
        tolerance=0.002,
        definition="2 (|M| - |F|) / (|F| + |M|) per label, negative where the moved label is smaller, as for dice",
        source="Taha and Hanbury 2015; sign as in ITK",
        function="regbench.metrics.overlap:volume_similarity",
        needs=("labels",),
        standard=False,
    ),
    Metric(
        name="hd95_mm",
        unit="mm",
        direction="lower",
        tolerance=0.05,
        definition="larger of the two area-weighted 95th percentiles of the distances between the label surfaces "
        "(surface elements on the corner grid, real spacing), mean over labels with a finite value",
        source="surface elements of Nikolov et al. 2021",
        function="regbench.metrics.surface_distance:hd95_mm",
        needs=("labels",),
    ),
    Metric(
        name="assd_mm",
        unit="mm",
        direction="lower",
        tolerance=0.02,
        definition="average symmetric surface distance: area-weighted mean distance over both label surfaces together, "
        "mean over labels with a finite value; surfaces as for hd95_mm",
        source="surface elements of Nikolov et al. 2021; average over both surfaces of Heimann et al. 2009",
        function="regbench.metrics.surface_distance:assd_mm",
        needs=("labels",),
        standard=False,
    ),
    Metric(
        name="nsd",
        unit="1",
        direction="higher",
        tolerance=0.005,
        definition="normalised surface distance: share of the area of both label surfaces within 1 mm of the other "
        "one, mean over labels, a label lost by the warp counts 0; tolerances of 0.5, 2, 3 and 5 mm stand beside it",
        source="Nikolov et al. 2021",
        function="regbench.metrics.surface_distance:nsd",
        needs=("labels",),
        standard=False,
    ),
    Metric(
        name="tre_mm",
        unit="mm",
        direction="lower",
        tolerance=0.05,
        definition="target registration error: mean distance between fixed landmarks moved by the displacement (read "
        "linearly) and the moving landmarks; points outside their image are left out and counted",
        source="Fitzpatrick and West 2001",
        function="regbench.metrics.landmarks:tre_mm",
        needs=("landmarks",),
    ),
    Metric(
        name="fold_percent",
        unit="%",
        direction="lower",
        tolerance=0.01,
        definition="interior voxels with det d(x + u)/dx <= 0, central differences, in percent",
        source="common practice; see Liu et al. 2024 for its blind spots",
        function="regbench.metrics.regularity:fold_percent",
    ),
    Metric(
        name="ndv_percent",
        unit="%",
        direction="lower",
        tolerance=0.01,
        definition="non-diffeomorphic volume: inverted volume of the ten tetrahedra of every grid cell (2-D: four "
        "triangles), each way of splitting counted half, in percent of the volume of the grid",
        source="Liu et al., IJCV 2024, doi 10.1007/s11263-024-02047-1",
        function="regbench.metrics.nondiffeomorphic:ndv_percent",
    ),
    Metric(
        name="sdlogj",
        unit="1",
        direction="lower",
        tolerance=0.005,
        definition="standard deviation of log det d(x + u)/dx over interior voxels where it is positive; voxels left "
        "out are counted beside it (this is not the Learn2Reg formula)",
        source="Leow et al. 2007",
        function="regbench.metrics.regularity:sdlogj",
    ),
    Metric(
        name="sdlogj_l2r",
        unit="1",
        direction="lower",
        tolerance=0.005,
        definition="standard deviation of log clip(det d(x + u)/dx + 3, 1e-9, 1e9), two voxels from each face left "
        "out: near a quarter of the standard deviation of J, comparable with Learn2Reg tables only",
        source="formula of the Learn2Reg evaluator (Hering et al. 2023)",
        function="regbench.metrics.regularity:sdlogj_l2r",
        standard=False,
    ),
    Metric(
        name="jacobian",
        unit="1",
        direction="target",
        target=1.0,
        tolerance=0.005,
        definition="det d(x + u)/dx at interior voxels, central differences: mean, and minimum, maximum and "
        "percentiles beside it, also inside the fixed foreground",
        source="definition",
        function="regbench.metrics.regularity:jacobian",
        standard=False,
    ),
    Metric(
        name="bending",
        unit="mm^-2",
        direction="lower",
        tolerance=0.0005,
        definition="bending energy: mean over interior voxels of the sum of squares of all second derivatives (mixed "
        "ones twice) of all components of u, in mm and per mm",
        source="Rueckert et al. 1999",
        function="regbench.metrics.bending:bending",
        standard=False,
    ),
    Metric(
        name="epe_mm",
        unit="mm",
        direction="lower",
        tolerance=0.02,
        definition="mean distance between the displacement and the known true one over the fixed foreground",
        source="end-point error of optical flow (Baker et al. 2011)",
        function="regbench.metrics.truth:epe_mm",
        needs=("truth",),
    ),
    Metric(
        name="ice_mm",
        unit="mm",
        direction="lower",
        tolerance=0.02,
        definition="inverse consistency error: mean distance between fixed voxels and where the displacement and then "
        "its inverse lead them, over the fixed foreground; points off the grid of the inverse are left out and counted",
        source="Christensen and Johnson 2001",
        function="regbench.metrics.truth:ice_mm",
        needs=("inverse",),
    ),
    Metric(
        name="ncc",
        unit="1",
        direction="higher",
        tolerance=0.002,
        definition="correlation coefficient of the fixed and the moved image over the fixed foreground",
        source="Pearson 1895",
        function="regbench.metrics.intensity:ncc",
    ),
    Metric(
        name="lncc",
        unit="1",
        direction="higher",
        tolerance=0.002,
        definition="mean over the fixed foreground of the squared correlation of fixed and moved image in a window of "
        "9 voxels along each axis, cut off at the faces of the grid",
        source="Avants et al. 2008; window of VoxelMorph (Balakrishnan et al. 2019)",
        function="regbench.metrics.local_similarity:lncc",
        standard=False,
    ),
    Metric(
        name="nmi",
        unit="1",
        direction="higher",
        tolerance=0.002,
        definition="(H(F) + H(M)) / H(F, M) of the fixed and the moved image over the fixed foreground, 64 equal-width "
        "bins each over the range of that image there, in [1, 2]",
        source="Studholme et al. 1999",
        function="regbench.metrics.intensity:nmi",
        standard=False,
    ),
    Metric(
        name="ssim",
        unit="1",
        direction="higher",
        tolerance=0.002,
        definition="mean structural similarity of the fixed and the moved image over the fixed foreground, uniform "
        "window of 9 voxels along each axis, cut off at the faces, dynamic range of the fixed image, K1 .01, K2 .03",
        source="Wang et al. 2004",
        function="regbench.metrics.local_similarity:ssim",
        standard=False,
    ),
    Metric(
        name="mi_nats",
        unit="nat",
        direction="higher",
        tolerance=0.002,
        definition="mutual information of intensity and label before any registration, mean of the fixed and the "
        "moving image: labelled voxels, 64 equal-frequency bins, Miller-Madow correction; all voxels beside it",
        source="Miller 1955; quantity of Jena et al. 2024 (arXiv 2408.05839)",
        function="regbench.metrics.information:mi_nats",
        needs=("labels",),
        standard=False,
    ),
    Metric(
        name="mi_ratio",
        unit="1",
        direction="higher",
        tolerance=0.002,
        definition="share of the label entropy that the intensity tells, I / H(label), estimated as mi_nats",
        source="uncertainty coefficient (Theil 1970)",
        function="regbench.metrics.information:mi_ratio",
        needs=("labels",),
        standard=False,
    ),
    Metric(
        name="mi_jena_nats",
        unit="nat",
        direction="higher",
        tolerance=0.002,
        definition="plain histogram estimate of the same, as far as the paper tells: 64 equal-width bins, all voxels "
        "with background, no correction, mean of both images; its bins, base and background were not published",
        source="Jena et al. 2024 (arXiv 2408.05839)",
        function="regbench.metrics.information:mi_jena_nats",
        needs=("labels",),
        standard=False,
    ),
    Metric(
        name="dice30",
        unit="1",
        direction="higher",
        tolerance=0.002,
        definition="30th percentile over pairs of the Dice of a pair: how the hard pairs fare",
        source="robustness of Learn2Reg (Hering et al. 2023), over pairs",
        quantile_of=("dice", 0.3),
    ),
    Metric(
        name="tre30",
        unit="mm",
        direction="lower",
        tolerance=0.05,
        definition="70th percentile over pairs of the TRE of a pair, the side of the 30 % hardest pairs",
        source="robustness of Learn2Reg (Hering et al. 2023), over pairs",
        quantile_of=("tre_mm", 0.7),
    ),
    Metric(
        name="load_s",
        unit="s",
        direction="lower",
        tolerance=math.inf,
        definition="wall time of importing the method and its packages, once per worker process",
        source="measured by the runner",
    ),
    Metric(
        name="setup_s",
        unit="s",
        direction="lower",
        tolerance=math.inf,
        definition="wall time of building the method (weights, compilation), once per worker process",
        source="measured by the runner",
    ),
    Metric(
        name="register_s",
        unit="s",
        direction="lower",
        tolerance=math.inf,
        definition="wall time of the method's register call for one pair, without loading and set-up",
        source="measured by the runner",
    ),
    Metric(
        name="cpu_s",
        unit="s",
        direction="lower",
        tolerance=math.inf,
        definition="user and system seconds of the register call, child processes included",
        source="measured by the runner",
    ),
    Metric(
        name="rss_peak_mib",
        unit="MiB",
        direction="lower",
        tolerance=math.inf,
        definition="largest resident memory of the worker process, or of a program that it runs, while it "
        "registers one pair, the images and what the method has loaded included",
        source="measured by the runner",
    ),
    Metric(
        name="gpu_peak_mib",
        unit="MiB",
        direction="lower",
        tolerance=math.inf,
        definition="largest memory that torch allocated on the GPU during the register call",
        source="measured by the runner",
    ),
    Metric(
        name="model_parameters",
        unit="1",
        direction="lower",
        tolerance=math.inf,
        definition="number of trained parameters of the method's network",
        source="told by the method",
    ),
    Metric(
        name="model_mib",
        unit="MiB",
        direction="lower",
        tolerance=math.inf,
        definition="size of the weights that the method has loaded, in memory",
        source="told by the method",
    ),
)

METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}


def select_metrics(spec: str | list[str]) -> list[str]:
    """Names of metrics for "standard", "full" (all) or a list of names, in the order of the table or list.

    Raises ConfigError for an unknown or repeated name, and for an empty list.
    """
    if spec == "full":
        return list(METRICS)
    if spec == "standard":
        return [name for name, metric in METRICS.items() if metric.standard]
    names = [spec] if isinstance(spec, str) else list(spec)
    if not names:
        raise ConfigError("metrics: the list is empty; use 'standard', 'full' or a list of names")
    for name in names:
        if name not in METRICS:
            known = ", ".join(("standard", "full", *METRICS))
            hint = nearest(str(name), ["standard", "full", *METRICS])
            raise ConfigError(f"metrics: unknown metric '{name}'{hint}; known: {known}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"metrics: '{twice}' is listed twice; list it once")
    return names
