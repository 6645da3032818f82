"""Programs of other people: what they are given, how their results are read, and how they fail."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regbench.config import load_config
from regbench.contract import phantom
from regbench.environments import home_of
from regbench.errors import ConfigError, DatasetError, InvalidDisplacement, MethodDeclined, MethodError
from regbench.methods.command import Command
from regbench.methods.programs import output_file, private_folder, run_program
from regbench.pair import BlindPair
from regbench.resources import Measurement, empty_memory, empty_timing
from regbench.targets import method_card
from regbench.volume import Labels

PROGRAM = Path(__file__).with_name("program_of_a_user.py")
SEEN = phantom.shifted(2).blind()
# Tells what it was given, in a file that outlives the private folder, and moves nothing.
TELL = """
import json, os, pathlib, sys
import nibabel, numpy, SimpleITK
told, fixed, warp, *words = sys.argv[1:]
image = SimpleITK.ReadImage(fixed)
nothing = SimpleITK.Image(image.GetSize(), SimpleITK.sitkVectorFloat32)
nothing.CopyInformation(image)
SimpleITK.WriteImage(nothing, warp)
values = {w: float(nibabel.load(w).get_fdata().sum()) for w in words if w.endswith('mask.nii.gz')}
pathlib.Path(told).write_text(json.dumps({'words': words, 'cwd': os.getcwd(), 'environment': dict(os.environ),
    'folder': sorted(os.listdir()), 'values': values}))
