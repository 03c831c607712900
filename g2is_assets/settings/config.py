"""Frozen settings, one section per stage, as `g2is.toml` gives them; `project.py` reads the files.

Unknown keys and values out of bounds are refused when the settings load, before anything runs. Paths are
relative to the settings file. Nothing here reads data, models or Dagster.
"""

import datetime
import re
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from g2is_assets.settings.parsing import Count, Owner, Rate, Section, Seed, Share, license_name
from g2is_assets.settings.redaction import without_credentials
from g2is_assets.settings.selection import BalancedSelection, FeatureKind, Kind, MeanRemoved, Prescreen, Selection

DOMAIN_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
ALL_DOMAINS = "all"
"""In the place of a domain: the mean over domains."""
EMBEDDED_MODEL = "smollm2-135m-instruct"

Compute = Annotated[
    Literal["auto", "float32", "bfloat16"],
    Field(description="Number format of the passes; `auto` is bfloat16 on a GPU and on a CPU where that pays."),
]
Turns = Literal["last", "all"]
AfterTurn = Literal["drop", "keep"]
Storage = Annotated[dict[str, str], AfterValidator(without_credentials)]
DAY: Final = datetime.date(2025, 1, 1)
Schedule = Annotated[
    Literal["linear", "cosine", "constant"], Field(description="How the learning rate goes on from its peak.")
]


FORMATS = ("jsonl", "ndjson", "json", "csv", "tsv", "parquet")
"""Endings of files of rows; `.gz` or `.zst` may follow."""
ROWS_FILE = re.compile(rf"\.({'|'.join(FORMATS)})(\.(?:gz|zst))?$", re.IGNORECASE)


class Columns(Section):
    """Names that a source's columns have in the place of the usual ones; a row without one of them is set aside."""

    prompt: str | None = None
    """What the model is asked, as text or as turns; goes with `response`."""
    response: str | None = None
    """What it is to answer; goes with `prompt`."""
    input: str | None = None
    """Text below the prompt."""
    messages: str | None = None
    """All turns, in the place of `prompt` and `response`."""
    system: str | None = None
    """The system's text."""
    answer: str | None = None
    """Short exact answer."""
    choices: str | None = None
    """Candidate answers."""
    id: str | None = None
    """The row's id."""
    source: str | None = None
    """The row's source."""
    license: str | None = None
    """The row's licence."""

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        if (self.prompt is None) != (self.response is None):
            raise ValueError("`prompt` and `response` go together; name both columns")
        if self.prompt and self.messages:
            raise ValueError("name `messages`, or `prompt` and `response`, not both")
        if self.input and not self.prompt:
            raise ValueError("`input` stands below a prompt; name `prompt` and `response` too")
        return self


class Source(Section):
    """One source of the pool: a `path`, or a data set on the hub ([Data](data.md))."""

    path: str | None = None
    """A path or glob, or a URI handed to Polars."""
    hub: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = None
    """A data set of the Hugging Face hub, `owner/name`."""
    config: str | None = None
    """Which of the data set's configurations; none is its default."""
    split: str | None = None
    """Which of its splits; none is `train`."""
    revision: str | None = None
    """Branch, tag or commit of the data set; none is its main branch. Only a commit stays the same."""
    source: str | None = None
    """Name of the source, for rows that carry none; none is the file's name, or that of the data set."""
    license: str | None = None
    """Licence of rows that carry none."""
    columns: Columns = Columns()
    storage: Storage = Field(default_factory=dict, exclude=True)
    """Options of its address that differ from `[storage]`."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.hub is None):
            raise ValueError("a source has a `path` or a `hub`, and not both")
        if self.path is not None and (self.config or self.split or self.revision):
            raise ValueError("`config`, `split` and `revision` go with `hub`; leave them out for a `path`")
        return self


class InstructionsSettings(Section):
    """How rows are read and cut."""

    sources: tuple[Source, ...] = Field(min_length=1)
    """The pool; a plain text is the `path` of a source."""
    max_length: Annotated[int, Field(ge=16)] = 512
    """Tokens of a row, no more than a model's table of positions has; that rotary positions were trained for fewer is
    only said. Longer responses are cut, rows with no response left are set aside."""
    system: str | None = None
    """A system message for every row."""
    turns: Turns = "all"
    """Which answers of a conversation carry loss: the last alone, or all."""
    after_turn: AfterTurn = "drop"
    """White space that a template writes behind an answer's end of turn, as ChatML does: without loss, and dropped at a
    row's end, or kept and trained on, as TRL and LLaMA-Factory do."""
    date: datetime.date = DAY
    """The day that chat templates are told which write today's date, so that equal rows stay equal."""
    limit: Count | None = None
    """Use only so many rows, a repeatable random sample; none is all."""

    @field_validator("sources", mode="before")
    @classmethod
    def _plain_paths(cls, value: Any) -> Any:
        items = value if isinstance(value, list | tuple) else [value]
        return [{"path": item} if isinstance(item, str) else item for item in items]


