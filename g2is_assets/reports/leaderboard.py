"""The leaderboard of studies, from the tables of their variants: means, paired differences, overlap, source mix.

At the end, how a terminal shows it.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from g2is_assets.contracts import study as contracts
from g2is_assets.core.sampling import mean_paired_difference
from g2is_assets.errors import StoreError
from g2is_assets.reports.words import counted, difference_to
from g2is_assets.settings.config import ALL_DOMAINS

RIVALS: Final = ("random", "less")
"""Names of the variants that every other is compared with."""
CHOICE: Final = ["study", "domain", "variant", "budget"]


@dataclass(frozen=True)
class Leaderboard:
    """Its tables, each after its contract."""

    leaderboard: pl.DataFrame
    overlap: pl.DataFrame
    sources: pl.DataFrame


@dataclass(frozen=True)
class Standing:
    """Scores of a variant in a domain.

    Attributes:
        row_ids: (n,) ascending.
        nll: (s, n) mean NLL of every row after every training, by ascending seed.
        n_tokens: (n,) response tokens of the rows.
        correct: (s, n) 1 for right, 0 for wrong, NaN without choices.
    """

    row_ids: list[str]
    nll: NDArray[np.float64]
    n_tokens: NDArray[np.int64]
    correct: NDArray[np.float64]

    def numbers(self) -> dict[str, Any]:
        """What it is worth by itself."""
        asked = ~np.isnan(self.correct)
        return {
            "nll": float(self.nll.mean()),
            "nll_by_token": float(np.average(self.nll, axis=1, weights=self.n_tokens).mean()),
            "accuracy": float(self.correct[asked].mean()) if asked.any() else None,
            "n_domains": 1,
            "n_rows_scored": self.nll.shape[1],
            "n_seeds": self.nll.shape[0],
        }


Standings = Mapping[str, Mapping[str, Standing]]
"""By domain, then by variant."""


def build_leaderboard(
    subset: pl.DataFrame,
    adapter: pl.DataFrame,
    score: pl.DataFrame,
    general: pl.DataFrame,
    pool: pl.DataFrame,
    seconds: pl.DataFrame,
    final: Collection[str],
) -> Leaderboard:
    """All studies' leaderboard, from the tables of the stage `study`, each of all variants.

    `seconds` has the columns study, domain, variant, budget and seconds of the selection, and may lack some. `final`
    are the studies whose final rows are shown.
    """
    costs = _costs(subset, adapter, pool, seconds, _general(general, subset))
    shown = score.filter((pl.col("part") == "development") | pl.col("study").is_in(list(final)))
    rows: list[dict[str, Any]] = []
    for (study, part, budget), scores in shown.group_by("study", "part", "budget", maintain_order=True):
        names = {"study": study, "part": part, "budget": budget}
        of_study = {key[1:3]: value for key, value in costs.items() if (key[0], key[3]) == (study, budget)}
        rows += [names | row for row in _rows(standings_of(scores), of_study)]
    board = pl.DataFrame(rows, schema=contracts.LEADERBOARD.schema).sort(contracts.LEADERBOARD.sorted_by)
    return Leaderboard(board, _overlap(subset), _sources(subset, pool))


def standings_of(scores: pl.DataFrame) -> dict[str, dict[str, Standing]]:
    """Scores (contract `study/score`) of one study, part and budget, by domain and variant."""
    found: dict[str, dict[str, Standing]] = {}
    for (domain, variant), table in sorted(scores.group_by("domain", "variant"), key=lambda group: group[0]):
        ordered = table.sort("seed", "row_id")
        n_seeds = ordered["seed"].n_unique()
        found.setdefault(str(domain), {})[str(variant)] = Standing(
            row_ids=ordered["row_id"].unique(maintain_order=True).to_list(),
            nll=ordered["nll"].to_numpy().reshape(n_seeds, -1),
            n_tokens=ordered["n_response_tokens"].to_numpy().reshape(n_seeds, -1)[0],
            correct=ordered["correct"].cast(pl.Float64).fill_null(np.nan).to_numpy().reshape(n_seeds, -1),
        )
    return found


def _rows(standings: Standings, costs: Mapping[tuple[str, str], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of every domain, then of all domains, ranked."""
    everywhere = set.intersection(*(set(of_domain) for of_domain in standings.values()))
    groups = {domain: ([domain], sorted(of_domain)) for domain, of_domain in standings.items()}
    groups[ALL_DOMAINS] = (sorted(standings), sorted(everywhere))
    for name, (domains, variants) in groups.items():
        rows = []
        for variant in variants:
            own = [standings[domain][variant].numbers() | costs[domain, variant] for domain in domains]
            against = [_against(standings, domains, variant, rival) for rival in RIVALS]
            rows.append({"domain": name, "variant": variant, **_mean(own), **against[0], **against[1]})
        for rank, row in enumerate(sorted(rows, key=lambda row: (row["nll"], row["variant"])), start=1):
            yield {**row, "rank": rank}


