"""A domain's subset as a file that other trainers read, in the walk's order; each row says where it comes from."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from g2is_assets.contracts.instructions import POOL, Instruction, turns_of
from g2is_assets.contracts.selection import SUBSET
from g2is_assets.errors import SettingsError, StoreError
from g2is_assets.export.formats import Format, axolotl, bodies, entry, notes
from g2is_assets.reports.words import counted
from g2is_assets.settings.project import Project
from g2is_assets.store.lake import Lake
from g2is_assets.store.version import Version
from g2is_assets.store.withholding import pool_withholding, say_withheld

DATASET_INFO: Final = "dataset_info.json"
"""Where LLaMA-Factory looks a data set's file and columns up, beside the file."""

_FROM_POOL: Final = ("row_id", "ids", "sources", "licenses")
_FROM_WALK: Final = ("domain", "order", "component", "step", "core_cosine", "score", "pull")


@dataclass(frozen=True)
class TrainingFile:
    """A subset in a format.

    Attributes:
        records: Its rows, in the walk's order.
        notes: What a person has to know who trains on them.
        files: What goes beside the file, by name: a text, or None for a file that is not to be there.
    """

    records: list[dict[str, Any]]
    notes: list[str]
    files: dict[str, str | None]


def training_file(project: Project, lake: Lake, subset: Version, form: Format, file: Path) -> TrainingFile:
    """What a training file of a subset holds, and what others are to be told of it, in words and beside it.

    Raises:
        SettingsError: The subset holds rows that may no longer be used, or that the format cannot hold.
        StoreError: The subset, or the pool that it was made from, is damaged or gone.
    """
    pool = lake.input_of(subset, "instructions/pool")
    chosen = subset.read(SUBSET)
    table = chosen.join(pool.read(POOL), on="row_id", how="inner", maintain_order="left")
    if len(table) != len(chosen):
        raise StoreError(f"{pool.folder} lacks rows of {subset.folder}; refresh the domain")
    refuse_withheld(project, lake, table, str(subset.folder))
    system, turns = pool.manifest.settings.get("system"), pool.manifest.settings["turns"]
    rows = {row["row_id"]: _row(row, system) for row in table.iter_rows(named=True)}
    provenance = table.select(*_FROM_POOL, *_FROM_WALK, subset_version=pl.lit(subset.folder.name))
    records = [
        body | source for body, source in zip(bodies(form, rows, turns), provenance.iter_rows(named=True), strict=True)
    ]
    said = notes(form, rows, turns)
    if n := int(table["truncated"].sum()):
        said.append(
            f"{counted(n, 'row is', 'rows are')} longer than max_length: cut in training here, whole in the file."
        )
    if n := sum(row_id != row.row_id for row_id, row in rows.items()):
        said.append(
            f"{counted(n, 'row begins', 'rows begin')} with the project's `system` message: read as a source, such a "
            "row is a new one."
        )
    files = {
        DATASET_INFO: _dataset_info(file, entry(form, rows)),
        f"{file.stem}.axolotl.yaml": axolotl(file.name, rows, turns) if form == "messages" else None,
    }
    return TrainingFile(records, said, files)


def _row(row: dict[str, Any], system: str | None) -> Instruction:
    """A row as it was trained on: the project's system message first, if it has none itself."""
    own, tools = turns_of(row)
    given = [] if system is None or own[0]["role"] == "system" else [{"role": "system", "content": system}]
    return Instruction((*given, *own), "", "", "", 0, tools=tuple(tools))


def refuse_withheld(project: Project, lake: Lake, rows: pl.DataFrame, holder: str) -> None:
    """Let nothing out that holds, or was trained on, rows that may not be used any more by today's policy.

    Of the rows `row_id`, `sources` and `licenses` are read; the message says what `holder` holds them.

    Raises:
        SettingsError: There are such rows.
    """
    asked = rows.select("row_id", pl.lit([], pl.List(pl.String)).alias("ids"), "sources", "licenses")
    _, withheld = pool_withholding(project, lake).part(asked)
    if len(withheld):
        raise SettingsError(
            f"{holder} holds rows that may no longer be used{say_withheld(withheld)}; refresh pool and domain, which "
            "leaves them out, and export again"
        )


def _dataset_info(file: Path, said: dict[str, Any] | None) -> str | None:
    """The text of `dataset_info.json` beside a data file, with its entry or without; other entries stay.

    Raises:
        SettingsError: The present file is damaged, or its entry of that name is of another file.
    """
    place = file.with_name(DATASET_INFO)
    try:
        known = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"{place} cannot be read as JSON: {error}; mend or remove it") from error
    own = known.pop(file.stem, {"file_name": file.name}) if isinstance(known, dict) else None
    if not isinstance(own, dict) or own.get("file_name") != file.name:
        raise SettingsError(f"{place} has an entry '{file.stem}' of another file, or is no table; name another --out")
    known |= {file.stem: {"file_name": file.name, **said}} if said else {}
    return json.dumps(known, indent=2, ensure_ascii=False) + "\n" if known else None
