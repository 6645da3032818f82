"""Two runs, a run and its baseline, or two methods of a run: what is worse, better, the same, or not to be compared.

    comparison = compare("results/baseline.json", "runs/new")
    comparison.exit_code, comparison.headline, comparison.of("regression")

Modes (see `golden`, `paired`): value by value for methods that give the same result every time, tests over pairs for
others, non-inferiority against a margin. Left to itself a comparison chooses for each method, and says why.
"""

from regbench.analysis.comparison.baseline import read_side, write_baseline
from regbench.analysis.comparison.gate import (
    Options,
    compare,
    compare_golden,
    compare_methods,
    compare_rows,
    compare_sides,
    methods_of_runs,
)
from regbench.analysis.comparison.outcome import Check, Comparison, ModeChoice, PairChange
from regbench.analysis.comparison.tolerances import Tolerance, parse_tolerances

__all__ = [
    "Check",
    "Comparison",
    "ModeChoice",
    "Options",
    "PairChange",
    "Tolerance",
    "compare",
    "compare_golden",
    "compare_methods",
    "compare_rows",
    "compare_sides",
    "methods_of_runs",
    "parse_tolerances",
    "read_side",
    "write_baseline",
]
