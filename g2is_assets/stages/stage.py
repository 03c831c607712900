"""What a stage is: one asset with what it is made from, by which code and settings, and how it is written.

A stage knows neither Dagster nor how versions are published: the frame (`stages.frame`) calls it, and it calls down.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from g2is_assets.contracts.contract import Contract
from g2is_assets.settings.project import Project
from g2is_assets.stages.studies import Study, Variant
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.version import Draft, Recipe, Version, asset_of

Partition = Literal["project", "domain", "variant"]


@dataclass(frozen=True)
class Place:
    """One partition of a stage: the project as a whole, a domain, or a variant of a study in a domain.

    Attributes:
        domain: The domain; empty for the project.
        of_study, of_variant: The study and the name of its variant; None for a domain.
    """

    domain: str = ""
    of_study: Study | None = None
    of_variant: str | None = None

    @property
    def partition(self) -> str | None:
        """Name of its folder in the lake; none for the project."""
        return f"{self.domain}.{self.key}" if self.of_study else self.domain or None

    @property
    def study(self) -> Study:
        """The study, of a variant's place."""
        assert self.of_study
        return self.of_study

    @property
    def variant(self) -> str:
        """The variant's name, of its place."""
        assert self.of_variant
        return self.of_variant

    @property
    def key(self) -> str:
        """Key of the study and the variant in Dagster's partitions."""
        return f"{self.study.name}.{self.variant}"

    @property
    def said(self) -> Variant:
        """What the study says of the variant."""
        return self.study.said.variants[self.variant]

    def of(self, partition: Partition) -> "Place":
        """The place of another stage that belongs to this one: of a variant its domain, of a domain the project."""
        return {"project": PROJECT, "domain": Place(self.domain), "variant": self}[partition]


PROJECT = Place()


@dataclass(frozen=True)
class MadeFrom:
    """What determines a version besides the versions that it is made from.

    Attributes:
        settings: Those that count, resolved.
        outside: Digests of files and models, by name.
    """

    settings: Mapping[str, Any]
    outside: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """A version to be made.

    Attributes:
        workspace: The project's.
        place: Of which partition.
        recipe: What it is made from.
        stop_at: Time, in seconds since the epoch, after which a study begins nothing more.
        unattended: Whether a schedule or the sensor started it, so that nobody looks at what comes out.
    """

    workspace: Workspace
    place: Place
    recipe: Recipe
    stop_at: float | None = None
    unattended: bool = False

    @property
    def domain(self) -> str:
        """The domain of the place."""
        return self.place.domain

    def version(self, asset: str) -> Version:
        """The version of an asset that it is made from."""
        return self.recipe.versions[asset]

    def read(self, contract: Contract, asset: str | None = None) -> pl.DataFrame:
        """A table that it is made from; the asset is named where several have such a table."""
        [known] = [asset] if asset else contract.assets
        return self.version(known).read(contract)


Inputs = Callable[[Project, Place], Sequence[str]]
Versions = Mapping[str, Version]
RecipeNow = Callable[[str, Place], Recipe]
"""The recipe of another stage, by key and place, as things stand now."""


@dataclass(frozen=True)
class Stage:
    """One asset.

    Attributes:
        key: Its key, such as `selection/subset`.
        partition: What there is one version of at a time for: the project, each domain, or each variant of a study.
        code_version: Raised when a change makes the same inputs give another payload.
        kinds: Technologies that the UI shows.
        description: What the data is, and why it can be trusted.
        inputs: Keys of the stages whose current versions it reads, as the settings of a place have it. A table may be
            named behind a key, `graph/neighbors/groups`: then another content of other tables does not count.
        made_from: Settings and outside digests, given those versions.
        write: Computes the payload.
        uses_model: Whether it takes its turn with the machine's model.
        follows_inputs: Whether changed inputs make it stale; else it is remade on request only.
        whole: Whether what a version refers to outside its folder is there, so that it may serve again.
        finish: What is to be done each time once the version is current, also when it was found unchanged; what it
            returns is told with the version.
        gather: Instead of `inputs`, the versions by name, where there are more than one of a stage.
    """

    key: str
    partition: Partition
    code_version: str
    kinds: Collection[str]
    description: str
    inputs: Inputs
    made_from: Callable[[Workspace, Place, Versions], MadeFrom]
    write: Callable[[Draft, Task], None]
    uses_model: bool = False
    follows_inputs: bool = True
    whole: Callable[[Task, Version], bool] = lambda task, version: True
    finish: Callable[[Task, Version], Mapping[str, int | str] | None] = lambda task, version: None
    gather: Callable[[Workspace, RecipeNow], Versions] | None = None

    @property
    def group(self) -> str:
        """The first word of the key: the stage that people speak of."""
        return self.key.split("/")[0]

    @property
    def takes_turns(self) -> bool:
        """Whether one run at a time makes it: with the model, or for all domains, so that none does the same again."""
        return self.uses_model or self.partition == "project"

    def all_inputs(self, project: Project, places: Sequence[Place]) -> list[str]:
        """Keys of the stages that it reads in any of these places: its edges in the graph."""
        return sorted({asset_of(name) for place in places for name in self.inputs(project, place)})


def stage(
    key: str,
    partition: Partition,
    code_version: str,
    kinds: Collection[str],
    *,
    inputs: Sequence[str] | Inputs = (),
    made_from: Callable[[Workspace, Place, Versions], MadeFrom],
    **options: Any,
) -> Callable[[Callable[[Draft, Task], None]], Stage]:
    """Make a stage of the function that writes it; the function's docstring is the description."""
    read: Inputs = inputs if callable(inputs) else lambda project, place: inputs

    def make(write: Callable[[Draft, Task], None]) -> Stage:
        said = "\n".join(line.strip() for line in (write.__doc__ or "").strip().splitlines())
        return Stage(key, partition, code_version, kinds, said, read, made_from, write, **options)

    return make
