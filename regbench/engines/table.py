"""The engines by the name that a config gives them."""

from __future__ import annotations

from regbench.engines.local import LocalEngine
from regbench.engines.protocol import Engine
from regbench.errors import ConfigError
from regbench.isolation import Limits


def build_engine(kind: str, workers: int, limits: Limits) -> Engine:
    """The engine of a kind with a number of workers; ConfigError if there is none of that name."""
    if kind != "local":
        raise ConfigError(f"engine.kind: unknown engine '{kind}'; known: local")
    return LocalEngine(workers, limits)
