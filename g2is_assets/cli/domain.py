"""`g2is domain`: add a target domain from its rows, rename or remove one, and list them with what is stale."""

import filecmp
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import tomlkit

from g2is_assets.cli.tables import print_records, print_table
from g2is_assets.contracts.instructions import Instruction, Unusable
from g2is_assets.errors import SettingsError, SourceError, StoreError, command
from g2is_assets.reports.words import counted, printable
from g2is_assets.settings.config import ALL_DOMAINS, DOMAIN_NAME, Columns, Source
from g2is_assets.settings.parsing import parse, read_toml, to_toml
from g2is_assets.settings.project import Project, load_domain, load_project
from g2is_assets.stages.studies import studies_folder
from g2is_assets.store.files import replacing, write_atomically, writing
from g2is_assets.store.lake import Lake
from g2is_assets.store.records import ending_of
from g2is_assets.store.serving import served_folder
from g2is_assets.store.sources import read_rows
from g2is_assets.store.versions import assets_of, partitions_of

MIN_ROWS: Final = 2
"""Usable rows that a file needs at least: principal directions and intervals need two."""
PARTITION: Final = "dagster/partition"
SHOWN: Final = 5
"""Rejected rows that are spelt out."""


def add_domain(
    config: Path | None,
    name: str,
    validation: Path,
    test: Path | None,
    column: Sequence[tuple[str, str]],
    said: Mapping[str, str | float | None],
) -> None:
    """Make a domain's folder from its rows and what `domain.toml` is to say, and tell what to do next.

    The folder is there whole or not at all.
    """
    from g2is_assets.orchestration.automation import check_cron

    project = load_project(config)
    if not DOMAIN_NAME.fullmatch(name):
        raise SettingsError(f"a domain's name must match {DOMAIN_NAME.pattern}, and {name!r} does not")
    folder = project.path.parent / project.settings.domains / name
    if folder.exists() or folder.is_symlink():
        raise SettingsError(f"{folder} exists; edit its files, or remove it and add the domain again")
    files = {"validation": validation} | ({"test": test} if test else {})
    columns = parse(Columns, dict(column), folder / "domain.toml", "columns")
    rows = {split: _usable(file, split, columns) for split, file in files.items()}
    if both := rows["validation"].keys() & rows.get("test", {}).keys():
        first = min((rows["test"][row_id] for row_id in both), key=lambda row: row.line)
        raise SourceError(
            f"{counted(len(both), 'row is', 'rows are')} both validation and test, such as {test}, line {first.line}: "
            f"{first.prompt[:60]!r}; test rows must be others"
        )
    scratch = folder.parent / f".adding-{uuid.uuid4().hex}"
    try:
        draft = scratch / name
        draft.mkdir(parents=True)
        for split, file in files.items():
            shutil.copyfile(file, draft / f"{split}{ending_of(file)}")
        (draft / "domain.toml").write_text(
            to_toml({**said, "columns": dict(column) if column else None}), encoding="utf-8"
        )
        check_cron(load_domain(draft, project.settings))
        draft.rename(folder)
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"{folder} cannot be made: {error}") from error
    except SettingsError as error:  # which names the scratch folder
        raise SettingsError(str(error).replace(str(draft), str(folder))) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    click.echo(f"Added {folder}")
    click.echo(
        f"Next: {command('doctor')} looks at its rows; then {command(f'refresh --domain {name}')}, or in the UI reload "
        "the definitions and launch refresh_domain."
    )


def list_domains(config: Path | None, form: str) -> None:
    """Print every domain with its budget, schedule, last refresh and state."""
    from g2is_assets.stages.staleness import staleness
    from g2is_assets.stages.workspace import Workspace

    project = load_project(config)
    table = staleness(Workspace(project))
    last, under_way = _last_refreshes(project)
    records = []
    roots = table.filter(table["domain"].is_null() & table["direct"] & (table["state"] == "stale"))
    for name, domain in sorted(project.domains.items()):
        own = table.filter((table["domain"] == name) & (table["state"] != "current"))
        states, causes = set(own["state"]), roots.vstack(own) if len(own) else own
        records.append(
            {
                "domain": name,
                "budget": domain.selection.budget,
                **{key: getattr(domain, key) for key in ("title", "refresh", "timezone", "owner")},
                **_worth(project, name),
                "last_refresh": last.get(name),
                "running_since": under_way.get(name),
                "state": next((state for state in ("missing", "stale", "unknown") if state in states), "current"),
                "stale": bool(own["stale"].any()),
                "because": [f"{asset}: {reason}" for asset, reason in causes.select("asset", "reason").iter_rows()],
            }
        )
    if print_records(form, records):
        return
    if not records:
        place = project.path.parent / project.settings.domains
        return click.echo(f"no domain in {place}; {command('domain add NAME --validation rows.jsonl')} makes one")
    print_table(form, [_seen(record) for record in records], right={"budget"}, extra={"schedule", "title", "owner"})


