"""CPU seconds and peak memory of each objective, forward and backward, beside a peer's where there is one.

    python benchmarks/objectives.py [--shape 96 112 96] [--labels 12] [--repeats 5] [--threads 1] [--json FILE]

Each run is a fresh process, on the same random images, fields and label maps; the gradient is that of the second input
(descriptors are computed once for an image, without). Own and the peer's runs of one objective take turns; medians are
told, and the peer's over the own. Peers are MONAI, torch (the cross-entropy that MONAI calls) and the descriptors of
convexAdam; those that are not installed are left out. Memory is the peak of the resident set beyond what was resident
before: libraries and inputs are not counted, the gradient is.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from regbench.resources import memory_mib, peak_mib, reset_peak, worker_environment

# Each objective with what it takes and the package that has a counterpart, if any.
OBJECTIVES: dict[str, tuple[str, str | None]] = {
    "mse": ("images", None),
    "ncc": ("images", None),
    "lncc": ("images", "monai"),
    "descriptors": ("images", "convexAdam"),
    "mind-ssc": ("images", None),
    "mi": ("images", "monai"),
    "nmi": ("images", "monai"),
    "diffusion": ("field", "monai"),
    "bending": ("field", "monai"),
    "jacobian_penalty": ("field", None),
    "inverse_consistency": ("fields", None),
    "gradient_inverse_consistency": ("fields", None),
    "soft_dice": ("labels", "monai"),
    "cross_entropy": ("labels", "torch"),
}


def own(name: str) -> Callable[..., Any]:
    """The call of an objective of regbench."""
    import torch

    from regbench.methods.objectives import overlap, regularity
    from regbench.methods.objectives.self_similarity import descriptors
    from regbench.methods.objectives.similarity import make_similarity

    kind = OBJECTIVES[name][0]
    if name == "descriptors":
        return torch.no_grad()(lambda fixed, moved: descriptors(moved).sum())
    if kind == "images":
        similarity = make_similarity(name)
        return lambda fixed, moved: similarity(similarity.prepare(fixed), similarity.prepare(moved))
    function: Callable[..., Any] = getattr(overlap if kind == "labels" else regularity, name)
    return (lambda _, moved: function(moved)) if kind == "field" else function


def peer(name: str) -> Callable[..., Any]:
    """The call of what another package has in its place."""
    import torch

    if name == "descriptors":
        from convexAdam.convex_adam_utils import MINDSSC

        return torch.no_grad()(lambda fixed, moved: MINDSSC(moved, 1, 2, device=moved.device).sum())
    if name == "cross_entropy":
        return lambda fixed, moved: torch.nn.functional.cross_entropy((moved + 1e-2).log(), fixed)
    import monai.losses

    if name in ("diffusion", "bending"):
        field_loss = monai.losses.DiffusionLoss() if name == "diffusion" else monai.losses.BendingEnergyLoss()
        return lambda _, moved: field_loss(moved)
    loss: torch.nn.Module
    if name == "lncc":
        loss = monai.losses.LocalNormalizedCrossCorrelationLoss(kernel_size=5)
    elif name == "soft_dice":
        loss = monai.losses.DiceLoss()
    else:
        loss = monai.losses.GlobalMutualInformationLoss(num_bins=32)
    return lambda fixed, moved: loss(moved, fixed)


def make_inputs(kind: str, shape: Sequence[int], labels: int) -> tuple[Any, Any]:
    """Two images, two fields or two one-hot maps, of which the second wants a gradient."""
    import torch

    generator = torch.Generator().manual_seed(0)
    if kind == "labels":
        chosen = torch.randint(0, labels, (2, 1, *shape), generator=generator)
        first, second = ((chosen[k] == torch.arange(labels).view(-1, *[1] * len(shape)))[None].float() for k in (0, 1))
    else:
        channels = 1 if kind == "images" else len(shape)
        first, second = torch.rand((2, 1, channels, *shape), generator=generator).unbind(0)
    return first.clone(), second.clone().requires_grad_()


def measure_here(name: str, side: str, shape: Sequence[int], labels: int) -> dict[str, float]:
    """CPU seconds and peak memory in MiB of one forward and backward pass, after one on a small case."""
    call, kind = (own if side == "own" else peer)(name), OBJECTIVES[name][0]
    _pass(call, make_inputs(kind, [16] * len(shape), labels))
    inputs = make_inputs(kind, shape, labels)
    before = memory_mib("VmRSS") or 0
    reset_peak()
    started = time.process_time()
    value = _pass(call, inputs)
    return {"cpu_s": time.process_time() - started, "mib": (peak_mib() or 0) - before, "value": value}


def _pass(call: Callable[..., Any], inputs: tuple[Any, Any]) -> float:
    value = call(*inputs)
    if value.requires_grad:
        value.backward()
    return float(value.detach())


def measure(name: str, side: str, options: argparse.Namespace) -> dict[str, float]:
    """As `measure_here`, in a fresh process."""
    command = [sys.executable, __file__, "--only", name, side, "--labels", str(options.labels), "--shape"]
    command += map(str, options.shape)
    environment = worker_environment(os.environ, options.threads, 0, Path.cwd())
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} ({side}) failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Per objective the medians of both sides, printed as they come."""
    print(f"{'objective':30}{'own CPU s':>10}{'MiB':>7}   {'peer CPU s':>10}{'MiB':>7}   {'x time':>7}{'x memory':>9}")
    rows: dict[str, dict[str, Any]] = {}
    for name, (_, package) in OBJECTIVES.items():
        sides = ["own"] + (["peer"] if package is not None and find_spec(package) else [])
        runs = [{side: measure(name, side, options) for side in sides} for _ in range(options.repeats)]
        rows[name] = {
            side: {key: statistics.median(run[side][key] for run in runs) for key in ("cpu_s", "mib", "value")}
            for side in sides
        }
        print(_line(name, package, rows[name]), flush=True)
    return rows


def _line(name: str, package: str | None, row: dict[str, dict[str, float]]) -> str:
    ours = row["own"]
    text = f"{name:30}{ours['cpu_s']:10.3f}{ours['mib']:7.0f}"
    if "peer" in row:
        theirs = row["peer"]
        text += f"   {theirs['cpu_s']:10.3f}{theirs['mib']:7.0f}"
        text += f"   {theirs['cpu_s'] / ours['cpu_s']:7.1f}{theirs['mib'] / max(ours['mib'], 1):9.1f}  {package}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", type=int, nargs="+", default=[96, 112, 96])
    parser.add_argument("--labels", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs=2, metavar=("OBJECTIVE", "SIDE"), help="measure own or peer in this process")
    options = parser.parse_args()
    if options.only:
        name, side = options.only
        print(json.dumps(measure_here(name, side, options.shape, options.labels)))
        return
    rows = compare(options)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
