"""Ways to select: each a function from a `Problem` to a `Selection`, declared under the name that studies call it by.

A new selector is one function here with its declaration; `SELECTORS` collects them.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from g2is_assets.core.balance import balanced_walk, mean_feature
from g2is_assets.core.features import FeatureSource
from g2is_assets.core.knowledge import allocate_budgets, knowledge_of
from g2is_assets.core.problem import Problem, Selection, Selector
from g2is_assets.core.rows import cosines_to, unit_rows
from g2is_assets.core.sampling import hash_sample
from g2is_assets.core.walk import gradient_walk
from g2is_assets.settings.config import KnowledgeSettings
from g2is_assets.settings.selection import WALKS, AnySelection, BalancedSelection, ReferenceSelection

SELECTORS: Final[dict[str, Selector]] = {}
"""All selectors by name, in the order in which they stand below."""

_FEATURES: Final = frozenset({"kind", "mean_removed"})
_RULES: Final = frozenset().union(*(w.model_fields for w in WALKS.values())) - _FEATURES - {"budget", "allow_leaks"}

SPAN: Final = 0.99
"""Share of the squared lengths of a domain's gradients that the directions hold which `gist` keeps."""

Select = Callable[[Problem], Selection]


def _selector(name: str, **said: Any) -> Callable[[Select], Select]:
    """Declare a selector: the name, and what `Selector` says of it."""

    def declare(select: Select) -> Select:
        SELECTORS[name] = Selector(name, select, **said)
        return select

    return declare


@_selector("random", draws=True)
def random_rows(problem: Problem) -> Selection:
    """The first rows by the hash of domain, seed and row id; `finetune/baseline` trains on those."""
    ids = {problem.row_ids[row]: int(row) for row in problem.eligible}
    drawn = hash_sample(list(ids), problem.budget, salt=f"baseline/{problem.domain}/{problem.seed}")
    rows = np.array([ids[row_id] for row_id in drawn], dtype=np.int64)
    return Selection(rows, np.full(len(rows), np.nan))


@_selector("full")
def all_rows(problem: Problem) -> Selection:
    """Every eligible row in the pool's order, whatever the budget: what selection saves, and what it may lose."""
    return Selection(problem.eligible.copy(), np.full(len(problem.eligible), np.nan))


@_selector("length")
def by_length(problem: Problem) -> Selection:
    """The rows with the most response tokens (Zhao et al. 2024, "Long is more for alignment")."""
    return largest(problem, np.asarray(problem.n_response_tokens)[problem.eligible].astype(np.float64))


@_selector("embedding", features="embeddings")
def by_embedding(problem: Problem) -> Selection:
    """RDS+ (Ivison et al. 2025): each validation row in turn takes the free row whose embedding has the largest cosine.

    The embeddings are those of `training.evaluate`: similarity without gradients.
    """
    return in_turn(problem, *problem.embedding_features())


@_selector("less", features="adam")
def less(problem: Problem) -> Selection:
    """Largest mean cosine of the Adam mix to the validation gradients of a sub-task, of its nearest sub-task.

    Xia et al. 2024: cosines of the checkpoints that there are, weighted by their rates; max over sub-tasks of the mean
    over its rows; without sub-tasks, one mean.
    """
    source, own = problem.gradient_features("adam")
    names, unit = _sub_tasks(problem), unit_rows(own).astype(np.float64)
    means = np.array([unit[names == name].mean(axis=0) for name in np.unique(names)])
    return largest(problem, cosines_to(source, means).max(axis=1))


@_selector("less_round_robin", features="adam")
def less_round_robin(problem: Problem) -> Selection:
    """Each validation row in turn takes the free row whose Adam mix has the largest cosine to its gradient.

    The round robin of Ivison et al. 2025 over the features of LESS: no validation row goes without.
    """
    return in_turn(problem, *problem.gradient_features("adam"))


