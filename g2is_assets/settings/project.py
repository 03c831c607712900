"""A project: its settings file with where it was found, and its domain folders with the settings resolved for each.

Whatever is wrong in one of the files is refused when the project loads, before anything runs.
"""

import os
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field

from g2is_assets.errors import NoProjectError, SettingsError, command
from g2is_assets.settings.config import (
    ALL_DOMAINS,
    DOMAIN_NAME,
    ROWS_FILE,
    Columns,
    FinetuneSettings,
    KnowledgeSettings,
    Settings,
    Source,
)
from g2is_assets.settings.parsing import Owner, Section, TimeZone, parse, read_toml
from g2is_assets.settings.selection import WALKS, AnySelection, SelectionSection

LONGEST_HOME: Final = 400
"""Bytes: SQLite takes 512 for a file's path, and Dagster's are up to 100 longer than this folder's."""
SETTINGS_FILE: Final = "g2is.toml"
PLACES: Final = (SETTINGS_FILE, f"data/{SETTINGS_FILE}")
"""Where a project has its settings; the second is this repository's, beside its data."""
Promote = Literal["always", "if_better"]


class DomainFile(Section):
    """What a domain's folder may say in `domain.toml`; the file may be left out."""

    title: str | None = None
    """For people; none is the folder's name."""
    budget: float | None = None
    """Short for `budget` in `[selection]`."""
    refresh: str | None = None
    """Cron of five fields, when the domain refreshes itself while `g2is ui` runs; none is nightly, and switched off."""
    timezone: TimeZone = "UTC"
    """Of `refresh`, a name of the IANA database."""
    owner: Owner | None = None
    """Who answers for the domain; none is the project's owner."""
    members: tuple[str, ...] = ()
    """Domains whose rows this one takes together, in the place of files of its own."""
    refresh_pool: bool = True
    """Whether its schedule refreshes the pool first where that is stale."""
    promote: Promote | None = None
    """Whether every new adapter is served, or only one whose loss on the validation rows is below that of the base
    model, of random rows and of the adapter served now. None is `always` in a refresh that people start, `if_better` in
    one that a schedule or the sensor starts; what that did not serve, another refresh serves only if it is better."""
    columns: Columns = Columns()
    """Names that the columns of the folder's own files have ([Data](data.md#other-column-names))."""
    knowledge: dict[str, Any] = Field(default_factory=dict)
    """Keys of `[knowledge]` that differ from the project's; one that says which nodes or how many replaces all such."""
    selection: dict[str, Any] = Field(default_factory=dict)
    """Keys of `[selection]` that differ; another walk inherits of the project's keys those that it has."""
    finetune: dict[str, Any] = Field(default_factory=dict)
    """Keys of `[finetune]` that differ."""


class Domain(Section):
    """One target domain: its files, when and for whom it is refreshed, and the settings resolved for it."""

    name: str
    title: str
    file: Path
    refresh: str | None
    timezone: str
    owner: str
    refresh_pool: bool
    promote: Promote | None
    validation: tuple[Path, ...]
    test: tuple[Path, ...]
    columns: Columns
    knowledge: KnowledgeSettings
    selection: AnySelection
    finetune: FinetuneSettings


class Project(Section):
    """Settings together with where they were found."""

    path: Path
    settings: Settings
    domains: dict[str, Domain]
    home: Path
    """The folder that holds `lake/` and `.dagster/`."""

    @property
    def model(self) -> str:
        """The model setting, with a relative folder resolved against the settings file.

        What is written as no hub id is, or whose first part is a folder there, is a folder, also where it is missing.
        """
        said = self.settings.model
        folder = self.path.parent / said
        written_so = said.startswith((".", "/", "~")) or said.count("/") > 1 or ("/" in said and folder.parent.is_dir())
        return str(folder.resolve()) if written_so or folder.is_dir() else said

    @property
    def targets(self) -> dict[str, tuple[str, ...]]:
        """What LoRA is to adapt, by section of the settings file."""
        return {"[warmup]": self.settings.warmup.targets, "[finetune]": self.settings.finetune.targets}

    @property
    def withdrawn(self) -> Path:
        """The file of withdrawn rows, which need not exist."""
        return self.path.parent / self.settings.withdrawn

    def domain(self, name: str) -> Domain:
        """The domain of that name, or an error that lists those there are."""
        if name not in self.domains:
            known = ", ".join(sorted(self.domains)) or "none"
            raise SettingsError(f"there is no domain '{name}' in {self.path.parent / self.settings.domains} ({known})")
        return self.domains[name]

    def rows_of(self, file: Path) -> Source:
        """A domain's file as a source, whose columns are called as the `domain.toml` beside it says."""
        return Source(path=str(file), columns=self.domains[file.parent.name].columns)


def settings_in(*folders: Path) -> Path | None:
    """The settings file of the first of these folders that has one."""
    return next(filter(os.path.isfile, (folder / place for folder in folders for place in PLACES)), None)


def settings_path(given: str | Path | None = None) -> Path:
    """The settings file: the one given, else `G2IS_CONFIG`, else that of the current folder or the nearest above it.

    Raises:
        NoProjectError: None is named, and there is none.
    """
    if named := given or os.environ.get("G2IS_CONFIG"):
        return Path(named).resolve()
    here = Path.cwd()
    if file := settings_in(here, *here.parents):
        return file.resolve()
    raise NoProjectError(
        f"there is no project: no {SETTINGS_FILE} in {here} or above it; make one with {command('init')}, or name "
        "its settings file with --config or G2IS_CONFIG"
    )