def _usable(file: Path, split: str, columns: Columns) -> dict[str, Instruction]:
    """The usable rows of a file by row id; says how many there are, and why others are not."""
    found: dict[str, Instruction] = {}
    rejected: list[Unusable] = []
    n_repeated = 0
    naming = "name others by `--column prompt NAME --column response NAME`"
    for row in read_rows(str(file), Source(path=file.name, columns=columns), file.parent, naming=naming):
        if isinstance(row, Unusable):
            rejected.append(row)
        elif row.row_id in found:
            n_repeated += 1
        else:
            found[row.row_id] = row
    click.echo(
        f"{split}: {counted(len(found), 'usable row')}, {n_repeated} repeated, {len(rejected)} rejected ({file})"
    )
    if n_preferred := sum(row.preferred for row in found.values()):
        click.echo(
            f"  {counted(n_preferred, 'is a preference pair', 'are preference pairs')}, of which `chosen` is used"
        )
    for row in rejected[:SHOWN]:
        click.echo(f"  line {row.line}: {printable(row.reason)}")
    if len(rejected) > SHOWN:
        click.echo(f"  and {len(rejected) - SHOWN} more")
    if len(found) < MIN_ROWS:
        raise SourceError(
            f"{file}: {counted(len(found), f'usable {split} row')}, at least {MIN_ROWS} distinct ones are needed"
        )
    return found


def _worth(project: Project, domain: str) -> dict[str, Any]:
    """What is served, and the losses last measured: of the newest adapter, of the one before it, their difference."""
    lake = Lake(project.home / "lake")
    try:
        served, made = served_folder(lake, domain), lake.find("finetune/evaluation", domain)
    except StoreError:  # which `audit verify` tells more about
        served, made = None, None
    metrics = made.manifest.metrics if made else {}
    keys = ("split", "nll_g2is", "nll_served", "minus_served", "minus_served_low", "minus_served_high")
    return {"served": served.name if served else None, **{key: metrics.get(key) for key in keys}}


def _last_refreshes(project: Project) -> tuple[dict[str, str], dict[str, str]]:
    """When and how the last finished refresh of each domain ended, and since when one runs, as Dagster has it.

    A refresh of the pool is the first part of one of every domain.
    """
    import dagster as dg

    from g2is_assets.cli.jobs import history
    from g2is_assets.orchestration.automation import ENDED, REFRESH_BOTH, REFRESH_DOMAIN, REFRESH_POOL, UNDER_WAY

    last: dict[str, str] = {}
    under_way: dict[str, str] = {}
    with history(project) as instance:
        if instance is None:
            return last, under_way
        for record in instance.get_run_records(dg.RunsFilter(statuses=UNDER_WAY)):
            run, begun = record.dagster_run, record.start_time or record.create_timestamp.timestamp()
            of = [run.tags[PARTITION]] if PARTITION in run.tags else project.domains
            if run.job_name in (REFRESH_POOL, REFRESH_DOMAIN, REFRESH_BOTH):
                under_way |= dict.fromkeys(of, f"{datetime.fromtimestamp(begun, UTC):%Y-%m-%d %H:%M} UTC")
        for name in project.domains:
            ended = []
            for job in (REFRESH_DOMAIN, REFRESH_BOTH):
                wanted = dg.RunsFilter(job_name=job, statuses=ENDED, tags={PARTITION: name})
                for record in instance.get_run_records(wanted, limit=1):  # the newest first
                    when = record.end_time or record.create_timestamp.timestamp()
                    ended.append((when, record.dagster_run.status.value.lower()))
            if ended:
                when, how = max(ended)
                last[name] = f"{datetime.fromtimestamp(when, UTC):%Y-%m-%d %H:%M} UTC, {how}"
    return last, under_way


def _seen(record: Mapping[str, Any]) -> dict[str, str]:
    """What people see of a domain."""
    because = record["because"]
    since = record["running_since"]
    more = f" (and {len(because) - 1} more)" if len(because) > 1 else ""
    return {
        "domain": record["domain"],
        "state": record["state"],
        "budget": f"{record['budget']:g}",
        "last refresh": f"running since {since}" if since else record["last_refresh"] or "never",
        "because": f"{because[0]}{more}" if because else "",
        "schedule": f"{record['refresh']} {record['timezone']}" if record["refresh"] else "off",
        "title": record["title"],
        "owner": record["owner"],
    }


