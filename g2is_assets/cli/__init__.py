"""The command `g2is`. Heavy imports happen inside the commands, so that help answers at once."""

import os
from pathlib import Path
from typing import Any, Final

import click

from g2is_assets import __version__
from g2is_assets.cli.audit import audit
from g2is_assets.cli.export import export
from g2is_assets.cli.model import model
from g2is_assets.cli.options import config_option, dry_run_option, host_option, json_option, port_option, stoppable
from g2is_assets.cli.study import study
from g2is_assets.cli.tables import listing
from g2is_assets.errors import G2isError
from g2is_assets.reports.terminal import cleaned_streams


class _Group(click.Group):
    """Prints the project's own errors, and what the machine refuses, as one message, without a traceback."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run a command; what it prints commands no terminal."""
        with cleaned_streams():
            return super().main(*arguments, **options)

    def invoke(self, ctx: click.Context) -> object:
        try:
            os.getcwd()
        except OSError as error:
            raise click.ClickException(f"the folder that this was called in is gone: {error}; change to one") from None
        try:
            return super().invoke(ctx)
        except G2isError as error:
            raise click.ClickException(str(error)) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            from g2is_assets.store.files import refusal

            if said := refusal(error):
                raise click.ClickException(said) from error
            raise


ROWS_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]}, epilog="Example: g2is refresh --all")
@click.version_option(__version__, prog_name="g2is")
def main() -> None:
    """Select instructions for a domain, train on them, and measure what that is worth."""


@main.command(epilog="Example: g2is init --sample")
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--sample", is_flag=True, help="With the sample data: a pool, three domains and a study.")
def init(folder: Path, sample: bool) -> None:
    """Make a project: settings, and folders for pool and domains.

    It is made in DIR, by default the current folder; commands find it from there and from the folders below. Nothing
    that is there is overwritten.
    """
    from g2is_assets.cli.init import run_init

    run_init(folder, sample=sample)


@main.command(epilog="Example: g2is refresh --domain shop_arithmetic")
@config_option
@click.option("--domain", "domains", multiple=True, help="Only this domain; may be repeated.")
@click.option("--all", "all_domains", is_flag=True, help="Every domain, one after the other.")
@click.option("--pool", is_flag=True, help="No domain, only what all of them share.")
@click.option(
    "--redraw-warmup",
    is_flag=True,
    help="Draw the warmup sample from the pool as it is now; all gradients are then computed anew.",
)
def refresh(config: Path | None, domains: tuple[str, ...], all_domains: bool, pool: bool, redraw_warmup: bool) -> None:
    """Bring pool and domains up to date, and say what came out.

    Only what is stale is made. Where the project has one domain, that one is refreshed; where it has several, name one,
    or --all. A domain that fails stops no other.
    """
    with stoppable("work is"):
        from g2is_assets.cli.refresh import asked_for, run_refresh
        from g2is_assets.settings.project import load_project

        project = load_project(config)
        names = asked_for(project, domains, all_domains=all_domains, pool=pool)
        run_refresh(project, names, redraw=redraw_warmup)


@main.command(epilog="Example: g2is demo --domain shop_arithmetic")
@config_option
@click.option("--domain", help="The target domain; default: the first by name.")
@click.option("--all", "all_domains", is_flag=True, help="Every domain, one after the other.")
def demo(config: Path | None, domain: str | None, all_domains: bool) -> None:
    """Try it: refresh one domain and print a table of what came out.

    Where there is no project, one of the sample data is made in the current folder, if that is empty.
    """
    with stoppable("work is"):
        from g2is_assets.cli.demo import run_demo

        run_demo(config, domain, all_domains)


@main.command(epilog="Example: g2is ui --port 3333")
@config_option
@host_option
@port_option
@click.option(
    "--allow-host",
    "allowed",
    multiple=True,
    metavar="NAME[:PORT]",
    help="Another name that browsers reach it by, such as a proxy's; may be repeated.",
)
def ui(config: Path | None, host: str, port: int, allowed: tuple[str, ...]) -> None:
    """Serve Dagster's UI, by default to this machine only.

    The UI has no login: whoever reaches it can launch runs and read data. Other sites in the browser cannot: names
    that were not allowed are refused, and so is what another site sends.
    """
    from g2is_assets.cli.ui import run_ui

    run_ui(config, host, port, allowed)


