"""`regbench methods test`: anybody's method, in a process of its own that may crash or hang."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from regbench.cli import invoke
from regbench.cli.exit_codes import ExitCode
from regbench.config import check_config

HEAD = '''
import ctypes, os, sys, time
from dataclasses import dataclass
import numpy as np
from regbench.displacement import Displacement
from regbench.errors import MethodDeclined


@dataclass(frozen=True)
class Mine:
    """A method of somebody's."""

    seed: int = 0

    def register(self, pair):
        if pair.ndim == 3:
            raise MethodDeclined("handles slices only")
'''
# What somebody may write who knows SimpleITK and takes its vectors as they are.
DEMONS = """
        from regbench.files.itk import to_sitk
        import SimpleITK as sitk
        fixed, moving = to_sitk(pair.fixed), to_sitk(pair.moving)
        moving = sitk.Resample(moving, fixed)
        demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
        demons.SetNumberOfIterations(60)
        demons.SetStandardDeviations(1.5)
        field = sitk.GetArrayFromImage(demons.Execute(fixed, moving)).transpose(1, 0, 2)
        return Displacement(field, pair.fixed.grid)
"""


def tried(capsys: pytest.CaptureFixture[str], tmp_path: Path, body: str, *options: str) -> tuple[int, str]:
    """The exit code and the output for a class whose `register` goes on with this body."""
    file = tmp_path / "mine.py"
    file.write_text(HEAD + body)
    code = invoke(["methods", "test", f"{file}:Mine", *options])
    return code, re.sub(r"\s+", " ", capsys.readouterr().out)


def test_the_mistake_of_a_newcomer_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = tried(capsys, tmp_path, DEMONS)
    assert code == ExitCode.FAILED
    assert (
        "wrong 2-D follows a shift: " in out and "it looks like LPS instead of RAS; to do: negate its first two" in out
    )
    assert "declined 3-D gives one finite field on the fixed grid: handles slices only" in out
    assert "note its card is complete: no citation and no licence" in out
    assert re.search(r"\d+ promises kept, \d broken", out)


def test_the_mistake_put_right_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = tried(capsys, tmp_path, DEMONS.replace("Displacement(field,", "Displacement(-field,"), "--verbose")
    assert code == ExitCode.OK, out
    assert "ok 2-D follows a smooth field" in out and "all" in out


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("        ctypes.string_at(0)", "it ended its whole process with SIGSEGV"),
        ("        os._exit(4)", "it ended its whole process with exit code 4"),
        ("        print('last words', file=sys.stderr); os.abort()", "with SIGABRT; its last words: "),
        ("        time.sleep(60)", "it was not done after 3 s; give it quicker settings, or more time with --timeout"),
    ],
)
def test_a_method_that_takes_its_process_along_is_told(
    body: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = tried(capsys, tmp_path, body, "--timeout", "3", "--dimension", "2")
    assert code == ExitCode.FAILED and words in out
    assert "(One finite field on the fixed grid)" in out


def test_a_method_that_declines_everything_was_not_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = tried(capsys, tmp_path, "        pass", "--dimension", "3")
    assert code == ExitCode.NOTHING_DONE and "handles slices only" in out


def test_a_method_that_cannot_be_prepared_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = "        pass\n\n    def prepare(self):\n        raise FileNotFoundError('weights.pt')\n"
    code, out = tried(capsys, tmp_path, body)
    assert code == ExitCode.FAILED and "is built and prepared: FileNotFoundError: weights.pt" in out


def test_a_method_of_a_config_is_tried_with_what_it_has_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program of the user's, which writes a field of zeros; it does nothing, and that is found."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, SimpleITK as sitk\n"
        "fixed = sitk.Extract(sitk.ReadImage(sys.argv[1]), [27, 29, 0])\n"
        "nothing = sitk.Image(fixed.GetSize(), sitk.sitkVectorFloat32, 2)\n"
        "nothing.CopyInformation(fixed)\n"
        "sitk.WriteImage(nothing, sys.argv[2])\n"
    )
    line = f'["{sys.executable}", "{program}", "{{fixed}}", "{{folder}}/u.mha"]'
    config = tmp_path / "config.yaml"
    config.write_text(
        "datasets: [mni-cohort]\nmethods:\n"
        f"  - nothing: {{command: {line}, output: itk-warp, result: [u.mha], version: '1'}}\n"
    )
    code = invoke(["methods", "test", "nothing", "--config", str(config), "--dimension", "2"])
    out = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert code == ExitCode.FAILED and "it hardly moves anything" in out and "nothing: " in out
    assert invoke(["methods", "test", "something", "--config", str(config)]) == ExitCode.USAGE
    assert "has no method 'something'; it has nothing" in capsys.readouterr().err


def test_what_cannot_be_tried_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["methods", "test", "no-such"]) == ExitCode.USAGE
    assert "unknown method 'no-such'" in capsys.readouterr().err
    (tmp_path / "c.yaml").write_text(
        "datasets: [mni-cohort]\nmethods: [{mine: {command: [no-such-program, '{warp}'], version: '1'}}]\n"
    )
    assert invoke(["methods", "test", "mine", "--config", str(tmp_path / "c.yaml")]) == ExitCode.USAGE
    assert "mine needs no-such-program, which is missing" in capsys.readouterr().err


def test_the_examples_of_the_readme_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    section = readme.partition("### A method of your own")[2].partition("\n## ")[0]
    (code,), (config,) = (re.findall(rf"```{kind}\n(.*?)```", section, re.S) for kind in ("python", "yaml"))
    (tmp_path / "centres.py").write_text(code)
    assert invoke(["methods", "test", f"{tmp_path}/centres.py:Centres"]) == ExitCode.OK
    assert "promises kept" in capsys.readouterr().out
    (tmp_path / "config.yaml").write_text(config)
    assert check_config(tmp_path / "config.yaml")[1] == []