def load_project(path: str | Path | None = None) -> Project:
    """Read and check the settings file and every domain folder.

    Raises:
        SettingsError: A file is missing, is not TOML, or holds an unknown key or a value out of bounds.
    """
    try:
        return _load(settings_path(path))
    except OSError as error:
        raise SettingsError(f"{error.filename} cannot be read: {error.strerror}; let this user read it") from error


def _load(file: Path) -> Project:
    settings = parse(Settings, read_toml(file), file)
    if not settings.owner:
        home = (file.parent / settings.home).resolve()
        settings = settings.model_copy(update={"owner": f"team:{home.name or 'g2is'}"})
    folder = file.parent / settings.domains
    if not folder.is_dir() and "domains" in settings.model_fields_set:
        raise SettingsError(f"{file}: the folder of domains, {folder}, does not exist; make it or set `domains`")
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    children = [folder / name for name in names if not name.startswith(".") and (folder / name).is_dir()]
    domains = {child.name: load_domain(child, settings) for child in children}
    home = Path(os.environ.get("G2IS_HOME") or file.parent / settings.home).resolve()
    if fault := fault_of_home(str(home)):
        raise SettingsError(f"{home}: {fault}; move the project, or set G2IS_HOME to another folder")
    return Project(path=file, settings=settings, domains=domains, home=home)


def fault_of_home(home: str) -> str | None:
    """Why the databases of Dagster (SQLite, named by a URL) and of the views (DuckDB) cannot be opened in a folder."""
    if odd := [character for character in "%?\\" if character in home]:
        return f"no database can be opened in a folder with {' '.join(odd)} in its path"
    if not home.isascii() and home.encode(errors="ignore") != os.fsencode(home):
        return "the path is not UTF-8, as databases and models need it"
    too_long = len(os.fsencode(home)) - LONGEST_HOME
    return f"the path is {too_long} bytes too long for a database" if too_long > 0 else None


def inherited(selection: AnySelection, own: dict[str, Any]) -> dict[str, Any]:
    """[selection] of a domain: its own keys, and of the project's those that are set and that the domain's walk has."""
    walk = own.get("walk", selection.walk)
    known = WALKS[walk].model_fields if walk in WALKS else {}
    said = selection.model_dump(exclude_unset=True, exclude={"walk"})
    return {name: value for name, value in said.items() if name in known} | {"walk": walk} | own


def load_domain(folder: Path, settings: Settings) -> Domain:
    """Read and check one domain's folder; raises as for the whole project."""
    if not DOMAIN_NAME.fullmatch(folder.name):
        raise SettingsError(f"{folder}: a domain's name must match {DOMAIN_NAME.pattern}; rename the folder")
    if folder.name == ALL_DOMAINS:
        raise SettingsError(f"{folder}: '{ALL_DOMAINS}' stands for the mean over domains; rename the folder")
    file = folder / "domain.toml"
    said = parse(DomainFile, read_toml(file) if file.exists() else {}, file)
    budget = {} if said.budget is None else {"budget": said.budget}
    if budget and "budget" in said.selection:
        raise SettingsError(f"{file}: `budget` is set twice, also in [selection]; keep one")
    knowledge = settings.knowledge
    if said.knowledge.keys() & {"nodes", "explained_variance", "n_components", "component_fraction"}:
        # The domain's own rule replaces the project's.
        knowledge = KnowledgeSettings(centered=knowledge.centered)
    sections: dict[str, Any] = {
        name: parse(type(base), base.model_dump(exclude_unset=True) | override, file, name)
        for name, base, override in (
            ("knowledge", knowledge, said.knowledge),
            ("finetune", settings.finetune, said.finetune),
        )
    }
    chosen = inherited(settings.selection, budget | said.selection)
    sections["selection"] = parse(SelectionSection, {"selection": chosen}, file).selection
    if sections["selection"].kind not in settings.gradients.kinds:
        raise SettingsError(f"{file}: selection.kind '{sections['selection'].kind}' is not among gradients.kinds")
    if len(set(said.members)) < len(said.members):
        raise SettingsError(f"{file}: members: a domain is named twice")
    folders = [_member(folder, member, file) for member in said.members] or [folder]
    if said.members and any(_rows_file(folder, stem) for stem in ("validation", "test")):
        raise SettingsError(f"{folder}: a domain with `members` takes their rows and has no files of its own")
    validation = tuple(_rows_file(place, "validation") or place / "validation.jsonl" for place in folders)
    tests = (_rows_file(place, "test") for place in folders)
    return Domain(
        name=folder.name,
        title=said.title or folder.name,
        file=file,
        refresh=said.refresh,
        timezone=said.timezone,
        owner=said.owner or settings.owner,
        refresh_pool=said.refresh_pool,
        promote=said.promote,
        columns=said.columns,
        validation=validation,
        test=tuple(test for test in tests if test),
        **sections,
    )


def _member(folder: Path, member: str, file: Path) -> Path:
    place = folder.parent / member
    if not DOMAIN_NAME.fullmatch(member) or not place.is_dir() or member == folder.name:
        raise SettingsError(f"{file}: members: there is no other domain '{member}' beside {folder.name}")
    if parse(DomainFile, read_toml(place / "domain.toml") if (place / "domain.toml").exists() else {}, file).members:
        raise SettingsError(f"{file}: members: '{member}' is a joint domain itself; name its members instead")
    return place


def _rows_file(folder: Path, stem: str) -> Path | None:
    found = sorted(file for file in folder.glob(f"{stem}.*") if ROWS_FILE.sub("", file.name) == stem)
    if len(found) > 1:
        raise SettingsError(f"{folder}: both {found[0].name} and {found[1].name} exist; keep one")
    return found[0] if found else None
