"""Markdown tables of a study that has been run: NLL, accuracy and cost, and one variant against each of the others.

    python benchmarks/study_tables.py main --against g2is --config benchmarks/full_pool.toml

Reads the lake of the settings file; nothing is trained. Intervals are 95 %, over rows and seeds, as in the leaderboard;
with two or three seeds they are somewhat too narrow. Those that do not hold 0 are bold.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl

from g2is_assets.contracts.study import LEADERBOARD, SCORES
from g2is_assets.core.sampling import mean_paired_difference
from g2is_assets.reports.leaderboard import Standing, Standings, paired, standings_of
from g2is_assets.settings.project import load_project
from g2is_assets.store.lake import Lake

Cells = dict[tuple[str, str], str]


def main() -> None:
    """Print the tables; where a study has several budgets, a variant stands once for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="the study")
    parser.add_argument(
        "--against",
        default="g2is",
        help="the variant that is compared with every other; of several budgets: 'g2is 0.01'",
    )
    parser.add_argument("--without", help="show the mean over the domains but for this one too")
    parser.add_argument("--part", choices=("development", "final"), default="development")
    parser.add_argument("--config", type=Path)
    arguments = parser.parse_args()
    lake = Lake(load_project(arguments.config).home / "lake")
    wanted = {"study": arguments.name, "part": arguments.part}
    board = lake.current("study/leaderboard").read(LEADERBOARD).filter(**wanted)
    scores = pl.concat(
        lake.current("study/score", f"{domain}.{arguments.name}.{variant}").read(SCORES)
        for domain, variant in board.filter(pl.col("domain") != "all").select("domain", "variant").unique().iter_rows()
    ).filter(part=arguments.part)
    if board["budget"].n_unique() > 1:
        board, scores = (t.with_columns(variant=pl.format("{} {}", "variant", "budget")) for t in (board, scores))
    if arguments.against not in (names := sorted(set(board["variant"]))):
        parser.error(f"--against: no '{arguments.against}' here, but {', '.join(names)}")
    print_board(f"{arguments.part} rows", board, arguments.without)
    standings = standings_of(scores)
    print_differences("NLL", arguments.against, standings, lambda standing: standing.nll, ".4f")
    print_differences("accuracy in percentage points", arguments.against, standings, right_answers, ".1f")


def print_board(title: str, board: pl.DataFrame, without: str | None) -> None:
    """NLL by variant and domain, the best of each domain bold; accuracy; NLL on the pool; tokens and lengths."""
    domains = sorted(set(board["domain"]), key=lambda name: (name == "all", name))
    best = dict(board.group_by("domain").agg(pl.col("nll").min()).iter_rows())
    nll: Cells = {}
    accuracy: Cells = {}
    general: Cells = {}
    cost: Cells = {}
    for row in board.iter_rows(named=True):
        key, text = (row["variant"], row["domain"]), f"{row['nll']:.4f}"
        nll[key] = f"**{text}**" if row["nll"] == best[row["domain"]] else text
        if row["accuracy"] is not None and row["domain"] != "all":
            accuracy[key] = f"{100 * row['accuracy']:.1f}"
        if row["general_nll"] is not None:
            general[key] = f"{row['general_nll']:.4f}"
        if row["mean_response_tokens"] is not None:
            cost[key] = f"{row['n_tokens']:,.0f} / {row['mean_response_tokens']:.0f}"
    if without:
        others = board.filter(pl.col("domain").is_in(["all", without]).not_()).group_by("variant")
        whole = others.agg(pl.col("nll").mean(), pl.len()).filter(pl.col("len") == len(domains) - 2)
        nll |= {(variant, f"without {without}"): f"{mean:.4f}" for variant, mean, _ in whole.iter_rows()}
    ranked = board.with_columns(rank=pl.col("nll").rank().over("domain"))
    order = ranked.group_by("variant").agg(pl.col("rank").mean()).sort("rank", "variant")["variant"].to_list()
    print_table(f"{title}: NLL", order, [*domains, *([f"without {without}"] if without else [])], nll)
    print_table(f"{title}: accuracy, % of the rows with an answer", order, sorted({d for _, d in accuracy}), accuracy)
    print_table(f"{title}: NLL on rows of the pool that no variant took", order, domains, general)
    print_table(f"{title}: tokens trained / mean response tokens", order, domains, cost)


def right_answers(standing: Standing) -> np.ndarray:
    """(seeds, rows with choices) 100 for a right answer, 0 for a wrong one."""
    return 100 * standing.correct[:, ~np.isnan(standing.correct).any(axis=0)]


def print_differences(
    what: str, variant: str, standings: Standings, values: Callable[[Standing], np.ndarray], digits: str
) -> None:
    """The variant less each of the others, by domain."""
    cells: Cells = {}
    for domain, of_domain in standings.items():
        for other in of_domain.keys() - {variant}:
            if variant not in of_domain or not paired(of_domain[variant], of_domain[other]):
                continue
            one, rival = values(of_domain[variant]), values(of_domain[other])
            if one.shape[1] > 1:
                mean, low, high = mean_paired_difference([(one, rival)])
                text = f"{mean:+{digits}} [{low:+{digits}}, {high:+{digits}}]"
                cells[other, domain] = text if low <= 0 <= high else f"**{text}**"
    rows, columns = sorted({other for other, _ in cells}), sorted({domain for _, domain in cells})
    print_table(f"`{variant}` less the variant of the row: {what}", rows, columns, cells)


def print_table(title: str, rows: list[str], columns: list[str], cells: Cells) -> None:
    """One Markdown table; none of nothing."""
    if not cells:
        return
    print(f"\n### {title}\n")
    for line in lines(rows, columns, cells):
        print(f"| {' | '.join(line)} |")


def lines(rows: list[str], columns: list[str], cells: Cells) -> Iterator[list[str]]:
    """Head, rule and body."""
    yield ["", *columns]
    yield ["---", *["---:"] * len(columns)]
    for row in rows:
        yield [f"`{row}`", *(cells.get((row, column), "") for column in columns)]


if __name__ == "__main__":
    main()
