"""Content hashes of the files of a pair: the same wherever the files lie, other ones when their content changes."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from regbench.errors import DatasetError


def content_hash(path: Path, alone: bool = False) -> list[str]:
    """The sha256 of each file that an image or a table consists of (header and data may be two; not if `alone`).

    Raises DatasetError, naming the file, if one is missing or cannot be read.
    """
    from regbench.files.images import files_of

    try:
        parts = [path] if alone else files_of(path)
        return [_file_hash(part, part.stat().st_mtime_ns, part.stat().st_size) for part in parts]
    except FileNotFoundError as error:
        raise DatasetError(f"{error.filename}: no such file; check the path") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None


@lru_cache(maxsize=4096)
def _file_hash(path: Path, _mtime_ns: int, _size: int) -> str:
    """The sha256 of a file; time and size of the file are arguments so that a changed file is read again."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
