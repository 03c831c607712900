"""Which row a person means, and why it was taken for a domain or left: the stored trace in words."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from g2is_assets.contracts import selection as contracts
from g2is_assets.contracts.contract import Contract
from g2is_assets.contracts.gradients import SCREEN, SET_ASIDE
from g2is_assets.contracts.instructions import POOL, REJECTED, TARGET, WITHHELD
from g2is_assets.errors import SettingsError, StoreError, command
from g2is_assets.reports.words import beginning, counted, percent, printable
from g2is_assets.store.files import read_parquet
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import Manifest
from g2is_assets.store.version import Version

SOME_ROWS: Final = "sql 'SELECT row_id, ids, prompt FROM instructions_pool LIMIT 10'"

MIN_PREFIX: Final = 8
"""Characters of a row id from which its beginning is enough."""
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
        records, lines: The stored trace, one record if taken or excluded, one per component if left; and in words.
    """

    row_id: str
    state: str
    records: list[dict[str, Any]]
    lines: list[str]


def explain(lake: Lake, domain: str, asked: str) -> Answer:
    """Look a row up in the current version of a domain's subset, by its id, 8 characters of it, or a source's id.

    Raises:
        SettingsError: No row or several rows of the pool answer to `asked`.
        MissingInputError: The subset has not been materialised.
    """
    version, pool = lake.current("selection/subset", domain), lake.current("instructions/pool")
    where = answers_to(asked) | pl.col("ids").list.contains(asked)
    found = _find(pool, POOL, where, "row_id", "sources", "prompt").to_dicts()
    row = only_one(found, asked) or _find_in_selection(version, asked)
    if row is None:
        say_why_not(pool, asked)
        raise SettingsError(
            f"no row is '{asked}'; give a row id, its first {MIN_PREFIX} characters or more, or a source's id. "
            f"List some: {command(SOME_ROWS)}"
        )
    row_id, quoted = row["row_id"], _quoting(lake, domain)
    line = f"{row_id}  {printable(', '.join(row['sources']))}  {beginning(row['prompt'], SHOWN)}"
    traces: dict[str, tuple[Contract, Callable[[list[dict[str, Any]]], list[str]]]] = {
        "taken": (contracts.SUBSET, lambda records: _taken(records[0], version.manifest, quoted)),
        "excluded": (contracts.EXCLUDED, lambda records: _excluded(records[0], quoted)),
        "left": (contracts.LEFT, lambda records: _left(records, version, quoted)),
    }
    for state, (contract, words) in traces.items():
        table = _find(version, contract, pl.col("row_id") == row_id)
        records = (table.sort("component") if "component" in table.columns else table).to_dicts()
        if records:
            records[0] |= _screened(lake, version, records[0])
            return Answer(row_id, state, records, [line, *words(records)])
    reasons = lake.current("gradients/pool").read(SET_ASIDE).filter(row_id=row_id)["reason"]
    if reasons.is_empty():
        raise SettingsError(f"row {row_id} came into the pool after this selection; refresh the domain")
    return Answer(row_id, "without gradient", [], [line, f"Not eligible: {reasons[0]}."])


def _screened(lake: Lake, subset: Version, record: Mapping[str, Any]) -> dict[str, Any]:
    """Of a row that was screened out its score and place, and the lowest score that was kept."""
    if record.get("reason") != contracts.SCREENED_OUT:
        return {}
    gradients = lake.input_of(subset, "gradients/pool")
    table = _find(gradients, SCREEN, pl.col("domain") == record["domain"])
    kept = table.filter(pl.col("kept") & pl.col("score").is_not_null())
    own = table.row(by_predicate=pl.col("row_id") == record["row_id"], named=True)
    return {
        "by": gradients.manifest.settings["prescreen"]["by"],
        **{name: own[name] for name in ("score", "rank")},
        "n_scored": len(table),
        "n_kept": len(kept),
        "lowest_kept": kept["score"].min(),
    }


