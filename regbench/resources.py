"""Seconds, memory and threads of a process, as the process itself sees them.

Peak memory is VmHWM, the largest resident set since it was last reset, which Linux allows (`clear_refs`);
elsewhere it is the largest of the process's life. The size of a child as its parent sees it would be wrong:
Linux carries the parent's pages over a fork.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

_LOOK_S = 0.02
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


def thread_environment(threads: int) -> dict[str, str]:
    """The environment variables that hold numerical libraries to a number of threads; read when they are imported."""
    return dict.fromkeys(_THREAD_VARIABLES, str(threads))


def limit_torch_threads(threads: int) -> None:
    """Holds torch to a number of threads if it is loaded; never loads it."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads"):
        torch.set_num_threads(threads)


def empty_timing() -> dict[str, float | None]:
    """The timing of a row with nothing measured yet, in seconds."""
    return dict.fromkeys(("load_s", "setup_s", "read_s", "register_s", "evaluate_s", "cpu_s", "gpu_s"))


def empty_memory() -> dict[str, int | None]:
    """The memory of a row with nothing measured yet, in MiB."""
    return dict.fromkeys(("rss_peak_mib", "rss_before_mib", "gpu_peak_mib"))


class Measurement:
    """A measured block: wall and CPU seconds (children included), peak memory of the host and of a GPU.

    The peak is that of this process, or of the largest program that it runs if `programs` says that it runs any. What
    was measured is filled in also where the block raises.
    """

    def __init__(self, timing: dict[str, float | None], memory: dict[str, int | None], programs: bool = False) -> None:
        self._timing, self._memory = timing, memory
        self._watch = _ProgramWatch() if programs else None
        self.device = "cpu"

    def __enter__(self) -> Measurement:
        cuda = _cuda()
        if cuda is not None:
            cuda.reset_peak_memory_stats()
        reset_peak()
        self._memory["rss_before_mib"] = memory_mib("VmRSS")
        if self._watch is not None:
            self._watch.start()
        self._cpu = _cpu_seconds()
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timing["register_s"] = time.perf_counter() - self._start
        self._timing["cpu_s"] = _cpu_seconds() - self._cpu
        peaks = [peak_mib(), self._watch.stop() if self._watch is not None else None]
        self._memory["rss_peak_mib"] = max((peak for peak in peaks if peak is not None), default=None)
        cuda = _cuda()
        if cuda is not None and (peak := cuda.max_memory_allocated()):
            self._memory["gpu_peak_mib"] = round(peak / 2**20)
            self.device = f"cuda {cuda.get_device_name()}"


class _ProgramWatch(threading.Thread):
    """Looks at the programs that this process runs, and keeps the largest of their own peaks.

    A program that lives for less than `_LOOK_S`, or grows in its last moments, is seen too small.
    """

    def __init__(self) -> None:
        super().__init__(name="program watch", daemon=True)
        self._stopped = threading.Event()
        self._peak: int | None = None

    def run(self) -> None:
        while not self._stopped.wait(_LOOK_S):
            peaks = [memory_mib("VmHWM", member) for member in _family(os.getpid())[1:]]
            self._peak = max((peak for peak in (self._peak, *peaks) if peak is not None), default=None)

    def stop(self) -> int | None:
        """The largest resident memory of a program so far, in MiB; None if none was seen."""
        self._stopped.set()
        self.join()
        return self._peak


def _cpu_seconds() -> float:
    """User and system seconds of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _cuda() -> Any:
    """`torch.cuda` if it is in use, else None."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    return cuda if cuda is not None and cuda.is_initialized() else None


def reset_peak() -> None:
    """Makes the peak of resident memory start from now, where the system can."""
    try:
        descriptor = os.open("/proc/self/clear_refs", os.O_WRONLY)
    except OSError:
        return
    try:
        os.write(descriptor, b"5")
    except OSError:
        pass
    finally:
        os.close(descriptor)


def peak_mib() -> int | None:
    """The largest resident memory of this process in MiB since `reset_peak`."""
    peak = memory_mib("VmHWM")
    if peak is not None:
        return peak
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)


def memory_mib(what: str, process: int | str = "self") -> int | None:
    """A line of /proc/PID/status, VmRSS (resident) or VmHWM (its peak), in MiB; None where there is none."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith(f"{what}:"):
            return round(int(line.split()[1]) / 1024)
    return None


def largest_mib(process: int) -> int | None:
    """The resident memory of the largest among a process and all that it has started, in MiB; None if it is gone.

    Not their sum: children of a fork share pages, which would be counted over and over.
    """
    sizes = [memory_mib("VmRSS", member) for member in _family(process)]
    return max((size for size in sizes if size is not None), default=None)


def _family(process: int) -> list[int]:
    """The ids of a process and of all that it has started, and they in turn, parents first."""
    family = [process]
    for member in family:
        for children in Path(f"/proc/{member}/task").glob("*/children"):
            with suppress(OSError):
                family += [int(child) for child in children.read_text().split()]
    return family


def worker_environment(parent: Mapping[str, str], threads: int, seed: int, temporary: Path) -> dict[str, str]:
    """The environment of a worker: threads, seed of engines that read it there, private folder for temporary files."""
    return {
        **parent,
        **thread_environment(threads),
        # ANTs takes 0 for "seed by the clock", and reads the variable before it is imported only.
        "ANTS_RANDOM_SEED": str(seed + 1),
        "PYTHONHASHSEED": "0",
        # Threads that spin while they wait take the cores that the others compute on.
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": os.pathsep.join(filter(None, [_source_folder(), parent.get("PYTHONPATH", "")])),
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(temporary),
    }


def _source_folder() -> str:
    """The folder that regbench is imported from where it is not installed, else "".

    An installed one is found anyway; its folder must not come before the standard library.
    """
    folder = Path(__file__).resolve().parent.parent
    return "" if folder.name in ("site-packages", "dist-packages") else str(folder)
