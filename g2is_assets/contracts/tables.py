"""All tables of the lake, collected once. A table is known by its asset and its name; its contract says the rest."""

from typing import Final

from g2is_assets.contracts import audit, finetune, gradients, graph, instructions, knowledge, selection, study, warmup
from g2is_assets.contracts.contract import Contract
from g2is_assets.errors import StoreError

_MODULES: Final = (instructions, warmup, gradients, graph, knowledge, selection, finetune, study, audit)

TABLES: Final[dict[tuple[str, str], Contract]] = {
    (asset, contract.table): contract
    for module in _MODULES
    for contract in vars(module).values()
    if isinstance(contract, Contract)
    for asset in contract.assets
}
"""By asset and table: every contract of these modules. What is not here was written by another version of this
project."""


def contract_of(asset: str, table: str) -> Contract:
    """What is to be known of a table of an asset.

    Raises:
        StoreError: This version of the project has no such table.
    """
    if (asset, table) not in TABLES:
        raise StoreError(f"{asset} has no table '{table}' here: another version of this project wrote it")
    return TABLES[asset, table]


def tables_of(asset: str) -> list[Contract]:
    """The tables that this version of the project gives an asset."""
    return [contract for (owner, _), contract in TABLES.items() if owner == asset]


def main_table(asset: str) -> Contract:
    """An asset's main table.

    Raises:
        StoreError: This version of the project has no such asset.
    """
    for contract in tables_of(asset):
        if contract.main:
            return contract
    raise StoreError(f"there is no asset {asset} here: another version of this project wrote it")


def is_part(asset: str) -> bool:
    """Whether an asset's versions are parts of others': many stand side by side, and none is current."""
    return bool(owners_of(asset))


def owners_of(part: str) -> set[str]:
    """The assets whose versions are made of versions of this one."""
    return {owner for (owner, _), c in TABLES.items() if any(column.part == part for column in c.columns.values())}


def view_of(asset: str, table: str) -> str:
    """Name of the view over a table: `<stage>_<noun>`, or `<stage>_<noun>_<table>` for one of another name."""
    stage, noun = asset.split("/")
    return f"{stage}_{noun}" + ("" if table == noun else f"_{table}")


def views() -> dict[str, Contract]:
    """The contract that each view keeps, by the view's name."""
    parts = {
        view_of(owner, contract.table): contract
        for (asset, _), contract in TABLES.items()
        if contract.main
        for owner in owners_of(asset)
    }
    return {view_of(*key): contract for key, contract in TABLES.items() if not is_part(key[0])} | parts
