"""The dialect of the PSMA task of Learn2Reg 2026: a list of subjects with their visits, instead of pairs.

    "validation_paired": [{"subject": "psma_01", "CT": "./imagesVal/...", "CT Label": ..., "PET": ...,
                           "Follow-up 01 CT": ..., "Follow-up 01 CT Label": ..., "Follow-up 01 PET": ...}]

The first visit is fixed and each follow-up is moved onto it, which is how results are named: disp_ID_00_ID_01.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

KEYS = {"val": "validation_paired", "train": "training_paired", "test": "test_paired"}
_FOLLOW_UP = re.compile(r"Follow-up (\d+) (.+)")


def visits(entry: object, modality: str) -> Iterator[tuple[str, str, str, str]]:
    """Subject, number of the visit (00 is the first), path of the image and path of its labels or "", per visit."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("subject"), str | int):
        return
    by_visit: dict[str, dict[str, Any]] = {}
    for key, value in entry.items():
        match = _FOLLOW_UP.fullmatch(str(key))
        visit, kind = (match[1], match[2]) if match else ("00", str(key))
        by_visit.setdefault(visit, {})[kind] = value
    for visit, files in sorted(by_visit.items()):
        if isinstance(files.get(modality), str):
            labels = files.get(f"{modality} Label") or files.get("CT Label")
            yield str(entry["subject"]), visit, files[modality], labels if isinstance(labels, str) else ""
