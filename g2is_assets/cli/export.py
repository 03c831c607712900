"""`g2is export`: a subset as a training file, an adapter as a folder for a hub. Heavy imports happen inside."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from g2is_assets.cli.options import config_option, open_lake
from g2is_assets.errors import SettingsError, StoreError, command
from g2is_assets.reports.words import counted
from g2is_assets.settings.project import Project

if TYPE_CHECKING:
    from g2is_assets.export.formats import Format
    from g2is_assets.store.lake import Lake
    from g2is_assets.store.version import Version


@click.group(epilog="Example: g2is export subset shop_arithmetic --format alpaca")
def export() -> None:
    """Hand a domain's subset or adapter to other programs.

    Either says what it came from. Rows that were withdrawn or came under a denied licence are not let out: refresh
    first, then export.
    """


@export.command(epilog="Example: g2is export subset shop_arithmetic --format messages --out subset.jsonl")
@config_option
@click.argument("domain")
@click.option(
    "--format",
    "form",
    type=click.Choice(["messages", "sharegpt", "alpaca"]),
    required=True,
    help="`messages`: turns with role and content, tools, calls and reasoning (TRL, Axolotl); `sharegpt`: turns with "
    "from and value, tools and calls; `alpaca`: instruction, output, system, history (both LLaMA-Factory).",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A .jsonl or .json file, replaced if it exists; default: <domain>_<format>.jsonl in this folder.",
)
def subset(config: Path | None, domain: str, form: "Format", out: Path | None) -> None:
    """Write the DOMAIN's current subset as a training file.

    Its rows stand in the walk's order. Every row says its id, sources, licences, place in the walk and the subset's
    version. `dataset_info.json` beside the file gets an entry for LLaMA-Factory; of `messages`, <name>.axolotl.yaml has
    the block for Axolotl. Notes say what a trainer must be told so that it trains on what was trained on here.
    """
    from g2is_assets.export.training_file import DATASET_INFO, training_file
    from g2is_assets.store.files import exported, json_text

    project, lake = open_lake(config, domain)
    file = (out or Path(f"{domain}_{form}.jsonl")).resolve()
    _refuse_place(file, lake)
    if file.suffix not in (".jsonl", ".json") or file.name == DATASET_INFO:
        raise SettingsError(f"{file}: the name must end in .jsonl or .json, and not be {DATASET_INFO}, which lists it")
    made = lake.current("selection/subset", domain)
    export = training_file(project, lake, made, form, file)
    if file.suffix == ".json":
        text = json_text(export.records, indent=2) + "\n"
    else:
        text = "".join(json_text(record) + "\n" for record in export.records)
    for path, content in ((file, text), *((file.with_name(name), beside) for name, beside in export.files.items())):
        if content is None:
            path.unlink(missing_ok=True)
            continue
        with exported(path) as scratch:
            scratch.write_text(content, encoding="utf-8")
    told = ", ".join(name for name, beside in export.files.items() if beside is not None)
    click.echo(f"Wrote {counted(len(export.records), 'row')} to {file}" + (f", and {told} beside it." if told else "."))
    _print_notes(project, domain, "selection/subset", export.notes)


@export.command(epilog="Example: g2is export adapter shop_arithmetic shop_adapter")
@config_option
@click.argument("domain")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def adapter(config: Path | None, domain: str, folder: Path) -> None:
    """Write the DOMAIN's adapter with a model card, ready for a hub.

    DIR becomes a PEFT folder. It is the adapter that is served (served.json), or the current one where none has been
    promoted. DIR must not exist, or be empty.
    """
    from g2is_assets.export.model_card import base_of, model_card
    from g2is_assets.export.training_file import refuse_withheld
    from g2is_assets.reports.audit import rows_trained_on
    from g2is_assets.store.files import made_whole
    from g2is_assets.trail.chain import follow

    (project, lake), place = open_lake(config), folder.resolve()
    _refuse_place(place, lake)
    project.domain(domain)
    made, notes = _served(lake, domain)
    chain = follow(lake, [made])
    if gone := [link.asset for link in chain if link.version is None]:
        raise StoreError(
            f"{made.folder} was made from a version of {gone[0]} that is gone; see {command(f'audit verify {domain}')}"
        )
    refuse_withheld(project, lake, rows_trained_on(lake, chain), str(made.folder))
    card = model_card(lake, project.domain(domain), made, chain, base_of(project, made), place.name)
    with made_whole(place) as scratch:
        for file in sorted(file for file in (made.folder / "adapter").iterdir() if file.is_file()):
            shutil.copyfile(file, scratch / file.name)
        (scratch / "README.md").write_text(card, encoding="utf-8")
    click.echo(f"Wrote version {made.folder.name} of finetune/adapter[{domain}] with its card to {place}")
    _print_notes(project, domain, "finetune/adapter", notes)


def _served(lake: "Lake", domain: str) -> "tuple[Version, list[str]]":
    """The version to export, whole, and what is to be said of it."""
    from g2is_assets.store.manifest import describe_files, read_manifest
    from g2is_assets.store.serving import served_folder
    from g2is_assets.store.tombstones import expected_files
    from g2is_assets.store.version import Version

    folder, current = served_folder(lake, domain), lake.current("finetune/adapter", domain)
    made = Version(folder, read_manifest(folder)) if folder else current
    if describe_files(made.folder) != expected_files(made.folder, made.manifest):
        raise StoreError(f"{made.folder} differs from its manifest; materialise finetune/adapter again")
    if folder is None:
        return made, ["no adapter of this domain has been promoted; this is the current one."]
    newer = [f"it is the one that is served; a newer one, {current.folder.name}, was not promoted."]
    return made, newer if made.folder != current.folder else []


def _refuse_place(place: Path, lake: "Lake") -> None:
    """Nothing but assets writes below the lake."""
    if place.is_relative_to(lake.root.resolve()):
        raise SettingsError(f"{place} lies in the lake, which only refreshes write to; name another place")


def _print_notes(project: Project, domain: str, asset: str, notes: list[str]) -> None:
    """What is to be known of an export; also if the asset, or anything behind it, is not what it would be now."""
    import polars as pl

    from g2is_assets.stages.staleness import staleness
    from g2is_assets.stages.workspace import Workspace

    rows = staleness(Workspace(project)).filter(pl.col("state") != "current", domain=domain, asset=asset)
    mend = command(f"refresh --domain {domain}")
    for state, reason in rows.select("state", "reason").iter_rows():
        notes = [*notes, f"{asset}[{domain}] is {state} ({reason}); {mend} brings it up to date."]
    for note in notes:
        click.echo(f"Note: {note}", err=True)
