"""Stage `finetune`: the subset's adapter, the random baseline's, and what both are worth on the domain's test rows."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from g2is_assets.contracts.contract import Contract
from g2is_assets.contracts.finetune import ADAPTER_LOG, ANSWERS, BASELINE_LOG, BASELINE_ROWS, SCORES, VALIDATION
from g2is_assets.contracts.gradients import INDEX
from g2is_assets.contracts.instructions import POOL, TARGET
from g2is_assets.contracts.selection import EXCLUDED, SCREENED_OUT, SUBSET
from g2is_assets.core.problem import Problem
from g2is_assets.core.sampling import paired_difference
from g2is_assets.core.selectors import SELECTORS
from g2is_assets.errors import StoreError
from g2is_assets.progress import say, track
from g2is_assets.reports.words import better_where_it_decides, serving
from g2is_assets.stages.stage import MadeFrom, Place, Task, Versions, stage
from g2is_assets.stages.trainings import fit, pool_rows, score, tuned
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.serving import is_served, promote, refuse, rival_of, served_folder, was_refused
from g2is_assets.store.version import Draft, Version

ANSWER_TOKENS: Final = (64, 256)
"""Where an answer is cut: behind as many tokens as the longest reference has, but within these bounds."""
MODELS: Final = {"base": None, "random": "finetune/baseline", "g2is": "finetune/adapter"}
"""What is evaluated: the model, untrained or with the adapter of an asset."""
SERVED: Final = "served"
"""Beside them, the adapter whose place the new one takes, or would take."""
ANSWERING: Final = ("base", "g2is")


def _training_from(workspace: Workspace, place: Place, _: Versions) -> MadeFrom:
    settings = workspace.project.domain(place.domain).finetune.model_dump(mode="json")
    return MadeFrom(settings | {"template": workspace.template_digest}, {"model": workspace.model.digest})


def _evaluation_from(workspace: Workspace, _: Place, versions: Versions) -> MadeFrom:
    # By content, and no input: what the other adapter was trained on does not lie behind this one.
    rival = rival_of(workspace.lake, versions["finetune/adapter"])
    settings = workspace.project.settings.evaluation.model_dump(mode="json")
    settings |= {"template": workspace.template_digest} | ({SERVED: rival.manifest.data_version} if rival else {})
    return MadeFrom(settings, {"model": workspace.model.digest})


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

    The rows are those that the selector `random` draws among the rows that the subset was chosen from, and among those
    that a prescreen kept from that choice: what is measured is the choice from the whole pool.
    """
    table = task.read(EXCLUDED)
    screened = pl.col("reason") == SCREENED_OUT
    out, excluded = (table.filter(which)["row_id"] for which in (screened, ~screened))
    row_ids = pl.concat([task.read(INDEX, "gradients/pool")["row_id"], out]).unique(maintain_order=True)
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
    draft.metric(n_rows=len(rows), n_tokens_trained=done.n_tokens, best_epoch=done.best_epoch, **done.speed(label))
    draft.metric(validation_nll=done.best_validation_nll, base_validation_nll=done.validation_nll[0])


def _promote(task: Task, version: Version) -> dict[str, int | str]:
    """Serve the adapter that was evaluated, unless it has to be better than what there is and is not; say which."""
    domain, adapter, lake = task.domain, task.version("finetune/adapter"), task.workspace.lake
    unset = "if_better" if task.unattended or was_refused(adapter) else "always"
    must = (task.workspace.project.domain(domain).promote or unset) == "if_better"
    if is_served(adapter) or not must or better_where_it_decides(version.manifest.metrics):
        promote(lake, domain, adapter.folder.name)
    else:
        refuse(lake, domain, adapter.folder.name)
    served = served_folder(lake, domain)
    say(f"{domain}: {serving(served, adapter.folder, version.manifest.metrics)}")
    return {"is_served": int(served == adapter.folder), "served": served.name if served else "none"}