def _mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over domains, counts of rows added up, the fewest seeds."""
    counts = ("n_domains", "n_rows_scored")
    table = pl.DataFrame(rows, infer_schema_length=None)
    return table.select(pl.sum(*counts), pl.min("n_seeds"), pl.exclude(*counts, "n_seeds").mean()).row(0, named=True)


def _against(standings: Standings, domains: list[str], variant: str, rival: str) -> dict[str, Any]:
    """Columns of the comparison with one rival; empty where it lacks a domain, and for itself."""
    if variant == rival or any(rival not in standings[domain] for domain in domains):
        return {}
    pairs = [pair for d in domains if (pair := paired(standings[d][variant], standings[d][rival]))]
    if len(pairs) < len(domains):
        return {}
    mean, low, high = mean_paired_difference(pairs)
    intervals = [mean_paired_difference([pair]) for pair in pairs]
    better, worse = sum(one[2] < 0 for one in intervals), sum(one[1] > 0 for one in intervals)
    return {
        f"minus_{rival}": mean,
        f"minus_{rival}_low": low,
        f"minus_{rival}_high": high,
        f"n_better_than_{rival}": better,
        f"n_like_{rival}": len(pairs) - better - worse,
        f"n_worse_than_{rival}": worse,
    }


def paired(one: Standing, other: Standing) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(seeds, n) NLL of one and of the other; None where there are fewer than two rows.

    Raises:
        StoreError: They were scored on different rows.
    """
    if one.row_ids != other.row_ids:
        raise StoreError("variants of a domain are scored on different test rows; materialise study/score of it again")
    return (one.nll, other.nll) if len(one.row_ids) >= 2 else None


def _general(general: pl.DataFrame, subset: pl.DataFrame) -> pl.DataFrame:
    """Mean NLL on rows of the pool by study, domain, variant and budget.

    Of a study and domain the same rows count for all: those that were scored after every training, and that no variant
    took.
    """
    place, training = ["study", "domain"], ["variant", "budget", "seed"]
    counts = general.with_columns(
        pl.struct(training).n_unique().over(*place, "row_id").alias("n"),
        pl.struct(training).n_unique().over(place).alias("n_all"),
    )
    shared = counts.filter(pl.col("n") == pl.col("n_all")).join(subset, on=[*place, "row_id"], how="anti")
    return shared.group_by(CHOICE).agg(pl.col("nll").mean().alias("general_nll"))


def _costs(
    subset: pl.DataFrame, adapter: pl.DataFrame, pool: pl.DataFrame, seconds: pl.DataFrame, general: pl.DataFrame
) -> dict[tuple[str, str, str, float], dict[str, Any]]:
    """Rows, tokens, response length, seconds and what became of the pool by study, domain, variant and budget."""
    table = adapter.filter("chosen").group_by(CHOICE).agg(pl.mean("n_rows", "n_tokens"))
    lengths = subset.join(pool.select("row_id", "n_response_tokens"), on="row_id", how="left")
    lengths = lengths.group_by(CHOICE).agg(pl.col("n_response_tokens").mean().alias("mean_response_tokens"))
    seconds = seconds.rename({"seconds": "selection_s"})
    for other in (lengths, seconds, general):
        table = table.join(other, on=CHOICE, how="left")
    return table.with_columns(pl.col("selection_s").fill_null(0.0)).rows_by_key(CHOICE, named=True, unique=True)


