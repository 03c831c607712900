"""`g2is export`: a subset as a training file, an adapter as a folder for a hub. Heavy imports happen inside."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from g2is_assets.cli.options import config_option
from g2is_assets.errors import SettingsError, StoreError
from g2is_assets.settings.project import Project, load_project

if TYPE_CHECKING:
    from g2is_assets.export.model_card import Base
    from g2is_assets.export.training_file import Format
    from g2is_assets.store.lake import Lake
    from g2is_assets.store.version import Version


@click.group(epilog="Example: g2is export subset shop_arithmetic --format alpaca")
def export() -> None:
    """Hand a domain's subset or adapter to other programs, with what they came from.

    Rows that were withdrawn or came under a denied licence are not let out: refresh first, then export.
    """


@export.command(epilog="Example: g2is export subset shop_arithmetic --format messages --out subset.jsonl")
@config_option
@click.argument("domain")
@click.option(
    "--format",
    "form",
    type=click.Choice(["messages", "alpaca"]),
    required=True,
    help="`messages`: turns with role and content (TRL); `alpaca`: instruction, input, output (LLaMA-Factory).",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A .jsonl or .json file, replaced if it exists; default: <domain>_<format>.jsonl in this folder.",
)
def subset(config: Path | None, domain: str, form: "Format", out: Path | None) -> None:
    """Write the rows of the DOMAIN's current subset as a training file, in the walk's order.

    Every row says its id, sources, licences, place in the walk and the subset's version. `dataset_info.json` beside the
    file gets an entry for LLaMA-Factory.
    """
    from g2is_assets.export.training_file import DATASET_INFO, dataset_info, training_file
    from g2is_assets.store.files import MEND_OUT, write_atomically, writing
    from g2is_assets.store.lake import Lake

    project = load_project(config)
    project.domain(domain)
    lake = Lake(project.home / "lake")
    file = (out or Path(f"{domain}_{form}.jsonl")).resolve()
    _refuse_place(file, lake)
    if file.suffix not in (".jsonl", ".json") or file.name == DATASET_INFO:
        raise SettingsError(f"{file}: the name must end in .jsonl or .json, and not be {DATASET_INFO}, which lists it")
    made = lake.current("selection/subset", domain)
    found, info = training_file(project, lake, made, form), dataset_info(file, form)
    if file.suffix == ".json":
        text = json.dumps(found.records, ensure_ascii=False, indent=2) + "\n"
    else:
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in found.records)
    with writing(file, mend=MEND_OUT):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, text, MEND_OUT)
    write_atomically(file.with_name(DATASET_INFO), info + "\n", MEND_OUT)
    click.echo(f"Wrote {len(found.records)} rows to {file}, and the entry '{file.stem}' to {DATASET_INFO} beside it.")
    for note in [*found.notes, *_staleness(project, domain, "selection/subset")]:
        click.echo(f"Note: {note}", err=True)


@export.command(epilog="Example: g2is export adapter shop_arithmetic shop_adapter")
@config_option
@click.argument("domain")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def adapter(config: Path | None, domain: str, folder: Path) -> None:
    """Write the DOMAIN's adapter as a PEFT folder DIR with a model card, ready for a hub.

    It is the adapter that is served (served.json), or the current one where none has been promoted. DIR must not exist,
    or be empty.
    """
    from g2is_assets.export.model_card import copied_files, model_card
    from g2is_assets.export.training_file import refuse_withheld
    from g2is_assets.reports.audit import rows_trained_on
    from g2is_assets.store.files import made_whole
    from g2is_assets.store.lake import Lake
    from g2is_assets.trail.chain import follow

    project, place = load_project(config), folder.resolve()
    lake = Lake(project.home / "lake")
    _refuse_place(place, lake)
    made, note = _served(project, lake, domain)
    chain = follow(lake, [made])
    if gone := [link.asset for link in chain if link.version is None]:
        raise StoreError(
            f"{made.folder} was made from a version of {gone[0]} that is gone; see g2is audit verify {domain}"
        )
    refuse_withheld(project, lake, rows_trained_on(lake, chain), str(made.folder))
    base = _base(project, made)
    card = model_card(lake, project.domain(domain), made, chain, base, place.name)
    with made_whole(place) as scratch:
        for file in copied_files(made):
            shutil.copyfile(file, scratch / file.name)
        (scratch / "README.md").write_text(card, encoding="utf-8")
    click.echo(f"Wrote version {made.folder.name} of finetune/adapter[{domain}] with its card to {place}")
    for line in [*note, *_staleness(project, domain, "finetune/adapter")]:
        click.echo(f"Note: {line}", err=True)


def _served(project: Project, lake: "Lake", domain: str) -> "tuple[Version, list[str]]":
    """The version to export, whole, and what is to be said of it."""
    from g2is_assets.store.manifest import describe_files, read_manifest
    from g2is_assets.store.serving import served_folder
    from g2is_assets.store.tombstones import expected_files
    from g2is_assets.store.version import Version

    project.domain(domain)
    folder, current = served_folder(lake, domain), lake.current("finetune/adapter", domain)
    made = Version(folder, read_manifest(folder)) if folder else current
    if describe_files(made.folder) != expected_files(made.folder, made.manifest):
        raise StoreError(f"{made.folder} differs from its manifest; materialise finetune/adapter again")
    if folder is None:
        return made, ["no adapter of this domain has been promoted; this is the current one."]
    newer = [f"it is the one that is served; a newer one, {current.folder.name}, was not promoted."]
    return made, newer if made.folder != current.folder else []


def _base(project: Project, adapter: "Version") -> "Base":
    from g2is_assets.export.model_card import Base, base_of
    from g2is_assets.settings.config import EMBEDDED_MODEL
    from g2is_assets.training.model import UPSTREAM_ID

    name = base_of(adapter)
    return Base(name, quantised=name == UPSTREAM_ID and project.settings.model == EMBEDDED_MODEL)


def _refuse_place(place: Path, lake: "Lake") -> None:
    """Nothing but assets writes below the lake."""
    if place.is_relative_to(lake.root.resolve()):
        raise SettingsError(f"{place} lies in the lake, which only refreshes write to; name another place")


def _staleness(project: Project, domain: str, asset: str) -> list[str]:
    """One line if the asset, or anything behind it, is not what it would be if it were made now."""
    from g2is_assets.stages.staleness import staleness
    from g2is_assets.stages.workspace import Workspace

    table = staleness(Workspace(project))
    for row in table.filter(domain=domain, asset=asset).iter_rows(named=True):
        if row["state"] != "current":
            return [f"{asset}[{domain}] is {row['state']} ({row['reason']}); `g2is demo` brings it up to date."]
    return []