@stage(
    "finetune/evaluation",
    "domain",
    "5",
    {"pytorch", "parquet"},
    inputs=["finetune/adapter", "finetune/baseline", "instructions/target"],
    made_from=_evaluation_from,
    uses_model=True,
    finish=_promote,
)
def evaluation(draft: Draft, task: Task) -> None:
    """Response NLL and right answers on every test row under base model, random baseline, G2IS and served adapter.

    Scores are paired by row, so the difference comes with an interval over rows (one seed, one random subset). A
    domain without test rows is scored on its validation rows, which chose the epoch: only indicative. What the base
    model and the adapter answer to the rows that changed most, either way, and to typical ones stands beside, to be
    read.

    Another adapter that is served until now, or was until this one took its place, is scored on the same rows. Whether
    the new one is promoted, so that readers of `served.json` get it, may be bound to the losses on validation rows;
    test rows only measure.
    """
    own, digest = task.read(TARGET), task.recipe.settings.get(SERVED)
    adapters = {name: task.version(asset) if asset else None for name, asset in MODELS.items()}
    if digest:
        served = task.workspace.lake.find_whole("finetune/adapter", digest, task.domain)
        if served is None:
            raise StoreError(f"the adapter that is served for {task.domain} is gone; start the refresh again")
        adapters[SERVED] = served
        draft.metric(served_version=served.folder.name)
    scored = _Evaluation(task.workspace, own)
    with track("evaluation", scored.n_passes * len(adapters), "rows") as progress:
        for name, version in adapters.items():
            scored.add(name, version, progress)
    scored.write(draft)
    scored.write_answers(draft, task.version("finetune/adapter"), task.recipe.settings["answers"])


class _Evaluation:
    """Scores under one model after the other, and their differences."""

    def __init__(self, workspace: Workspace, own: pl.DataFrame) -> None:
        self.workspace = workspace
        self.validation, test = (own.filter(split=split).sort("row_id") for split in ("validation", "test"))
        self.rows = test if len(test) else self.validation
        self.asked = self.rows.filter(pl.col("answer").is_not_null() & pl.col("choices").is_null())
        self.asked = self.asked.head(workspace.project.settings.evaluation.asked)
        longest = max(self.rows["n_response_tokens"])
        self.answer_tokens = min(max(longest, ANSWER_TOKENS[0]), ANSWER_TOKENS[1])
        self.n_vocabulary = 0
        self.scores: dict[str, pl.DataFrame] = {}
        self.deciding: dict[str, pl.DataFrame] = {}
        self.said: dict[str, dict[str, tuple[str, bool | None]]] = {name: {} for name in (*MODELS, SERVED)}

    @property
    def n_passes(self) -> int:
        """Rows and choices that pass under each model, and answers that it writes."""
        apart = len(self.validation) if self.rows is not self.validation else 0
        return len(self.rows) + apart + int(self.rows["choices"].list.len().sum()) + len(self.asked)

    def add(self, name: str, adapter: Version | None, progress: Callable[[int], None]) -> None:
        """Score all rows under one more model."""
        model = tuned(self.workspace, adapter.folder / "adapter" if adapter else None)
        self.n_vocabulary = model.get_input_embeddings().weight.shape[0]
        found = score(self.workspace, model, self.rows, choices=True, progress=progress)
        right = dict(zip(self.rows["row_id"], found.right, strict=True))
        self._answer(name, model, self.asked, progress)
        right |= {row_id: judged for row_id, (_, judged) in self.said[name].items()}
        answered = pl.Series(list(right.values()), dtype=pl.Boolean)
        self.scores[name] = _losses(self.rows, name, found.nll).with_columns(right=answered)
        if self.rows is not self.validation:
            found = score(self.workspace, model, self.validation, progress=progress)
        self.deciding[name] = _losses(self.validation, name, found.nll)

    def _answer(self, name: str, model: Any, rows: pl.DataFrame, progress: Callable[[int], None]) -> None:
        """Let a model answer rows in words."""
        if len(rows):
            done = score(self.workspace, model, rows, answer_tokens=self.answer_tokens, progress=progress)
            told = zip(rows["row_id"], rows["answer"], done.texts, done.right, strict=True)
            self.said[name] |= {
                row_id: (text, None if answer is None else right) for row_id, answer, text, right in told
            }

    def write_answers(self, draft: Draft, adapter: Version, n_rows: int) -> None:
        """Write what the models of `ANSWERING` say to some rows; what has not been asked yet, the model of both is."""
        change = self.scores["g2is"]["nll"] - self.scores["base"]["nll"]
        shown = self.rows.with_columns(chosen=pl.Series(chosen_rows(change.to_numpy(), n_rows), dtype=pl.String))
        shown = shown.filter(pl.col("chosen").is_not_null())
        missing = shown.filter(~pl.col("row_id").is_in(list(self.said["base"])))
        if len(missing):
            model = tuned(self.workspace, adapter.folder / "adapter")
            with track("answers to be read", len(missing) * len(ANSWERING), "rows") as progress:
                for name in ANSWERING:
                    with model.disable_adapter() if name == "base" else nullcontext():
                        self._answer(name, model, missing, progress)
        told = [(row_id, name, *self.said[name][row_id]) for name in ANSWERING for row_id in shown["row_id"]]
        schema = {name: ANSWERS.schema[name] for name in ("row_id", "model", "response", "right")}
        answers = pl.DataFrame(told, schema=schema, orient="row").join(shown.drop("response"), on="row_id")
        draft.write(ANSWERS, answers.select(*ANSWERS.columns).sort(ANSWERS.sorted_by))

    def write(self, draft: Draft) -> None:
        """Write the scores, and every mean and difference."""
        for contract, scores in ((SCORES, self.scores), (VALIDATION, self.deciding)):
            draft.write(contract, pl.concat(scores.values()).sort("model", "row_id").select(*contract.columns))
        draft.metric(split=self.rows["split"][0], n_scored=len(self.rows))
        draft.metric(n_asked=int(self.scores["base"]["right"].count()))
        for prefix, scores in (("", self.scores), ("validation_", self.deciding)):
            nll = {name: table["nll"].to_numpy() for name, table in scores.items()}
            draft.metric(**{f"{prefix}nll_{name}": float(values.mean()) for name, values in nll.items()})
            draft.metric(**_less_others(prefix, nll))
        right = {name: table["right"].drop_nulls().cast(pl.Float64).to_numpy() for name, table in self.scores.items()}
        if len(right["base"]) > 1:
            draft.metric(**_less_others("right_", right))
        draft.metric(**{f"n_right_{name}": int(table["right"].sum()) for name, table in self.scores.items()})
        draft.metric(n_vocabulary=self.n_vocabulary)


