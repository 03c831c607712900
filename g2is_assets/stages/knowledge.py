"""Stage `knowledge`: the core-knowledge directions of a domain."""

import numpy as np
import polars as pl

from g2is_assets.contracts.knowledge import COMPONENTS, LOADINGS, SPECTRUM
from g2is_assets.core.knowledge import knowledge_of
from g2is_assets.errors import SourceError
from g2is_assets.reports.words import counted
from g2is_assets.stages.features import all_rows, stored_features
from g2is_assets.stages.stage import MadeFrom, Task, stage
from g2is_assets.store.version import Draft


@stage(
    "knowledge/components",
    "domain",
    "3",
    {"numpy", "parquet"},
    inputs=["gradients/target"],
    made_from=lambda workspace, place, _: MadeFrom(
        workspace.project.domain(place.domain).knowledge.model_dump(mode="json")
    ),
)
def components(draft: Draft, task: Task) -> None:
    """The domain's nodes in the mixed graph, which a walk by coherence has to serve: by default principal directions.

    They are those of the domain's validation gradients. A direction's sign is arbitrary in PCA; here each points
    towards the mean validation gradient, and whether it was turned is recorded. The whole spectrum is kept beside them,
    and how much every validation row has of each.
    """
    settings = task.workspace.project.domain(task.domain).knowledge
    row_ids, source = stored_features(task.workspace, task.version("gradients/target"), "sgd")
    features = all_rows(source)
    try:
        found = knowledge_of(features, settings)
    except ValueError as error:
        raise SourceError(f"domain '{task.domain}', {counted(len(row_ids), 'validation gradient')}: {error}") from error
    kept, domain = len(found.components), pl.lit(task.domain).alias("domain")
    schema = COMPONENTS.schema_of_width(features.shape[1])
    table = pl.DataFrame(
        {
            "component": np.arange(kept),
            "weight": found.weights,
            "variance_share": found.shares[:kept] if len(found.shares) else [None] * kept,
            "flipped": found.flipped,
            "direction": found.components,
        }
    )
    draft.write(COMPONENTS, table.with_columns(domain).select(*COMPONENTS.columns).cast(schema))
    spectrum = pl.DataFrame({"component": np.arange(len(found.shares)), "variance_share": found.shares})
    spectrum = spectrum.with_columns(domain, kept=pl.col("component") < kept)
    draft.write(SPECTRUM, spectrum.select(*SPECTRUM.columns))
    cosines = features @ found.components.T
    loadings = pl.DataFrame(
        {
            "row_id": np.repeat(row_ids, kept),
            "component": np.tile(np.arange(kept), len(row_ids)),
            "cosine": cosines.ravel().astype(np.float64),
        }
    )
    draft.write(LOADINGS, loadings.sort("row_id", "component").with_columns(domain).select(*LOADINGS.columns))
    draft.metric(n_components=kept, variance_kept=float(found.shares[:kept].sum()))
