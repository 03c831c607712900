"""Which contract each view of the lake's database keeps: what people are told of views, tables and columns."""

from typing import Final

from g2is_assets.contracts import audit, finetune, gradients, graph, instructions, knowledge, selection, study, warmup
from g2is_assets.contracts.contract import Contract

_ANY_DIM: Final = 1
"""Stands for the sketch's length, which no meaning depends on."""
_VECTORS: Final = gradients.shard(("adam", "adam_without_momentum", "sgd"), _ANY_DIM)

CONTRACTS: Final[dict[str, Contract]] = {
    "audit_lineage": audit.LINEAGE,
    "audit_lineage_links": audit.LINKS,
    "audit_lineage_rows": audit.ROWS,
    "audit_report_quoted": audit.QUOTED,
    "audit_staleness": audit.STALENESS,
    "finetune_adapter_log": warmup.TRAINING_LOG,
    "finetune_baseline_log": warmup.TRAINING_LOG,
    "finetune_baseline_rows": finetune.BASELINE_ROWS,
    "finetune_evaluation": finetune.SCORES,
    "finetune_evaluation_answers": finetune.ANSWERS,
    "gradients_pool_index": gradients.INDEX,
    "gradients_pool_means": gradients.means(_ANY_DIM),
    "gradients_pool_set_aside": gradients.SET_ASIDE,
    "gradients_pool_vectors": _VECTORS,
    "gradients_target_index": gradients.INDEX,
    "gradients_target_set_aside": gradients.SET_ASIDE,
    "gradients_target_vectors": _VECTORS,
    "graph_neighbors": graph.NODES,
    "graph_neighbors_cosines": graph.COSINES,
    "graph_neighbors_duplicates": graph.DUPLICATES,
    "graph_neighbors_edges": graph.EDGES,
    "graph_neighbors_map": graph.MAP,
    "instructions_pool": instructions.POOL,
    "instructions_pool_rejected": instructions.REJECTED,
    "instructions_pool_withheld": instructions.WITHHELD,
    "instructions_target": instructions.TARGET,
    "instructions_target_rejected": instructions.REJECTED,
    "instructions_target_withheld": instructions.WITHHELD,
    "knowledge_components": knowledge.components(_ANY_DIM),
    "knowledge_components_loadings": knowledge.LOADINGS,
    "knowledge_components_spectrum": knowledge.SPECTRUM,
    "selection_subset": selection.SUBSET,
    "selection_subset_budgets": selection.BUDGETS,
    "selection_subset_excluded": selection.EXCLUDED,
    "selection_subset_left": selection.LEFT,
    "study_adapter": study.ADAPTER,
    "study_embedding_index": gradients.INDEX,
    "study_embedding_set_aside": gradients.SET_ASIDE,
    "study_leaderboard": study.LEADERBOARD,
    "study_leaderboard_overlap": study.OVERLAP,
    "study_leaderboard_sources": study.SOURCES,
    "study_score": study.SCORES,
    "study_score_general": study.GENERAL,
    "study_subset": study.SUBSET,
    "warmup_checkpoint_log": warmup.TRAINING_LOG,
    "warmup_sample": warmup.SAMPLE,
}
"""By name of the view. A view that is not here has no contract: `study_embedding_vectors`, or what another version of
this project wrote."""

_MAIN: Final = {
    "audit/report": "quoted",
    "finetune/adapter": "log",
    "finetune/baseline": "rows",
    "gradients/pool": "index",
    "gradients/target": "index",
    "study/embedding": "index",
    "warmup/checkpoint": "log",
}


def main_table(asset: str) -> str:
    """Name of an asset's main table: the asset's last name, but where something else than a table is the main thing."""
    return _MAIN.get(asset, asset.split("/")[-1])


def view_of(asset: str, table: str) -> str:
    """Name of the view over a table: `<stage>_<noun>`, or `<stage>_<noun>_<table>` for one of another name."""
    stage, noun = asset.split("/")
    return f"{stage}_{noun}" + ("" if table == noun else f"_{table}")
