"""Which file the settings are, what its paths are relative to, and that any text is loaded or refused."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2is_assets.errors import NoProjectError, SettingsError
from g2is_assets.settings.project import load_project, settings_path
from support.settings import SOURCES, load


def test_a_missing_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml does not exist; name another with --config or G2IS_CONFIG"):
        load_project(tmp_path / "nowhere.toml")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_project(tmp_path)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"[instructions\n", "not valid TOML"),
        (b"a = 1\na = 2\n", "not valid TOML"),
        (b"model = '\xff\xfe'\n", "cannot be read"),
        (b"model = " + b"[" * 3000, "g2is.toml"),
        (b"threads = " + b"1" * 5000, "g2is.toml"),
        (b"model = 0x" + b"f" * 5000 + b"\n" + SOURCES.encode(), "model"),
    ],
    ids=["broken", "repeated", "not_utf8", "deeply_nested", "too_many_digits", "huge_value"],
)
def test_a_file_that_is_no_toml_is_refused_by_name(tmp_path: Path, content: bytes, fault: str) -> None:
    file = tmp_path / "g2is.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        load_project(file)
    assert str(file) in str(refused.value)
    assert fault in str(refused.value)


def test_the_settings_file_is_the_one_given_then_the_variable_then_the_nearest_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tmp_path / "repository" / "inner" / "deep"
    (below.parent / "g2is.toml").mkdir(parents=True)  # a folder is no settings file
    below.mkdir()
    monkeypatch.chdir(below)
    with pytest.raises(NoProjectError, match="make one with `g2is init`"):
        settings_path()
    for folder in ("data", "repository/data", "repository", "repository/inner/data"):
        place = f"{folder}/g2is.toml"
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).touch()
        assert settings_path() == (tmp_path / place).resolve()  # each is nearer than the one before
    monkeypatch.setenv("G2IS_CONFIG", str(tmp_path / "other.toml"))
    assert settings_path() == (tmp_path / "other.toml").resolve()
    assert settings_path("mine.toml") == (below / "mine.toml").resolve()
    (tmp_path / "other.toml").write_text(SOURCES)
    assert load_project().path == (tmp_path / "other.toml").resolve()


def test_paths_are_relative_to_the_settings_file_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, elsewhere = tmp_path / "project" / "data", tmp_path / "elsewhere"
    (data / "targets" / "shop").mkdir(parents=True)
    (tmp_path / "project" / "model").mkdir()
    elsewhere.mkdir()
    (data / "g2is.toml").write_text('model = "../model"\nhome = ".."\ndomains = "targets"\n' + SOURCES)
    monkeypatch.chdir(elsewhere)
    project = load_project(Path("../project/data/g2is.toml"))
    assert project.home == (tmp_path / "project").resolve()
    assert project.model == str((tmp_path / "project" / "model").resolve())
    assert list(project.domains) == ["shop"]


def test_a_model_that_is_no_folder_stays_a_name(tmp_path: Path) -> None:
    file = tmp_path / "g2is.toml"
    file.write_text('model = "org/name"\n' + SOURCES)
    assert load_project(file).model == "org/name"


def test_the_home_variable_moves_the_lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(tmp_path).home == tmp_path.resolve()
    monkeypatch.setenv("G2IS_HOME", str(tmp_path / "moved"))
    assert load(tmp_path).home == (tmp_path / "moved").resolve()


TOML_VALUES = st.sampled_from(["1", "-1", "0.5", "inf", "nan", "true", '"x"', "[]", '["a"]', "{}", "1979-05-27", ""])
TOML_KEYS = st.sampled_from(["model", "home", "threads", "sources", "budget", "share", "kinds", "rank", "seed", "x"])
TOML_HEADS = st.sampled_from(["[instructions]", "[selection]", "[warmup]", "[gradients]", "[[warmup]]", "[x]"])
TOML_LINES = st.one_of(TOML_HEADS, st.tuples(TOML_KEYS, TOML_VALUES).map(" = ".join), st.text(max_size=20))


@settings(max_examples=50, deadline=None)
@given(st.one_of(st.text(max_size=80), st.lists(TOML_LINES, max_size=8).map("\n".join)), st.booleans())
def test_any_text_is_loaded_or_refused_as_settings(text: str, with_sources: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "g2is.toml"
        file.write_bytes(((SOURCES if with_sources else "") + text).encode("utf-8", "replace"))
        try:
            project = load_project(file)
        except SettingsError as refused:
            assert str(file) in str(refused)  # noqa: PT017
        else:
            assert project.settings.instructions.sources
