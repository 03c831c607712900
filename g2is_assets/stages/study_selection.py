"""A variant's subsets: the selector's problem from stored features, and its rows as a table."""

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from g2is_assets.contracts import study as contracts
from g2is_assets.contracts.graph import NODES
from g2is_assets.contracts.instructions import POOL, TARGET
from g2is_assets.core.rows import FeatureSource, FoldedFeatures
from g2is_assets.core.selectors import DRAW, SELECTORS, USE_ADAM, USE_EMBEDDINGS, USE_GRADIENTS
from g2is_assets.core.selectors.problem import Problem, Selection
from g2is_assets.errors import SettingsError, StoreError
from g2is_assets.settings.config import SelectionSettings
from g2is_assets.stages.eligible import excluded_rows, n_rows_of
from g2is_assets.stages.features import all_rows, stored_features
from g2is_assets.stages.study_recipes import EMBEDDING, Place
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.lake import Recipe, Version


@dataclass
class Subsets:
    """What a variant chooses in a domain.

    Attributes:
        workspace: The project's resource.
        place: Study, variant and domain.
        recipe: Of `study/subset`, with the versions to read.
    """

    workspace: Workspace
    place: Place
    recipe: Recipe

    def table(self) -> tuple[pl.DataFrame, dict[str, float]]:
        """Contract `study/subset`, and by budget the seconds that one selection took, reading of features included."""
        parts, seconds = [pl.DataFrame(schema=contracts.SUBSET.schema)], {}
        begun = time.monotonic()
        _ = self._of_pool, self._of_domain  # read once for all budgets
        reading = time.monotonic() - begun
        for budget in sorted(self.place.study.budgets(self.place.variant)):
            begun = time.monotonic()
            seeds = sorted(self.place.study.seeds(self.place.variant))
            vary = self.place.said.selector in DRAW or self.place.said.validation_rows
            found = {seed: self._select(budget, seed) for seed in (seeds if vary else seeds[:1])}
            seconds[repr(budget)] = reading + (time.monotonic() - begun) / len(found)
            parts += [self._rows(found.get(seed) or found[seeds[0]], budget, seed) for seed in seeds]
        return pl.concat(parts), seconds

    def _select(self, budget: float, seed: int) -> Selection:
        selector, domain = self.place.said.selector, self.place.domain
        n_rows = n_rows_of(budget, len(self._ids), len(self._eligible), domain)
        found = SELECTORS[selector](Problem(**self._of_pool, **self._of_domain[seed], budget=n_rows, seed=seed))
        if not len(found.rows):
            raise SettingsError(
                f"{self.place.study.file}: '{self.place.variant}' chose no row in domain '{domain}'; loosen its options"
            )
        return found

    def _rows(self, found: Selection, budget: float, seed: int) -> pl.DataFrame:
        n = len(found.rows)
        columns = {
            "study": [self.place.study.name] * n,
            "domain": [self.place.domain] * n,
            "variant": [self.place.variant] * n,
            "budget": [budget] * n,
            "seed": [seed] * n,
            "order": range(n),
            "row_id": [self._ids[row] for row in found.rows],
            "score": [None if np.isnan(score) else float(score) for score in found.scores],
        }
        return pl.DataFrame(columns, schema=contracts.SUBSET.schema)

    @cached_property
    def _of_pool(self) -> dict[str, Any]:
        """What of a `Problem` hangs on neither budget nor seed."""
        said, ids = self.place.said, self._ids
        counts = self._pool.select("row_id", "n_response_tokens")
        lengths = pl.DataFrame({"row_id": ids}).join(counts, on="row_id", how="inner", maintain_order="left")
        if len(lengths) != len(ids):
            raise StoreError("graph/neighbors holds rows that left the pool; run the job refresh_pool first")
        given: dict[str, Any] = {
            "domain": self.place.domain,
            "row_ids": ids,
            "n_response_tokens": lengths["n_response_tokens"].to_numpy(),
            "eligible": self._eligible,
            "options": said.options,
            "knowledge": said.knowledge,
        }
        if said.selector in USE_EMBEDDINGS:
            given["embeddings"] = self._features("study/embedding", EMBEDDING)
        elif said.selector in USE_GRADIENTS:
            given["gradients"] = self._gradients()
        return given

    @cached_property
    def _of_domain(self) -> dict[int, dict[str, Any]]:
        """By seed, the features of the validation rows that steer the selection."""
        seeds, steering = self.place.study.seeds(self.place.variant), self.recipe.settings.get("validation")
        if steering is None:
            return dict.fromkeys(seeds, self._target(None))
        return {seed: self._target(pl.Series(steering[str(seed)], dtype=pl.String)) for seed in seeds}

    def _target(self, rows: pl.Series | None) -> dict[str, Any]:
        """Features of these validation rows, or of all."""
        if self.place.said.selector in USE_EMBEDDINGS:
            return {"target_embeddings": self._embedded_target(rows)}
        if self.place.said.selector in USE_GRADIENTS:
            target, sub_tasks = self._target_gradients(rows)
            return {"target": target, "sub_tasks": sub_tasks}
        return {}

    def _gradients(self) -> dict[str, FeatureSource]:
        """The one kind that the selector reads, under the name that it reads it by."""
        if self.place.said.selector in USE_ADAM:
            return {"adam": self._features("gradients/pool", "adam")}
        settings = SelectionSettings.model_validate(self.place.said.options)
        name = f"{settings.kind}/mean_removed" if settings.mean_removed else settings.kind
        return {name: self._features("gradients/pool", settings.kind, mean_removed=settings.mean_removed)}

    def _features(self, asset: str, kind: str, *, mean_removed: bool = False) -> FeatureSource:
        version = self.recipe.versions[asset]
        rows = pl.Series(self._ids)
        ids, source = stored_features(self.workspace, version, kind, mean_removed=mean_removed, rows=rows)
        if ids != self._ids:
            raise StoreError(f"{asset} lacks rows of graph/neighbors; run refresh_pool, then the study again")
        return self._folded(source)

    def _folded(self, source: FeatureSource) -> FeatureSource:
        return FoldedFeatures(source, self.place.said.sketch_dim) if self.place.said.sketch_dim else source

    def _target_gradients(self, rows: pl.Series | None) -> tuple[np.ndarray, list[str]]:
        """The source of each row is the sub-task that it belongs to."""
        own = self.recipe.versions["gradients/target"]
        ids, source = stored_features(self.workspace, own, "sgd", rows=rows)
        names = dict(self._own.select("row_id", pl.col("sources").list.join("+")).iter_rows())
        return all_rows(self._folded(source)), [names[row_id] for row_id in ids]

    def _embedded_target(self, rows: pl.Series | None) -> np.ndarray:
        """The domain's validation rows are few: they are embedded where they are needed."""
        from g2is_assets.training.embed import embed_rows
        from g2is_assets.training.instructions import examples

        own = self._own.filter(pl.col("split") == "validation")
        if rows is not None:
            own = own.filter(pl.col("row_id").is_in(rows.implode()))
        settings = self.workspace.project.settings
        model, encoded = self.workspace.model.load(settings.device), examples(own, self.workspace.template)
        return embed_rows(model, self.workspace.template.tokenizer, encoded, settings.gradients.batch_tokens)

    @cached_property
    def _pool(self) -> pl.DataFrame:
        return self._version("instructions/pool").table("pool", POOL)

    @cached_property
    def _own(self) -> pl.DataFrame:
        return self._version("instructions/target").table("target", TARGET)

    @cached_property
    def _nodes(self) -> pl.DataFrame:
        return self._version("graph/neighbors").table("neighbors", NODES)

    @cached_property
    def _ids(self) -> list[str]:
        """All rows with gradients, in the pool's order."""
        return self._nodes["row_id"].to_list()

    @cached_property
    def _eligible(self) -> np.ndarray:
        """Ascending row numbers."""
        allow = bool(self.recipe.settings["allow_leaks"])
        excluded = set(excluded_rows(self._pool, self._own, self._nodes, allow_leaks=allow)["row_id"])
        return np.array([i for i, row_id in enumerate(self._ids) if row_id not in excluded], dtype=np.int64)

    def _version(self, asset: str) -> Version:
        return self.recipe.versions[asset]
