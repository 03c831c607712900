"""Stage `finetune`: the subset's adapter, the random baseline's, and what both are worth on the domain's test rows."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from g2is_assets.contracts.contract import Contract
from g2is_assets.contracts.finetune import ADAPTER_LOG, ANSWERS, BASELINE_LOG, BASELINE_ROWS, SCORES
from g2is_assets.contracts.gradients import INDEX
from g2is_assets.contracts.instructions import POOL, TARGET
from g2is_assets.contracts.selection import EXCLUDED, SUBSET
from g2is_assets.core.problem import Problem
from g2is_assets.core.sampling import paired_difference
from g2is_assets.core.selectors import SELECTORS
from g2is_assets.progress import say, track
from g2is_assets.stages import evaluators
from g2is_assets.stages.stage import MadeFrom, Place, Task, Versions, stage
from g2is_assets.stages.trainings import fit, pool_rows, score, tuned
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.serving import promote
from g2is_assets.store.version import Draft, Version

N_ANSWERS: Final = 3
"""Rows of which the answers are kept."""
ANSWER_TOKENS: Final = 64
"""Where an answer is cut."""
MODELS: Final = {"base": None, "random": "finetune/baseline", "g2is": "finetune/adapter"}
"""What is evaluated: the model, untrained or with the adapter of an asset."""
ANSWERING: Final = ("base", "g2is")


def _training_from(workspace: Workspace, place: Place, _: Versions) -> MadeFrom:
    settings = workspace.project.domain(place.domain).finetune.model_dump(mode="json")
    return MadeFrom(settings | {"template": workspace.template_digest}, {"model": workspace.model.digest})


def _evaluation_from(workspace: Workspace, _: Place, __: Versions) -> MadeFrom:
    return MadeFrom({"template": workspace.template_digest}, {"model": workspace.model.digest})


@stage(
    "finetune/adapter",
    "domain",
    "3",
    {"pytorch", "peft"},
    inputs=["instructions/pool", "instructions/target", "selection/subset"],
    made_from=_training_from,
    uses_model=True,
)
def adapter(draft: Draft, task: Task) -> None:
    """The LoRA adapter trained on the domain's subset: a PEFT folder that any PEFT program loads.

    The epoch with the lowest loss on the validation rows is kept, the untouched base model included.
    """
    _train(draft, task, task.read(SUBSET, "selection/subset")["row_id"].to_list(), ADAPTER_LOG)


@stage(
    "finetune/baseline",
    "domain",
    "5",
    {"pytorch", "peft"},
    inputs=["gradients/pool", "instructions/pool", "instructions/target", "selection/subset"],
    made_from=_training_from,
    uses_model=True,
)
def baseline(draft: Draft, task: Task) -> None:
    """The adapter of a random subset of the same size, trained by the same rule: what selection has to beat.

    The rows are those that the selector `random` draws among the rows that the subset was chosen from.
    """
    row_ids = task.read(INDEX, "gradients/pool")["row_id"]
    excluded = task.read(EXCLUDED)["row_id"]
    problem = Problem(
        domain=task.domain,
        row_ids=row_ids.to_list(),
        n_response_tokens=np.zeros(len(row_ids), dtype=np.int64),  # nothing is chosen by it
        eligible=np.flatnonzero(~row_ids.is_in(excluded.implode()).to_numpy()),
        budget=len(task.read(SUBSET, "selection/subset")),
        seed=task.workspace.project.domain(task.domain).finetune.seed,
    )
    drawn = row_ids[SELECTORS["random"].select(problem).rows].to_list()
    draft.write(BASELINE_ROWS, pl.DataFrame({"domain": [task.domain] * len(drawn), "row_id": sorted(drawn)}))
    _train(draft, task, drawn, BASELINE_LOG)


def _train(draft: Draft, task: Task, row_ids: Sequence[str], log: Contract) -> None:
    """Train on these pool rows, in this order, and write `adapter/` and the log."""
    workspace, own = task.workspace, task.read(TARGET)
    rows = pool_rows(task.read(POOL), row_ids, "selection/subset")
    validation = own.filter(pl.col("split") == "validation")
    settings, label = workspace.project.domain(task.domain).finetune, task.recipe.asset.split("/")[1]
    done = fit(workspace, rows, validation, settings, draft.folder / "adapter", label)
    draft.write(log, pl.DataFrame(done.log, schema=log.schema))
    draft.metric(n_rows=len(rows), n_tokens=done.n_tokens, best_epoch=done.best_epoch)
    draft.metric(validation_nll=done.best_validation_nll, base_validation_nll=done.validation_nll[0])


def _promote(task: Task, version: Version) -> None:
    """Serve the adapter that was evaluated, unless it has to be better than base and random and is not."""
    domain, metrics = task.domain, version.manifest.metrics
    if (
        task.workspace.project.domain(domain).promote == "always"
        or evaluators.tuned_beats_base_and_random(metrics).passed
    ):
        promote(task.workspace.lake, domain, task.version("finetune/adapter").folder.name)
    else:
        say(f"{domain}: the adapter is not better than base and random, so it is not promoted (`promote`)")


@stage(
    "finetune/evaluation",
    "domain",
    "3",
    {"pytorch", "parquet"},
    inputs=["finetune/adapter", "finetune/baseline", "instructions/target"],
    made_from=_evaluation_from,
    uses_model=True,
    finish=_promote,
)
def evaluation(draft: Draft, task: Task) -> None:
    """Response NLL of every test row under the base model, the random baseline and the G2IS adapter.

    Scores are paired by row, so the difference comes with an interval over rows (one seed, one random subset). A
    domain without test rows is scored on its validation rows, which chose the epoch: only indicative. What the base
    model and the adapter answer to the first rows stands beside the scores, to be read.

    Then the adapter is promoted, which the domain may bind to its being better: readers of `served.json` get it.
    """
    own, workspace = task.read(TARGET), task.workspace
    test = own.filter(pl.col("split") == "test")
    rows = test if len(test) else own
    shown = rows.sort("row_id").head(N_ANSWERS)
    scores, answers, nll = [], [], {}
    with track("evaluation", len(rows) * len(MODELS), "rows") as progress:
        for name, asset in MODELS.items():
            model = tuned(workspace, task.version(asset).folder / "adapter" if asset else None)
            losses = pl.Series(score(workspace, model, rows, progress=progress).nll, dtype=pl.Float64)
            nll[name] = losses.to_numpy()
            rated = rows.select("domain", "split", "row_id", "n_response_tokens")
            scores.append(rated.with_columns(model=pl.lit(name), nll=losses))
            if name in ANSWERING:
                said = pl.Series(score(workspace, model, shown, answer_tokens=ANSWER_TOKENS).texts, dtype=pl.String)
                answers.append(shown.select("domain", "row_id").with_columns(model=pl.lit(name), response=said))
    draft.write(SCORES, pl.concat(scores).sort("model", "row_id").select(*SCORES.columns))
    draft.write(ANSWERS, pl.concat(answers).sort(ANSWERS.sorted_by))
    draft.metric(split=str(rows["split"][0]), **{f"nll_{name}": float(values.mean()) for name, values in nll.items()})
    for other in ("base", "random"):
        mean, low, high = paired_difference(nll["g2is"], nll[other])
        draft.metric(**{f"minus_{other}": mean, f"minus_{other}_low": low, f"minus_{other}_high": high})