class LicensesSettings(Section):
    """Pool rows may be used only if all their licences may. Case does not matter; with no name here, every row may."""

    allow: frozenset[str] = frozenset()
    """Only these; empty is all that are not denied."""
    deny: frozenset[str] = frozenset()
    """None of these."""
    unknown: Literal["allow", "deny"] | None = None
    """What becomes of rows without a licence; must be set where `allow` or `deny` is."""

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

    @property
    def in_force(self) -> bool:
        """Whether a row can be denied at all."""
        return bool(self.allow or self.deny) or self.unknown == "deny"

    def denied(self, licenses: Iterable[str]) -> list[str]:
        """Those of a row's licences that are denied; the row may be used only if there are none."""
        return [said for said in licenses if not self._allowed(license_name(said))]

    def _allowed(self, name: str) -> bool:
        if name in ("", "unknown"):
            return self.unknown != "deny"
        return name not in self.deny and (not self.allow or name in self.allow)


class LoraSettings(Section):
    """A LoRA adapter and how long it trains."""

    rank: Count = 8
    """Rank of LoRA's matrices."""
    alpha: Count = 32
    """Scale of LoRA's update, divided by `rank`."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("q_proj", "k_proj", "v_proj", "o_proj")
    """Names of the layers that LoRA adapts."""
    learning_rate: Rate = 2e-4
    """Peak of AdamW's learning rate."""
    batch_size: Count = 4
    """Rows per step."""
    seed: Seed = 0
    """Of LoRA's first weights and of the draw and order of rows."""


class WarmupSettings(LoraSettings):
    """The short training on a random sample that gives the checkpoint and Adam's moments."""

    share: Share = 0.10
    """Share of the pool that the sample is."""
    epochs: Count = 2
    """Passes over the sample."""
    schedule: Schedule = "linear"
    checkpoints: Count = 1
    """Last epochs that leave a checkpoint each: gradients are taken at all, their cosines weigh by the rates."""

    @model_validator(mode="after")
    def _no_more_than_epochs(self) -> Self:
        if self.checkpoints > self.epochs:
            raise ValueError(f"checkpoints = {self.checkpoints} is more than epochs = {self.epochs}; raise epochs")
        return self


class GradientsSettings(Section):
    """What is stored of every row's gradient, and how the work is cut into batches and shards."""

    kinds: tuple[FeatureKind, ...] = Field(default=("adam", "adam_without_momentum"), min_length=1)
    """Features stored: mixed with both of Adam's moments (LESS), the same without the momentum shared by all rows, the
    plain gradient."""
    sketch_dim: Annotated[int, Field(ge=64)] = 16384
    """Numbers that a gradient is projected to."""
    bits: Literal[8, 4] = 4
    """Bits that each of these is stored in."""
    nnz: Annotated[int, Field(ge=1, le=64)] = 1
    """Non-zeros per column of the sketch."""
    seed: Seed = 0
    """Of the sketch."""
    compute: Compute = "auto"
    batch_tokens: Annotated[int, Field(ge=64)] = 1024
    """Padded tokens per batch."""
    shard_rows: Count = 128
    """Rows per file of the store: what a crash can lose."""
    prescreen: Prescreen | None = None


class GraphSettings(Section):
    """Which edges of the instruction graph are stored for people and for duplicate groups."""

    kind: Kind = "adam"
    mean_removed: MeanRemoved = False
    n_neighbors: Count = 32
    """Nearest rows stored of each row."""
    n_conflicts: Annotated[int, Field(ge=0)] = 8
    """Rows with the most negative cosine stored of each row."""
    duplicate_cosine: Annotated[float, Field(gt=0.9, le=1.0)] = 0.999
    """Rows with at least this cosine count as one."""


