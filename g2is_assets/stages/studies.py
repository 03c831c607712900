"""Study files: which selectors are compared on which domains, at which budgets, with which seeds, by one rule.

A study is `studies/<name>.toml` beside the settings file. Everything that can be told to be wrong without data is told
here; nothing is selected, trained or read.
"""

import logging
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import Field, field_validator, model_validator

from g2is_assets.core.selectors import SELECTORS
from g2is_assets.errors import SettingsError
from g2is_assets.settings.config import DOMAIN_NAME, FinetuneSettings, KnowledgeSettings
from g2is_assets.settings.parsing import Budget, Count, Rate, Section, Seed, parse, read_toml
from g2is_assets.settings.project import Project
from g2is_assets.settings.selection import WALKS, Selection
from g2is_assets.store.measured import Measured

log = logging.getLogger(__name__)


BASE: Final = "base"
"""In the place of a selector: the base model, with no rows, no training and one seed."""


class Variant(Section):
    """One entry of a study: a selector; what its options leave open is the program's default, not the project's."""

    selector: str
    """`base` (the base model, untrained), `random`, `full`, `length`, `embedding`, `less`, `less_round_robin`, `bids`,
    `gist`, `g2is_reference`, `g2is`, `g2is_by_length`, `g2is_without_graph` or `g2is_without_gradient`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keys of `[selection]`, for selectors that read them."""
    knowledge: dict[str, Any] = Field(default_factory=dict)
    """Keys of `[knowledge]`, for selectors whose walk goes from node to node."""
    seeds: tuple[Seed, ...] | None = Field(default=None, min_length=1)
    """In the place of the study's."""
    budgets: tuple[Budget, ...] | None = Field(default=None, min_length=1)
    """In the place of the study's."""
    validation_rows: Annotated[int, Field(ge=2)] | None = None
    """Only so many validation rows steer the selection, others for every seed (the fewer are among the more); all of
    them choose epoch and rate. None is all."""
    sketch_dim: Count | None = None
    """Numbers that gradients are folded to, a divisor of `gradients.sketch_dim`: what a smaller store would lose."""

    @field_validator("selector")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in SELECTORS and value != BASE:
            raise ValueError(f"no such selector; known: {BASE}, {', '.join(SELECTORS)}")
        return value

    @model_validator(mode="after")
    def _options_count(self) -> Self:
        _once(self, "budgets", "seeds")
        taken = SELECTORS[self.selector].options if self.selector != BASE else ()
        known = {name for walk in WALKS.values() for name in walk.model_fields}
        if unread := sorted(self.options.keys() & known - set(taken)):
            reads = ", ".join(sorted(taken)) or "none"
            raise ValueError(f"'{self.selector}' does not read the option '{unread[0]}'; it reads {reads}")
        if self.selector == BASE and (self.seeds or self.budgets or self.validation_rows):
            raise ValueError("the base model has neither seeds nor budgets, and no row steers it")
        if self.sketch_dim and not _reads_gradients(self.selector):
            raise ValueError(f"'{self.selector}' reads no gradients that sketch_dim would fold")
        return self


def _once(section: Section, *names: str) -> None:
    """Refuse lists that say something twice."""
    for name in names:
        values = getattr(section, name) or ()
        if len(set(values)) < len(values):
            raise ValueError(f"{name}: a value is given twice")


class _Options(Section):
    options: Selection


def _reads_gradients(selector: str) -> bool:
    return selector != BASE and SELECTORS[selector].features in ("gradients", "adam")


class StudyFile(Section):
    """What a study file may say. The others are compared with the variants called `random` and `less`."""

    title: str = ""
    """For people."""
    domains: tuple[str, ...] = ()
    """Domains compared; empty is all of the project."""
    budgets: tuple[Budget, ...] = Field(default=(0.01,), min_length=1)
    """Below 1 shares of the pool, from 1 up numbers of rows."""
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    """Of selectors that draw, and of the training."""
    rates: tuple[Rate, ...] = Field(default=(1e-4, 2e-4), min_length=1)
    """Learning rates tried at the smallest seed; by domain, variant and budget the best by validation NLL is kept."""
    development_rows: Count = 100
    """So many test rows of each domain, in file order, are shown; the others are the final ones."""
    final: bool = False
    """Whether the final rows are shown too: once, when nothing is to be chosen any more."""
    answer_tokens: Annotated[int, Field(ge=0)] = 128
    """Most tokens generated as an answer to a test row with an answer and no choices; 0 generates none."""
    general_rows: Annotated[int, Field(ge=0)] = 64
    """Rows of the pool that are scored too, to tell what else training changes."""
    cells: str | None = None
    """Folder, relative to the study file, of `<study>.parquet`, which says what each training was worth; those of
    other studies there are read too. None is in the lake."""
    finetune: dict[str, Any] = Field(default_factory=dict)
    """Keys of `[finetune]` that differ from the project's, the same for every domain and variant."""
    variants: dict[str, Variant] = Field(min_length=1)
    """What is compared, by name."""

    @field_validator("variants")
    @classmethod
    def _names(cls, value: dict[str, Variant]) -> dict[str, Variant]:
        if bad := [name for name in value if not DOMAIN_NAME.fullmatch(name)]:
            raise ValueError(f"a variant's name must match {DOMAIN_NAME.pattern}: {', '.join(bad)}")
        return value

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        _once(self, "domains", "budgets", "seeds", "rates")
        if {"learning_rate", "seed"} & self.finetune.keys():
            raise ValueError("finetune: the rate comes from `rates`, the seed from `seeds`")
        return self


