"""The recipes for other people's programs: valid, and run for real or with stand-ins that check their options."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regbench.config import check_config, load_config
from regbench.contract import phantom
from regbench.displacement import Displacement
from regbench.environments import home_of
from regbench.errors import MethodError
from regbench.methods.command import Command
from regbench.pair import BlindPair
from regbench.parameters import as_plain
from regbench.targets import method_parameters
from regbench.volume import Grid, Image

RECIPES = Path(__file__).parent.parent / "configs" / "recipes"
# Options as words and values; the rest of a stand-in does what its program does with them.
OPTIONS = """
import struct, sys
import nibabel as nib, numpy as np
words = sys.argv[1:]
def option(name, n=1):
    found = words[words.index(name) + 1 : words.index(name) + 1 + n]
    return found[0] if n == 1 else found
shift = np.array([6.0, -4.0, 2.5])
"""
REG_F3D = """
assert nib.load(option('-ref')).shape == (27, 29, 25) and nib.load(option('-flo')).shape == (30, 26, 28)
assert option('-omp') == '1' and option('-res')
open(option('-cpp'), 'w').write('control points')
"""
REG_TRANSFORM = """
fixed = nib.load(option('-ref'))
control_points, output = option('-def', 2)
assert open(control_points).read() == 'control points'
index = np.stack(np.meshgrid(*map(np.arange, fixed.shape), indexing='ij'), -1)
positions = index @ fixed.affine[:3, :3].T + fixed.affine[:3, 3] + shift
image = nib.Nifti1Image(positions[:, :, :, None].astype(np.float32), fixed.affine)
image.header.set_intent(1007, (), 'NREG_TRANS')
nib.save(image, output)
"""
# Two voxels along the first axis, one back along the second, half along the third, at points every four voxels.
DEEDS = """
fixed, moving = nib.load(option('-F')), nib.load(option('-M'))
assert fixed.shape == moving.shape and option('-F').endswith('gz')
points = int(np.prod([n // 4 for n in fixed.shape]))
with open(option('-O') + '_displacements.dat', 'wb') as stream:
    for value in (-1.0, 2.0, 0.5):
        stream.write(struct.pack('<f', value) * points)
"""
ANTS = """
import os
os.environ['ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS'] = '1'
import ants
quick = {'100x70x50x20': '15x2', '8x4x2x1': '2x1', '3x2x1x0vox': '1x0vox', ',1,4]': ',1,2]'}
for long, short in quick.items():
    assert any(long in word for word in words), long
    words = [word.replace(long, short) for word in words]
ants.registration(words, None)
"""


def stand_in(folder: Path, name: str, code: str) -> None:
    program = folder / name
    program.write_text(f"#!{sys.executable}\n{OPTIONS}{code}")
    program.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder at the head of PATH."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
    return tmp_path / "bin"


def recipe(name: str, folder: Path = RECIPES) -> tuple[Command, Any]:
    """The method of a recipe and its entry."""
    (entry,) = [entry for entry in load_config(folder / f"{name}.yaml").methods if entry.name == "command"]
    assert entry.label == name
    return Command(**method_parameters("command", entry.parameters, name)), entry


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_have_no_problem(path: Path) -> None:
    assert check_config(path)[1] == []


def test_niftyreg(programs: Path) -> None:
    method, entry = recipe("niftyreg")
    assert {need.name for need in home_of("command", None, entry.parameters).missing} <= {"reg_f3d", "reg_transform"}
    stand_in(programs, "reg_f3d", REG_F3D)
    stand_in(programs, "reg_transform", REG_TRANSFORM)
    pair = phantom.shifted(3)
    assert phantom.error_mm(method.register(pair.blind()), pair) < 1e-3
    assert home_of("command", None, entry.parameters).missing == ()


def test_deeds(programs: Path) -> None:
    method, _ = recipe("deeds")
    stand_in(programs, "deedsBCV", DEEDS)
    fixed = phantom.shifted(3).fixed
    moving = Image(fixed.array, Grid(fixed.grid.shape, phantom.grids(3)[1].affine))
    found = method.register(BlindPair("one shape", fixed, moving))
    np.testing.assert_allclose(
        found.in_voxels(moving.grid), np.broadcast_to([2.0, -1.0, 0.5], (27, 29, 25, 3)), atol=1e-4
    )
    with pytest.raises(MethodError, match="AssertionError"):
        method.register(phantom.shifted(3).blind())


def test_ants(programs: Path) -> None:
    """The arguments go through the library of ANTs itself, with fewer iterations."""
    pytest.importorskip("ants")
    method, _ = recipe("ants-cli")
    stand_in(programs, "antsRegistration", ANTS)
    pair = phantom.shifted(3)
    assert phantom.error_mm(method.register(pair.blind()), pair) < 0.6


@pytest.mark.skipif(not (shutil.which("elastix") and shutil.which("transformix")), reason="needs: apt install elastix")
def test_elastix_for_real(tmp_path: Path) -> None:
    """The recipe with fewer iterations and samples, in a copy; the content of its file is part of its version."""
    for suffix in (".yaml", ".txt"):
        shutil.copy(RECIPES / f"elastix-cli{suffix}", tmp_path)
    _, entry = recipe("elastix-cli", tmp_path)
    version = home_of("command", None, as_plain(entry.parameters)).version
    file = tmp_path / "elastix-cli.txt"
    text = file.read_text().replace("Iterations 250", "Iterations 60").replace("Samples 3000", "Samples 1000")
    assert "Iterations 60" in text and "Samples 1000" in text
    file.write_text(text)
    method, entry = recipe("elastix-cli", tmp_path)
    edited = home_of("command", None, as_plain(entry.parameters)).version
    assert version != edited and all(told.startswith("elastix 5.0.1 with ") for told in (version, edited))
    for pair in (phantom.shifted(3), phantom.bent(3)):
        before = phantom.error_mm(Displacement.identity(pair.fixed.grid), pair)
        assert phantom.error_mm(method.register(pair.blind()), pair) < 0.4 * before


def test_files_of_a_config_are_found_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "configs"
    place.mkdir()
    (place / "own.txt").write_text('(Transform "BSplineTransform")\n')
    (place / "c.yaml").write_text(
        "datasets: [mni-cohort]\nmethods:\n"
        "  - elastix-bspline: {parameter_files: [own.txt]}\n"
        "  - tool: {command: [cat, own.txt, '{warp}'], files: [own.txt]}\n"
        "  - other: {command: [cat, 1, 2.5, '{warp}'], files: [no-such.txt]}\n"
    )
    monkeypatch.chdir(tmp_path)
    config, problems = check_config(place / "c.yaml")
    assert len(problems) == 1 and "files: file " in problems[0] and "no-such.txt does not exist" in problems[0]
    assert config is not None
    own = [str(place / "own.txt")]
    assert config.methods[0].parameters["parameter_files"] == own and config.methods[1].parameters["files"] == own
    version = home_of("elastix-bspline", None, config.methods[0].parameters).version
    assert " with " in version and " with " not in home_of("elastix-bspline", None, {}).version
