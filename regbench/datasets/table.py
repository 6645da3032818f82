"""All datasets by name, as plain data; nothing of them is imported before it is used.

A dataset is one module with a frozen dataclass of parameters (see `protocol.Dataset`) and one row here.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from regbench.datasets.protocol import Dataset
from regbench.errors import ConfigError
from regbench.parameters import check_parameters, nearest


@dataclass(frozen=True)
class DatasetCard:
    """The facts of a dataset that tables and reports need; `target` is 'module:Class'."""

    name: str
    target: str
    summary: str
    licence: str
    citation: str
    dimensions: tuple[int, ...] = (2, 3)
    knows_truth: bool = False


_ROWS = (
    DatasetCard(
        name="mni-cohort",
        target="regbench.datasets.mni_cohort:MniCohort",
        summary="simulated subjects on the MNI152 anatomy with known correspondence; nothing is downloaded",
        licence="template: free use with the ICBM copyright notice; the generated images are yours",
        citation="Fonov et al., NeuroImage 54 (2011) 313-327; Fonov et al., NeuroImage 47 (2009) S102",
        knows_truth=True,
    ),
    DatasetCard(
        name="csv",
        target="regbench.datasets.csv_pairs:CsvPairs",
        summary="your own pairs: a CSV of image paths, with labels, landmarks and masks where you have them",
        licence="that of your data",
        citation="none",
    ),
    DatasetCard(
        name="learn2reg",
        target="regbench.datasets.learn2reg:Learn2RegTask",
        summary="a task in the Learn2Reg layout, by its TASK_dataset.json; finds labels, masks and points beside it",
        licence="that of the task",
        citation="Hering et al., IEEE TMI 42 (2023) 697-712",
    ),
)

DATASETS: dict[str, DatasetCard] = {row.name: row for row in _ROWS}


def dataset_class(name: str) -> type:
    """The class of a dataset, imported; ConfigError with the nearest known name if there is none."""
    if name not in DATASETS:
        known = list(DATASETS)
        raise ConfigError(f"datasets: unknown dataset '{name}'{nearest(name, known)}; known: {', '.join(known)}")
    module, _, attribute = DATASETS[name].target.partition(":")
    found: type = getattr(importlib.import_module(module), attribute)
    return found


def build_dataset(name: str, parameters: Mapping[str, Any]) -> Dataset:
    """A dataset with its parameters checked, missing ones at their defaults; opens no image. Raises ConfigError."""
    cls = dataset_class(name)
    dataset: Dataset = cls(**check_parameters(cls, parameters, f"datasets.{name}"))
    return dataset