class Study(Section):
    """A study: its file, what that says, and what it takes from its project; rate and seed are set trial by trial."""

    name: str
    file: Path
    said: StudyFile
    domains: tuple[str, ...]
    finetune: FinetuneSettings

    def seeds(self, variant: str) -> tuple[int, ...]:
        """The seeds of a variant, ascending; the base model has only the first."""
        chosen = self.said.variants[variant]
        seeds = tuple(sorted(chosen.seeds or self.said.seeds))
        return seeds[:1] if chosen.selector == BASE else seeds

    def budgets(self, variant: str) -> tuple[float, ...]:
        """The budgets of a variant, ascending."""
        return tuple(sorted(self.said.variants[variant].budgets or self.said.budgets))

    def measured(self, lake: Path) -> Measured:
        """What its trainings were worth: in the folder that the study says, else in the lake of this folder."""
        folder = self.file.parent / self.said.cells if self.said.cells else lake / "study" / "cells"
        return Measured(folder, self.name)


def studies_folder(project: Project) -> Path:
    """Where a project's study files lie."""
    return project.path.parent / project.settings.studies


def load_studies(project: Project) -> dict[str, Study]:
    """Every study that a project can run, by name; of the others a warning says why, for no refresh needs them."""
    studies, faults = look_at_studies(project)
    for fault in faults:
        log.warning("study left out: %s", fault)
    return studies


def look_at_studies(project: Project) -> tuple[dict[str, Study], list[SettingsError]]:
    """Every study that a project can run, by name, and what is wrong with the others; none without the folder."""
    studies, faults = {}, []
    for file in sorted(studies_folder(project).glob("*.toml")):
        try:
            studies[file.stem] = _load(project, file)
        except SettingsError as error:
            faults.append(error)
    return studies, faults


def _load(project: Project, file: Path) -> Study:
    if not DOMAIN_NAME.fullmatch(file.stem):
        raise SettingsError(f"{file}: a study's name must match {DOMAIN_NAME.pattern}; rename the file")
    said = parse(StudyFile, read_toml(file), file)
    if unknown := [name for name in said.domains if name not in project.domains]:
        raise SettingsError(f"{file}: there is no domain {', '.join(unknown)}; known: {', '.join(project.domains)}")
    for name, variant in said.variants.items():
        _check_options(project, variant, file, f"variants.{name}")
    base = project.settings.finetune.model_dump(exclude_unset=True)
    return Study(
        name=file.stem,
        file=file,
        said=said,
        domains=said.domains or tuple(sorted(project.domains)),
        finetune=parse(FinetuneSettings, base | said.finetune, file, "finetune"),
    )


def _check_options(project: Project, variant: Variant, file: Path, where: str) -> None:
    """Hold a variant's options to what the walk takes and the project's gradients have."""
    settings = parse(_Options, {"options": variant.options}, file, where).options
    parse(KnowledgeSettings, variant.knowledge, file, f"{where}.knowledge")
    if variant.selector == BASE:
        return
    selector, gradients = SELECTORS[variant.selector], project.settings.gradients
    kind = "adam" if selector.features == "adam" else settings.kind
    fault = ""
    if variant.knowledge and not (selector.walks and settings.walk != "balanced"):
        fault = "knowledge counts for a walk with walk = 'gradient' only"
    elif variant.sketch_dim and gradients.sketch_dim % variant.sketch_dim:
        fault = f"sketch_dim {variant.sketch_dim} does not divide gradients' {gradients.sketch_dim}"
    elif _reads_gradients(variant.selector) and kind not in gradients.kinds:
        fault = f"kind '{kind}' is not among gradients.kinds {list(gradients.kinds)}"
    if fault:
        raise SettingsError(f"{file}: {where}: {fault}")


def find_study(project: Project, name: str) -> Study:
    """The study of that name.

    Raises:
        SettingsError: There is none, its file is not TOML, or it says something that is not so.
    """
    files = {file.stem: file for file in sorted(studies_folder(project).glob("*.toml"))}
    if name not in files:
        raise SettingsError(f"there is no study '{name}' in {studies_folder(project)} ({', '.join(files) or 'none'})")
    return _load(project, files[name])
