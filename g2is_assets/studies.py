"""Study files: which selectors are compared on which domains, at which budgets, with which seeds, by one rule.

A study is `studies/<name>.toml` beside the settings file. Nothing here knows what selectors there are or runs one.
"""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from g2is_assets.config import DOMAIN_NAME, Count, FinetuneSettings, Rate, Section, Seed
from g2is_assets.errors import SettingsError
from g2is_assets.parsing import parse, read_toml
from g2is_assets.project import Project


class Variant(Section):
    """One entry of a study: a selector with its options; its own seeds and budgets where they differ."""

    selector: str
    options: dict[str, Any] = Field(default_factory=dict)
    seeds: tuple[Seed, ...] | None = None
    budgets: tuple[Annotated[float, Field(gt=0.0)], ...] | None = None


class StudyFile(Section):
    """What a study file may say.

    Attributes:
        title: For people.
        domains: Names; empty means all of the project.
        budgets: Below 1 shares of the pool, from 1 up rows.
        seeds: Of selectors that draw, and of the training.
        rates: Learning rates; per domain, variant and budget the one with the lowest validation NLL at the first seed.
        development_rows: So many test rows of each domain, in file order, are shown; the others are the final ones.
        final: Whether the final rows are shown too. Open them once.
        cells: Folder of the cells, relative to the study file; below the lake if not set.
        finetune: Overrides of the project's `[finetune]`, the same for every domain and variant.
        variants: By name.
    """

    title: str = ""
    domains: tuple[str, ...] = ()
    budgets: tuple[Annotated[float, Field(gt=0.0)], ...] = Field(default=(0.01,), min_length=1)
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    rates: tuple[Rate, ...] = Field(default=(1e-4, 2e-4), min_length=1)
    development_rows: Count = 100
    final: bool = False
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
        for name in ("domains", "budgets", "seeds", "rates"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name}: a value is given twice")
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
        """The seeds of a variant."""
        return self.said.variants[variant].seeds or self.said.seeds

    def budgets(self, variant: str) -> tuple[float, ...]:
        """The budgets of a variant."""
        return self.said.variants[variant].budgets or self.said.budgets


def studies_folder(project: Project) -> Path:
    """Where a project's study files lie."""
    return project.path.parent / project.settings.studies


def load_studies(project: Project) -> dict[str, Study]:
    """Every study of a project, by name.

    Raises:
        SettingsError: A file is not TOML, or says something that is not so.
    """
    return {file.stem: _load(project, file) for file in sorted(studies_folder(project).glob("*.toml"))}


def _load(project: Project, file: Path) -> Study:
    if not DOMAIN_NAME.fullmatch(file.stem):
        raise SettingsError(f"{file}: a study's name must match {DOMAIN_NAME.pattern}; rename the file")
    said = parse(StudyFile, read_toml(file), file)
    unknown = [name for name in said.domains if name not in project.domains]
    if unknown:
        raise SettingsError(f"{file}: there is no domain {', '.join(unknown)}; known: {', '.join(project.domains)}")
    base = project.settings.finetune.model_dump(exclude_unset=True)
    return Study(
        name=file.stem,
        file=file,
        said=said,
        domains=said.domains or tuple(sorted(project.domains)),
        finetune=parse(FinetuneSettings, base | said.finetune, file, "finetune"),
    )
