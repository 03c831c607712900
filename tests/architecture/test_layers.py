"""The layers hold: imports go downwards only, without a circle, and only the uppermost import Dagster."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "g2is_assets"

ORDER = (
    ("errors", "hashing", "progress", "settings", "contracts"),
    ("core",),
    ("training", "store"),
    ("trail",),
    ("reports",),
    ("export",),
    ("stages",),
    ("orchestration", "library"),
    ("cli",),
)
"""From the lowest; the parts of one floor do not import each other, but for the first, which all may use."""
LEVEL = {part: level for level, parts in enumerate(ORDER) for part in parts}
WITH_DAGSTER = {"orchestration", "cli"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name_of(module: Path) -> str:
    parts = module.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(module: Path) -> set[str]:
    """Names of all modules that a file imports, at any depth, also those that it names behind `from package import`."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            below = {f"{node.module}.{alias.name}" for alias in node.names} & NAMES
            names |= below or {str(node.module)}
    return names


NAMES = {name_of(module) for module in MODULES}


@pytest.mark.parametrize("module", [m for m in MODULES if m != PACKAGE / "__init__.py"], ids=name_of)
def test_a_module_imports_only_what_lies_below_it(module: Path) -> None:
    own = part_of(module)
    parts = {name.split(".")[1] for name in imported(module) if name.startswith("g2is_assets.")} - {own}
    upwards = {part for part in parts if LEVEL[part] > LEVEL[own] or (LEVEL[part] == LEVEL[own] and LEVEL[own])}
    assert upwards == set()


def test_no_imports_run_in_a_circle() -> None:
    below = {name_of(module): imported(module) & NAMES for module in MODULES}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in below[name]:
                visit(other, (*path, name))
            done.add(name)

    for name in below:
        visit(name, ())


def test_only_orchestration_and_commands_import_dagster() -> None:
    guilty = [m for m in MODULES if any(n.split(".")[0].startswith("dagster") for n in imported(m))]
    assert {part_of(m) for m in guilty} == WITH_DAGSTER


@pytest.mark.parametrize("folder", ["g2is_assets", "tests", "benchmarks"])
def test_nothing_imports_what_dagster_keeps_to_itself(folder: str) -> None:
    files = (PACKAGE.parent / folder).rglob("*.py")
    assert [f for f in files if any(n.startswith("dagster._") for n in imported(f))] == []


def test_no_test_imports_another_and_conftest_files_hold_only_fixtures() -> None:
    """What tests share stands in `tests/support`, so that each can be moved, run and changed alone."""
    files = sorted((PACKAGE.parent / "tests").rglob("*.py"))
    parts = {file: {part for name in imported(file) for part in name.split(".")} for file in files}
    assert {f: p for f in files if (p := {n for n in parts[f] if n == "conftest" or n.startswith("test_")})} == {}
    for file in files:
        if file.name == "conftest.py":
            made = [
                node
                for node in ast.parse(file.read_text(encoding="utf-8")).body
                if isinstance(node, ast.FunctionDef | ast.ClassDef)
            ]
            assert [n.name for n in made if "fixture" not in ast.unparse(n) and not n.name.startswith("pytest_")] == []


def test_core_opens_no_files_and_loads_no_models() -> None:
    names = {name.split(".")[0] for m in MODULES if part_of(m) == "core" for name in imported(m)}
    assert names.isdisjoint({"os", "pathlib", "polars", "transformers", "peft", "safetensors", "duckdb"})


def test_modules_that_dagster_reads_keep_annotations_as_objects() -> None:
    """`from __future__ import annotations` breaks Dagster's config parameters."""
    modules = [m for m in MODULES if part_of(m) == "orchestration"]
    assert modules
    assert [m for m in modules if "__future__" in imported(m)] == []


def test_no_file_outgrows_a_few_screens() -> None:
    assert {m.name: n for m in MODULES if (n := len(m.read_text().splitlines())) > 350} == {}


def test_the_house_does_not_grow() -> None:
    """Files and lines, of all kinds, that the package holds: both are to fall, to 150 and 17,500."""
    files = [f for f in PACKAGE.rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    assert len(files) <= 164
    assert sum(len(f.read_text(encoding="utf-8").splitlines()) for f in files) <= 27_916
