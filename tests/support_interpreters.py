"""Another Python interpreter that has numpy and nothing else, made of the one that runs the tests."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import numpy as np


def bare_python(folder: Path, **distributions: str) -> Path:
    """An interpreter in `folder`/bin that finds the standard library, numpy, and empty packages of given versions.

    It runs without `site`, so that what is installed for the tests cannot be imported in it.
    """
    packages, program = folder / "packages", folder / "bin" / "python"
    packages.mkdir(parents=True, exist_ok=True)
    program.parent.mkdir(parents=True, exist_ok=True)
    installed = Path(np.__file__).parent
    numpy_metadata = f"numpy-{importlib.metadata.version('numpy')}.dist-info"
    for name in ("numpy", "numpy.libs", numpy_metadata):
        if (installed.parent / name).exists() and not (packages / name).exists():
            (packages / name).symlink_to(installed.parent / name)
    for name, version in distributions.items():
        (packages / f"{name}.py").write_text("")
        metadata = packages / f"{name}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}{packages}" exec "{sys.executable}" -S "$@"\n'
    )
    program.chmod(0o755)
    return program