class KnowledgeSettings(Section):
    """The domain's nodes, from which the walks `gradient` and `reference` start.

    The balanced walk has every validation row. Of the three keys that say how many components, one at most may be set.
    """

    nodes: Literal["components", "rows", "mean"] = "components"
    """Principal directions of the domain's gradients, every validation row, or their mean."""
    explained_variance: Rate | None = None
    """Share of the variance that the components keep; 0.5 where nothing says how many."""
    n_components: Count | None = None
    """Number of components."""
    component_fraction: Share | None = None
    """Components as a share of the validation rows less one."""
    centered: bool = True
    """Subtract the domain's mean before the principal directions are taken."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        given = [self.explained_variance, self.n_components, self.component_fraction]
        if sum(value is not None for value in given) > 1:
            raise ValueError("set only one of explained_variance, n_components, component_fraction")
        if self.nodes != "components" and any(value is not None for value in given):
            raise ValueError(f"nodes = '{self.nodes}' has no components to count; leave their number out")
        return self


class FinetuneSettings(LoraSettings):
    """Training on the subset; the random baseline follows the same rule."""

    epochs: Count = 3
    """Passes over the subset; the epoch with the lowest validation loss is kept."""
    schedule: Schedule = "cosine"
    compute: Compute = "auto"


class EvaluationSettings(Section):
    """What is written down of an evaluation besides the scores."""

    answers: Annotated[int, Field(ge=0, le=100)] = 10
    """Rows of which the report shows what base model and adapter answer; 0 leaves it out."""
    asked: Annotated[int, Field(ge=0)] = 20
    """Of test rows with an answer but no choices, how many every model answers in words, so that right answers are
    counted; more take longer than all else of an evaluation."""


class Settings(Section):
    """Everything that `g2is.toml` says. Section names are the stages; paths are relative to the file."""

    model: Annotated[str, Field(min_length=1)] = EMBEDDED_MODEL
    """The embedded default, a Hugging Face id, or a folder with safetensors."""
    revision: str | None = None
    """Branch, tag or commit of a Hugging Face id; none is its main branch."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")] = "auto"
    """The device of torch; `auto` is a GPU if there is one."""
    engine: Literal["in_process", "ray"] = "in_process"
    """Where gradients and graph are computed ([More machines](operators.md#more-machines-ray))."""
    workers: Count = 1
    """Workers of the engine `ray`."""
    threads: Annotated[int, Field(ge=0)] = 0
    """Threads of torch, per worker; 0 leaves the choice to it."""
    owner: Owner = ""
    """Who answers for assets and domains: `team:` and a name, or an email address; by default the team is called as the
    home folder."""
    home: str = "."
    """Folder of `lake/` and `.dagster/`; the variable `G2IS_HOME` moves both."""
    domains: str = "domains"
    """Folder of the target domains, a folder each."""
    studies: str = "studies"
    """Folder of study files; one that cannot be run is left out."""
    watch: bool = False
    """Whether the sensor `watch_files` is on, which refreshes what edits of files and settings have made stale."""
    keep_versions: Count = 3
    """Versions of each asset and domain kept whole; `g2is gc` prunes older ones."""
    preview_rows: Annotated[int, Field(ge=0, le=50)] = 5
    """Rows shown in the UI, cut short; with 0 no row's text gets into Dagster's history, unless an error quotes it."""
    withdrawn: str = "withdrawn.jsonl"
    """File of rows that may no longer be used; `g2is withdraw` adds to it, it need not exist."""
    storage: Storage = Field(default_factory=dict)
    """Options of addresses ([Sources by URI](data.md#sources-by-uri)); credentials are found in the environment."""
    instructions: InstructionsSettings
    licenses: LicensesSettings = LicensesSettings()
    warmup: WarmupSettings = WarmupSettings()
    gradients: GradientsSettings = GradientsSettings()
    graph: GraphSettings = GraphSettings()
    knowledge: KnowledgeSettings = KnowledgeSettings()
    selection: Selection = BalancedSelection()
    finetune: FinetuneSettings = FinetuneSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @model_validator(mode="after")
    def _what_follows(self) -> Self:
        for source in self.instructions.sources:
            source.storage.update(self.storage | source.storage)
        if getattr(self.selection, "neighbours_only", False):  # the graph has the walk's features
            left = {"kind", "mean_removed"} - self.graph.model_fields_set
            own = self.graph.model_copy(update={name: getattr(self.selection, name) for name in left})
            object.__setattr__(self, "graph", own)
        for section, kind in (("selection", self.selection.kind), ("graph", self.graph.kind)):
            if kind not in self.gradients.kinds:
                raise ValueError(f"{section}.kind = '{kind}' is not among gradients.kinds {list(self.gradients.kinds)}")
        return self