def taken_lines(record: Mapping[str, Any], made: Manifest, prompts: Mapping[str, str]) -> list[str]:
    """Why a row of the subset `made` was taken, in words that quote other rows by these prompts."""
    return _taken(record, made, lambda row_id: _quoted(row_id, prompts.get(row_id)))


def left_line(records: Sequence[Mapping[str, Any]], made: Manifest, budgets: pl.DataFrame) -> str:
    """Why a row that no walk of the subset `made` took was left, shortly: by the walk that it was nearest to."""
    row = dict(max(records, key=lambda record: abs(record["core_cosine"])))
    walk, floor = budgets.row(by_predicate=pl.col("component") == row["component"], named=True), _floor(made)
    if made.settings["walk"] == "balanced":
        if not _kept_out(row, floor):
            gain = f"its pull was {row['pull']:.4f} and its redundancy {row['redundancy']:.4f}"
            return f"Left: {gain} when the walk ended, {_ordinal(row['rank'])} in line."
        row["rank"] = None
    return f"Left: {_reason(row, walk, floor, lambda row_id: row_id[:MIN_PREFIX])}."


def excluded_line(record: Mapping[str, Any]) -> str:
    """Why a row was not eligible, shortly."""
    return _excluded(record, lambda row_id: row_id[:MIN_PREFIX])[0]


def first_reasons(lake: Lake, version: Version, n_rows: int) -> list[str]:
    """Why the first rows of a subset were taken, in their order."""
    quoted = _quoting(lake, str(version.manifest.partition))
    taken = _find(version, contracts.SUBSET, pl.col("order") < n_rows).sort("order")
    return [" ".join(_taken(row, version.manifest, quoted)) for row in taken.iter_rows(named=True)]


def _find_in_selection(version: Version, asked: str) -> dict[str, Any] | None:
    """A row that has left the pool since, of which only the id is known."""
    tables = (contracts.SUBSET, contracts.EXCLUDED, contracts.LEFT)
    found = {row_id for table in tables for row_id in _find(version, table, answers_to(asked), "row_id")["row_id"]}
    gone = {"sources": ["no longer in the pool"], "prompt": ""}
    return only_one([{"row_id": row_id, **gone} for row_id in sorted(found)], asked)


def _find(version: Version, contract: Contract, where: pl.Expr, *columns: str) -> pl.DataFrame:
    """Rows of a table. Polars reads only what it needs; digests of whole files are left to the verification."""
    file = version.folder / contract.file
    try:
        return pl.scan_parquet(file, glob=False).filter(where).select(*columns or [pl.all()]).collect()
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise StoreError(f"{file} is missing or damaged: {reason}; materialise the asset again") from error


def _quoting(lake: Lake, domain: str) -> Quote:
    """Rows of the pool or the domain by their prompts, looked up as they are asked for."""
    target = lake.find("instructions/target", domain)
    tables = [(lake.current("instructions/pool"), POOL), *([(target, TARGET)] if target else [])]

    def quoted(row_id: str) -> str:
        here = pl.col("row_id") == row_id
        found = [text for place in tables for text in _find(*place, here, "prompt")["prompt"]]
        return _quoted(row_id, found[0] if found else None)

    return quoted


def _quoted(row_id: str, prompt: str | None) -> str:
    return row_id if prompt is None else f"{row_id[:8]} ({beginning(prompt, SHOWN)})"


