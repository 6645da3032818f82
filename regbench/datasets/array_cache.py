"""A small cache of generated arrays on disk, safe under parallel writers and full disks.

The cache only saves time: what cannot be read is made again, what cannot be written is left out.
"""

from __future__ import annotations

import logging
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

logger = logging.getLogger(__name__)


def cached_arrays(path: Path, make: Callable[[], Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    """The arrays in the npz file `path`, or those that `make()` returns, then kept in that file."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        pass
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        logger.warning("cache file %s cannot be read (%s); making it again", path, error)
    arrays = make()
    _store(path, arrays)
    return arrays


def _store(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as stream:
            temporary = Path(stream.name)
            np.savez(stream, allow_pickle=False, **arrays)
        temporary.replace(path)
    except OSError as error:
        logger.warning("cache file %s cannot be written (%s); going on without it", path, error)
        if temporary:
            temporary.unlink(missing_ok=True)
