"""Which files of a folder hold the displacement of which pair, told by their names alone.

For a pair `a-b` of fixed subject a and moving subject b, with modalities 0000 and 0001 where they are known, the
first of these that is there:

    Learn2Reg    disp_a_0000_b_0001, disp_a_b                  .npz, .nii.gz, .nii
    ANTs         NAME<any>1Warp.nii.gz with NAME<any>0GenericAffine.mat and all other stages, or NAME<any>Composite.h5;
                 with the InverseWarp (InverseComposite) files the inverse is known, too
    regbench     <dataset>__<condition>__<pair>__<method>__<key>.npz, as a run keeps them
    any          NAME, NAME_warp, NAME_disp, NAME_field        .npz, .nii.gz, .nii, .npy, .mha, .mhd, .nrrd, .h5, ...

NAME is the id of the pair, `a_b` or `a-b`; <any> is empty or begins with a sign such as `_`. A folder of that NAME may
hold the ANTs files, with any beginning, or warp, disp or field with a suffix as above. A name that could stand for
two pairs of the dataset stands for none, and files that could both be meant are refused: a field scored on the wrong
pair looks like a bad registration.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regbench.displacement import Displacement
from regbench.errors import DatasetError
from regbench.files.atomic import first_line, full_suffix, stem_of
from regbench.store import file_name
from regbench.volume import Grid

if TYPE_CHECKING:
    from regbench.datasets.protocol import PairRef

_LEARN2REG = (".npz", ".nii.gz", ".nii")
_SUFFIXES = (*_LEARN2REG, ".npy", ".mha", ".mhd", ".nrrd", ".nhdr", ".h5", ".hdf5", ".xfm", ".tfm", ".mat", ".txt")
_WORDS = ("warp", "disp", "field")
_STAGE = r"(?P<stage>\d)(?P<inverse>Inverse)?(?P<kind>Warp\.nii(?:\.gz)?|[A-Za-z]+\.mat)"
_ANTS = re.compile(rf"(?P<any>(?:[^0-9A-Za-z].*?)?)(?:{_STAGE}|(?P<composite>(?:Inverse)?Composite)\.h5)")
_ANTS_IN_FOLDER = re.compile(rf"(?P<any>.*?)(?:{_STAGE}|(?P<composite>(?:Inverse)?Composite)\.h5)")
_OWN_PARTS = 5
_INVERSE = "inverse"


@dataclass(frozen=True)
class FieldFiles:
    """The files of one displacement, and of its inverse where there is one.

    With `are_stages` they are ANTs transforms, through which points go from the first to the last; otherwise one file
    each.
    """

    forward: tuple[Path, ...]
    inverse: tuple[Path, ...] = ()
    are_stages: bool = False

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files, each once."""
        return tuple(dict.fromkeys((*self.forward, *self.inverse)))

    def read(self, fixed_grid: Grid, moving_grid: Grid, format: str | None) -> Displacement:
        """The displacement on the fixed grid, with its inverse on the moving grid (regbench's own: on its own).

        Raises DatasetError if a file cannot be read or its format is not certain, InvalidDisplacement if the field
        has NaN or does not fit the grid.
        """
        from regbench.files.fields import load_field, load_own_field, read_ants_transforms

        inverse = None
        if self.are_stages:
            forward = read_ants_transforms(self.forward, fixed_grid)
            if self.inverse:
                linear = [path.suffix == ".mat" for path in self.inverse]
                inverse = read_ants_transforms(self.inverse, moving_grid, linear)
        else:
            forward = load_field(self.forward[0], fixed_grid, moving_grid, format)
            if self.inverse and full_suffix(self.inverse[0]) == ".npz":
                inverse = load_own_field(self.inverse[0])
            elif self.inverse:
                inverse = load_field(self.inverse[0], moving_grid, fixed_grid)
        return forward if inverse is None else dataclasses.replace(forward, inverse=inverse)


