"""Frozen settings, one section per stage, as `g2is.toml` gives them; `project.py` reads the files.

Unknown keys and values out of bounds are refused when the settings load, before anything runs. Paths are
relative to the settings file. Nothing here reads data, models or Dagster.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from g2is_assets.settings.parsing import Owner, license_name

DOMAIN_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
ALL_DOMAINS = "all"
"""In the place of a domain: the mean over domains."""
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
        names = [license_name(name) if isinstance(name, str) else name for name in value]
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
    return lambda given: balance if given.get("next_row") == "balance" else coherence


def _next_row(given: dict[str, Any]) -> Literal["coherence", "balance"]:
    """The paper's walk by the paper's rule, this project's by the one that measured better."""
    return "coherence" if given.get("method") == "reference" else "balance"


class SelectionSettings(Section):
    """The walk. A budget below 1 is a share of the pool, from 1 up a number of rows."""

    method: Literal["g2is", "reference"] = "g2is"
    next_row: Literal["coherence", "balance"] = Field(default_factory=_next_row)
    redundancy: Annotated[float, Field(ge=0.0, le=1.0)] = 0.25
    fair: bool = True
    kind: FeatureKind = Field(default_factory=_by_walk("adam", "adam_without_momentum"))
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
    compute: Literal["auto", "float32", "bfloat16"] = "auto"


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
    preview_rows: Annotated[int, Field(ge=0, le=50)] = 5
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