@_selector("bids", features="adam")
def bids(problem: Problem) -> Selection:
    """BIDS (Dai et al. 2025, arXiv 2501.12147): the next row lifts most the validation row that is served least.

    Cosines of the Adam mix to each validation row are standardised over the eligible rows. Row after row is taken whose
    standardised cosine to some validation row lies highest above the mean of those taken. Our fair pull is a soft form
    of it, which weighs all validation rows by how little they are served.
    """
    source, own = problem.gradient_features("adam")
    cosines = cosines_to(source, unit_rows(own))
    spread = cosines.std(axis=0)
    scores = np.divide(cosines - cosines.mean(axis=0), spread, out=np.zeros_like(cosines), where=spread > 0)
    served, free, taken, lifts = np.zeros(scores.shape[1]), np.ones(len(scores), dtype=bool), [], []
    for step in range(problem.budget):
        lift = np.where(free, (scores - served / max(step, 1)).max(axis=1), -np.inf)
        row = int(lift.argmax())
        free[row] = False
        served += scores[row]
        taken.append(row)
        lifts.append(lift[row])
    return Selection(problem.eligible[np.array(taken, dtype=np.int64)], np.array(lifts, dtype=np.float64))


@_selector("gist", features="adam")
def gist(problem: Problem) -> Selection:
    """GIST (Min et al. 2026, arXiv 2602.18584): LESS by what of a gradient lies in the span of the domain's own.

    Of each checkpoint the validation rows, of length 1, are decomposed by singular values, uncentred; directions that
    hold `SPAN` of their squared lengths stay. Within these counts a row's cosine to the mean of a sub-task's rows,
    weighted over checkpoints, of its nearest sub-task. The published code decomposes gradients of any length, and keeps
    as many directions as there are sub-tasks.
    """
    source, own = problem.gradient_features("adam")
    unit, names = unit_rows(own).astype(np.float64), _sub_tasks(problem)
    scores = np.zeros((source.shape[0], len(np.unique(names))))
    for part, weight in zip(np.split(np.arange(unit.shape[1]), len(source.weights)), source.weights, strict=True):
        _, lengths, directions = np.linalg.svd(unit[:, part], full_matrices=False)
        held = np.cumsum(lengths**2) / np.square(lengths).sum()
        directions = directions[: int(np.searchsorted(held, SPAN)) + 1]
        means = np.array([(unit[names == name][:, part] @ directions.T).mean(axis=0) for name in np.unique(names)])
        whole = np.zeros((len(directions), unit.shape[1]))
        whole[:, part] = directions
        scores += weight * unit_rows(cosines_to(source, whole)).astype(np.float64) @ unit_rows(means).T
    return largest(problem, scores.max(axis=1))


@_selector("g2is_reference", features="adam")
def g2is_reference(problem: Problem) -> Selection:
    """The paper's walk from centred principal directions that explain half of the variance, over the Adam mix."""
    settings = ReferenceSelection(memory_gb=problem.settings.memory_gb)
    return select_by_walk(problem, problem.gradient_features("adam"), settings, KnowledgeSettings())


@_selector("g2is", features="gradients", options=_FEATURES | _RULES, walks=True)
def g2is(problem: Problem) -> Selection:
    """The balanced walk with the default settings, each of which `options` may override, also the walk itself."""
    settings = problem.settings
    features = problem.gradient_features(settings.kind, settings.mean_removed)
    return select_by_walk(problem, features, settings, problem.knowledge_settings)


@_selector("g2is_by_length", features="gradients", options=_FEATURES | {"redundancy", "fair"})
def g2is_by_length(problem: Problem) -> Selection:
    """The balanced walk, each row's pull times the root of its response length over the median length.

    A row's mean loss is taken over its tokens: the noise in its gradient shrinks with the root of their number.
    """
    settings = problem.settings
    assert isinstance(settings, BalancedSelection)  # it reads no option that says another walk
    source, own = problem.gradient_features(settings.kind, settings.mean_removed)
    lengths = problem.n_response_tokens[problem.eligible]
    walk = balanced_walk(
        source,
        own,
        problem.budget,
        redundancy=settings.redundancy,
        fair=settings.fair,
        factors=np.sqrt(lengths / np.median(lengths)),
        memory_bytes=int(1e9 * settings.memory_gb),
    )
    return Selection(problem.eligible[walk.rows], walk.score, walk)


