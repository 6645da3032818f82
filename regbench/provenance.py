"""Where results come from: versions, source, host and threads, as plain data for run.json.

Nothing heavy is imported: versions come from package metadata, the GPU from nvidia-smi.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from regbench.resources import thread_environment

_DISTRIBUTIONS = ("regbench", "numpy", "scipy", "SimpleITK", "antspyx", "torch", "nibabel", "nilearn")


def provenance(threads: int, distributions: Iterable[str] = ()) -> dict[str, Any]:
    """Versions, git state, host by name, and thread settings of workers with `threads` threads."""
    return {
        "versions": versions(distributions),
        "git": git_state(Path(__file__).parent),
        "hosts": {socket.gethostname(): host()},
        "thread_settings": thread_environment(threads),
    }


def versions(distributions: Iterable[str] = ()) -> dict[str, str | None]:
    """The versions of Python, of what regbench builds on, and of further distributions; None if not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    # What is given may be a requirement, such as 'torch>=2.6'.
    names = [match[0] for text in distributions if (match := re.search(r"[\w.-]*\w", text))]
    for name in dict.fromkeys((*_DISTRIBUTIONS, *names)):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    if found["regbench"] is None:
        from regbench import __version__

        found["regbench"] = __version__
    return found


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and whether files of `folder` differ from it; None if the folder is not part of a git checkout."""
    # A virtual environment inside somebody's checkout is not part of that checkout.
    tracked = _output("git", "-C", str(folder), "ls-files", "__init__.py")
    commit = _output("git", "-C", str(folder), "rev-parse", "HEAD") if tracked else None
    if not commit:
        return None
    changes = _output("git", "-C", str(folder), "status", "--porcelain", "--", ".")
    return {"commit": commit, "dirty": bool(changes)}


def host() -> dict[str, Any]:
    """The machine: system, CPU model, cores that may be used, memory in MiB, GPU and driver or None."""
    return {
        "system": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_mib": _memory_mib(),
        **_gpu(),
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_mib() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    except (ValueError, OSError):
        return None


def _gpu() -> dict[str, str | None]:
    line = _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    if not line:
        return {"gpu": None, "gpu_driver": None}
    name, _, driver = line.splitlines()[0].partition(",")
    return {"gpu": name.strip(), "gpu_driver": driver.strip()}


def _output(*command: str) -> str | None:
    """What a program prints, or None if it is not there, fails, or takes longer than 5 s."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=5, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
