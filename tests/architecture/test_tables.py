"""What a table is stands in its contract: nowhere else is there a list of tables, assets or columns with a meaning."""

import ast
from pathlib import Path

import pytest

from g2is_assets.contracts.tables import TABLES

PACKAGE = Path(__file__).parents[2] / "g2is_assets"
ELSEWHERE = {"contracts", "stages", "export"}  # an export chooses what a file for others holds
MODULES = sorted(m for m in PACKAGE.rglob("*.py") if m.relative_to(PACKAGE).parts[0] not in ELSEWHERE)
ASSETS = {asset for asset, _ in TABLES}
FILES = {contract.file for contract in TABLES.values()}
CONTRACTS = TABLES.values()
COLUMNS = {name for contract in CONTRACTS for name, column in contract.columns.items() if column.text or column.kept}


def listed(literal: ast.AST) -> set[str]:
    """The strings that a literal lists: its elements, or its keys."""
    if isinstance(literal, ast.List | ast.Tuple | ast.Set):
        nodes: list[ast.expr | None] = [*literal.elts]
    elif isinstance(literal, ast.Dict):
        # Functions or captions by asset say what is done with it, not what its tables are.
        pairs = zip(literal.keys, literal.values, strict=True)
        nodes = [key for key, value in pairs if not isinstance(value, ast.Name | ast.Call | ast.Dict)]
    else:
        nodes = []
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def told_again(tree: ast.Module) -> list[str]:
    """Names of tables' files, and constants that list several assets or several columns that contracts mark."""
    constants = [node.value for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign) and node.value]
    literals = [node for constant in constants for node in ast.walk(constant)]
    found = [n for n in literals if len(listed(n) & ASSETS) > 1 or len(listed(n) & COLUMNS) > 1]
    return [
        ast.unparse(n)
        for n in [*found, *(n for n in ast.walk(tree) if isinstance(n, ast.Constant) and n.value in FILES)]
    ]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.relative_to(PACKAGE).as_posix())
def test_no_module_keeps_a_list_of_tables_of_its_own(module: Path) -> None:
    assert told_again(ast.parse(module.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "code",
    [
        'KEPT = ("row_id", "sources")',
        'TEXTS = {"prompt": "", "response": ""}',
        'STAYS = {"selection/subset": {"subset.parquet"}, "finetune/baseline": {"rows.parquet"}}',
        'ROW_IDS_FROM = {"graph/neighbors": ("instructions/pool", ("row_id",)), "study/subset": ()}',
        'def f(folder):\n    return folder / "index.parquet"',
        'REWRITTEN = frozenset({"pool.parquet", "target.parquet"})',
    ],
)
def test_what_a_table_is_said_again_is_found(code: str) -> None:
    assert told_again(ast.parse(code))
