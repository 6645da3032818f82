"""The folder of what regbench can make or fetch again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """The folder for re-creatable data of one kind: below $REGBENCH_CACHE, else the user's cache folder."""
    root = os.environ.get("REGBENCH_CACHE")
    if root:
        return Path(root) / name
    import platformdirs

    return Path(platformdirs.user_cache_dir("regbench")) / name