@_selector("g2is_without_graph", features="gradients", options=_FEATURES)
def g2is_without_graph(problem: Problem) -> Selection:
    """The rows with the largest mean cosine to the validation rows, over the features that `g2is` walks.

    The plain pull alone: neither fairness to validation rows nor redundancy among those taken.
    """
    settings = problem.settings
    source, own = problem.gradient_features(settings.kind, settings.mean_removed)
    return largest(problem, cosines_to(source, mean_feature(own)[None])[:, 0])


@_selector("g2is_without_gradient", features="embeddings", options=_RULES - {"neighbours_only"}, walks=True)
def g2is_without_gradient(problem: Problem) -> Selection:
    """The walk of `g2is` with embeddings in the place of gradient features: what gradients add to it is their part."""
    return select_by_walk(problem, problem.embedding_features(), problem.settings, problem.knowledge_settings)


def _sub_tasks(problem: Problem) -> NDArray[np.str_]:
    """(v,) the sub-task of each validation row; one name where none are told apart."""
    assert problem.target is not None
    return np.array(problem.sub_tasks if problem.sub_tasks is not None else [""] * len(problem.target))


def select_by_walk(
    problem: Problem,
    features: tuple[FeatureSource, NDArray[np.floating]],
    settings: AnySelection,
    knowledge: KnowledgeSettings,
) -> Selection:
    """The walk of these settings over the features (e, d) of eligible rows and (v, d) of the domain.

    A balanced walk has one component, the domain's mean; the others share the budget out among the domain's nodes.
    """
    source, own = features
    options: dict[str, Any] = {
        "memory_bytes": int(1e9 * settings.memory_gb),
        "delta": settings.delta,
        "consistency": settings.consistency,
        "min_core_cosine": settings.min_core_cosine,
        "no_conflict": settings.no_conflict,
    }
    if settings.walk == "balanced":
        options |= {"redundancy": settings.redundancy, "fair": settings.fair}
        if settings.neighbours_only:
            if problem.edges is None:
                raise ValueError(f"domain '{problem.domain}': neighbours_only needs the graph's edges")
            options["edges"] = problem.edges[problem.eligible][:, problem.eligible]
        walk = balanced_walk(source, own, problem.budget, **options)
        split = np.ones(1), np.array([problem.budget])
    else:
        if problem.nodes is not None:
            directions, weights = problem.nodes
        else:
            found = knowledge_of(own, knowledge)
            directions, weights = found.components, found.weights
        split = weights, allocate_budgets(problem.budget, weights)
        options |= {"conflicts_across": settings.conflicts_across, "reallocate": settings.reallocate}
        options |= {"method": "reference" if settings.walk == "reference" else "g2is"}
        walk = gradient_walk(source, directions, split[1], **options)
    return Selection(problem.eligible[walk.rows], walk.score, walk, split)


def largest(problem: Problem, scores: NDArray[np.floating]) -> Selection:
    """The eligible rows with the largest scores, (e,), ties to the lower row."""
    order = np.argsort(-scores, kind="stable")[: problem.budget]
    return Selection(problem.eligible[order], scores[order].astype(np.float64))


def in_turn(problem: Problem, source: FeatureSource, own: NDArray[np.floating]) -> Selection:
    """Each row of `own` (v, d) in turn takes the free eligible row with the largest cosine, ties to the lower row."""
    scores = cosines_to(source, unit_rows(own))
    # No validation row looks further down its list than the budget.
    lists = np.argsort(-scores, axis=0, kind="stable")[: problem.budget].T
    places, free, taken, found = [0] * len(lists), np.ones(len(scores), dtype=bool), [], []
    for turn in range(problem.budget):
        column = turn % len(lists)
        while not free[lists[column][places[column]]]:
            places[column] += 1
        row = int(lists[column][places[column]])
        free[row] = False
        taken.append(row)
        found.append(scores[row, column])
    return Selection(problem.eligible[np.array(taken, dtype=np.int64)], np.array(found, dtype=np.float64))
