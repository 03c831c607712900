"""The one resource: the project with its lake, model and engine. No asset logic, no computation."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from g2is_assets.settings.project import Project
from g2is_assets.store.lake import Lake


@dataclass
class Workspace:
    """What every asset works with; built once per process from the loaded project."""

    project: Project
    looking: bool = False
    """To tell what is stale or altered: no model is fetched or mended; files that look untouched are hashed once."""

    @cached_property
    def lake(self) -> Lake:
        """The lake below the project's home."""
        return Lake(self.project.home / "lake")

    # torch and transformers take seconds to import: only a step that needs a model pays for them.

    @cached_property
    def model(self) -> Any:
        """The base model's source: local folder, name and digest."""
        from g2is_assets.training.model import find_model

        return find_model(self.project.model, self.project.settings.revision, fetch=not self.looking)

    @cached_property
    def template(self) -> Any:
        """Renders rows as the model's tokenizer wants them, for a model that can do what the settings ask of it."""
        from g2is_assets.training.text import Template

        settings = self.project.settings.instructions
        self.model.require_fit(settings.max_length, self.project.targets)
        return Template(self.model.tokenizer(), settings.max_length, **self._rendering)

    @property
    def _rendering(self) -> dict[str, Any]:
        said = self.project.settings.instructions
        return {"system": said.system, "turns": said.turns, "after_turn": said.after_turn, "day": said.date}

    @cached_property
    def template_digest(self) -> str:
        """Digest of how rows are rendered and cut, told without loading the tokenizer."""
        from g2is_assets.training.text import template_digest

        settings = self.project.settings.instructions
        return template_digest(self.model.folder, settings.max_length, **self._rendering)

    def use_threads(self) -> None:
        """Have this process compute with as many threads as the settings say."""
        from g2is_assets.training.engine import set_threads

        set_threads(self.project.settings.threads)

    @cached_property
    def engine(self) -> Any:
        """Where gradients are computed."""
        from g2is_assets.training.engine import make_engine

        return make_engine(self.project.settings.engine, self.project.settings.workers)
