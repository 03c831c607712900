"""Frozen settings, one section per stage, from `g2is.toml` and the domain folders.

Unknown keys and values out of bounds are refused when the settings load, before anything runs. Paths are
relative to the settings file. Nothing here reads data, models or Dagster.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from g2is_assets.errors import SettingsError
from g2is_assets.parsing import Owner, TimeZone, parse, read_toml

DOMAIN_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
EMBEDDED_MODEL = "smollm2-135m-instruct"

FeatureKind = Literal["adam", "adam_without_momentum", "sgd"]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """Settings that cannot be changed after loading and refuse keys that they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Source(Section):
    """One pool source: a path or glob, or a URI handed to Polars; its name and licence serve rows that carry none."""

    path: str
    source: str | None = None
    license: str | None = None


class InstructionsSettings(Section):
    """How rows are read and cut."""

    sources: tuple[Source, ...] = Field(min_length=1)
    max_length: Annotated[int, Field(ge=16)] = 512
    system: str | None = None
    limit: Count | None = None

    @field_validator("sources", mode="before")
    @classmethod
    def _plain_paths(cls, value: Any) -> Any:
        items = value if isinstance(value, list | tuple) else [value]
        return [{"path": item} if isinstance(item, str) else item for item in items]


class LicensesSettings(Section):
    """Which rows may be used by their licences: names in lower case; without any, every row may."""

    allow: frozenset[str] = frozenset()
    deny: frozenset[str] = frozenset()
    unknown: Literal["allow", "deny"] | None = None

    @field_validator("allow", "deny", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple | set | frozenset):
            return value
        names = [name.strip().lower() if isinstance(name, str) else name for name in value]
        if "" in names or "unknown" in names:
            raise ValueError("name licences here; whether rows without one may be used says `unknown`")
        return names

    @model_validator(mode="after")
    def _explicit(self) -> Self:
        if both := self.allow & self.deny:
            raise ValueError(f"{', '.join(sorted(both))} in both allow and deny; keep one")
        if (self.allow or self.deny) and self.unknown is None:
            raise ValueError('say what becomes of rows without a licence: unknown = "allow" or "deny"')
        return self


class LoraSettings(Section):
    """A LoRA adapter and how long it trains."""

    rank: Count = 8
    alpha: Count = 32
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    learning_rate: Rate = 2e-4
    batch_size: Count = 4
    seed: Seed = 0


class WarmupSettings(LoraSettings):
    """The short training on a random sample that gives the checkpoint and Adam's moments."""

    share: Share = 0.10
    epochs: Count = 2
    schedule: Literal["linear", "cosine", "constant"] = "linear"


class GradientsSettings(Section):
    """What is stored of every row's gradient, and how the work is cut into batches and shards."""

    kinds: tuple[FeatureKind, ...] = Field(default=("adam", "adam_without_momentum"), min_length=1)
    sketch_dim: Annotated[int, Field(ge=64)] = 8192
    nnz: Annotated[int, Field(ge=1, le=64)] = 1
    seed: Seed = 0
    compute: Literal["auto", "float32", "bfloat16"] = "auto"
    batch_tokens: Annotated[int, Field(ge=64)] = 1024
    shard_rows: Count = 128


class GraphSettings(Section):
    """Which edges of the instruction graph are stored for people and for duplicate groups."""

    kind: FeatureKind = "adam"
    mean_removed: bool = False
    n_neighbors: Count = 32
    n_conflicts: Annotated[int, Field(ge=0)] = 8
    duplicate_cosine: Annotated[float, Field(gt=0.9, le=1.0)] = 0.999


class KnowledgeSettings(Section):
    """The domain's nodes: principal directions, with at most one way to say how many; or all rows; or their mean."""

    nodes: Literal["components", "rows", "mean"] = "components"
    explained_variance: Rate | None = None
    n_components: Count | None = None
    component_fraction: Share | None = None
    centered: bool = True

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        given = [self.explained_variance, self.n_components, self.component_fraction]
        if sum(value is not None for value in given) > 1:
            raise ValueError("set only one of explained_variance, n_components, component_fraction")
        if self.nodes != "components" and any(value is not None for value in given):
            raise ValueError(f"nodes = '{self.nodes}' has no components to count; leave their number out")
        return self


def _by_walk(coherence: Any, balance: Any) -> Callable[[dict[str, Any]], Any]:
    """A default that depends on the kind of walk: the paper's has its rules, the balanced one those it is given."""
    return lambda given: balance if given["next_row"] == "balance" else coherence


class SelectionSettings(Section):
    """The walk. A budget below 1 is a share of the pool, from 1 up a number of rows."""

    method: Literal["g2is", "reference"] = "g2is"
    next_row: Literal["coherence", "balance"] = "coherence"
    redundancy: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    kind: FeatureKind = "adam"
    mean_removed: bool = False
    budget: Annotated[float, Field(gt=0.0)] = 0.05
    delta: Annotated[float, Field(ge=0.0, le=1.0)] = Field(default_factory=_by_walk(0.8, 0.0))
    consistency: Literal["previous", "best", "anchor"] = "previous"
    min_core_cosine: Annotated[float, Field(ge=-1.0, le=1.0)] | None = None
    no_conflict: bool = Field(default_factory=_by_walk(True, False))
    conflicts_across: bool = False
    reallocate: bool = False
    memory_gb: Annotated[float, Field(gt=0.0)] = 8.0
    allow_leaks: bool = False

    @model_validator(mode="after")
    def _whole_rows_and_plain_reference(self) -> Self:
        if self.budget >= 1 and self.budget != int(self.budget):
            raise ValueError(f"budget = {self.budget}: from 1 up it counts rows and must be whole")
        published: dict[str, Any] = {"next_row": "coherence", "consistency": "previous", "min_core_cosine": None}
        published |= {"no_conflict": True, "conflicts_across": False, "reallocate": False}
        if self.method == "reference" and published != self.model_dump(include=set(published)):
            raise ValueError("method = 'reference' is the published walk and takes only delta")
        return self


