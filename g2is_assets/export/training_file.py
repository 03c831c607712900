"""A domain's subset as records that other trainers read: TRL's `messages`, LLaMA-Factory's `alpaca`.

Rows keep the walk's order and say where they come from. Nothing of a row is lost: what a format cannot hold is refused.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import polars as pl

from g2is_assets.contracts.instructions import POOL, Turn, turns_of
from g2is_assets.contracts.selection import SUBSET
from g2is_assets.errors import SettingsError, StoreError
from g2is_assets.settings.project import Project
from g2is_assets.store.lake import Lake
from g2is_assets.store.version import Version
from g2is_assets.store.withholding import pool_withholding, say_withheld

Format = Literal["messages", "alpaca"]
DATASET_INFO: Final = "dataset_info.json"
"""Where LLaMA-Factory looks a data set's file and columns up, beside the file."""

_FROM_POOL: Final = ("row_id", "ids", "sources", "licenses")
_FROM_WALK: Final = ("domain", "order", "component", "step", "core_cosine", "score", "pull")
_ENTRIES: Final[dict[str, dict[str, Any]]] = {
    "alpaca": {
        "columns": {"prompt": "instruction", "query": "input", "response": "output"}
        | {name: name for name in ("system", "history")}
    },
    "messages": {
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": {f"{name}_tag": name for name in ("role", "content", "user", "assistant", "system")},
    },
}


def training_file(
    project: Project, lake: Lake, subset: Version, form: Format
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of a subset in a format, in the walk's order, and what a person who trains on them has to know.

    `messages` ends with the response as the assistant's turn. `alpaca` has the last user turn as `instruction`, earlier
    pairs as `history`, and an empty `input`, since the pool has both in one text.

    Raises:
        SettingsError: The subset holds rows that may no longer be used, or rows that `alpaca` cannot hold.
        StoreError: The subset, or the pool that it was made from, is damaged or gone.
    """
    pool = lake.input_of(subset, "instructions/pool")
    chosen = subset.read(SUBSET)
    rows = chosen.join(pool.read(POOL), on="row_id", how="inner", maintain_order="left")
    if len(rows) != len(chosen):
        raise StoreError(f"{pool.folder} lacks rows of {subset.folder}; refresh the domain")
    refuse_withheld(project, lake, rows, str(subset.folder))
    turns = [_turns(row, pool.manifest.settings.get("system")) for row in rows.iter_rows(named=True)]
    provenance = [
        row | {"subset_version": subset.folder.name}
        for row in rows.select(*_FROM_POOL, *_FROM_WALK).iter_rows(named=True)
    ]
    bodies = [{"messages": each} for each in turns] if form == "messages" else _alpaca(rows["row_id"].to_list(), turns)
    records = [body | source for body, source in zip(bodies, provenance, strict=True)]
    return records, _notes(rows, turns)


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


def dataset_info(file: Path, form: Format) -> str:
    """The text of `dataset_info.json` beside a data file, with an entry of the file's name; other entries stay.

    Raises:
        SettingsError: The present file is damaged, or its entry of that name is of another file.
    """
    place = file.with_name(DATASET_INFO)
    try:
        known = json.loads(place.read_text(encoding="utf-8-sig")) if place.exists() else {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"{place} cannot be read as JSON: {error}; mend or remove it") from error
    own = known.get(file.stem, {"file_name": file.name}) if isinstance(known, dict) else None
    if not isinstance(own, dict) or own.get("file_name") != file.name:
        raise SettingsError(f"{place} has an entry '{file.stem}' of another file, or is no table; name another --out")
    return json.dumps(known | {file.stem: {"file_name": file.name, **_ENTRIES[form]}}, indent=2, ensure_ascii=False)


def _turns(row: dict[str, Any], system: str | None) -> list[Turn]:
    """All turns of a row, as it was trained on: the project's system message first, if the row has none itself."""
    own = list(turns_of(row)[0])
    return own if system is None or own[0]["role"] == "system" else [{"role": "system", "content": system}, *own]


def _alpaca(row_ids: Sequence[str], turns: Sequence[list[Turn]]) -> list[dict[str, Any]]:
    """Bodies of `alpaca` records, of which each has the same keys."""
    odd = [row_id for row_id, each in zip(row_ids, turns, strict=True) if not _alternate(each)]
    if odd:
        raise SettingsError(
            f"{len(odd)} rows do not alternate between user and assistant, such as {odd[0]}, so alpaca cannot hold "
            "them; use --format messages"
        )
    bodies = []
    for each in turns:
        spoken = [turn["content"] for turn in each if turn["role"] != "system"]
        bodies.append(
            {
                "instruction": spoken[-2],
                "input": "",
                "output": spoken[-1],
                "system": each[0]["content"] if each[0]["role"] == "system" else "",
                "history": [spoken[n : n + 2] for n in range(0, len(spoken) - 2, 2)],
            }
        )
    return bodies


def _alternate(turns: list[Turn]) -> bool:
    """Whether, after a system message at most, user and assistant take turns."""
    roles = [turn["role"] for turn in turns]
    roles = roles[1:] if roles[0] == "system" else roles
    return roles == ["user", "assistant"] * (len(roles) // 2)


def _notes(rows: pl.DataFrame, turns: Sequence[list[Turn]]) -> list[str]:
    notes = []
    if n := int(rows["truncated"].sum()):
        notes.append(f"{n} responses are longer than max_length: training here cut them, the file has them whole.")
    if n := sum(turn["role"] == "assistant" for each in turns for turn in each) - len(turns):
        notes.append(
            f"{n} earlier assistant turns are context here and carry no loss; LLaMA-Factory needs `mask_history: true`."
        )
    if n := sum(not _alternate(each) for each in turns):
        notes.append(f"{n} rows do not alternate between user and assistant: LLaMA-Factory would skip them.")
    return notes
