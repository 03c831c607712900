"""What a selector is given in a domain, and what it chooses: for the domain's own subset and for every variant.

Which pool rows may be chosen, and how many, is one rule for all: repeats of the domain's rows, rows that a prescreen
did not keep for it, and near-duplicates are left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import polars as pl

from g2is_assets.contracts.gradients import SCREEN
from g2is_assets.contracts.graph import GROUPS
from g2is_assets.contracts.instructions import POOL, TARGET
from g2is_assets.contracts.selection import EXCLUDED, SCREENED_OUT
from g2is_assets.core.features import FeatureSource, FoldedFeatures
from g2is_assets.core.leakage import Text, find_leaks
from g2is_assets.core.problem import Nodes, Problem, Selection
from g2is_assets.core.selectors import SELECTORS
from g2is_assets.errors import SettingsError, StoreError, command
from g2is_assets.reports.words import counted
from g2is_assets.settings.selection import selection_settings
from g2is_assets.stages.features import EMBEDDING, all_rows, stored_edges, stored_features
from g2is_assets.stages.stage import Task

EDGES_READ: Final = "graph/neighbors/edges"
"""What a walk on neighbours alone is made from besides."""


@dataclass
class Chooser:
    """Selects for one domain; what hangs on neither budget nor seed is read once.

    Attributes:
        task: Of the stage that selects; its versions are read.
        selector: Name of the selector.
        options: Keys of [selection], for selectors that read some.
        knowledge: Keys of [knowledge], likewise.
        nodes: The domain's nodes, where they are known; else a walk that needs them takes them from the features.
        allow_leaks: Whether repeats of the domain's rows may be chosen.
        sketch_dim: Fold gradient features to so many dimensions.
    """

    task: Task
    selector: str
    options: Mapping[str, Any] = field(default_factory=dict)
    knowledge: Mapping[str, Any] = field(default_factory=dict)
    nodes: Nodes | None = None
    allow_leaks: bool = False
    sketch_dim: int | None = None

    def problem(self, budget: float, seed: int = 0, steering: Sequence[str] | None = None) -> Problem:
        """What the selector is given.

        Args:
            budget: Below 1 a share of the pool's rows that have gradients or were screened out, rounded, at least 1;
                else the count itself.
            seed: Of what is random.
            steering: The validation rows that steer the selection; all by default.

        Raises:
            SettingsError: The budget is more than the eligible rows.
        """
        n_pool, n_eligible = len({*self.row_ids, *self._screened_out}), len(self.eligible)
        n_rows = max(1, round(budget * n_pool)) if budget < 1 else int(budget)
        if n_rows > n_eligible:
            screened, more = len(self._screened_out), ""
            counts = f"{n_pool} with gradients"
            if screened:
                counts = f"of {n_pool}, {screened} screened out"
                more = ", or raise `keep` in [gradients.prescreen]"
            raise SettingsError(
                f"domain '{self.task.domain}': the budget of {counted(n_rows, 'row')} is larger than the pool's "
                f"{counted(n_eligible, 'eligible row')} ({counts}, near-duplicates counted once, "
                f"repeats of the domain's rows left out); lower `budget`{more}"
            )
        return Problem(**self._of_pool, **self._of_domain(steering), budget=n_rows, seed=seed)

    def choose(self, problem: Problem) -> Selection:
        """The rows that the selector chooses.

        Raises:
            SettingsError: It chooses none.
        """
        found = SELECTORS[self.selector].select(problem)
        if not len(found.rows):
            ended = f": the walk took no row ({', '.join(sorted(set(found.walk.ended)))})" if found.walk else ""
            raise SettingsError(
                f"domain '{self.task.domain}': '{self.selector}' chose no row{ended}; loosen `min_core_cosine` or the "
                "other rules in [selection], or the variant's options"
            )
        return found

    @cached_property
    def excluded(self) -> pl.DataFrame:
        """Contract `selection/subset excluded`, without the domain: its repeats, rows screened out, near-duplicates."""
        rows, target = self.pool, self._own
        texts = [[Text(*pair) for pair in table.select("prompt", "response").rows()] for table in (rows, target)]
        leaks = [] if self.allow_leaks else find_leaks(*texts)
        found = pl.DataFrame(
            {
                "row_id": [rows["row_id"][leak.pool_row] for leak in leaks],
                "reason": [leak.reason for leak in leaks],
                "other_row_id": [target["row_id"][leak.domain_row] for leak in leaks],
                "split": [target["split"][leak.domain_row] for leak in leaks],
                "share": [leak.share for leak in leaks],
            },
            schema=pl.Schema({n: t for n, t in EXCLUDED.schema.items() if n != "domain"}),
        )
        screened = pl.DataFrame({"row_id": self._screened_out}, schema={"row_id": pl.String})
        screened = screened.with_columns(reason=pl.lit(SCREENED_OUT))
        found = pl.concat([found, screened.join(found, on="row_id", how="anti")], how="diagonal")
        # Of a group, the first row that repeats no row of the domain and was kept for it stands for all.
        rest = self._groups.join(found, on="row_id", how="anti")
        doubles = rest.with_columns(other_row_id=pl.col("row_id").min().over("duplicate_group"))
        doubles = doubles.filter(pl.col("row_id") != pl.col("other_row_id"))
        doubles = doubles.select("row_id", "other_row_id", reason=pl.lit("near-duplicate"))
        return pl.concat([found, doubles], how="diagonal").sort("row_id")

    @cached_property
    def _screened_out(self) -> list[str]:
        """Rows that a prescreen did not keep for the domain; some have gradients, kept for another."""
        gradients, domain = self.task.version("gradients/pool"), self.task.domain
        if "prescreen" not in gradients.manifest.settings:
            return []
        own = gradients.read(SCREEN).filter(domain=domain)
        if own.is_empty():
            raise StoreError(f"gradients/pool was screened without '{domain}'; run {command('refresh --pool')} first")
        return own.filter(~pl.col("kept"))["row_id"].to_list()

    @cached_property
    def row_ids(self) -> list[str]:
        """All rows with gradients, in the pool's order."""
        return self._groups["row_id"].to_list()

    @cached_property
    def eligible(self) -> np.ndarray:
        """Ascending row numbers."""
        excluded = set(self.excluded["row_id"])
        return np.array([i for i, row_id in enumerate(self.row_ids) if row_id not in excluded], dtype=np.int64)

    @cached_property
    def _of_pool(self) -> dict[str, Any]:
        counts = self.pool.select("row_id", "n_response_tokens")
        lengths = pl.DataFrame({"row_id": self.row_ids}).join(counts, on="row_id", how="inner", maintain_order="left")
        if len(lengths) != len(self.row_ids):
            raise StoreError(f"graph/neighbors holds rows that left the pool; run {command('refresh --pool')} first")
        given: dict[str, Any] = {
            "domain": self.task.domain,
            "row_ids": self.row_ids,
            "n_response_tokens": lengths["n_response_tokens"].to_numpy(),
            "eligible": self.eligible,
            "options": self.options,
            "knowledge": self.knowledge,
            "nodes": self.nodes,
        }
        features = SELECTORS[self.selector].features
        if features == "embeddings":
            given["embeddings"] = self._features("study/embedding", EMBEDDING)
        elif features == "adam":
            given["gradients"] = {"adam": self._features("gradients/pool", "adam")}
        elif features == "gradients":
            settings = selection_settings(self.options)
            kind, removed = settings.kind, settings.mean_removed
            name = f"{kind}/mean_removed" if removed else kind
            given["gradients"] = {name: self._features("gradients/pool", kind, mean_removed=removed)}
            if getattr(settings, "neighbours_only", False):
                given["edges"] = stored_edges(self.task.version(EDGES_READ), self.row_ids, settings)
        return given

    def _of_domain(self, steering: Sequence[str] | None) -> dict[str, Any]:
        """Features of the validation rows that steer the selection."""
        rows = None if steering is None else pl.Series(steering, dtype=pl.String)
        features = SELECTORS[self.selector].features
        if features == "embeddings":
            return {"target_embeddings": self._embedded(rows)}
        if features == "none":
            return {}
        ids, source = stored_features(self.task.workspace, self.task.version("gradients/target"), "sgd", rows=rows)
        # The source of each row is the sub-task that it belongs to.
        names = dict(self._own.select("row_id", pl.col("sources").list.join("+")).iter_rows())
        return {"target": all_rows(self._folded(source)), "sub_tasks": [names[row_id] for row_id in ids]}

    def _features(self, asset: str, kind: str, *, mean_removed: bool = False) -> FeatureSource:
        version, rows = self.task.version(asset), pl.Series(self.row_ids)
        ids, source = stored_features(self.task.workspace, version, kind, mean_removed=mean_removed, rows=rows)
        if ids != self.row_ids:
            raise StoreError(f"{asset} lacks rows of graph/neighbors; run {command('refresh --pool')}, then this again")
        return self._folded(source)

    def _folded(self, source: FeatureSource) -> FeatureSource:
        return FoldedFeatures(source, self.sketch_dim) if self.sketch_dim else source

    def _embedded(self, rows: pl.Series | None) -> np.ndarray:
        """The domain's validation rows are few: they are embedded where they are needed."""
        from g2is_assets.training.evaluate import embed_rows
        from g2is_assets.training.text import examples

        own = self._own.filter(pl.col("split") == "validation")
        if rows is not None:
            own = own.filter(pl.col("row_id").is_in(rows.implode()))
        workspace, settings = self.task.workspace, self.task.workspace.project.settings
        model, encoded = workspace.model.load(settings.device), examples(own, workspace.template)
        return embed_rows(model, workspace.template.tokenizer, encoded, settings.gradients.batch_tokens)

    @cached_property
    def pool(self) -> pl.DataFrame:
        """Contract `instructions/pool`."""
        return self.task.read(POOL)

    @cached_property
    def _own(self) -> pl.DataFrame:
        return self.task.read(TARGET)

    @cached_property
    def _groups(self) -> pl.DataFrame:
        return self.task.version("graph/neighbors/groups").read(GROUPS)