def _less_others(prefix: str, scores: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """The mean score of `g2is` less that of every other model, with its interval over rows, by the metrics' names."""
    found = {other: paired_difference(scores["g2is"], values) for other, values in scores.items() if other != "g2is"}
    ends = ("", "_low", "_high")
    return {
        f"{prefix}minus_{other}{end}": n for other, three in found.items() for end, n in zip(ends, three, strict=True)
    }


def _losses(rows: pl.DataFrame, model: str, nll: Sequence[float]) -> pl.DataFrame:
    losses = pl.Series(nll, dtype=pl.Float64)
    return rows.select("domain", "split", "row_id", "n_response_tokens").with_columns(model=pl.lit(model), nll=losses)


def chosen_rows(change: NDArray[np.float64], n_rows: int) -> list[str | None]:
    """Which of some rows are shown, by what the adapter changed of their loss: a third the best, a third the worst.

    Args:
        change: (n,) loss with the adapter less loss without, in nats per token.
        n_rows: How many to choose; where there are fewer, all are.

    Returns:
        Of every row `best`, `worst`, `typical` for those about the median between them, or None. Of equal ones the
        first is the better.
    """
    order, n_rows = np.argsort(change, kind="stable"), min(n_rows, len(change))
    chosen: list[str | None] = [None] * len(change)
    n_ends = n_rows // 3
    start = (len(order) - n_rows + 2 * n_ends) // 2
    places = {"best": order[:n_ends], "worst": order[len(order) - n_ends :]}
    for name, rows in (places | {"typical": order[start : start + n_rows - 2 * n_ends]}).items():
        for row in rows:
            chosen[row] = name
    return chosen