@main.command(epilog="Example: g2is service --port 3333")
@config_option
@host_option
@port_option
@click.option("--install", is_flag=True, help="Write it to your units instead, and say how it is started.")
def service(config: Path | None, host: str, port: int, install: bool) -> None:
    """Print a systemd unit that keeps the UI running, with schedules.

    It is a unit of your own user: `systemctl --user` starts it, and `loginctl enable-linger` has it run while you are
    not logged in.
    """
    from g2is_assets.cli.service import run_service

    run_service(config, host, port, install=install)


@main.group(epilog="Example: g2is domain list")
def domain() -> None:
    """Add, rename and remove target domains, and see which are stale."""


@domain.command(epilog="Example: g2is domain add tickets --validation tickets.jsonl --refresh '0 3 * * *'")
@config_option
@click.argument("name")
@click.option("--validation", required=True, type=ROWS_FILE, help="Rows that steer the selection.")
@click.option("--test", type=ROWS_FILE, help="Rows that only measure its result.")
@click.option(
    "--column",
    type=(str, str),
    multiple=True,
    metavar="KIND NAME",
    help="A column that has another name, such as `--column prompt Question`; may be repeated.",
)
@click.option("--title", help="What people call the domain.")
@click.option("--budget", type=float, help="Rows to select: below 1 a share of the pool, from 1 up their number.")
@click.option("--refresh", metavar="CRON", help="When to refresh it, in five fields; switches its schedule on.")
@click.option("--timezone", help="Time zone of --refresh, such as Europe/Berlin; default: UTC.")
@click.option("--owner", help="Who answers for it: an email address, or team:NAME; default: the project's owner.")
def add(
    config: Path | None,
    name: str,
    validation: Path,
    test: Path | None,
    column: tuple[tuple[str, str], ...],
    **said: str | float | None,
) -> None:
    """Make a new domain from its rows, whole or not at all."""
    from g2is_assets.cli.domain import add_domain

    add_domain(config, name, validation, test, column, said)


@domain.command("list", epilog="Example: g2is domain list --json")
@config_option
@listing
def list_(config: Path | None, form: str) -> None:
    """List the domains, and which of them are stale and why."""
    from g2is_assets.cli.domain import list_domains

    list_domains(config, form)


@domain.command(epilog="Example: g2is domain rename tickets support_tickets --dry-run")
@config_option
@click.argument("old")
@click.argument("new")
@dry_run_option
def rename(config: Path | None, old: str, new: str, dry_run: bool) -> None:
    """Give the domain OLD the name NEW.

    So do joint domains that take its rows, and studies. Versions keep the name that they were made under, and so does
    their audit trail; what is selected, trained and measured under the new name is made by its next refresh.
    """
    from g2is_assets.cli.domain import rename_domain

    rename_domain(config, old, new, dry_run=dry_run)


@domain.command(epilog="Example: g2is domain remove tickets --dry-run")
@config_option
@click.argument("name")
@dry_run_option
def remove(config: Path | None, name: str, dry_run: bool) -> None:
    """Take the domain NAME out of the project.

    Its rows are put aside, and nothing leaves the lake.
    """
    from g2is_assets.cli.domain import remove_domain

    remove_domain(config, name, dry_run=dry_run)


