"""Settings files and domain folders without any rows, loaded or refused."""

from pathlib import Path

import pytest

from g2is_assets.errors import SettingsError
from g2is_assets.settings.project import Project, load_project

SOURCES = '[instructions]\nsources = ["pool.jsonl"]\n'


def load(folder: Path, text: str = "") -> Project:
    file = folder / "g2is.toml"
    file.write_text(SOURCES + text, encoding="utf-8")
    return load_project(file)


def refusal(folder: Path, text: str = "") -> str:
    with pytest.raises(SettingsError) as refused:
        load(folder, text)
    return str(refused.value)


def add_domain(
    folder: Path, name: str = "shop", toml: str | None = None, files: tuple[str, ...] = ("validation.jsonl",)
) -> Path:
    domain = folder / "domains" / name
    domain.mkdir(parents=True)
    for file in files:
        (domain / file).write_text("")
    if toml is not None:
        (domain / "domain.toml").write_text(toml, encoding="utf-8")
    return domain
