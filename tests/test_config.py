"""The config reader: what it accepts, and the one sentence with line and place for everything else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regbench.config import RunConfig, check_config, load_config
from regbench.errors import ConfigError

MINIMAL = "datasets: [mni-cohort]\nmethods: [identity]\n"


def _write(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def _problems(folder: Path, text: str) -> list[str]:
    path = _write(folder, text)
    return [problem.removeprefix(f"{path}: ") for problem in check_config(path)[1]]


def test_defaults_of_a_minimal_config(tmp_path: Path) -> None:
    config = load_config(_write(tmp_path, MINIMAL, "first-try.yaml"))
    assert config.name == "first-try"
    assert [entry.name for entry in config.conditions] == ["none"]
    assert (config.prealign, config.metrics, config.repeats, config.seed) == ("none", "standard", 1, 0)
    assert (config.engine.workers, config.engine.threads, config.engine.timing) == (1, 2, "exclusive")
    assert (config.keep.fields, config.keep.pictures) == (False, 3)
    assert config.source_folder == tmp_path


def test_entries_with_parameters_and_labels(tmp_path: Path) -> None:
    text = "datasets: [{mni-cohort: {ndim: 2, as: slices}}]\nmethods: [affine, {demons: }, {demons: {as: twin}}]\n"
    config = load_config(_write(tmp_path, text))
    assert (config.datasets[0].name, config.datasets[0].label) == ("mni-cohort", "slices")
    assert config.datasets[0].parameters == {"ndim": 2}
    assert [entry.label for entry in config.methods] == ["affine", "demons", "twin"]


def test_csv_paths_are_relative_to_the_config_and_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANS", str(tmp_path / "scans"))
    text = (
        "datasets: [data/pairs.csv, '$SCANS/b.csv', {csv: {path: '${SCANS}/c.csv', limit: 3}}]\nmethods: [identity]\n"
    )
    config = load_config(_write(tmp_path, text))
    assert {entry.name for entry in config.datasets} == {"csv"}
    assert [entry.label for entry in config.datasets] == ["pairs", "b", "c"]
    paths = [Path(entry.parameters["path"]) for entry in config.datasets]
    assert paths == [tmp_path / "data/pairs.csv", tmp_path / "scans/b.csv", tmp_path / "scans/c.csv"]


def test_a_config_survives_the_way_through_json(tmp_path: Path) -> None:
    text = MINIMAL + "conditions: [none, {gamma: {strength: 2.0}}]\nmetrics: [dice]\nengine: {timeout_s: 3}\n"
    config = load_config(_write(tmp_path, text))
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (MINIMAL + "engine:\n  timeoutt_s: 3\n", "line 4: engine.timeoutt_s: unknown key; did you mean 'timeout_s'?"),
        (MINIMAL + "metrix: full\n", "line 3: metrix: unknown key; did you mean 'metrics'?"),
        ("methods: [identity]\n", "datasets: is missing; every config names its datasets and its methods"),
        ("datasets: [mni-cohort]\nmethods: []\n", "line 2: methods: the list is empty; name at least one"),
        (
            "datasets: mni-cohort\nmethods: [identity]\n",
            "line 1: datasets: must be a list, such as [a, b], not 'mni-cohort'",
        ),
        (MINIMAL + "engine: fast\n", "line 3: engine: must be a group of keys, such as {key: value}, not 'fast'"),
        (MINIMAL + "engine: {threads: two}\n", "line 3: engine.threads: must be a whole number, not 'two'"),
        (MINIMAL + "engine: {threads: true}\n", "line 3: engine.threads: must be a whole number, not True"),
        (MINIMAL + "engine: {threads: 2.5}\n", "line 3: engine.threads: must be a whole number, not 2.5"),
        (MINIMAL + "engine: {workers: 0}\n", "line 3: engine.workers: must be at least 1, not 0"),
        (MINIMAL + "engine: {timeout_s: 0}\n", "line 3: engine.timeout_s: must be more than 0, not 0"),
        (MINIMAL + "keep: {fields: yes}\n", "line 3: keep.fields: must be true or false, not 'yes'"),
        (MINIMAL + "metrics: []\n", "line 3: metrics: must be standard, full or a list of names, not []"),
        (
            MINIMAL + "metrics: [dice, 3]\n",
            "line 3: metrics: must be standard, full or a list of names, not ['dice', 3]",
        ),
        (MINIMAL + "name: a/b\n", "line 3: name: 'a/b' must be a word"),
        (MINIMAL + "source_folder: x\n", "line 3: source_folder: unknown key"),
        (
            MINIMAL + "prealign: affin\n",
            "line 3: prealign: 'affin' is not known; did you mean 'affine'?; known: none, moments, rigid, affine",
        ),
        (
            "datasets: [mni-cohort]\nmethods:\n  - demons\n  - {demons: {}}\n",
            "line 2: methods: two entries are called 'demons'; give one a label of its own, such as "
            "{demons: {as: demons-2}}",
        ),
        (
            "datasets: [mni-cohort]\nmethods:\n  - identity\n  - 3\n",
            "line 4: methods[2]: 3 is neither a name nor a name with parameters",
        ),
        (
            "datasets: [mni-cohort]\nmethods:\n  - demons:\n    iterations: 3\n",
            "line 3: methods[1]: an entry has one name, this one has the keys demons, iterations",
        ),
        (
            "datasets: [$NO_SUCH_VARIABLE/a.csv]\nmethods: [identity]\n",
            "line 1: datasets[1]: environment variable $NO_SUCH_VARIABLE is not set",
        ),
    ],
)
def test_wrong_form_is_one_sentence_with_its_place(tmp_path: Path, text: str, sentence: str) -> None:
    problems = _problems(tmp_path, text)
    assert len(problems) == 1
    assert problems[0].startswith(sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty; a config names at least its datasets and its methods"),
        ("- a\n", "is not a config: expected keys such as `datasets:` and `methods:`"),
        ("datasets: [a\nmethods: [b]\n", "line 2: not valid YAML: "),
        ("datasets:\n\t- a\n", "line 2: not valid YAML: a tab is used for indentation; use spaces"),
        (MINIMAL + "datasets: [a]\n", "line 3: key 'datasets' occurs twice (first in line 1)"),
        (MINIMAL + "engine: {threads: 1, threads: 2}\n", "line 3: key 'threads' occurs twice (first in line 3)"),
        ("a: &a [*a]\n", "not a config: an alias contains itself, or groups are nested too deeply"),
        ("a: !!python/object:os.system {}\n", "line 1: not valid YAML: could not determine a constructor"),
    ],
)
def test_what_is_not_yaml_is_one_sentence_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    (problem,) = _problems(tmp_path, text)
    assert problem.startswith(sentence)


def test_files_that_are_no_config(tmp_path: Path) -> None:
    binary = tmp_path / "image.nii.gz"
    binary.write_bytes(b"\x1f\x8b\xff\xfe")
    for path, words in ((tmp_path / "gone.yaml", "there is no such file"), (tmp_path, "is a folder")):
        with pytest.raises(ConfigError, match=words):
            load_config(path)
    with pytest.raises(ConfigError, match="is not a text file"):
        load_config(binary)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "datasets: [mni-cohort]\nmethods:\n- demon\n",
            "line 3: methods[1]: unknown method 'demon'; did you mean 'demons'?",
        ),
        (
            "datasets: [mni-cohrt]\nmethods: [identity]\n",
            "line 1: datasets[1]: unknown dataset 'mni-cohrt'; did you mean",
        ),
        (MINIMAL + "conditions: [gama]\n", "line 3: conditions[1]: unknown condition 'gama'; did you mean 'gamma'?"),
        ("datasets: [{mni-cohort: {ndim: 4}}]\nmethods: [identity]\n", "line 1: datasets.mni-cohort: ndim is 4"),
    ],
)
def test_unknown_names_and_parameters_name_the_nearest(tmp_path: Path, text: str, sentence: str) -> None:
    (problem,) = _problems(tmp_path, text)
    assert problem.startswith(sentence)


def test_unknown_metric_and_parameter(tmp_path: Path) -> None:
    text = "datasets: [mni-cohort]\nmethods: [{demons: {iteratons: [3]}}]\nmetrics: [dicee]\n"
    first, second = _problems(tmp_path, text)
    assert first.startswith("line 2: methods.demons: unknown parameter 'iteratons'; did you mean 'iterations'?")
    assert second.startswith("line 3: ")
    assert "'dicee'" in second
    assert "'dice'" in second


def test_all_problems_are_listed_and_the_first_is_raised(tmp_path: Path) -> None:
    text = "datasets: [mni-cohort]\nmethods: [3, demon]\nprealign: afine\nengine: {thread: 2}\n"
    problems = _problems(tmp_path, text)
    words = [
        "methods[1]: 3 is neither",
        "prealign: 'afine'",
        "engine.thread: unknown key",
        "methods[2]: unknown method",
    ]
    assert len(problems) == 4
    for word in words:
        assert any(word in problem for problem in problems), word
    with pytest.raises(ConfigError, match=r"and 3 more; `regbench validate .*` lists all"):
        load_config(tmp_path / "run.yaml")


def test_numbers_and_words_are_read_as_people_mean_them(tmp_path: Path) -> None:
    config = load_config(_write(tmp_path, MINIMAL + "name: on\nengine: {timeout_s: 1e2}\n"))
    assert config.name == "on"
    assert config.engine.timeout_s == 100.0


_yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["identity", "none", "x", "$y", "a/b", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["as", "demons", "threads", "a"]), inner, max_size=3)
    ),
    max_leaves=6,
)
_configs = st.dictionaries(st.sampled_from([*RunConfig.model_fields, "nonsense"]), _yaml_values, max_size=5)


@given(data=_configs)
def test_no_yaml_whatever_gives_a_traceback(data: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> None:
    import yaml

    path = tmp_path_factory.mktemp("any") / "c.yaml"
    path.write_text(yaml.safe_dump(data))
    config, problems = check_config(path)
    assert config is not None or problems
    assert all("\n" not in problem for problem in problems)