class FinetuneSettings(LoraSettings):
    """Training on the subset; the random baseline follows the same rule."""

    epochs: Count = 3
    schedule: Literal["linear", "cosine", "constant"] = "cosine"


class Settings(Section):
    """Everything that `g2is.toml` says. Section names are the stages."""

    model: Annotated[str, Field(min_length=1)] = EMBEDDED_MODEL
    revision: str | None = None
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")] = "auto"
    engine: Literal["in_process", "ray"] = "in_process"
    workers: Count = 1
    threads: Annotated[int, Field(ge=0)] = 0
    owner: Owner = "team:g2is"
    home: str = "."
    domains: str = "domains"
    studies: str = "studies"
    keep_versions: Count = 3
    withdrawn: str = "withdrawn.jsonl"
    instructions: InstructionsSettings
    licenses: LicensesSettings = LicensesSettings()
    warmup: WarmupSettings = WarmupSettings()
    gradients: GradientsSettings = GradientsSettings()
    graph: GraphSettings = GraphSettings()
    knowledge: KnowledgeSettings = KnowledgeSettings()
    selection: SelectionSettings = SelectionSettings()
    finetune: FinetuneSettings = FinetuneSettings()

    @model_validator(mode="after")
    def _stored_kinds(self) -> Self:
        for section, kind in (("graph", self.graph.kind), ("selection", self.selection.kind)):
            if kind not in self.gradients.kinds:
                raise ValueError(f"{section}.kind = '{kind}' is not among gradients.kinds {list(self.gradients.kinds)}")
        return self


class DomainFile(Section):
    """What `domain.toml` may say."""

    title: str | None = None
    budget: float | None = None
    refresh: str | None = None
    timezone: TimeZone = "UTC"
    owner: Owner | None = None
    members: tuple[str, ...] = ()
    promote: Literal["always", "if_better"] = "always"
    knowledge: dict[str, Any] = {}
    selection: dict[str, Any] = {}
    finetune: dict[str, Any] = {}


class Domain(Section):
    """One target domain: its files, when and for whom it is refreshed, and the settings resolved for it."""

    name: str
    title: str
    file: Path
    refresh: str | None
    timezone: str
    owner: str
    promote: Literal["always", "if_better"]
    validation: tuple[Path, ...]
    test: tuple[Path, ...]
    knowledge: KnowledgeSettings
    selection: SelectionSettings
    finetune: FinetuneSettings


class Project(Section):
    """Settings together with where they were found."""

    path: Path
    settings: Settings
    domains: dict[str, Domain]

    @property
    def home(self) -> Path:
        """The folder that holds `lake/` and `.dagster/`."""
        moved = os.environ.get("G2IS_HOME")
        return Path(moved).resolve() if moved else (self.path.parent / self.settings.home).resolve()

    @property
    def model(self) -> str:
        """The model setting, with a relative folder resolved against the settings file."""
        folder = self.path.parent / self.settings.model
        return str(folder.resolve()) if folder.is_dir() else self.settings.model

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


def settings_path(given: str | Path | None = None) -> Path:
    """The settings file: the one given, else `G2IS_CONFIG`, else `data/g2is.toml`."""
    return Path(given or os.environ.get("G2IS_CONFIG") or "data/g2is.toml").resolve()


def load_project(path: str | Path | None = None) -> Project:
    """Read and check the settings file and every domain folder.

    Raises:
        SettingsError: A file is missing, is not TOML, or holds an unknown key or a value out of bounds.
    """
    file = settings_path(path)
    settings = parse(Settings, read_toml(file), file)
    folder = file.parent / settings.domains
    if not folder.is_dir() and "domains" in settings.model_fields_set:
        raise SettingsError(f"{file}: the folder of domains, {folder}, does not exist; make it or set `domains`")
    children = sorted(child for child in folder.glob("[!.]*") if child.is_dir())
    domains = {child.name: load_domain(child, settings) for child in children}
    return Project(path=file, settings=settings, domains=domains)


def load_domain(folder: Path, settings: Settings) -> Domain:
    """Read and check one domain's folder.

    Raises:
        SettingsError: As for the whole project.
    """
    if not DOMAIN_NAME.fullmatch(folder.name):
        raise SettingsError(f"{folder}: a domain's name must match {DOMAIN_NAME.pattern}; rename the folder")
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
            ("selection", settings.selection, budget | said.selection),
            ("finetune", settings.finetune, said.finetune),
        )
    }
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
        promote=said.promote,
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
    found = [folder / f"{stem}.{ending}" for ending in ("jsonl", "parquet") if (folder / f"{stem}.{ending}").exists()]
    if len(found) > 1:
        raise SettingsError(f"{folder}: both {found[0].name} and {found[1].name} exist; keep one")
    return found[0] if found else None
