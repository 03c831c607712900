"""Stage `knowledge`: the core-knowledge directions of a domain."""

import dagster as dg
import numpy as np
import polars as pl
from numpy.typing import NDArray

from g2is_assets.contracts import knowledge as contracts
from g2is_assets.core.knowledge import core_knowledge, domain_nodes
from g2is_assets.core.vectors import unit_rows
from g2is_assets.errors import SourceError
from g2is_assets.stages.features import all_rows, stored_features
from g2is_assets.stages.publish import publish, recipe_here
from g2is_assets.stages.recipes import CODE_VERSIONS
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.lake import Draft


@dg.asset(
    key=["knowledge", "components"],
    group_name="knowledge",
    kinds={"numpy", "parquet"},
    code_version=CODE_VERSIONS["knowledge/components"],
    deps=[["gradients", "target"]],
)
def components(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """The domain's nodes in the mixed graph, which the walk has to serve: by default principal directions.

    They are those of the domain's validation gradients. A direction's sign is arbitrary in PCA; here each points
    towards the mean validation gradient, and whether it was turned is recorded. The whole spectrum is kept beside them,
    and how much every validation row has of each.
    """
    settings = workspace.project.domain(context.partition_key).knowledge
    recipe = recipe_here(context, workspace)

    def write(draft: Draft) -> None:
        row_ids, source = stored_features(workspace, recipe.versions["gradients/target"], "sgd")
        features = all_rows(source)
        try:
            if settings.nodes == "components":
                found = core_knowledge(features, **settings.model_dump(exclude_none=True, exclude={"nodes"}))
            else:
                found = domain_nodes(features, settings.nodes)
        except ValueError as error:
            raise SourceError(
                f"domain '{context.partition_key}', {len(row_ids)} validation gradients: {error}"
            ) from error
        kept, domain = len(found.components), pl.lit(context.partition_key).alias("domain")
        contract = contracts.components(features.shape[1])
        table = pl.DataFrame(
            {
                "component": np.arange(kept),
                "weight": found.weights,
                "variance_share": found.shares[:kept] if len(found.shares) else [None] * kept,
                "flipped": found.flipped,
                "direction": found.components,
            }
        )
        draft.table("components", contract, table.with_columns(domain).select(*contract.columns).cast(contract.schema))
        spectrum = pl.DataFrame({"component": np.arange(len(found.shares)), "variance_share": found.shares})
        spectrum = spectrum.with_columns(domain, kept=pl.col("component") < kept)
        draft.table("spectrum", contracts.SPECTRUM, spectrum.select(*contracts.SPECTRUM.columns))
        loadings = _loadings(row_ids, features, found.components)
        draft.table("loadings", contracts.LOADINGS, loadings.with_columns(domain).select(*contracts.LOADINGS.columns))
        draft.metric(n_components=kept, variance_kept=float(found.shares[:kept].sum()))

    return publish(context, workspace, recipe, write)


def _loadings(row_ids: list[str], features: NDArray[np.float32], directions: NDArray[np.float32]) -> pl.DataFrame:
    """Cosine of every row to every direction."""
    cosines = unit_rows(features) @ directions.T
    table = {
        "row_id": np.repeat(row_ids, len(directions)),
        "component": np.tile(np.arange(len(directions)), len(row_ids)),
        "cosine": cosines.ravel().astype(np.float64),
    }
    return pl.DataFrame(table).sort("row_id", "component")