class FieldFolder:
    """A folder with the fields of some pairs, listed once. Raises DatasetError if it cannot be."""

    def __init__(self, folder: Path, refs: Sequence[PairRef]) -> None:
        self.folder = folder
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            raise DatasetError(
                f"{folder}: cannot be read ({first_line(error)}); give the folder of the fields"
            ) from None
        self._files = {path.name: path for path in entries if path.is_file()}
        self._folders = {path.name: path for path in entries if path.is_dir()}
        self._pairs_called = _pairs_by_name(refs)
        self._ants = self._ants_files({name for ref in refs for name in _pair_names(ref)})
        self._own = self._own_files()

    def find(self, ref: PairRef) -> FieldFiles | None:
        """The files of a pair, None if there are none; DatasetError if it is not certain which they are."""
        for found in self._candidates(ref):
            if found is not None:
                return found
        for name in (*learn2reg_names(ref), *_pair_names(ref)):
            taken = None if self._is_certain(ref, name) else _first(self._files, [name], _SUFFIXES)
            if taken is not None:
                pairs = " and ".join(self._pairs_called[name])
                raise DatasetError(f"{taken.forward[0]}: could be the field of {pairs}; name it by the id of its pair")
        return None

    def places(self, ref: PairRef) -> str:
        """Which names are looked for, in words."""
        forms = [name for name in learn2reg_names(ref) if self._is_certain(ref, name)]
        names = [name for name in _pair_names(ref) if self._is_certain(ref, name)]
        return (
            f"{', '.join(forms)} (.npz, .nii.gz, .nii), {', '.join(names)} (.npz, .nii.gz, .mha, .h5, ...), "
            f"ANTs' {names[0]}_1Warp.nii.gz with 0GenericAffine.mat"
        )

    def _is_certain(self, ref: PairRef, name: str) -> bool:
        """Whether a name can mean this pair only. The id of a pair is its own, whatever others could be called."""
        return name == ref.id or len(self._pairs_called[name]) == 1

    def _candidates(self, ref: PairRef) -> Iterator[FieldFiles | None]:
        yield _first(self._files, [n for n in learn2reg_names(ref) if self._is_certain(ref, n)], _LEARN2REG)
        names = [name for name in _pair_names(ref) if self._is_certain(ref, name)]
        for name in names:
            yield _only_series(self._ants.get(name, {}), self.folder / name)
        yield self._own_field(ref)
        yield _first(self._files, [*names, *(f"{name}_{word}" for word in _WORDS for name in names)], _SUFFIXES)
        for name in names:
            if name in self._folders:
                yield self._in_folder(self._folders[name])

    # -- ANTs -----------------------------------------------------------------------------------------

    def _ants_files(self, names: set[str]) -> dict[str, dict[str, dict[str, Path]]]:
        """ANTs' files by the pair name that they begin with (the longest that fits), <any>, and the rest."""
        found: dict[str, dict[str, dict[str, Path]]] = defaultdict(lambda: defaultdict(dict))
        for file, path in self._files.items():
            for end in range(len(file), 0, -1):
                match = _ANTS.fullmatch(file[end:]) if file[:end] in names else None
                if match:
                    found[file[:end]][match["any"]][file[end + len(match["any"]) :]] = path
                    break
        return found

    def _in_folder(self, folder: Path) -> FieldFiles | None:
        """The field in a folder that is named after a pair."""
        files = {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
        series: dict[str, dict[str, Path]] = defaultdict(dict)
        for file, path in files.items():
            match = _ANTS_IN_FOLDER.fullmatch(file)
            if match:
                series[match["any"]][file[len(match["any"]) :]] = path
        return _only_series(series, folder) or _first(files, _WORDS, _SUFFIXES)

    # -- regbench's own -------------------------------------------------------------------------------

    def _own_files(self) -> dict[str, dict[str, list[Path]]]:
        """The files that a run kept, by pair and direction ("" or "inverse")."""
        found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
        for path in self._files.values():
            parts = stem_of(path).split("__")
            direction = parts.pop() if parts[-1] == _INVERSE else ""
            if len(parts) == _OWN_PARTS and full_suffix(path) == ".npz":
                found[parts[2]][direction].append(path)
        return found

    def _own_field(self, ref: PairRef) -> FieldFiles | None:
        kept = self._own.get(file_name(ref.id))
        if not kept:
            return None
        if len(kept[""]) != 1:
            names = ", ".join(path.name for path in kept[""])
            raise DatasetError(f"{self.folder}: several fields of this pair ({names}); keep those of one method")
        return FieldFiles((kept[""][0],), tuple(kept[_INVERSE]))


# -- names ----------------------------------------------------------------------------------------------


def learn2reg_names(ref: PairRef) -> list[str]:
    """Both forms of the name of a Learn2Reg submission, the long one first; without suffix."""
    modalities = [ref.tags.get(f"{side}_modality") for side in ("fixed", "moving")]
    long = [f"disp_{ref.fixed}_{modalities[0]}_{ref.moving}_{modalities[1]}"] if all(modalities) else []
    return [*long, f"disp_{ref.fixed}_{ref.moving}"]


def _pair_names(ref: PairRef) -> list[str]:
    return list(dict.fromkeys((ref.id, f"{ref.fixed}_{ref.moving}", f"{ref.fixed}-{ref.moving}")))


def _pairs_by_name(refs: Sequence[PairRef]) -> dict[str, list[str]]:
    """The ids of the pairs that could go by each name."""
    called: dict[str, list[str]] = defaultdict(list)
    for ref in refs:
        for name in (*learn2reg_names(ref), *_pair_names(ref)):
            called[name].append(ref.id)
    return called


# -- files ----------------------------------------------------------------------------------------------


def _first(files: Mapping[str, Path], names: Sequence[str], suffixes: Sequence[str]) -> FieldFiles | None:
    """The first file that has one of these names and suffixes."""
    return next((FieldFiles((files[n + s],)) for n in names for s in suffixes if n + s in files), None)


def _only_series(series: Mapping[str, Mapping[str, Path]], place: Path) -> FieldFiles | None:
    """The one output of ANTs among those that begin differently; DatasetError if there are several."""
    if len(series) > 1:
        names = ", ".join(sorted(next(iter(files.values())).name for files in series.values()))
        raise DatasetError(f"{place}: several ANTs outputs for this pair ({names}, ...); keep those of one method")
    return next((_stages(files) for files in series.values()), None)


def _stages(files: Mapping[str, Path]) -> FieldFiles:
    """The transforms of one output of ANTs; DatasetError if a stage is missing, without which the rest is wrong."""
    if "Composite.h5" in files:
        back = files.get("InverseComposite.h5")
        return FieldFiles((files["Composite.h5"],), () if back is None else (back,))
    forward: dict[int, Path] = {}
    inverse: dict[int, Path] = {}
    for rest, path in files.items():
        match = re.fullmatch(_STAGE, rest)
        if match is None:
            continue
        is_linear = match["kind"].endswith(".mat")
        if match["inverse"] is None:
            forward[int(match["stage"])] = path
        if match["inverse"] or is_linear:
            inverse[int(match["stage"])] = path
    beginning = _beginning(files)
    for stage in range(max([*forward, *inverse], default=0) + 1):
        if stage not in forward:
            what = "0GenericAffine.mat" if stage == 0 else f"{stage}Warp.nii.gz"
            raise DatasetError(f"{beginning}{what} is missing; ANTs' other files of this pair are nothing without it")
    last_first = tuple(forward[stage] for stage in sorted(forward, reverse=True))
    has_warp = any(path.suffix != ".mat" for path in last_first)
    is_invertible = has_warp and set(inverse) == set(forward)
    return FieldFiles(last_first, tuple(inverse[s] for s in sorted(inverse)) if is_invertible else (), are_stages=True)


def _beginning(files: Mapping[str, Path]) -> str:
    """The path that all files of one output of ANTs begin with."""
    rest, path = next(iter(files.items()))
    return str(path)[: -len(rest)]
