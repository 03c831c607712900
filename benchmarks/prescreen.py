"""The frontier of a prescreen: floating-point operations against rows in common with the walk on all gradients.

    python benchmarks/prescreen.py --config benchmarks/sketch.toml --folder sketch-exact --out prescreen.md

Needs benchmarks/data and the folder that benchmarks/sketch.py fills (p = 0.92 million float16 numbers a row);
embeddings and early gradients are computed once into it. Every walk reads the same features, sketched and quantised as
the settings say; a walk behind a prescreen may take the rows kept for its domain alone. What is chosen is compared with
what the same walk takes where every row is eligible.

Operations are those that the rows' own tokens need (`training.engine.flops`): a forward pass 2·P a token, with the
output layer for tokens that carry loss; the backward pass 2·P again through frozen weights and 2·p for LoRA's;
attention between tokens is left out. BM25 costs none, an embedding one forward pass without the output layer, an early
exit the pass of a quarter of the layers with the whole output layer. A prescreen costs its score for every row and the
whole pass for every row kept: for the domain alone, or for any of all domains, whose scores cost one pass together.

Besides the scores that the setting `prescreen` has, sums of them are tried, and two ways that learn: kernel ridge
regression from a row's words and lengths and its BM25 to its pull. `learned` knows the gradients of the warmup sample;
`learned in rounds` computes those of the 5 % of rows that it thinks best, learns from them too, and goes on so. Rows
learned from count as kept: they cost their part and may be chosen.

With `--subsets FILE` what each way takes at the smaller budget is written as row ids. With `--trained` adapters are
trained on that for the ways of `TRAINED` and scored on test rows, as benchmarks/sketch.py does it.
"""

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from report import Report
from scipy.sparse import csr_array
from sketch import BUDGETS, KIND, Exact, Features, show_trained, walk

from g2is_assets.contracts.instructions import POOL, TARGET
from g2is_assets.contracts.warmup import SAMPLE
from g2is_assets.core.codes import quantise
from g2is_assets.core.rows import unit_rows
from g2is_assets.core.screen import Bm25, words_of
from g2is_assets.settings.config import GradientsSettings
from g2is_assets.settings.project import load_project
from g2is_assets.stages.frame import make
from g2is_assets.stages.screen import DEPTH
from g2is_assets.stages.stage import PROJECT, Place
from g2is_assets.stages.workspace import Workspace
from g2is_assets.training.engine import flops
from g2is_assets.training.evaluate import embed_rows
from g2is_assets.training.gradients import GradientWorker
from g2is_assets.training.lora import keep_first_layers, load_adapter
from g2is_assets.training.text import Example, examples, plan_batches

Scores = Mapping[str, NDArray[np.float64]]
KEEPS: Final = (0.1, 0.2, 0.25, 0.4, 0.6)
BATCH_TOKENS: Final = 1024
FULL: Final = "full"
LEARNED: Final = "learned"
ROUNDS: Final = "learned in rounds"
ROUND: Final = 0.05
"""Share of the pool computed in a round."""
TRAINED: Final = (FULL, "bm25, 0.2", "embedding, 0.2", "early_exit, 0.2", "learned in rounds, 0.25")


