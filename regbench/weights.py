"""Files of released weights: where they lie once they have been fetched, and how they get there.

A file is fetched from an official address into the user's cache, and is there only if its SHA-256 is the one on
record: it is downloaded beside its place, checked, and then moved. Nothing is fetched unless a user asks for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from regbench.errors import StoreError
from regbench.files.atomic import first_line
from regbench.files.cache import cache_folder


@dataclass(frozen=True)
class WeightFile:
    """A released file: official addresses of it (the first that has it is taken), its content and its terms.

    `n_bytes` and `sha256` are those of the file. Without an address, `source` says where to look for it.
    """

    name: str
    suffix: str
    n_bytes: int
    sha256: str
    source: str
    licence: str
    citation: str
    addresses: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """Where it lies in the user's cache once it has been fetched."""
        return cache_folder("weights") / f"{self.name}{self.suffix}"


def fetched_path(weights: WeightFile) -> Path | None:
    """The path of a fetched file, or None if it is not there."""
    path = weights.path
    return path if path.is_file() else None


def fetch(weights: WeightFile, tell: Callable[[str], None] = lambda line: None) -> Path:
    """The path of a file of weights, downloaded unless its right content is there already.

    `tell` is called with each address that is tried. Raises StoreError in one sentence: no network, another content
    than the one on record, no address, no place; what was there before stays, and nothing half-written is left.
    """
    path = weights.path
    if path.is_file() and _sha256(path) == weights.sha256:
        return path
    if not weights.addresses:
        raise StoreError(
            f"weights {weights.name}: no address of the file is on record; get it from {weights.source} and give its "
            "path as `weights` of the method"
        )
    problems = []
    for address in weights.addresses:
        tell(address)
        try:
            return _download(address, weights, path)
        except (OSError, ValueError) as error:
            # All errors of a connection are OSErrors; a wrong checksum is a ValueError.
            problems.append(_problem(error))
        finally:
            with suppress(OSError):
                path.parent.rmdir()
    what = "; ".join(dict.fromkeys(problems))
    raise StoreError(
        f"weights {weights.name}: {what}; try again later, or get the file from {weights.source} and give its path as "
        "`weights` of the method"
    )


def _download(address: str, weights: WeightFile, path: Path) -> Path:
    import logging

    import pooch

    # What it logs is said by the command line.
    pooch.get_logger().setLevel(logging.WARNING)
    found = pooch.retrieve(address, f"sha256:{weights.sha256}", fname=path.name, path=path.parent)
    return Path(found)


def _problem(error: OSError | ValueError) -> str:
    if isinstance(error, ValueError) and "does not match" in str(error):
        return "the downloaded file is not the one on record (its SHA-256 differs), so it was not kept"
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code}"
    if type(error).__module__.startswith(("requests", "urllib3")):
        return f"the server cannot be reached ({type(error).__name__})"
    return f"the file cannot be written ({first_line(error)})"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
