"""Markdown tables of a study that has been run: scores, and one variant against each of the others.

    python benchmarks/study_tables.py main --against g2is --config benchmarks/full_pool.toml

Reads the lake of the settings file; nothing is trained. Intervals are 95 %, over rows and the seeds that both have, as
in the leaderboard; with two or three seeds they are somewhat too narrow. Those that do not hold 0 are bold.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from g2is_assets.contracts.study import LEADERBOARD, SCORES
from g2is_assets.core.sampling import mean_paired_difference
from g2is_assets.project import load_project
from g2is_assets.reports.leaderboard import paired, standings_of
from g2is_assets.storage.lake import Lake

Cells = dict[tuple[str, str], str]


def main() -> None:
    """Print the tables of every budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="the study")
    parser.add_argument("--against", default="g2is", help="the variant that is compared with every other")
    parser.add_argument("--part", choices=("development", "final"), default="development")
    parser.add_argument("--config", type=Path)
    arguments = parser.parse_args()
    lake = Lake(load_project(arguments.config).home / "lake")
    wanted = {"study": arguments.name, "part": arguments.part}
    board = lake.current("study/leaderboard").table("leaderboard", LEADERBOARD).filter(**wanted)
    scores = pl.concat(
        lake.current("study/score", f"{domain}.{arguments.name}.{variant}").table("score", SCORES)
        for domain, variant in board.filter(pl.col("domain") != "all").select("domain", "variant").unique().iter_rows()
    ).filter(part=arguments.part)
    for (budget,), part in board.group_by("budget", maintain_order=True):
        print_scores(f"Budget {budget:g}, {arguments.part} rows: NLL", part)
        print_differences(arguments.against, scores.filter(budget=budget))


def print_scores(title: str, board: pl.DataFrame) -> None:
    """NLL by variant and domain, the best of each domain bold, with cost and length."""
    domains = sorted(set(board["domain"]), key=lambda name: (name == "all", name))
    cells: Cells = {}
    for row in board.iter_rows(named=True):
        text = f"{row['nll']:.4f}"
        cells[row["variant"], row["domain"]] = f"**{text}**" if row["rank"] == 1 else text
    order = board.group_by("variant").agg(pl.col("rank").mean()).sort("rank", "variant")["variant"].to_list()
    print_table(title, order, domains, cells)


def print_differences(variant: str, scores: pl.DataFrame) -> None:
    """The variant less each of the others, by domain; below 0 the variant is better."""
    standings = standings_of(scores)
    cells: Cells = {}
    for domain, of_domain in standings.items():
        for other in of_domain.keys() - {variant}:
            pair = paired(of_domain[variant], of_domain[other]) if variant in of_domain else None
            if pair:
                mean, low, high = mean_paired_difference([pair])
                text = f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"
                cells[other, domain] = text if low <= 0 <= high else f"**{text}**"
    others = sorted({other for other, _ in cells})
    print_table(f"`{variant}` less the variant of the row", others, list(standings), cells)


def print_table(title: str, rows: list[str], columns: list[str], cells: Cells) -> None:
    """One Markdown table."""
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
