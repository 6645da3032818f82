"""Files that appear complete or not at all, and how files are named."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from regbench.errors import RegbenchError, StoreError


def full_suffix(path: Path) -> str:
    """The suffix of a file name in lower case, with the one before '.gz': '.nii.gz', '.img.gz', '.mha'."""
    name = path.name.lower()
    inner = Path(name.removesuffix(".gz")).suffix
    return inner + ".gz" if name.endswith(".gz") else inner


def stem_of(path: Path) -> str:
    """The file name without its suffix: 'brain' of 'brain.nii.gz'."""
    suffix = full_suffix(path)
    return path.name[: -len(suffix)] if suffix else path.name


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffix, that takes its place when the block ends well.

    Whatever goes wrong, `path` keeps its old content, and nothing else stays behind. Raises StoreError if
    the file cannot be written.
    """
    temporary = path.with_name(f".{stem_of(path)}.{secrets.token_hex(4)}.part{full_suffix(path)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except RegbenchError:
        raise
    except (OSError, RuntimeError) as error:
        # SimpleITK reports a full disk or a missing permission as a RuntimeError.
        raise StoreError(f"{path}: cannot be written ({first_line(error)}); check the folder and the disk") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def first_line(error: BaseException) -> str:
    """What an error of another package says, short enough for one sentence."""
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    # SimpleITK puts the place in its source before the reason.
    reason = reason.rsplit("ERROR: ", 1)[-1]
    return (reason[:117] + "...") if len(reason) > 120 else (reason or type(error).__name__)