def main() -> None:
    """Parse arguments, compute what is not there, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--subsets", type=Path, help="write the rows taken at the smaller budget as JSON")
    parser.add_argument("--trained", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    workspace = Workspace(load_project(given.config))
    names = sorted(workspace.project.domains)
    for key in ("instructions/pool", "warmup/sample", "warmup/checkpoint"):
        make(workspace, key, PROJECT, "prescreen")
    for name in names:
        make(workspace, "instructions/target", Place(name), "prescreen")
    report, frontier = Report("Below the floor: a prescreen", given.out), Frontier(workspace, given.folder, names)
    taken = {(FULL, 0): frontier.walks(None)}
    kept = {(way, keep): frontier.kept(way, keep) for way in (*frontier.scores, ROUNDS) for keep in KEEPS}
    for (way, keep), rows in kept.items():
        taken[f"{way}, {keep}", 0] = frontier.walks(rows)
        print(way, keep, flush=True)
    for share in BUDGETS:
        frontier.show(report, share, kept, taken)
    frontier.show_costs(report)
    n = round(BUDGETS[0] * len(frontier.exact.eligible))
    if given.subsets:
        ids = np.array(frontier.exact.row_ids)
        chosen = {way: {name: ids[rows[name][:n]].tolist() for name in names} for (way, _), rows in taken.items()}
        given.subsets.write_text(json.dumps(chosen), encoding="utf-8")
    if given.trained:
        folder = given.folder
        show_trained(report, workspace, folder, frontier.exact, taken, names, [0], TRAINED, "trained_prescreen.json")


class Frontier:
    """Scores of every row for every domain by each way, what they cost, and the walks behind them."""

    def __init__(self, workspace: Workspace, folder: Path, names: Sequence[str]) -> None:
        self.workspace, self.folder, self.names = workspace, folder, names
        self.exact = Exact(workspace, folder, names, "float32")
        self.tables = {"pool": workspace.lake.current("instructions/pool").read(POOL)}
        for name in names:
            own = workspace.lake.current("instructions/target", name).read(TARGET)
            self.tables[name] = own.filter(pl.col("split") == "validation")
        self.rows = {name: examples(table, workspace.template) for name, table in self.tables.items()}
        self.checkpoint = workspace.lake.current("warmup/checkpoint").folder
        alike = np.triu(self.cosines >= workspace.project.settings.graph.duplicate_cosine, 1)
        self.exact.eligible = np.flatnonzero(~alike.any(axis=0))  # by stored features, as in a refresh

    @cached_property
    def features(self) -> dict[str, Features]:
        """Unit rows of what the settings have stored, of the pool's rows and each domain's."""
        settings = self.workspace.project.settings.gradients
        file = self.folder / f"sketched_{settings.sketch_dim}.npz"
        if not file.exists():
            np.savez(file, **self.exact.sketched(settings.sketch_dim, settings.seed))
        return {
            name: unit_rows(quantise(rows, settings.bits)) for name, rows in np.load(file, allow_pickle=False).items()
        }

    @cached_property
    def cosines(self) -> Features:
        """(n, n) of the pool's rows, as stored."""
        return (self.features["pool"] @ self.features["pool"].T).astype(np.float64)

    @cached_property
    def to_nodes(self) -> dict[str, Features]:
        """Of each domain (v, n) cosines of its rows to the pool's, as stored."""
        return {name: (self.features[name] @ self.features["pool"].T).astype(np.float64) for name in self.names}

    @cached_property
    def scores(self) -> dict[str, Scores]:
        """By way and domain (n,): what rows are kept by. The first three are those that `prescreen` has."""
        drawn = self.drawn
        bm25 = Bm25([text for text, here in zip(self._texts("pool"), drawn, strict=True) if here])
        words = bm25.scores(self._texts("pool"), [self._texts(name) for name in self.names]).T
        embedded, early = self._stored("embeddings", self._embed), self._stored("early", self._early)
        mean = unit_rows(embedded["pool"])[drawn].mean(axis=0)
        meant = {name: unit_rows(unit_rows(rows) - mean) for name, rows in embedded.items()}
        every: dict[str, Scores] = {
            "bm25": dict(zip(self.names, words, strict=True)),
            "embedding": {name: meant["pool"] @ meant[name].mean(axis=0) for name in self.names},
            "early_exit": {n: unit_rows(early["pool"]) @ unit_rows(early[n]).mean(axis=0) for n in self.names},
        }
        for several in (("bm25", "embedding"), ("bm25", "early_exit"), ("embedding", "early_exit")):
            every[" + ".join(several)] = {
                name: np.sum([_standardised(every[way][name]) for way in several], axis=0) for name in self.names
            }
        every[LEARNED] = {name: self._predicted(name, every["bm25"][name], drawn) for name in self.names}
        rng = np.random.default_rng(0)
        every["the pull itself"] = {name: own.mean(axis=0) for name, own in self.to_nodes.items()}
        every["chance"] = {name: rng.random(len(self.exact.row_ids)) for name in self.names}
        return every

    @cached_property
    def drawn(self) -> NDArray[np.bool_]:
        """(n,) whether a row is of the warmup sample."""
        sample = set(self.workspace.lake.current("warmup/sample").read(SAMPLE)["row_id"])
        return np.array([row in sample for row in self.exact.row_ids])

    @cached_property
    def kernel(self) -> NDArray[np.float64]:
        """(n, n) how alike rows are in their words and lengths."""
        table = self.tables["pool"]
        lengths = [table["n_response_tokens"], table["n_prompt_tokens"], table["response"].str.count_matches("\n")]
        kernel = _alike(np.stack([_standardised(np.log1p(each.to_numpy())) for each in lengths], axis=1))
        for side in ("prompt", "response"):
            words = _weighed_words(table[side].to_list())
            kernel = kernel + (words @ words.T).toarray()
        return kernel

    def _predicted(self, name: str, bm25: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(n,) pulls learned from those of rows known, under the penalty by which rows left out are predicted best."""
        own = self.kernel + 0.3 * np.outer(*[_standardised(bm25)] * 2)
        pull, tried = self.to_nodes[name].mean(axis=0)[known], []
        for penalty in (0.01, 0.1, 0.3, 1.0, 3.0):
            inverse = np.linalg.inv(own[np.ix_(known, known)] + penalty * np.eye(len(pull)))
            weights = inverse @ (pull - pull.mean())
            tried.append((float(np.square(weights / np.diag(inverse)).mean()), own[:, known] @ weights))
        return min(tried, key=lambda one: one[0])[1]

    def _in_rounds(self, name: str, n_kept: int) -> NDArray[np.bool_]:
        known = self.drawn.copy()
        while (left := n_kept - int(known.sum())) > 0:
            predicted = np.where(known, -np.inf, self._predicted(name, self.scores["bm25"][name], known))
            known[np.argsort(-predicted, kind="stable")[: min(left, round(ROUND * len(known)))]] = True
        return known

    @cached_property
    def costs(self) -> dict[str, NDArray[np.float64]]:
        """(n,) operations for each row of the pool: of the whole pass, and of each score."""
        source = self.workspace.model
        base, tuned = source.load("cpu"), load_adapter(source.load("cpu"), self.checkpoint / "adapter")
        found = {FULL: self._operations(tuned), "embedding": self._operations(base, backward=False, n_loss=0)}
        keep_first_layers(tuned, DEPTH)
        return found | {"early_exit": self._operations(tuned)}

    def kept(self, way: str, keep: float) -> dict[str, NDArray[np.bool_]]:
        """By domain (n,) whether a row is among the best."""
        n, found = round(keep * len(self.exact.row_ids)), {}
        if way == ROUNDS:
            return {name: self._in_rounds(name, n) for name in self.names}
        for name in self.names:
            found[name] = np.zeros(len(self.exact.row_ids), dtype=bool)
            found[name][np.argsort(-self.scores[way][name], kind="stable")[:n]] = True
            found[name] |= self.drawn & (way == LEARNED)
        return found

    def walks(self, kept: Mapping[str, NDArray[np.bool_]] | None) -> dict[str, NDArray[np.int64]]:
        """What each domain takes among the rows kept for it, or among all."""
        every, budget = self.exact.eligible, self.exact.budget
        found = {}
        for name in self.names:
            eligible = every if kept is None else every[kept[name][every]]
            found[name] = walk(self.cosines, self.to_nodes[name], eligible, min(budget, len(eligible)))
        return found

    def show(
        self, report: Report, share: float, kept: Mapping[tuple[str, float], Any], taken: Mapping[Any, Any]
    ) -> None:
        """One table of the frontier."""
        n, table = round(share * len(self.exact.eligible)), []
        for (way, keep), rows in kept.items():
            own = taken[f"{way}, {keep}", 0]
            same = [len({*own[name][:n]} & {*taken[FULL, 0][name][:n]}) / n for name in self.names]
            alone = np.mean([self.cost(way, rows[name]) for name in self.names])
            union = np.any([rows[name] for name in self.names], axis=0)
            shares = (f"{alone:.2f}", f"{self.cost(way, union):.2f}", f"{union.mean():.2f}")
            table.append([way, keep, *shares, f"{np.mean(same):.1%}", *(f"{each:.0%}" for each in same)])
        report.table(
            f"Rows in common with the walk on all gradients: {n} of {len(self.exact.eligible):,}",
            ("by", "keep", "cost, one domain", f"cost, all {len(self.names)}", "computed", "mean", *self.names),
            table,
            "Cost: operations as a share of those for the gradients of all rows. Computed: rows kept for any of the "
            "domains. The pull itself is what a score can do at most that ranks rows by their mean cosine to the "
            "domain's rows: it is taken from all gradients, and its cost left out.",
        )

    def show_costs(self, report: Report) -> None:
        """What the scores cost alone."""
        rows = [[way, f"{operations.sum() / self.costs[FULL].sum():.3f}"] for way, operations in self.costs.items()]
        n_tokens = sum(row.n_tokens for row in self.rows["pool"])
        report.table(f"Operations of a pass over {n_tokens:,} tokens", ("pass", "share"), rows)

    def cost(self, way: str, kept: NDArray[np.bool_]) -> float:
        """Operations of the scores of all rows and the gradients of those kept, as a share of all gradients'."""
        scored = sum(float(self.costs[part].sum()) for part in way.split(" + ") if part in self.costs)
        return (scored + float(self.costs[FULL][kept].sum())) / float(self.costs[FULL].sum())

    def _operations(self, model: Any, *, backward: bool = True, n_loss: int | None = None) -> NDArray[np.float64]:
        per_token, per_loss = (flops(model, *counts, backward=backward) for counts in ((1, 0), (0, 1)))
        rows = self.rows["pool"]
        return np.array([per_token * r.n_tokens + per_loss * (r.n_loss if n_loss is None else n_loss) for r in rows])

    def _texts(self, name: str) -> list[str]:
        return [f"{prompt}\n{response}" for prompt, response in self.tables[name].select("prompt", "response").rows()]

    def _stored(self, what: str, compute: Any) -> dict[str, Features]:
        file = self.folder / f"{what}.npz"
        if not file.exists():
            np.savez(file, **{name: compute(name, rows) for name, rows in self.rows.items()})
        return dict(np.load(file, allow_pickle=False))

    def _embed(self, _: str, rows: Sequence[Example]) -> Features:
        tokenizer = self.workspace.template.tokenizer
        return embed_rows(self.workspace.model.load("cpu"), tokenizer, rows, BATCH_TOKENS)

    def _early(self, name: str, rows: Sequence[Example]) -> Features:
        kind, settings = (KIND if name == "pool" else "sgd"), GradientsSettings(compute="bfloat16", sketch_dim=8192)
        worker = GradientWorker(self.workspace.model, self.checkpoint, (kind,), settings, "cpu", DEPTH)
        found = np.zeros((len(rows), settings.sketch_dim), dtype=np.float32)
        for batch in plan_batches([row.n_tokens for row in rows], BATCH_TOKENS):
            found[list(batch)] = worker([rows[i] for i in batch]).features[kind].numpy()
        return found


def _alike(rows: Features) -> NDArray[np.float64]:
    """(n, n) Gaussian kernel."""
    return np.exp(-0.5 * np.square(rows[:, None] - rows[None]).sum(axis=2))


def _weighed_words(texts: Sequence[str]) -> Any:
    """(n, words) sparse unit rows: words of more than two texts, by how often they stand and how rare they are."""
    counts = [Counter(words_of(text)) for text in texts]
    holding = Counter(word for count in counts for word in count)
    number = {word: n for n, word in enumerate(word for word, n in holding.items() if n > 2)}
    cells = [
        (row, number[word], (1 + np.log(n)) * np.log(len(texts) / holding[word]))
        for row, count in enumerate(counts)
        for word, n in count.items()
        if word in number
    ]
    rows, columns, values = zip(*cells, strict=True)
    found = csr_array((values, (rows, columns)), shape=(len(texts), len(number)))
    lengths = np.sqrt(found.multiply(found).sum(axis=1))
    return csr_array(found.multiply((1 / np.where(lengths > 0, lengths, 1.0))[:, None]))


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return (values - values.mean()) / values.std()


if __name__ == "__main__":
    main()
