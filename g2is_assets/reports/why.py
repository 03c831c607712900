"""Why a row was taken for a domain, or left: the stored trace in words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import polars as pl

from g2is_assets.contracts import gradients as gradient_contracts
from g2is_assets.contracts import selection as contracts
from g2is_assets.contracts.contract import Contract
from g2is_assets.contracts.instructions import POOL, TARGET
from g2is_assets.errors import SettingsError, StoreError
from g2is_assets.reports.rows import MIN_PREFIX, answers_to, only_one, say_why_not
from g2is_assets.reports.words import printable
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import Manifest
from g2is_assets.store.version import Version

SHOWN: Final = 80
"""Characters of a prompt that are quoted."""

Quote = Callable[[str], str]
"""How another row is named, given its id."""


@dataclass(frozen=True)
class Answer:
    """What is known of a row in a domain's selection.

    Attributes:
        row_id: The row.
        state: `taken`, `left`, `excluded` or `without gradient`.
        records: The stored trace: one record if taken or excluded, one per component if left.
        lines: The same in words.
    """

    row_id: str
    state: str
    records: list[dict[str, Any]]
    lines: list[str] = field(default_factory=list)


def explain(lake: Lake, domain: str, asked: str) -> Answer:
    """Look a row up in the current version of the domain's subset.

    Args:
        lake: The lake.
        domain: A domain whose subset has been materialised.
        asked: A row id, the beginning of one (8 characters or more), or an id that a source gave the row.

    Raises:
        SettingsError: No row or several rows of the pool answer to `asked`.
        MissingInputError: The subset has not been materialised.
    """
    version = lake.current("selection/subset", domain)
    row = _find_in_pool(lake, asked) or _find_in_selection(version, asked) or _refuse(lake, asked)
    quoted = _Quoted(lake, domain)
    line = f"{row['row_id']}  {printable(', '.join(row['sources']))}  {_short(row['prompt'])}"
    for state, contract, words in (
        ("taken", contracts.SUBSET, _taken_row),
        ("excluded", contracts.EXCLUDED, _excluded),
        ("left", contracts.LEFT, _left),
    ):
        records = _records(version, contract, row["row_id"])
        if records:
            return Answer(row["row_id"], state, records, [line, *words(records, version, quoted)])
    return _without_gradient(lake, row["row_id"], line)


def taken_lines(record: Mapping[str, Any], made: Manifest, prompts: Mapping[str, str]) -> list[str]:
    """Why a row of a subset was taken, in words.

    Args:
        record: The row as `selection/subset` has it.
        made: The manifest of that subset.
        prompts: Of the rows to quote, by id.
    """
    return _taken(record, made, lambda row_id: _quoted(row_id, prompts.get(row_id)))


def first_reasons(lake: Lake, version: Version, n_rows: int) -> list[str]:
    """Why the first rows of a subset were taken, in their order."""
    quoted = _Quoted(lake, str(version.manifest.partition))
    taken = _find(version, contracts.SUBSET, pl.col("order") < n_rows).sort("order")
    return [" ".join(_taken(row, version.manifest, quoted)) for row in taken.iter_rows(named=True)]


def _find_in_pool(lake: Lake, asked: str) -> dict[str, Any] | None:
    where = answers_to(asked) | pl.col("ids").list.contains(asked)
    found = _find(lake.current("instructions/pool"), POOL, where, "row_id", "sources", "prompt")
    return only_one(found.to_dicts(), asked)


def _find_in_selection(version: Version, asked: str) -> dict[str, Any] | None:
    """A row that has left the pool since, of which only the id is known."""
    found: set[str] = set()
    for contract in (contracts.SUBSET, contracts.EXCLUDED, contracts.LEFT):
        found |= set(_find(version, contract, answers_to(asked), "row_id")["row_id"])
    gone = {"sources": ["no longer in the pool"], "prompt": ""}
    return only_one([{"row_id": row_id, **gone} for row_id in sorted(found)], asked)


def _refuse(lake: Lake, asked: str) -> NoReturn:
    say_why_not(lake.current("instructions/pool"), asked)
    raise SettingsError(
        f"no row is '{asked}'; give a row id, its first {MIN_PREFIX} characters or more, or a source's id. "
        "List some: SELECT row_id, ids, prompt FROM instructions_pool LIMIT 10"
    )


def _records(version: Version, contract: Contract, row_id: str) -> list[dict[str, Any]]:
    found = _find(version, contract, pl.col("row_id") == row_id)
    return found.sort("component").to_dicts() if "component" in found.columns else found.to_dicts()


def _find(version: Version, contract: Contract, where: pl.Expr, *columns: str) -> pl.DataFrame:
    """Rows of a table. Polars reads only what it needs; digests of whole files are left to the verification."""
    file = version.folder / contract.file
    try:
        return pl.scan_parquet(file, glob=False).filter(where).select(*columns or [pl.all()]).collect()
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise StoreError(f"{file} is missing or damaged: {reason}; materialise the asset again") from error


class _Quoted:
    """Prompts of other rows, of the pool or the domain, looked up once each."""

    def __init__(self, lake: Lake, domain: str) -> None:
        target = lake.find("instructions/target", domain)
        self.tables = [(lake.current("instructions/pool"), POOL), *([(target, TARGET)] if target else [])]

    def __call__(self, row_id: str) -> str:
        here = pl.col("row_id") == row_id
        found = [text for place in self.tables for text in _find(*place, here, "prompt")["prompt"]]
        return _quoted(row_id, found[0] if found else None)


def _quoted(row_id: str, prompt: str | None) -> str:
    return row_id if prompt is None else f"{row_id[:8]} ({_short(prompt)})"


def _taken_row(records: Sequence[dict[str, Any]], version: Version, quoted: Quote) -> list[str]:
    return _taken(records[0], version.manifest, quoted)


def _taken(row: Mapping[str, Any], made: Manifest, quoted: Quote) -> list[str]:
    if _is_balanced(made):
        return _taken_in_balance(row, made, quoted)
    lines = [f"Taken as row {row['order'] + 1} of {made.n_rows['subset']}, by component {row['component']}."]
    if row["step"] == 0:
        lines.append(
            "It is that walk's anchor: of the rows allowed the nearest to the component, "
            f"cosine {row['core_cosine']:.4f}."
        )
        return [*lines, *_pulled_by(row, quoted)]
    lines.append(
        f"Step {row['step']}: of the rows allowed the nearest to the one taken before, {quoted(row['predecessor'])}, "
        f"cosine {row['predecessor_cosine']:.4f}."
    )
    if row["min_cosine_row"] is not None:  # else conflicts are allowed
        lines.append(
            f"In conflict with none: its smallest cosine to a row taken is {row['min_cosine']:.4f}, to "
            f"{quoted(row['min_cosine_row'])}."
        )
    delta = made.settings["delta"]
    lines.append(
        f"Consistency {row['consistency']:.4f}, where {delta} x {row['consistency_before']:.4f} was needed. "
        f"Cosine to the component {row['core_cosine']:.4f}."
    )
    return [*lines, *_pulled_by(row, quoted)]


def _is_balanced(made: Manifest) -> bool:
    return made.settings["walk"] == "balanced"


def _taken_in_balance(row: Mapping[str, Any], made: Manifest, quoted: Quote) -> list[str]:
    lead = "the only row allowed" if row["margin"] is None else f"{row['margin']:.4f} ahead of the next row allowed"
    lines = [
        f"Taken as row {row['order'] + 1} of {made.n_rows['subset']} by the balanced walk: pull "
        f"{row['pull']:.4f} less redundancy {row['redundancy']:.4f} is {row['score']:.4f}, {lead}.",
        *_pulled_by(row, quoted),
    ]
    if row["nearest_row"] is not None:
        lines.append(
            f"Of the rows taken before, it resembles {quoted(row['nearest_row'])} most, cosine "
            f"{row['nearest_cosine']:.4f}."
        )
    return lines


def _pulled_by(row: Mapping[str, Any], quoted: Quote) -> list[str]:
    pairs = row.get("pulled_by") or []  # subsets of earlier programs do not know
    own = "; ".join(f"{quoted(pair['row_id'])}, cosine {pair['cosine']:.4f}" for pair in pairs)
    return [f"The validation rows that it resembles most: {own}."] if pairs else []


def _excluded(records: Sequence[dict[str, Any]], version: Version, quoted: Quote) -> list[str]:
    row = records[0]
    if row["split"] is None:
        return [f"Not eligible: a near-duplicate of {quoted(row['other_row_id'])}, which stands for both."]
    rule = {"equal": "equal text", "shared 13-gram": "13 words in a row that both hold"}.get(row["reason"])
    rule = rule or f"{row['share']:.0%} of its word trigrams"
    return [f"Not eligible: it repeats the {row['split']} row {row['other_row_id']} of the domain ({rule})."]


def _left(records: Sequence[dict[str, Any]], version: Version, quoted: Quote) -> list[str]:
    budgets = version.read(contracts.BUDGETS)
    floor = version.manifest.settings["min_core_cosine"]
    if _is_balanced(version.manifest):
        return _left_in_balance(records[0], version, budgets.row(0, named=True), quoted)
    lines = ["Not taken. What each component's walk saw of it:"]
    for row in records:
        walk = budgets.row(by_predicate=pl.col("component") == row["component"], named=True)
        lines.append(
            f"  component {row['component']} (cosine {row['core_cosine']:+.4f}): {_reason(row, walk, floor, quoted)}"
        )
    return lines


def _left_in_balance(row: dict[str, Any], version: Version, walk: dict[str, Any], quoted: Quote) -> list[str]:
    """Pull, redundancy, place in line and the row taken that it repeats most; what kept it out is said first."""
    floor, nearer = version.manifest.settings["min_core_cosine"], pl.col("core_cosine") > row["core_cosine"]
    place = 1 + sum(len(_find(version, table, nearer, "row_id")) for table in (contracts.SUBSET, contracts.LEFT))
    kept_out = f"at each of {walk['n_taken']} steps another row had more pull less redundancy"
    if row["rank"] is None or row["n_inconsistent"] or (floor is not None and row["core_cosine"] < floor):
        kept_out = _reason({**row, "rank": None}, walk, floor, quoted)
    in_line = f"; it was {_ordinal(row['rank'])} in line" if row["rank"] else ""
    return [
        f"Not taken: {kept_out}.",
        f"When the walk ended, its pull was {row['pull']:.4f} and its redundancy {row['redundancy']:.4f}{in_line}.",
        f"Its cosine to the domain's mean, {row['core_cosine']:.4f}, is the {_ordinal(place)} largest of the eligible "
        "rows.",
        f"Of the rows taken, it resembles {quoted(row['nearest_row'])} most, cosine {row['nearest_cosine']:.4f}.",
    ]


def _reason(row: dict[str, Any], walk: dict[str, Any], floor: float | None, quoted: Quote) -> str:
    if floor is not None and row["core_cosine"] < floor:
        return f"below the smallest core cosine, {floor}"
    if row["conflict_row"] is not None:
        other = row["conflict_component"] != row["component"]
        when = f"from the start, with a row of component {row['conflict_component']}" if other else "from step "
        when += "" if other else f"{row['conflict_step']} on, with"
        return f"in conflict {when} {quoted(row['conflict_row'])}, cosine {row['conflict_cosine']:.4f}"
    rank = f"; by coherence it was {_ordinal(row['rank'])} in line when the walk ended" if row["rank"] else ""
    if row["n_inconsistent"]:
        return f"refused by consistency at {row['n_inconsistent']} of {walk['n_choices']} steps{rank}"
    return f"allowed at every step, others were nearer{rank} ({walk['n_taken']} of {walk['budget']} rows taken)"


def _without_gradient(lake: Lake, row_id: str, line: str) -> Answer:
    set_aside = lake.current("gradients/pool").read(gradient_contracts.SET_ASIDE)
    found = set_aside.filter(pl.col("row_id") == row_id)["reason"].to_list()
    if not found:
        raise SettingsError(f"row {row_id} came into the pool after this selection; refresh the domain")
    return Answer(row_id, "without gradient", [], [line, f"Not eligible: {found[0]}."])


def _ordinal(n: int) -> str:
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def _short(text: str) -> str:
    line = printable(text)
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"