def rename_domain(config: Path | None, old: str, new: str, *, dry_run: bool) -> None:
    """Give a domain another name, in its folder and in every file that names it.

    At every moment the project loads, with the old domain, the new one, or both; called again, it goes on.
    """
    from g2is_assets.orchestration.runs import no_runs

    project = load_project(config)
    folder = project.domain(old).file.parent
    if not DOMAIN_NAME.fullmatch(new) or new == ALL_DOMAINS:
        raise SettingsError(f"a domain's name must match {DOMAIN_NAME.pattern} and not be '{ALL_DOMAINS}': {new!r}")
    place, lake = folder.with_name(new), Lake(project.home / "lake")
    if new == old or ((place.exists() or place.is_symlink()) and not _same_files(folder, place)):
        raise SettingsError(f"{place} exists; take another name, or remove that domain first")
    edits = {file: _renamed_in(file, old, new) for file in _naming(project, old)}
    for file in edits:
        click.echo(f"{'Would be changed' if dry_run else 'Changed'}: {printable(str(file))}")
    if not dry_run:
        with no_runs(project.home / ".dagster"), writing(place):
            if edits and not place.exists():  # both are there until no file names the old one
                with replacing(place) as scratch:
                    shutil.copytree(folder, scratch, symlinks=True)
            for file, text in edits.items():
                write_atomically(file, text)
            if place.exists():
                _put_aside(folder)
            else:
                os.replace(folder, place)
    click.echo(f"{'Would be renamed' if dry_run else 'Renamed'}: {old} -> {new}")
    _say_of_lake(lake, old, dry_run=dry_run)
    click.echo(
        f"{new} is made anew from its selection on, for a version belongs to its domain by name; pool, checkpoint and "
        f"gradients are read again from what is stored. Until its first refresh, none of its adapters is served."
    )
    if _places_in(lake, new):
        click.echo(f"The lake holds versions of a domain of the name {new}: they are its own now, and may serve again.")
    click.echo("In the UI, reload the definitions; runs of before stay in the history under the old name.")


def remove_domain(config: Path | None, name: str, *, dry_run: bool) -> None:
    """Take a domain out of the project, in one step; its rows are put aside, and the lake keeps everything."""
    from g2is_assets.orchestration.runs import no_runs

    project = load_project(config)
    folder = project.domain(name).file.parent
    naming = _naming(project, name)
    if joint := [file for file in naming if file in _own_files(project)]:
        raise SettingsError(f"{joint[0]}: members: takes the rows of '{name}'; take it out there first")
    for file in naming:
        click.echo(f"{printable(str(file))} names it: that study cannot run until its `domains` leaves it out")
    if not dry_run:
        with no_runs(project.home / ".dagster"), writing(folder):
            aside = _put_aside(folder)
            click.echo(f"Removed: {name}; its rows are in {aside}, to be deleted or moved back by hand")
    else:
        click.echo(f"Would be removed: {name}; its rows would stay in a hidden folder beside it")
    _say_of_lake(Lake(project.home / "lake"), name, dry_run=dry_run)
    click.echo("In the UI, reload the definitions; its runs stay in the history.")


def _naming(project: Project, name: str) -> list[Path]:
    """Files that name a domain: those of joint domains, then studies."""
    files = [file for file in _own_files(project) if file.exists()] + sorted(studies_folder(project).glob("*.toml"))
    return [file for file in files if name in _listed(read_toml(file))]


def _own_files(project: Project) -> list[Path]:
    return [domain.file for _, domain in sorted(project.domains.items())]


def _listed(said: Mapping[str, Any]) -> list[Any]:
    """The domains that a file names: of a joint domain its members."""
    return [name for key in ("members", "domains") for name in said.get(key, ())]


def _renamed_in(file: Path, old: str, new: str) -> str:
    """The file's text with another name for a domain, and everything else, comments too, as it is."""
    said = tomlkit.parse(file.read_text(encoding="utf-8"))
    for key in ("members", "domains"):
        names: Any = said.get(key, ())
        for n in (n for n, name in enumerate(names) if name == old):
            names[n] = new
    return tomlkit.dumps(said)


def _same_files(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files, as when a renaming was killed between two of its steps."""
    found = filecmp.dircmp(one, other, ignore=[])
    return not found.left_only and not found.right_only and not filecmp.cmpfiles(one, other, found.common, False)[1]


def _put_aside(folder: Path) -> Path:
    """Move a domain's folder to a hidden name beside it, which is no domain's."""
    aside = folder.with_name(f".removed-{folder.name}-{uuid.uuid4().hex[:8]}")
    os.replace(folder, aside)
    return aside


def _places_in(lake: Lake, name: str) -> list[str]:
    """Assets that the lake holds versions of for a domain, also as a part of studies."""
    return [
        asset for asset in assets_of(lake) if name in {str(one).split(".")[0] for one in partitions_of(lake, asset)}
    ]


def _say_of_lake(lake: Lake, name: str, *, dry_run: bool) -> None:
    """What stays of a domain whose folder has gone."""
    if not _places_in(lake, name):
        return click.echo(f"The lake holds nothing of {name}.")
    served = served_folder(lake, name)
    still = f", and {served / 'adapter'} is still served" if served else ""
    click.echo(f"The lake keeps all versions of {name}: {command('audit verify')} looks at them{still}.")
    if not dry_run:
        click.echo(f"What would give their space back: {command('gc --removed --dry-run')}")
