"""Arrays from pickle files of strangers, without running what is in them.

A pickle is a program: loading it can call anything. Here only what rebuilds numpy arrays may be called, and it calls
stand-ins of ours that note shape, type and bytes; numpy itself never sees what the file says before it is checked.
Every other name in the file is refused before it is looked up, and no content but arrays in tuples or lists is
accepted.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regbench.errors import DatasetError
from regbench.files.atomic import first_line
from regbench.files.images import check_exists


def read_pickled_arrays(path: Path) -> list[np.ndarray]:
    """The arrays of a pickled tuple, list or single array, in their order; DatasetError for anything else."""
    check_exists(path)
    try:
        content = _ArrayUnpickler(io.BytesIO(path.read_bytes())).load()
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None
    except Exception as error:  # a damaged pickle raises anything
        raise DatasetError(f"{path}: cannot be read as a pickle ({first_line(error)}); copy it again") from None
    items = list(content) if isinstance(content, tuple | list) else [content]
    for item in items:
        if not isinstance(item, _Array) or item.array is None:
            raise DatasetError(f"{path}: holds {type(item).__name__} where only arrays are expected")
    return [item.array for item in items]


class _Type:
    """A type of numbers, such as '<f4'; called in place of numpy.dtype."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?([biuf][1248]|[?bhilBHIL])", code):
            raise DatasetError(f"holds an array of type {code!r}, which is not loaded")
        self.code = code.lstrip("<>|=")
        self.order = code[0] if code[0] in "<>" else "="

    def __setstate__(self, state: Any) -> None:
        # Version and byte order; the rest describes records, which are not loaded.
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise DatasetError("holds an array of records, which is not loaded")
        self.order = state[1] if state[1] in ("<", ">") else "="

    def dtype(self) -> np.dtype:
        """The type as numpy knows it."""
        return np.dtype(self.order + self.code.replace("?", "b1"))


class _Array:
    """An array that is being rebuilt; called in place of numpy's own functions for that."""

    def __init__(self, *_: Any) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, is_fortran, data = state
        self._fill(data, kind, shape, "F" if is_fortran else "C")

    def _fill(self, data: Any, kind: Any, shape: Any, order: Any) -> None:
        if not isinstance(kind, _Type) or not isinstance(data, bytes | bytearray) or order not in ("C", "F"):
            raise DatasetError("holds an array of a type that is not loaded")
        self.array = np.frombuffer(data, kind.dtype()).reshape(tuple(shape), order=order)


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> _Array:
    """An array over bytes, which is how protocol 5 keeps it."""
    found = _Array()
    found._fill(data, kind, shape, order)
    return found


def _latin1(text: Any, encoding: Any) -> bytes:
    """The bytes that protocol 2 keeps as text."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise DatasetError("holds text that is not loaded")
    return text.encode("latin1")


# Names that occur in pickles of arrays by any numpy, and what stands for them here.
_ALLOWED: Mapping[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _latin1,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise DatasetError(f"its pickle asks for {module}.{name}, which is not run; only arrays are loaded")
        return _ALLOWED[(module, name)]

    def persistent_load(self, pid: Any) -> Any:
        raise DatasetError("its pickle refers to things outside of the file, which are not loaded")
