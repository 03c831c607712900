"""Study files: which selectors are compared on which domains, at which budgets, with which seeds, by one rule.

A study is `studies/<name>.toml` beside the settings file. Everything that can be told to be wrong without data is told
here; nothing is selected, trained or read.
"""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from g2is_assets.core.selectors import OPTIONS, SELECTORS, USE_ADAM, USE_GRADIENTS, WALK
from g2is_assets.errors import SettingsError
from g2is_assets.settings.config import (
    DOMAIN_NAME,
    Count,
    FinetuneSettings,
    KnowledgeSettings,
    Rate,
    Section,
    Seed,
    SelectionSettings,
)
from g2is_assets.settings.parsing import parse, read_toml
from g2is_assets.settings.project import Project

log = logging.getLogger(__name__)


def _whole_from_one(budget: float) -> float:
    if budget >= 1 and budget != int(budget):
        raise ValueError(f"{budget}: from 1 up a budget counts rows and must be whole")
    return budget


Budget = Annotated[float, Field(gt=0.0), AfterValidator(_whole_from_one)]
BASE: Final = "base"
"""In the place of a selector: the base model, with no rows, no training and one seed."""


class Variant(Section):
    """One entry of a study: a selector with its options; its own seeds and budgets where they differ.

    Attributes:
        selector: A name of `core.selectors`, or `base`.
        options: Keys of [selection] that differ from the defaults of the balanced walk, for the selectors that walk.
        knowledge: Keys of [knowledge] that differ from the defaults, likewise.
        seeds: In the place of the study's.
        budgets: In the place of the study's.
        validation_rows: Only so many validation rows steer the selection, others for every seed (drawn by hash; the
            fewer are among the more): what it is worth where data are scarce. All of the domain's choose epoch and
            rate, as for the other variants.
        sketch_dim: Read gradient features folded to so many dimensions, a divisor of the store's: what a smaller store
            would lose.
    """

    selector: str
    options: dict[str, Any] = Field(default_factory=dict)
    knowledge: dict[str, Any] = Field(default_factory=dict)
    seeds: tuple[Seed, ...] | None = Field(default=None, min_length=1)
    budgets: tuple[Budget, ...] | None = Field(default=None, min_length=1)
    validation_rows: Annotated[int, Field(ge=2)] | None = None
    sketch_dim: Count | None = None

    @field_validator("selector")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in SELECTORS and value != BASE:
            raise ValueError(f"no such selector; known: {BASE}, {', '.join(SELECTORS)}")
        return value

    @model_validator(mode="after")
    def _options_count(self) -> Self:
        _once(self, "budgets", "seeds")
        taken = OPTIONS.get(self.selector, frozenset())
        if unread := sorted(self.options.keys() & SelectionSettings.model_fields.keys() - taken):
            raise ValueError(f"'{self.selector}' does not read the option '{unread[0]}'; it reads {_listed(taken)}")
        if self.selector == BASE and (self.seeds or self.budgets or self.validation_rows):
            raise ValueError("the base model has neither seeds nor budgets, and no row steers it")
        if self.sketch_dim and self.selector not in USE_GRADIENTS:
            raise ValueError(f"'{self.selector}' reads no gradients that sketch_dim would fold")
        return self


def _once(section: Section, *names: str) -> None:
    """Refuse lists that say something twice."""
    for name in names:
        values = getattr(section, name) or ()
        if len(set(values)) < len(values):
            raise ValueError(f"{name}: a value is given twice")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


class StudyFile(Section):
    """What a study file may say.

    Attributes:
        title: For people.
        domains: Names; empty means all of the project.
        budgets: Below 1 shares of the pool, from 1 up rows.
        seeds: Of selectors that draw, and of the training.
        rates: Learning rates; per domain, variant and budget that with the lowest validation NLL at the smallest seed.
        development_rows: So many test rows of each domain, in file order, are shown; the others are the final ones.
        final: Whether the final rows are shown too. Open them once.
        answer_tokens: To test rows with an answer and no choices answers of at most so many tokens are generated.
        general_rows: So many rows of the pool are scored too, to tell what else training changes.
        cells: Folder of the cells, relative to the study file; below the lake if not set.
        finetune: Overrides of the project's `[finetune]`, the same for every domain and variant.
        variants: By name.
    """

    title: str = ""
    domains: tuple[str, ...] = ()
    budgets: tuple[Budget, ...] = Field(default=(0.01,), min_length=1)
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    rates: tuple[Rate, ...] = Field(default=(1e-4, 2e-4), min_length=1)
    development_rows: Count = 100
    final: bool = False
    answer_tokens: Annotated[int, Field(ge=0)] = 128
    general_rows: Annotated[int, Field(ge=0)] = 64
    cells: str | None = None
    finetune: dict[str, Any] = Field(default_factory=dict)
    variants: dict[str, Variant] = Field(min_length=1)

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
    """A study with what it takes from its project.

    Attributes:
        name: The file's name.
        file: The file.
        said: What it says.
        domains: The domains compared.
        finetune: The training's settings; rate and seed are set cell by cell.
    """

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

    def cells_folder(self, lake: Path) -> Path:
        """Where the cells' files lie: as the study says, else in the lake of this folder."""
        return self.file.parent / self.said.cells if self.said.cells else lake / "study" / "cells"


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
    unknown = [name for name in said.domains if name not in project.domains]
    if unknown:
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
    settings = parse(SelectionSettings, variant.options, file, f"{where}.options")
    parse(KnowledgeSettings, variant.knowledge, file, f"{where}.knowledge")
    if variant.knowledge and not (variant.selector in WALK and settings.next_row == "coherence"):
        raise SettingsError(f"{file}: {where}: knowledge counts for a walk with next_row = 'coherence' only")
    kinds, sketch_dim = project.settings.gradients.kinds, project.settings.gradients.sketch_dim
    if variant.sketch_dim and sketch_dim % variant.sketch_dim:
        raise SettingsError(f"{file}: {where}: sketch_dim {variant.sketch_dim} does not divide gradients' {sketch_dim}")
    kind = "adam" if variant.selector in USE_ADAM else settings.kind
    if variant.selector in USE_GRADIENTS and kind not in kinds:
        raise SettingsError(f"{file}: {where}: kind '{kind}' is not among gradients.kinds {list(kinds)}")


def find_study(project: Project, name: str) -> Study:
    """The study of that name.

    Raises:
        SettingsError: There is none, its file is not TOML, or it says something that is not so.
    """
    files = {file.stem: file for file in sorted(studies_folder(project).glob("*.toml"))}
    if name not in files:
        raise SettingsError(f"there is no study '{name}' in {studies_folder(project)} ({', '.join(files) or 'none'})")
    return _load(project, files[name])
