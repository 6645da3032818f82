"""`command`: any registration program, described in a config by its command lines and the form of its result.

    methods:
      - my-tool: {command: ["mytool", "-f", "{fixed}", "-m", "{moving}", "-o", "{warp}"], output: itk-warp}

Images are written into a private folder, the commands run there one after the other without a shell, and the result
is read back as a displacement. Placeholders are whole arguments or parts of them:

    {fixed} {moving}              the images, as `input` says
    {fixed_mask} {moving_mask}    the masks; an argument with a mask that the pair lacks is left out, and so is the
                                  option before it
    {warp}                        where the result is expected, with a suffix that fits `output`
    {folder} {threads} {seed}     the private folder, the number of threads, the seed

A program that names its files itself gets `result`, the names of its files in the folder: one field, or for
`itk-warp` the transforms in the order of ANTs, such as [o_1Warp.nii.gz, o_0GenericAffine.mat].
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import ConfigError, MethodDeclined
from regbench.files.fields import load_field, read_ants_transforms
from regbench.files.images import write_image, write_labels
from regbench.methods.card import Card, Paradigm, Program, Supervision
from regbench.methods.programs import (
    check_files,
    find_program,
    fingerprint,
    output_file,
    private_folder,
    run_program,
    threads_of_worker,
)
from regbench.pair import BlindPair
from regbench.volume import Image, Labels

Output = Literal[
    "itk-warp",
    "itk-transform",
    "l2r",
    "fsl-relative",
    "fsl-absolute",
    "niftyreg-deformation",
    "niftyreg-displacement",
    "deeds",
    "regbench",
]
_SUFFIXES: Mapping[str, str] = {"itk-transform": ".h5", "regbench": ".npz", "deeds": "_displacements.dat"}
_FORMATS: Mapping[str, str] = {"itk-warp": "itk", "l2r": "learn2reg"}
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_KNOWN = ("fixed", "moving", "fixed_mask", "moving_mask", "warp", "folder", "threads", "seed")


@dataclass(frozen=True)
class Command:
    """A program. `command` is one command line as a list, `commands` several; `output` is the form of the result.

    `files` of yours, relative to the config, lie beside the images under their own names. `environment` adds
    variables; `timeout_s` is a limit for each command line; `version` stands in the rows.
    """

    command: tuple[str | int | float, ...] = ()
    commands: tuple[tuple[str | int | float, ...], ...] = ()
    output: Output = "itk-warp"
    result: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    input: Literal[".nii.gz", ".nii", ".mha"] = ".nii.gz"
    environment: dict[str, str] | None = None
    timeout_s: float | None = None
    paradigm: Paradigm = "classical"
    supervision: Supervision = "none"
    version: str = "unknown"
    seed: int = 0

    def __post_init__(self) -> None:
        if bool(self.command) == bool(self.commands) or not all(self._lines()):
            raise ConfigError(
                "methods.command: give either `command` (one list of words) or `commands` (a list of such)"
            )
        check_files(self.files, "methods.command: files")
        for word in (word for line in self._lines() for word in line):
            for name in _PLACEHOLDER.findall(word):
                if name not in _KNOWN:
                    raise ConfigError(
                        f"methods.command: unknown placeholder '{{{name}}}'; known: "
                        + ", ".join(f"{{{known}}}" for known in _KNOWN)
                    )
        if not self.result and not any("{warp}" in word for line in self._lines() for word in line):
            raise ConfigError(
                "methods.command: no command line has {warp}, and `result` does not name the file instead"
            )

    @classmethod
    def completed_card(cls, card: Card, parameters: Mapping[str, Any]) -> Card:
        """The card with what the parameters say: paradigm, supervision, programs and version."""
        lines = [parameters["command"]] if parameters.get("command") else parameters.get("commands") or []
        programs = dict.fromkeys(str(line[0]) for line in lines if line)
        version = f"{Path(next(iter(programs), 'command')).name} {parameters.get('version', 'unknown')}"
        content = fingerprint(parameters.get("files") or ())
        return dataclasses.replace(
            card,
            paradigm=parameters.get("paradigm", "classical"),
            supervision=parameters.get("supervision", "none"),
            programs=tuple(Program(name, f"put '{name}' on PATH") for name in programs),
            version=version,
            version_suffix=f"with {content}" if content else "",
        )

    def prepare(self) -> None:
        """Finds the programs; MethodDeclined where one is missing."""
        for line in self._lines():
            find_program(line[0])

    def register(self, pair: BlindPair) -> Displacement:
        """The displacement that the program found; MethodError with its last words where it failed."""
        with private_folder("command") as folder:
            places = self._inputs(pair, folder)
            for name in self.files:
                shutil.copy(Path(name).expanduser(), folder)
            for line in self._lines():
                run_program(_filled(line, places), folder, self.timeout_s, self.environment)
            names = self.result or (Path(places["warp"]).name,)
            program = Path(self._lines()[-1][0]).name
            return self._read([output_file(folder, name, program) for name in names], pair)

    def _lines(self) -> list[list[str]]:
        """The command lines as words; a number in a config is a word, too."""
        return [[str(word) for word in line] for line in ([self.command] if self.command else self.commands)]

    def _inputs(self, pair: BlindPair, folder: Path) -> dict[str, str]:
        """Writes the images; the value of each placeholder."""
        if self.input == ".mha" and (pair.fixed.grid.is_sheared or pair.moving.grid.is_sheared):
            raise MethodDeclined("this command reads .mha files, which cannot hold a sheared grid")
        places = {"folder": str(folder), "threads": str(threads_of_worker()), "seed": str(self.seed)}
        places["warp"] = str(folder / f"warp{_SUFFIXES.get(self.output, '.nii.gz')}")
        parts: dict[str, Image | Labels | None] = {
            "fixed": pair.fixed,
            "moving": pair.moving,
            "fixed_mask": pair.fixed_mask,
            "moving_mask": pair.moving_mask,
        }
        for name, part in parts.items():
            if part is None:
                continue
            path = folder / f"{name}{self.input}"
            if isinstance(part, Labels):
                write_labels(path, Labels((part.array > 0).astype(np.uint8), part.grid))
            else:
                write_image(path, part)
            places[name] = str(path)
        return places

    def _read(self, files: Sequence[Path], pair: BlindPair) -> Displacement:
        if self.output == "itk-warp" and len(files) > 1:
            return read_ants_transforms(files, pair.fixed.grid)
        return load_field(files[0], pair.fixed.grid, pair.moving.grid, format=_FORMATS.get(self.output, self.output))


def _filled(line: Sequence[str], places: Mapping[str, str]) -> list[str]:
    """The command line with placeholders replaced; without the masks that there are not, and their options."""
    words: list[str] = []
    for word in line:
        if all(name in places for name in _PLACEHOLDER.findall(word)):
            words.append(_PLACEHOLDER.sub(lambda match: places[match[1]], word))
        elif words and words[-1].startswith("-"):
            words.pop()
    return words