def _taken(row: Mapping[str, Any], made: Manifest, quoted: Quote) -> list[str]:
    if made.settings["walk"] == "balanced":
        return _taken_in_balance(row, made, quoted)
    lines = [f"Taken as row {row['order'] + 1} of {made.n_rows['subset']}, by component {row['component']}."]
    if row["step"] == 0:
        nearest = f"of the rows allowed the nearest to the component, cosine {row['core_cosine']:.4f}."
        return [*lines, f"It is that walk's anchor: {nearest}", *_by_chance(row), *_pulled_by(row, quoted)]
    lines.append(
        f"Step {row['step']}: of the rows allowed the nearest to the one taken before, {quoted(row['predecessor'])}, "
        f"cosine {row['predecessor_cosine']:.4f}."
    )
    lines += _by_chance(row)
    if row["min_cosine_row"] is not None:  # else conflicts are allowed
        lines.append(
            f"In conflict with none: its smallest cosine to a row taken is {row['min_cosine']:.4f}, to "
            f"{quoted(row['min_cosine_row'])}."
        )
    needed = f"{made.settings['delta']} x {row['consistency_before']:.4f}"
    return [
        *lines,
        f"Consistency {row['consistency']:.4f}, where {needed} was needed. Cosine to the component "
        f"{row['core_cosine']:.4f}.",
        *_pulled_by(row, quoted),
    ]


def _taken_in_balance(row: Mapping[str, Any], made: Manifest, quoted: Quote) -> list[str]:
    lead = "all rows then allowed were taken in the end"
    if row["margin"] is not None:
        lead = f"{row['margin']:.4f} ahead of the best row that was never taken"
    return [
        f"Taken as row {row['order'] + 1} of {made.n_rows['subset']} by the balanced walk: pull "
        f"{row['pull']:.4f} less redundancy {row['redundancy']:.4f} is {row['score']:.4f}, {lead}.",
        *_by_chance(row),
        *_pulled_by(row, quoted),
        *_nearest(row, "Of the rows taken before", quoted),
    ]


def _by_chance(row: Mapping[str, Any]) -> list[str]:
    """Whether another sketch might have left it out."""
    if row["margin"] is None or row["margin"] >= row["error"]:
        return []
    return [
        f"The best row then allowed that was never taken lay only {row['margin']:.4f} behind, less than the sketch's "
        f"error, {row['error']:.4f}: another seed might have left this row out."
    ]


def _pulled_by(row: Mapping[str, Any], quoted: Quote) -> list[str]:
    pairs = row.get("pulled_by") or []  # subsets of earlier programs do not know
    own = "; ".join(f"{quoted(pair['row_id'])}, cosine {pair['cosine']:.4f}" for pair in pairs)
    return [f"The validation rows that it resembles most: {own}."] if pairs else []


def _excluded(row: Mapping[str, Any], quoted: Quote) -> list[str]:
    if row["reason"] == contracts.SCREENED_OUT:
        if "rank" not in row:
            return ["Not eligible: screened out by a cheap score."]
        return [
            f"Not eligible: screened out. Its score by {row['by']}, {row['score']:.4f}, is the {_ordinal(row['rank'])} "
            f"of {row['n_scored']}; the best {row['n_kept']}, down to {row['lowest_kept']:.4f}, were kept."
        ]
    if row["split"] is None:
        return [f"Not eligible: a near-duplicate of {quoted(row['other_row_id'])}, which stands for both."]
    rule = {"equal": "equal text", "shared 13-gram": "13 words in a row that both hold"}.get(row["reason"])
    rule = rule or f"{percent(row['share'])} of its word trigrams"
    return [f"Not eligible: it repeats the {row['split']} row {row['other_row_id']} of the domain ({rule})."]


def _left(records: Sequence[dict[str, Any]], version: Version, quoted: Quote) -> list[str]:
    budgets, floor = version.read(contracts.BUDGETS), _floor(version.manifest)
    if version.manifest.settings["walk"] == "balanced":
        return _left_in_balance(records[0], version, budgets.row(0, named=True), quoted)
    lines = ["Not taken. What each component's walk saw of it:"]
    for row in records:
        walk = budgets.row(by_predicate=pl.col("component") == row["component"], named=True)
        why = _reason(row, walk, floor, quoted)
        lines.append(f"  component {row['component']} (cosine {row['core_cosine']:+.4f}): {why}")
    return lines


