"""The metrics of regbench: one row each, with unit, direction, tolerance and definition.

A row is plain data and imports nothing; its function, `(Alignment) -> float | dict`, is imported when it is
asked for. A new metric is one function and one row. Rows without a function are costs that the runner measures.

The tolerance is the change, in the unit of the metric, below which two runs count as equal when they are
compared without repeats; costs have none, since they depend on the machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from regbench.errors import ConfigError
from regbench.parameters import nearest

Need = Literal["labels", "truth", "landmarks"]


@dataclass(frozen=True)
class Metric:
    """What is known of a metric.

    `function` is "module:function", or None for a cost that the runner measures; `needs` is what a pair must
    have for it; `standard` says whether it belongs to the standard set; `target` is the best value where
    neither more nor less is better.
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


_ROWS = (
    Metric(
        name="dice",
        unit="1",
        direction="higher",
        tolerance=0.002,
        definition="2 |F n M| / (|F| + |M|) per label on nearest-voxel moved labels, mean over labels that the fixed "
        "and the moving map have; a label lost by the warp counts 0",
        source="Dice 1945; label rule of Learn2Reg (Hering et al. 2023)",
        function="regbench.metrics.overlap:dice",
        needs=("labels",),
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
        name="ncc",
        unit="1",
        direction="higher",
        tolerance=0.002,
        definition="correlation coefficient of the fixed and the moved image over the fixed foreground",
        source="Pearson 1895",
        function="regbench.metrics.intensity:ncc",
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
        name="rss_peak_mib",
        unit="MiB",
        direction="lower",
        tolerance=math.inf,
        definition="largest resident memory of the worker process while it registers one pair, the images and what "
        "the method has loaded included",
        source="measured by the runner",
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
