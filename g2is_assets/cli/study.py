"""`g2is study`: selectors side by side. Heavy imports happen inside."""

import json
from pathlib import Path
from typing import Any

import click

from g2is_assets.cli.options import config_option, json_option, stoppable
from g2is_assets.errors import MissingInputError, SettingsError
from g2is_assets.settings.project import load_project


@click.group(epilog="Example: g2is study run sample")
def study() -> None:
    """Compare selectors on the same pool, gradients, budgets and seeds, as a study file says."""


@study.command(epilog="Example: g2is study run sample --hours 2")
@config_option
@click.argument("name")
@click.option("--domain", "domains", multiple=True, help="Only this domain; may be repeated.")
@click.option("--variant", "variants", multiple=True, help="Only this variant; may be repeated.")
@click.option("--hours", type=click.FloatRange(min=0), help="Begin no further training after so many hours.")
def run(
    config: Path | None, name: str, domains: tuple[str, ...], variants: tuple[str, ...], hours: float | None
) -> None:
    """Select, train and score what the study NAME still lacks, then compare.

    Pool, gradients and domains come first, then it says how much is missing and how long that may take. Stop it at any
    time: finished trainings are kept.
    """
    from g2is_assets.cli.study_run import run_study

    with stoppable("trainings are"):
        run_study(config, name, domains, variants, hours)


@study.command(epilog="Example: g2is study show sample")
@config_option
@click.argument("name")
@click.option(
    "--part",
    type=click.Choice(["development", "final"]),
    default="development",
    show_default=True,
    help="Which test rows; the final ones are shown once the study file says `final = true`.",
)
@click.option("--domain", help="Only this domain; `all` is the mean over domains.")
@json_option
def show(config: Path | None, name: str, part: str, domain: str | None, as_json: bool) -> None:
    """Print the leaderboard of the study NAME. The views study_leaderboard... hold the same.

    Differences are followed by their 95 % intervals over rows and seeds; below 0 is better. With two or three seeds
    the intervals are somewhat too narrow.
    """
    from rich.console import Console

    from g2is_assets.contracts.study import LEADERBOARD
    from g2is_assets.reports.leaderboard import leaderboard_tables
    from g2is_assets.stages.studies import find_study
    from g2is_assets.store.lake import Lake

    project = load_project(config)
    said = find_study(project, name).said
    if part == "final" and not said.final:
        raise SettingsError(
            f"the final rows of study '{name}' are not opened; when nothing is to be chosen any more, set `final = "
            f"true` in its file and run `g2is study run {name}`"
        )
    wanted: dict[str, Any] = {"study": name, "part": part} | ({"domain": domain} if domain else {})
    board = Lake(project.home / "lake").current("study/leaderboard").read(LEADERBOARD).filter(**wanted)
    if board.is_empty():
        raise MissingInputError(f"nothing has been scored yet of {wanted}; run `g2is study run {name}`")
    if as_json:
        click.echo(json.dumps(board.to_dicts(), indent=2))
        return
    console = Console()
    for table in leaderboard_tables(board):
        console.print(table)


@study.command("list", epilog="Example: g2is study list")
@config_option
@json_option
def list_studies(config: Path | None, as_json: bool) -> None:
    """Name the studies of the project."""
    from g2is_assets.reports.words import printable
    from g2is_assets.stages.studies import look_at_studies, studies_folder

    project = load_project(config)
    found, faults = look_at_studies(project)
    for fault in faults:
        click.echo(f"left out: {fault}", err=True)
    if as_json:
        names = {"title", "budgets", "seeds", "final"}
        records = [
            {"study": name, "domains": one.domains, "variants": list(one.said.variants)}
            | one.said.model_dump(mode="json", include=names)
            for name, one in found.items()
        ]
        click.echo(json.dumps(records, indent=2))
        return
    for name, one in found.items():
        said = one.said
        click.echo(f"{name}: {printable(said.title)}" if said.title else name)
        click.echo(f"  domains {', '.join(one.domains)}; variants {', '.join(said.variants)}")
        click.echo(f"  budgets {', '.join(f'{b:g}' for b in said.budgets)}; seeds {', '.join(map(str, said.seeds))}")
    if not found:
        click.echo(f"no study in {studies_folder(project)}")
