"""The layers hold: imports go one way, and only the Dagster modules import Dagster."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "g2is_assets"

BASE = {"errors", "hashing", "parsing", "progress", "redaction"}
MAY_IMPORT = {
    "config": BASE,
    "contracts": BASE,
    "project": BASE | {"config"},
    "core": BASE | {"config", "contracts"},
    "training": BASE | {"config", "contracts", "core"},
    "storage": BASE | {"config", "project", "contracts", "core"},
    "trail": BASE | {"contracts", "storage"},
    "reports": BASE | {"config", "project", "contracts", "core", "storage", "trail"},  # they read the lake
}
WITHOUT_DAGSTER = {*MAY_IMPORT, *BASE}


def part_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(module: Path) -> set[str]:
    """Names of all modules that a file imports, at any depth."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names.add(str(node.module))
    return names


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("module", [m for m in MODULES if part_of(m) in MAY_IMPORT], ids=str)
def test_a_layer_imports_only_what_lies_below_it(module: Path) -> None:
    own = part_of(module)
    parts = {name.split(".")[1] for name in imported(module) if name.startswith("g2is_assets.")}
    assert parts - {own} <= MAY_IMPORT[own]


def test_the_lower_layers_never_import_dagster() -> None:
    guilty = [
        m for m in MODULES if part_of(m) in WITHOUT_DAGSTER and any(n.split(".")[0] == "dagster" for n in imported(m))
    ]
    assert guilty == []
    assert any("dagster" in imported(m) for m in MODULES if part_of(m) == "assets")


def test_core_opens_no_files_and_loads_no_models() -> None:
    names = {name.split(".")[0] for m in MODULES if part_of(m) == "core" for name in imported(m)}
    assert names.isdisjoint({"os", "pathlib", "polars", "transformers", "peft", "safetensors", "duckdb"})


def test_asset_and_check_modules_keep_annotations_as_objects() -> None:
    """`from __future__ import annotations` breaks Dagster's config parameters."""
    dagster_modules = [m for m in MODULES if part_of(m) in {"assets", "checks"}]
    assert dagster_modules
    assert [m for m in dagster_modules if "__future__" in imported(m)] == []


def test_no_file_outgrows_a_few_screens() -> None:
    assert {m.name: n for m in MODULES if (n := len(m.read_text().splitlines())) > 340} == {}