"""


def python(code: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code, *words)


def telling(told: Path, *words: str, **others: Any) -> Command:
    """A method that tells what its program is given; its warp is a 2-D image in a format of three axes or less."""
    line = python(TELL, str(told), "{fixed}", "{folder}/w.mha", *words)
    return Command(command=line, input=".mha", result=("w.mha",), **others)


def told_by(told: Path, method: Command, pair: BlindPair = SEEN) -> dict[str, Any]:
    assert method.register(pair).max_mm == 0
    answer: dict[str, Any] = json.loads(told.read_text())
    return answer


# -- results ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(
    ("form", "output", "result"),
    [
        ("itk-warp", "itk-warp", ()),
        ("l2r", "l2r", ()),
        ("itk-transform", "itk-transform", ()),
        ("regbench", "regbench", ()),
        ("niftyreg", "niftyreg-deformation", ()),
        ("ants", "itk-warp", ("o_1Warp.nii.gz", "o_0GenericAffine.mat")),
    ],
)
def test_every_form_of_a_result_is_read(form: str, output: Any, result: tuple[str, ...], ndim: int) -> None:
    pair = phantom.shifted(ndim)
    place = "{folder}/o_" if result else "{warp}"
    shift = [f"{mm:g}" for mm in phantom.SHIFT_MM[:ndim]]
    line = (sys.executable, str(PROGRAM), form, "{fixed}", "{moving}", place, *shift)
    found = Command(command=line, output=output, result=result, environment=path_to_regbench()).register(pair.blind())
    assert phantom.error_mm(found, pair) < 1e-3


def path_to_regbench() -> dict[str, str]:
    return {"PYTHONPATH": str(PROGRAM.parent.parent)}


def test_a_result_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    def writes(expression: str, output: Any = "l2r") -> Command:
        return Command(command=python(f"import sys, numpy as np; {expression}", "{warp}"), output=output)

    with pytest.raises(MethodError, match=r"python.* wrote no warp.nii.gz; its folder has fixed.nii.gz, moving.nii.gz"):
        writes("pass").register(SEEN)
    with pytest.raises(DatasetError, match=r"warp.nii.gz: cannot be read .*; the file is damaged"):
        writes("open(sys.argv[1], 'w').write('no field')").register(SEEN)
    nan = "import nibabel as n; n.save(n.Nifti1Image(np.full((27, 29, 2), np.nan), np.eye(4)), sys.argv[1])"
    with pytest.raises(InvalidDisplacement, match="1566 of 1566 components are NaN"):
        writes(nan).register(SEEN)
    with pytest.raises(InvalidDisplacement, match=r"shape \(5, 5, 2\), expected \(27, 29, 2\)"):
        writes(nan.replace("(27, 29, 2), np.nan", "(5, 5, 2), 0.0")).register(SEEN)


def test_commands_run_one_after_the_other_in_one_folder() -> None:
    first = python("open('order', 'w').write('1')")
    second = python("assert open('order').read() == '1'; open('order', 'w').write('2')")
    third = (sys.executable, str(PROGRAM), "itk-warp", "{fixed}", "{moving}", "{warp}", "6", "-4")
    assert phantom.error_mm(Command(commands=(first, second, third)).register(SEEN), phantom.shifted(2)) < 1e-3
    with pytest.raises(MethodError, match="AssertionError"):
        Command(commands=(python("open('order', 'w').write('0')"), second, third)).register(SEEN)


# -- what a program is given --------------------------------------------------------------------------


def test_placeholders_are_replaced_whole_or_within_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "3")
    words = ("--moving={moving}", "[{fixed},{moving},1]", "{threads}", "s{seed}", "{folder}", "{not-one}", "{}")
    told = told_by(tmp_path / "told", telling(tmp_path / "told", *words, seed=7))
    folder = told["cwd"]
    assert told["words"] == [
        f"--moving={folder}/moving.mha",
        f"[{folder}/fixed.mha,{folder}/moving.mha,1]",
        "3",
        "s7",
        folder,
        "{not-one}",
        "{}",
    ]
    assert told["folder"] == ["fixed.mha", "moving.mha", "w.mha"]
    assert not Path(folder).exists()


def test_words_of_masks_that_there_are_not_are_left_out_with_their_options(tmp_path: Path) -> None:
    def given(pair: BlindPair, *words: str) -> dict[str, Any]:
        method = dataclasses.replace(telling(tmp_path / "told", *words), input=".nii.gz")
        return told_by(tmp_path / "told", method, pair)

    words = ("a", "-x", "{fixed_mask}", "-y", "{moving_mask}", "[{fixed_mask},{moving_mask}]", "b")
    pair = phantom.shifted(3).blind()
    assert given(pair, *words)["words"] == ["a", "b"]
    mask = Labels((pair.fixed.array > 0.4).astype(np.uint8) * 3, pair.fixed.grid)
    told = given(dataclasses.replace(pair, fixed_mask=mask), *words)
    assert told["words"] == ["a", "-x", f"{told['cwd']}/fixed_mask.nii.gz", "b"]
    # A mask is 0 and 1 for a program, whatever its values are.
    assert list(told["values"].values()) == [float((mask.array > 0).sum())]


def test_nothing_goes_through_a_shell(tmp_path: Path) -> None:
    words = ("; touch injected", "$(touch injected)", "`touch injected`", "a b", "*", "$HOME", "'", '"')
    told = told_by(tmp_path / "told", telling(tmp_path / "told", *words))
    assert told["words"] == list(words) and "injected" not in told["folder"]


def test_the_environment_is_what_programs_need_and_what_the_config_adds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    told = told_by(tmp_path / "told", telling(tmp_path / "told", environment={"MY_DATA": "there"}))["environment"]
    assert "SECRET_TOKEN" not in told and "PYTHONPATH" not in told
    assert (told["MY_DATA"], told["OMP_NUM_THREADS"], told["PATH"]) == ("there", "5", os.environ["PATH"])


def test_a_sheared_grid_is_declined_where_the_format_cannot_hold_it(tmp_path: Path) -> None:
    with pytest.raises(MethodDeclined, match="cannot hold a sheared grid"):
        telling(tmp_path / "told").register(phantom.sheared(2).blind())


# -- how a program fails ------------------------------------------------------------------------------


def failing(code: str, **others: Any) -> str:
    with pytest.raises(MethodError) as caught:
        Command(command=python(code, "{warp}"), **others).register(SEEN)
    return str(caught.value)


def test_the_last_words_of_a_program_are_the_reason(capfd: pytest.CaptureFixture[str]) -> None:
    code = "import sys; print('level 1'); print('no overlap', file=sys.stderr); sys.exit(3)"
    assert failing(code).endswith("ended with exit code 3: level 1 | no overlap") or "no overlap" in failing(code)
    captured = capfd.readouterr()
    assert captured.out == "" and "level 1" in captured.err, "chatter belongs into the log"
    assert "ended with signal SIGABRT" in failing("import os; os.abort()")
    reason = failing("import sys; print('x' * 5000); print('y' * 5000); sys.exit(1)")
    assert len(reason) < 600


def test_much_and_strange_output_is_no_obstacle() -> None:
    strange = r"sys.stdout.buffer.write(b'\xff\xfe\n' + b'z' * 300 + b'\n')"
    code = rf"import sys; {strange}; print('line\n' * 200000); sys.exit(2)"
    assert "exit code 2" in failing(code)


def test_a_program_that_is_not_there_is_declined() -> None:
    with pytest.raises(MethodDeclined, match="the program 'no-such-program' is not on PATH"):
        Command(command=("no-such-program", "{warp}")).prepare()
    with pytest.raises(MethodError, match="cannot be started"), private_folder("x") as folder:
        run_program(["/etc/passwd"], folder)


def test_the_time_limit_ends_a_program_and_all_that_it_started(tmp_path: Path) -> None:
    """A child, a grandchild and one that has left the process group."""
    code = (
        "import os, subprocess, sys, time\n"
        'inner = \'import subprocess, sys, time; p = subprocess.Popen(["sleep", "61.5"]); '
        f'open("{tmp_path}/grandchild", "w").write(str(p.pid)); time.sleep(60)\'\n'
        "subprocess.Popen([sys.executable, '-c', inner])\n"
        "p = subprocess.Popen(['sleep', '62.5'], start_new_session=True)\n"
        f"open('{tmp_path}/own-session', 'w').write(str(p.pid))\n"
        "time.sleep(60)\n"
    )
    start = time.monotonic()
    assert "was stopped after 2 s" in failing(code, timeout_s=2.0)
    assert time.monotonic() - start < 20
    for name in ("grandchild", "own-session"):
        assert is_gone(int((tmp_path / name).read_text())), name


def is_gone(pid: int) -> bool:
    """Whether a process has ended within a moment; one that nobody has waited for yet counts as ended."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    return False