@main.command(epilog="Example: g2is gc --dry-run")
@config_option
@dry_run_option
@click.option(
    "--min-age-hours",
    default=24.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="What changed within so many hours stays: it may belong to a run in progress.",
)
@click.option(
    "--erase",
    "rows",
    multiple=True,
    metavar="ROW",
    help="Instead, erase a withdrawn row's text and vectors from every version; may be repeated.",
)
@click.option("--reason", help="With --erase: why, for the record; default: the withdrawal's reason.")
@click.option(
    "--removed", is_flag=True, help="Also prune all versions of domains that the project has not, even what is served."
)
@listing
def gc(
    config: Path | None,
    dry_run: bool,
    min_age_hours: float,
    rows: tuple[str, ...],
    reason: str | None,
    removed: bool,
    form: str,
) -> None:
    """Prune old versions, and delete what no version needs.

    Versions beyond `keep_versions` of g2is.toml lose their payload; their manifests and row ids stay. Gradients that no
    other version uses go too, and what killed runs left behind. Run it while no refresh runs.

    With --erase nothing is collected: a row that is withdrawn, and no longer used, leaves every version that is whole.
    """
    if rows:
        from g2is_assets.cli.gc import run_erase

        return run_erase(config, rows, reason, dry_run, form == "json")
    if reason:
        raise click.UsageError("--reason belongs to --erase")
    from g2is_assets.cli.gc import run_gc

    run_gc(config, min_age_hours, dry_run, removed, form)


@main.command(epilog="Example: g2is withdraw --row calendar:1 --reason 'asked by its author'")
@config_option
@click.option("--row", "rows", multiple=True, required=True, metavar="ROW", help="The row; may be repeated.")
@click.option("--reason", required=True, help="Why it may no longer, or again, be used.")
@click.option("--by", help="Who says so; default: the user of this machine.")
@dry_run_option
@click.option("--undo", is_flag=True, help="Record instead that it may be used again, by whom and why.")
@json_option
def withdraw(
    config: Path | None, rows: tuple[str, ...], reason: str, by: str | None, dry_run: bool, undo: bool, as_json: bool
) -> None:
    """Record that a row may no longer be used, and say what follows.

    ROW is a row id, its first 8 characters or more, or the id that the source gave the row. The record is for ever:
    --undo adds one, and takes none away.
    """
    from g2is_assets.cli.gc import run_withdraw

    run_withdraw(config, rows, reason, by, as_json, dry_run=dry_run, undo=undo)


@main.command(epilog="Example: g2is why schedule_reasoning calendar:1")
@config_option
@click.argument("domain")
@click.argument("row_id")
@click.option("--json", "as_json", is_flag=True, help="The stored trace as JSON.")
def why(config: Path | None, domain: str, row_id: str, as_json: bool) -> None:
    """Say why a pool row was taken for a domain, or what kept it out.

    ROW_ID may also be its first 8 characters or more, or the id that the source gave the row.
    """
    from g2is_assets.cli.options import open_lake, print_json, print_lines
    from g2is_assets.reports.why import explain

    _, lake = open_lake(config, domain)
    answer = explain(lake, domain, row_id)
    if as_json:
        print_json({"row_id": answer.row_id, "state": answer.state, "trace": answer.records})
    else:
        print_lines(answer.lines)


@main.command(epilog="Example: g2is sql 'SELECT domain, count(*) AS n FROM selection_subset GROUP BY domain'")
@config_option
@click.argument("query", required=False)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many rows; default: 40 in a table, else all.")
@listing
def sql(config: Path | None, query: str | None, limit: int | None, form: str) -> None:
    """Query the tables of the lake; without a QUERY, list them.

    QUERY is one SELECT of DuckDB's SQL, or the name of a view, whose columns are then listed with what they mean. It
    can write nothing, and reads nothing but the lake's own files: DuckDB's access to other files and to the network is
    switched off.
    """
    from g2is_assets.cli.sql import run_sql

    run_sql(config, query, limit, form)


@main.command(epilog="Example: g2is doctor --model")
@config_option
@click.option("--model", "try_model", is_flag=True, help="Also try whether a row's gradient depends on others.")
@port_option
@json_option
def doctor(config: Path | None, try_model: bool, port: int, as_json: bool) -> None:
    """Say what this machine or project lacks for a refresh.

    Exit code 1 if something is. It looks at Python and torch, the model, memory, disk, sources, domains and Dagster, in
    seconds, and with --model in the time of a short training. Nothing is made, fetched or changed.
    """
    from g2is_assets.cli.doctor import run_doctor

    run_doctor(config, port, as_json, try_model)


for group in (audit, export, model, study):
    main.add_command(group)