def _overlap(subset: pl.DataFrame) -> pl.DataFrame:
    first = subset.filter(pl.col("seed") == pl.col("seed").min().over(CHOICE))
    rows = []
    for (study, budget, domain), table in first.group_by("study", "budget", "domain"):
        taken = {str(name[0]): set(part["row_id"]) for name, part in table.group_by("variant")}
        for one, other in combinations(sorted(taken), 2):
            n_common = len(taken[one] & taken[other])
            rows.append((study, budget, domain, one, other, n_common, n_common / len(taken[one] | taken[other])))
    return pl.DataFrame(rows, schema=contracts.OVERLAP.schema, orient="row").sort(contracts.OVERLAP.sorted_by)


def _sources(subset: pl.DataFrame, pool: pl.DataFrame) -> pl.DataFrame:
    keys = ["study", "budget", "domain", "variant"]
    of_pool = pool.explode("sources").group_by(pl.col("sources").alias("source")).len()
    of_pool = of_pool.select("source", (pl.col("len") / len(pool)).alias("pool_share"))
    sizes = subset.group_by(keys).agg(pl.len().alias("n_all"), pl.col("seed").n_unique().alias("n_seeds"))
    counts = subset.join(pool.select("row_id", pl.col("sources").alias("source")), on="row_id").explode("source")
    table = counts.group_by(*keys, "source").len().join(sizes, on=keys).join(of_pool, on="source")
    table = table.with_columns(n_rows=pl.col("len") / pl.col("n_seeds"), share=pl.col("len") / pl.col("n_all"))
    return table.select(contracts.SOURCES.schema.names()).sort(contracts.SOURCES.sorted_by)


SEEN_WHEN_ASKED: Final = frozenset(
    {"minus less", *(f"domains better, like, worse than {rival}" for rival in RIVALS)}
    | {"NLL on the pool", "tokens", "response", "selection"}
)
"""Columns of `leaderboard_tables` beside the few that answer who is ahead."""


def leaderboard_tables(board: pl.DataFrame) -> list[tuple[str, list[dict[str, str]]]]:
    """A title and texts by column, for every budget and domain of a board of one study and part; all domains last."""
    groups = board.sort(pl.col("domain") == ALL_DOMAINS, "domain", maintain_order=True)
    found = []
    for (budget, domain), part in groups.group_by("budget", "domain", maintain_order=True):
        seeds = part["n_seeds"].unique().sort().to_list()
        span = counted(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
        scored = f"NLL on {counted(part['n_rows_scored'][0], part['part'][0] + ' row')}, {span}"
        found.append((f"{domain}, budget {budget:g}: {scored}", [_cells(row) for row in part.iter_rows(named=True)]))
    return found


def _cells(row: dict[str, Any]) -> dict[str, str]:
    """What a terminal shows of a row of the board, by column."""

    def known(name: str, form: str) -> str:
        return "" if row[name] is None else form.format(row[name])

    cells = {"rank": str(row["rank"]), "variant": row["variant"], "NLL": known("nll", "{:.4f}")}
    for rival in RIVALS:
        cells[f"minus {rival}"] = "" if row[f"minus_{rival}"] is None else str(difference_to(rival, row))
    cells["accuracy"] = "" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f} %"
    if row["domain"] == ALL_DOMAINS:
        for rival in RIVALS:
            counts = (known(f"n_{how}_{rival}", "{}") for how in ("better_than", "like", "worse_than"))
            cells[f"domains better, like, worse than {rival}"] = " ".join(counts).strip()
    return cells | {
        "NLL on the pool": known("general_nll", "{:.4f}"),
        "tokens": known("n_tokens", "{:,.0f}"),
        "response": known("mean_response_tokens", "{:.0f} tokens"),
        "selection": known("selection_s", "{:.1f} s"),
    }
