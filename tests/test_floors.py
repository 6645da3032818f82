"""The imports of regbench, read from the source: downwards only, on one floor only to the left.

Floors and their order are those of the architecture: anything may import what lies below it or, on its own
floor, what stands to its left; plug-ins of one table never know those of another.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import regbench

_ROOT = Path(regbench.__file__).parent

# Floor by floor, each from left to right. A name is a module or a package directly below `regbench`.
FLOORS: list[list[str]] = [
    ["errors", "volume", "displacement", "pair"],
    ["slabs", "warp", "label_votes", "alignment", "files", "parameters", "weights"],
    ["datasets", "methods", "metrics", "shifts"],
    [
        "targets",
        "families",
        "leaks",
        "environments",
        "resources",
        "provenance",
        "store",
        "tuned",
        "config_file",
        "config_entries",
        "config",
        "plan",
        "prealign",
        "pictures",
        "phases",
        "lodging",
        "execution",
        "worker",
        "isolation",
        "engines",
        "runner",
        "compat",
        "tuning",
        "rescore",
        "foreign",
        "contract",
        "training",
        "dataset_check",
        "information",
        "interleaved",
        "case_again",
        "merging",
        "submission",
    ],
    ["analysis", "reports"],
    ["cli", "__main__"],
]
PLUGINS = FLOORS[2]
HEAVY = {"torch", "ants", "SimpleITK", "scipy", "pandas", "matplotlib", "nibabel", "nilearn"}
LIGHT = [
    "cli",
    "environments",
    "families",
    "leaks",
    "lodging",
    "config",
    "config_file",
    "config_entries",
    "plan",
    "provenance",
    "store",
    "targets",
    "metrics",
    "methods",
    "shifts",
]


def _modules() -> list[Path]:
    return sorted(path for path in _ROOT.rglob("*.py") if "__pycache__" not in path.parts)


def _part(module: str) -> str:
    """The part of regbench that a dotted module name belongs to, such as 'files' for 'regbench.files.itk'."""
    return module.split(".")[1] if "." in module else ""


def _name(path: Path) -> str:
    steps = ["regbench", *path.relative_to(_ROOT).with_suffix("").parts]
    return ".".join(steps[:-1] if steps[-1] == "__init__" else steps)


def _imports(tree: ast.AST) -> set[str]:
    """Every module that is imported anywhere in a tree; `from regbench import x` counts as `regbench.x`."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what floor they reach"
            module = node.module or ""
            found |= {f"regbench.{a.name}" for a in node.names} if module == "regbench" else {module}
    return found


def _top_level_imports(tree: ast.Module) -> set[str]:
    """What is imported when the module is: not inside functions, not for type checkers only."""
    kept = [node for node in tree.body if not _is_type_checking(node)]
    found: set[str] = set()
    for node in kept:
        if isinstance(node, ast.Import | ast.ImportFrom | ast.If | ast.Try):
            found |= _imports(node)
    return found


def _is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _height(part: str) -> tuple[int, int]:
    for floor, names in enumerate(FLOORS):
        if part in names:
            return floor, names.index(part)
    raise AssertionError(f"regbench.{part} stands on no floor; give it a place in FLOORS")


def _violations(part: str, imported: set[str]) -> list[str]:
    """The imports that a part of regbench may not have."""
    floor, place = _height(part)
    wrong = []
    for module in imported:
        other = _part(module) if module.startswith("regbench.") else part
        if other in (part, "__version__"):
            continue
        other_floor, other_place = _height(other)
        upwards = other_floor > floor or (other_floor == floor and other_place > place)
        if upwards or (part in PLUGINS and other in PLUGINS):
            wrong.append(module)
    return sorted(wrong)


@pytest.mark.parametrize("path", _modules(), ids=_name)
def test_imports_go_down_or_left(path: Path) -> None:
    part = _part(_name(path))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not part:
        assert not _imports(tree) & {"regbench"}, "the package itself imports none of its parts"
        return
    assert _violations(part, _imports(tree)) == []


@pytest.mark.parametrize("path", [p for p in _modules() if _part(_name(p)) in LIGHT], ids=_name)
def test_light_modules_import_nothing_heavy_at_the_top(path: Path) -> None:
    if {"nets", "objectives"} & set(path.parts) and path.name != "similarity.py":
        pytest.skip("networks and objectives are torch modules; methods import them inside functions")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert {module.split(".")[0] for module in _top_level_imports(tree)} & HEAVY == set()


@pytest.mark.parametrize("part", FLOORS[0])
def test_the_ground_floor_knows_numpy_and_nothing_else(part: str) -> None:
    tree = ast.parse((_ROOT / f"{part}.py").read_text(encoding="utf-8"))
    others = {module.split(".")[0] for module in _imports(tree)} - {"regbench"}
    standard = {"__future__", "dataclasses", "functools", "collections", "typing"}
    assert others <= {"numpy"} | standard


def test_the_rule_refuses_what_it_should() -> None:
    assert _violations("metrics", {"regbench.methods.card"}) == ["regbench.methods.card"]
    assert _violations("warp", {"regbench.files.images", "regbench.pair"}) == ["regbench.files.images"]
    assert _violations("store", {"regbench.cli"}) == ["regbench.cli"]
    assert _violations("methods", {"regbench.warp", "numpy", "regbench.methods.card"}) == []
    assert _violations("cli", {"regbench.reports.derived", "regbench.errors"}) == []