@pytest.mark.parametrize("code", ["pass", "raise SystemExit(1)", "import time; time.sleep(60)"])
def test_the_private_folder_is_removed_whatever_happens(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    failing(f"open('left', 'w').close(); {code}", timeout_s=3.0)
    assert list(tmp_path.iterdir()) == []


def test_an_output_file_that_is_missing_names_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match=r"tool wrote no a\.txt; its folder has nothing"):
        output_file(tmp_path, "a.txt", "tool")


# -- in a config --------------------------------------------------------------------------------------


def written(folder: Path, entry: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(f"datasets: [mni-cohort]\nmethods:\n  - my-tool: {entry}\n")
    return path


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{command: [tool, '{warp}'], commands: [[tool, '{warp}']]}", "give either `command`"),
        ("{commands: [[]]}", "give either `command`"),
        ("{command: [tool, '{fixd}', '{warp}']}", r"unknown placeholder '{fixd}'; known: {fixed}, {moving}"),
        ("{command: [tool, '{fixed}']}", "no command line has {warp}"),
        ("{command: [tool, '{warp}'], output: elastix}", "my-tool.output: 'elastix' is not valid"),
        ("{command: [tool, '{warp}'], timeout: 5}", "unknown parameter 'timeout'; did you mean 'timeout_s'"),
    ],
)
def test_a_config_that_cannot_work_is_refused(entry: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, entry))
    assert words in str(caught.value) and "config.yaml: line 3: " in str(caught.value)


def test_the_card_has_what_the_config_says(tmp_path: Path) -> None:
    commands = "commands: [[no-such-a, '{fixed}'], [no-such-b, '{warp}']]"
    entry = f"{{{commands}, version: '2.1', paradigm: learned, supervision: labels}}"
    (found,) = load_config(written(tmp_path, entry)).methods
    assert (found.name, found.label) == ("command", "my-tool")
    card = method_card(found.name, found.parameters)
    assert (card.paradigm, card.supervision, card.version) == ("learned", "labels", "no-such-a 2.1")
    home = home_of(found.name, None, found.parameters)
    assert [need.name for need in home.missing] == ["no-such-a", "no-such-b"]


# -- memory -------------------------------------------------------------------------------------------


def peak_mib(line: Sequence[str], programs: bool) -> int:
    memory = empty_memory()
    with Measurement(empty_timing(), memory, programs=programs), private_folder("memory") as folder:
        run_program(line, folder)
    assert memory["rss_peak_mib"] is not None
    return memory["rss_peak_mib"]


def test_the_peak_is_that_of_the_largest_program() -> None:
    """Of a program's own program, and not of the worker alone."""
    # More than this process itself has, which depends on the tests that ran before.
    size = peak_mib(python("pass"), programs=False) + 300
    touched = f"held = bytearray({size} << 20); held[::4096] = b'x' * len(held[::4096])"
    large = python(f"{touched}; import time; time.sleep(0.3)")
    nested = python(f"import subprocess; subprocess.run({list(large)!r}, check=True)")
    assert size <= peak_mib(nested, programs=True) < size + 200
    assert peak_mib(nested, programs=False) < size
