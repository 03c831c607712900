"""Stage `study`: every selector on the same pool and gradients, by one rule, and who is ahead.

One partition per domain and variant, where a variant is an entry of a study file. What a training was worth lies in
cells (`storage/cells.py`), outside of the lake where the study says so; the assets bring them up to date and read them.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import dagster as dg
import numpy as np
import polars as pl

from g2is_assets.contracts import gradients as gradient_contracts
from g2is_assets.contracts import study as contracts
from g2is_assets.contracts.instructions import POOL, TARGET
from g2is_assets.errors import MissingInputError, SettingsError
from g2is_assets.progress import track
from g2is_assets.stages import study_recipes as recipes
from g2is_assets.stages.publish import publish
from g2is_assets.stages.retries import retried
from g2is_assets.stages.studies import BASE, load_studies
from g2is_assets.stages.study_cells import DomainCells
from g2is_assets.stages.study_recipes import CODE_VERSIONS, EMBEDDING, Place
from g2is_assets.stages.study_selection import Subsets
from g2is_assets.stages.study_tables import adapter_table, chosen_rows, score_tables
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.cells import all_cells
from g2is_assets.store.gradient_store import STORE, GradientStore, Vectors, fill_store
from g2is_assets.store.lake import Draft, Recipe, Version

STOP_AT: Final = "g2is/stop_at"
"""Tag of a run: seconds since the epoch, after which a study begins no further cell."""


@dg.asset(
    key=["study", "embedding"],
    group_name="study",
    kinds={"pytorch", "parquet"},
    code_version=CODE_VERSIONS["study/embedding"],
    deps=[["instructions", "pool"]],
    pool="model",
)
def embedding(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """Embeddings of the pool's rows by the base model, for the selectors that go by similarity.

    RDS+: the mean of the last hidden states, later tokens weighing more. Kept like gradients, so that only rows that
    the store lacks are computed; a row's loss is not computed and stands as 0.
    """
    with retried(context):
        recipe = recipes.embedding(workspace)
    settings = {name: value for name, value in recipe.settings.items() if name != "store"}
    store = GradientStore(workspace.lake.place(recipe.asset) / STORE, settings)
    return publish(
        context,
        workspace,
        recipe,
        lambda draft: _embed(draft, workspace, recipe, store),
        intact=lambda version: store.holds(version.table("index", gradient_contracts.INDEX)),
    )


def _embed(draft: Draft, workspace: Workspace, recipe: Recipe, store: GradientStore) -> None:
    from g2is_assets.training.batches import plan_batches
    from g2is_assets.training.embed import embed_rows
    from g2is_assets.training.instructions import examples

    settings, template = workspace.project.settings, workspace.template
    rows = recipe.versions["instructions/pool"].table("pool", POOL)
    by_id = {example.row_id: example for example in examples(rows, template)}

    def compute(batches: Iterable[list[str]]) -> Iterator[Vectors]:
        model, planned = workspace.model.load(settings.device), list(batches)
        with track("embeddings", sum(by_id[i].n_tokens for batch in planned for i in batch), "tokens") as progress:
            for batch in planned:
                encoded = [by_id[row_id] for row_id in batch]
                n_tokens = [row.n_tokens for row in encoded]
                values = embed_rows(model, template.tokenizer, encoded, settings.gradients.batch_tokens)
                progress(sum(n_tokens))
                yield Vectors(batch, n_tokens, np.zeros(len(batch), dtype=np.float32), {EMBEDDING: values})

    filled = fill_store(
        store,
        {row_id: example.n_tokens for row_id, example in by_id.items()},
        lambda lengths: plan_batches(lengths, settings.gradients.batch_tokens),
        compute,
        settings.gradients.shard_rows,
        settings.gradients.batch_tokens,
    )
    set_aside = {"row_id": list(filled.set_aside), "reason": list(filled.set_aside.values())}
    schema = gradient_contracts.SET_ASIDE.schema
    draft.table("index", gradient_contracts.INDEX, filled.index)
    draft.table("set_aside", gradient_contracts.SET_ASIDE, pl.DataFrame(set_aside, schema=schema).sort("row_id"))
    draft.metric(n_computed=filled.n_computed, n_reused=len(by_id) - filled.n_computed)
    draft.metric(n_tokens_computed=filled.n_tokens_computed, n_set_aside=len(filled.set_aside))


@dg.asset(
    key=["study", "subset"],
    group_name="study",
    kinds={"numpy", "parquet"},
    code_version=CODE_VERSIONS["study/subset"],
    deps=[
        ["gradients", "pool"],
        ["gradients", "target"],
        ["graph", "neighbors"],
        ["instructions", "pool"],
        ["instructions", "target"],
        ["study", "embedding"],
    ],
    pool="model",
)
def subset(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """The rows that a variant chooses for a domain, for each of its budgets and seeds, in order.

    All variants choose from the same rows: near-duplicates and repeats of the domain's own rows are left out, as for
    `selection/subset`. Only selectors by similarity read `study/embedding`.
    """
    place = _place(context, workspace)
    with retried(context):
        recipe = recipes.subset(workspace, place)

    def write(draft: Draft) -> None:
        if place.said.selector == BASE:
            draft.table("subset", contracts.SUBSET, pl.DataFrame(schema=contracts.SUBSET.schema))
            return
        table, seconds = Subsets(workspace, place, recipe).table()
        draft.table("subset", contracts.SUBSET, table)
        draft.metric(**{f"selection_s_{budget}": value for budget, value in seconds.items()})

    return publish(context, workspace, recipe, write)


@dg.asset(
    key=["study", "adapter"],
    group_name="study",
    kinds={"pytorch", "peft"},
    code_version=CODE_VERSIONS["study/adapter"],
    deps=[["study", "subset"], ["instructions", "pool"], ["instructions", "target"]],
    pool="model",
)
def adapter(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """Every training of a variant in a domain, by the study's one rule, each scored on the domain's test rows.

    What a training was worth is read from its cell if it was made before, by whichever variant chose the same rows;
    adapters that were trained now are kept beside the table, under their cell's name.
    """
    place = _place(context, workspace)
    with retried(context):
        recipe = recipes.adapter(workspace, place)
    pool = recipe.versions["instructions/pool"].table("pool", POOL)
    target = recipe.versions["instructions/target"].table("target", TARGET)
    stop_at = context.run.tags.get(STOP_AT)
    cells = DomainCells(workspace, place.study, place.domain, pool, target, float(stop_at) if stop_at else None)
    chosen = chosen_rows(place, recipe.versions["study/subset"].table("subset", contracts.SUBSET))

    def write(draft: Draft) -> None:
        made = cells.make(chosen, draft.folder / "adapters")
        table = adapter_table(place, made)
        draft.table("adapter", contracts.ADAPTER, table)
        kept = list((draft.folder / "adapters").glob("*"))
        draft.metric(n_cells=table["cell"].n_unique(), n_adapters_kept=len(kept))

    return publish(context, workspace, recipe, write, intact=lambda _: cells.settled(chosen))


@dg.asset(
    key=["study", "score"],
    group_name="study",
    kinds={"polars", "parquet"},
    code_version=CODE_VERSIONS["study/score"],
    deps=[["study", "adapter"], ["instructions", "target"]],
)
def score(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """The scores of every test row after each of the variant's chosen trainings, read from the cells.

    Beside them the losses of some rows of the pool, which tell what else training has changed.

    The first rows of the domain's test file are `development`, looked at while choices are made; the others are
    `final`, for one look at the end.
    """
    place = _place(context, workspace)
    with retried(context):
        recipe = recipes.score(workspace, place)

    def write(draft: Draft) -> None:
        trainings = recipe.versions["study/adapter"].table("adapter", contracts.ADAPTER)
        cells = {cell.digest: cell for cell in all_cells(place.study.cells_folder(workspace.lake.root))}
        target = recipe.versions["instructions/target"]
        shown = recipes.development_rows(workspace, place, target)
        test = target.table("target", TARGET).filter(pl.col("split") == "test")
        scores, general = score_tables(place, trainings, cells, shown, test)
        draft.table("score", contracts.SCORES, scores)
        draft.table("general", contracts.GENERAL, general)

    return publish(context, workspace, recipe, write)


@dg.asset(
    key=["study", "leaderboard"],
    group_name="study",
    kinds={"polars", "matplotlib"},
    code_version=CODE_VERSIONS["study/leaderboard"],
    deps=[["study", "subset"], ["study", "adapter"], ["study", "score"], ["instructions", "pool"]],
)
def leaderboard(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """Who is ahead, by domain and over domains, with paired differences to `random` and `less` and their intervals.

    Everything that has been scored and is up to date counts, also while a study is still under way. Beside it: how
    many rows the subsets have in common, and which sources they come from. Final test rows are left out until the study
    says `final = true`.
    """
    from g2is_assets.reports.leaderboard import build_leaderboard

    with retried(context):
        recipe = recipes.leaderboard(workspace)
    scored = [name for name in recipe.versions if name.startswith("study/score[")]
    if not scored:
        raise MissingInputError("no variant of any study has been scored yet; materialise study/score first")

    def write(draft: Draft) -> None:
        tables = {
            table: pl.concat(version.table(table, contract) for version in _versions(recipe, kind))
            for kind, table, contract in (
                ("subset", "subset", contracts.SUBSET),
                ("adapter", "adapter", contracts.ADAPTER),
                ("score", "score", contracts.SCORES),
                ("score", "general", contracts.GENERAL),
            )
        }
        pool = recipe.versions["instructions/pool"].table("pool", POOL)
        final = {study.name for study in load_studies(workspace.project).values() if study.said.final}
        board = build_leaderboard(**tables, pool=pool, seconds=_seconds(recipe), final=final)
        draft.table("leaderboard", contracts.LEADERBOARD, board.leaderboard)
        draft.table("overlap", contracts.OVERLAP, board.overlap)
        draft.table("sources", contracts.SOURCES, board.sources)

    return publish(context, workspace, recipe, write)


def _versions(recipe: Recipe, kind: str) -> list[Version]:
    return [version for name, version in recipe.versions.items() if name.startswith(f"study/{kind}[")]


def _seconds(recipe: Recipe) -> pl.DataFrame:
    """Seconds of every selection: study, domain, variant, budget, seconds; none for the base model."""
    rows = []
    for version in _versions(recipe, "subset"):
        domain, study, variant = str(version.manifest.partition).split(".")
        for name, value in version.manifest.metrics.items():
            if name.startswith("selection_s_"):
                rows.append((study, domain, variant, float(name.removeprefix("selection_s_")), float(value)))
    columns = {"study": pl.String, "domain": pl.String, "variant": pl.String, "budget": pl.Float64}
    return pl.DataFrame(rows, schema=columns | {"seconds": pl.Float64}, orient="row")


def _place(context: dg.AssetExecutionContext, workspace: Workspace) -> Place:
    key = context.partition_key
    if not isinstance(key, dg.MultiPartitionKey):
        raise SettingsError(f"a partition of domain and variant is needed, not '{key}'")
    keys = key.keys_by_dimension
    return recipes.place_of(workspace, keys["domain"], keys["variant"])
