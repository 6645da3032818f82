"""YAML files with the line of every key, read strictly: duplicate keys, anchors to nowhere and tags are refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from regbench.errors import ConfigError

Place = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, except that 1e-3 is a number and `on`, `off`, `yes`, `no` are words."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own protocol: a class attribute, replaced, not mutated
        first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:bool"]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
_TRUE_OR_FALSE = re.compile(r"(?:true|True|TRUE|false|False|FALSE)$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+0123456789."))
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", _TRUE_OR_FALSE, list("tTfF"))


@dataclass(frozen=True)
class ConfigFile:
    """A parsed config: its path as the user wrote it, its top-level mapping, and the line of every place.

    Where entries of a list were expanded into several, `origins` has for each of them its index in the list as written;
    places are those of the expanded list then.
    """

    path: Path
    data: dict[str, Any]
    lines: dict[Place, int]
    origins: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def _written(self, place: Place) -> Place:
        """The place as it stands in the file."""
        key, index = [*place, "", ""][:2]
        if not (key in self.origins and isinstance(index, int)):
            return place
        return (key, self.origins[str(key)][index], *place[2:])

    def at_line(self, place: Place, text: str) -> str:
        """The text, preceded by the file and the line of the nearest known place."""
        return self._at_written(self._written(place), text)

    def _at_written(self, place: Place, text: str) -> str:
        while place and place not in self.lines:
            place = place[:-1]
        line = f"line {self.lines[place]}: " if place else ""
        return f"{self.path}: {line}{text}"

    def sentence(self, place: Place, text: str) -> str:
        """The text, preceded by the file, the line and the place, such as 'run.yaml: line 3: engine.threads: ...'."""
        dotted, place = "", self._written(place)
        for step in place:
            dotted += f"[{step + 1}]" if isinstance(step, int) else f".{step}" if dotted else str(step)
        return self._at_written(place, f"{dotted}: {text}")


def read_yaml(path: Path) -> ConfigFile:
    """The mapping in a YAML file with its lines; ConfigError in one sentence if there is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder, not a config file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not a text file in UTF-8, so it is no config") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return _parse(path, text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise ConfigError(f"{path}: {line}not valid YAML: {_problem(error)}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not a config: an alias contains itself, or groups are nested too deeply") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = (error.problem or error.context or "cannot be parsed").strip()
    if "cannot start any token" in problem and r"\t" in problem:
        return "a tab is used for indentation; use spaces"
    return problem


def _parse(path: Path, text: str) -> ConfigFile:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        lines: dict[Place, int] = {}
        if node is None:
            raise ConfigError(f"{path}: is empty; a config names at least its datasets and its methods")
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}: is not a config: expected keys such as `datasets:` and `methods:`")
        _note_lines(path, node, (), lines)
        return ConfigFile(path, loader.construct_document(node), lines)
    finally:
        loader.dispose()


def _note_lines(path: Path, node: yaml.Node, place: Place, lines: dict[Place, int]) -> None:
    """Fills `lines` for a node and all below it; refuses keys that occur twice, which YAML would drop silently."""
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _note_lines(path, item, (*place, index), lines)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*place, str(key.value))
            line = key.start_mark.line + 1
            if inner in lines:
                raise ConfigError(f"{path}: line {line}: key '{key.value}' occurs twice (first in line {lines[inner]})")
            lines[inner] = line
            _note_lines(path, value, inner, lines)