def _left_in_balance(row: dict[str, Any], version: Version, walk: dict[str, Any], quoted: Quote) -> list[str]:
    """Pull, redundancy, place in line and the row taken that it repeats most; what kept it out is said first."""
    floor, nearer = _floor(version.manifest), pl.col("core_cosine") > row["core_cosine"]
    place = 1 + sum(len(_find(version, table, nearer, "row_id")) for table in (contracts.SUBSET, contracts.LEFT))
    kept_out = f"at each of {counted(walk['n_taken'], 'step')} another row had more pull less redundancy"
    if _kept_out(row, floor):
        kept_out = _reason({**row, "rank": None}, walk, floor, quoted)
    in_line = f"; it was {_ordinal(row['rank'])} in line" if row["rank"] else ""
    return [
        f"Not taken: {kept_out}.",
        f"When the walk ended, its pull was {row['pull']:.4f} and its redundancy {row['redundancy']:.4f}{in_line}.",
        f"Its cosine to the domain's mean, {row['core_cosine']:.4f}, is the {_ordinal(place)} largest of the eligible "
        "rows.",
        *_nearest(row, "Of the rows taken", quoted),
    ]


def _nearest(row: Mapping[str, Any], among: str, quoted: Quote) -> list[str]:
    if row["nearest_row"] is None:
        return []
    return [f"{among}, it resembles {quoted(row['nearest_row'])} most, cosine {row['nearest_cosine']:.4f}."]


def _floor(made: Manifest) -> float | None:
    floor: float | None = made.settings["min_core_cosine"]
    return floor


def _kept_out(row: Mapping[str, Any], floor: float | None) -> bool:
    """Whether another rule than the balance kept a row out of a balanced walk."""
    below = floor is not None and row["core_cosine"] < floor
    return bool(row["rank"] is None or row["n_inconsistent"] or below)


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
        return f"refused by consistency at {row['n_inconsistent']} of {counted(walk['n_choices'], 'step')}{rank}"
    taken = f"{walk['n_taken']} of {counted(walk['budget'], 'row')} taken"
    return f"allowed at every step, others were nearer{rank} ({taken})"


def _ordinal(n: int) -> str:
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def answers_to(asked: str) -> pl.Expr:
    """Whether column `row_id` is, or begins with, what was asked for."""
    whole = pl.col("row_id") == asked
    return whole | pl.col("row_id").str.starts_with(asked) if len(asked) >= MIN_PREFIX else whole


def only_one(found: list[dict[str, Any]], asked: str) -> dict[str, Any] | None:
    """The record found, if any; several are a SettingsError."""
    if len(found) > 1:
        raise SettingsError(f"{len(found)} rows answer to '{asked}': {', '.join(r['row_id'] for r in found[:5])}")
    return found[0] if found else None


def say_why_not(version: Version, asked: str) -> None:
    """Refuse a row that an instructions version lists as unusable or withheld, with the reason that it gives.

    Raises:
        SettingsError: It lists such a row.
    """
    line = _first(version, REJECTED, pl.col("id") == asked)
    if line:
        raise SettingsError(f"row '{asked}' was set aside ({line['file']}, line {line['line']}): {line['reason']}")
    line = _first(version, WITHHELD, answers_to(asked) | pl.col("ids").list.contains(asked))
    if line:
        raise SettingsError(f"row {line['row_id']} may not be used ({line['reason']}): {line['detail']}")


def table_part(file: Path, columns: Collection[str]) -> pl.DataFrame | None:
    """Those of the columns that a table has; None if it is gone or damaged, for other versions know the row too."""
    try:
        there = read_parquet(file, n_rows=0).columns
        return read_parquet(file, [column for column in there if column in columns])
    except StoreError:
        return None


def _first(version: Version, contract: Contract, rule: pl.Expr) -> dict[str, Any] | None:
    table = table_part(version.folder / contract.file, contract.columns)
    if table is None or not contract.columns.keys() <= set(table.columns):
        return None
    return next(table.filter(rule).iter_rows(named=True), None)
