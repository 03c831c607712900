"""Pure evaluators of stored tables and arrays: each returns whether it passed, with the numbers behind it.

What stands first in a docstring, before the arguments, is the check's description in the UI and in `audit/report`.
Tables are those of the contracts in `contracts/` that bear the argument's name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from g2is_assets.core.balance import node_weights, nodes_of
from g2is_assets.core.codes import LARGEST, ZERO_NORM
from g2is_assets.core.features import FeatureSource
from g2is_assets.core.leakage import Text, compared_whole
from g2is_assets.core.rows import cosines_towards, real_rows
from g2is_assets.errors import REDRAW, command
from g2is_assets.reports.words import counted, difference_to, guessing, percent
from g2is_assets.settings.config import LicensesSettings
from g2is_assets.settings.selection import AnySelection, BalancedSelection
from g2is_assets.trail.verify import ALTERED, STATES, Finding

COSINE_TOLERANCE: Final = 1e-6
"""Slack for cosines of float32 vectors."""
N_NAMED: Final = 5
"""Rows that a sentence names; the UI shows all."""
STEPS: Final = 512
"""Steps of a balanced walk compared at a time: 16 MB of directions at 8,192 columns."""

Metrics = Mapping[str, int | float | str]


@dataclass(frozen=True)
class Verdict:
    """Outcome of a check: whether it passed, one sentence, and numbers (or names) for the UI."""

    passed: bool
    description: str
    numbers: Mapping[str, float | int | str]

    def also(self, other: "Verdict") -> "Verdict":
        """Both together: passed if both are."""
        said = f"{self.description}; {other.description}"
        return Verdict(self.passed and other.passed, said, {**self.numbers, **other.numbers})


def directions_are_stored(blocks: Iterable[NDArray[np.int8]], bits: int) -> Verdict:
    """Every stored vector, of blocks (m, d) of codes, has a direction: its largest code is that of its bits."""
    largest = np.concatenate([np.empty(0, np.int64), *(np.abs(b.astype(np.int64)).max(axis=1) for b in blocks)])
    bad = int((largest != LARGEST[bits]).sum())
    said = f"{bad} of {counted(len(largest), 'vector')} without a direction"
    return Verdict(bad == 0, said, {"n_vectors": len(largest), "n_bad": bad})


def components_are_orthonormal_and_oriented(
    directions: NDArray[np.float32], mean: NDArray[np.float32], nodes: str = "components"
) -> Verdict:
    """Core-knowledge directions are orthonormal, and each points towards the mean validation gradient.

    Args:
        directions: (c, d).
        mean: (d,), of the domain's validation features.
        nodes: What the directions are; `rows` and `mean` need only be of norm 1.
    """
    off = directions.astype(np.float64) @ directions.T.astype(np.float64) - np.eye(len(directions))
    deviation = float(np.abs(off if nodes == "components" else off.diagonal()).max())
    towards = float((directions @ mean).min())
    passed = deviation <= COSINE_TOLERANCE and (nodes != "components" or towards >= -COSINE_TOLERANCE)
    numbers = {"n_components": len(off), "largest_deviation": deviation, "smallest_product_with_mean": towards}
    return Verdict(passed, f"deviation from orthonormality {deviation:.1e}, towards the mean {towards:.1e}", numbers)


def subset_keeps_the_rules(
    subset: pl.DataFrame, features: NDArray[np.floating], cores: NDArray[np.floating], rules: AnySelection
) -> Verdict:
    """No two rows conflict that must not, every step kept its consistency, and no row is below the core-cosine floor.

    Args:
        subset: The rows taken.
        features: (n, d), the subset's vectors in its order; everything is taken anew, in float64.
        cores: (c, d), the domain's nodes; of a balanced walk the mean validation feature alone.
        rules: What the walk was held to, as set.
    """
    rows, directions = _unit(features), _unit(cores)
    conflicts, below, broken, smallest, groups = 0, 0, 0, 1.0, []
    for _, part in subset.group_by("component", maintain_order=True):
        own, core = rows[part["order"].to_numpy()], directions[part["component"][0]]
        groups.append(own)
        if rules.min_core_cosine is not None:
            below += int((~(own @ core >= rules.min_core_cosine - COSINE_TOLERANCE)).sum())
        sums = np.cumsum(own, axis=0)
        reached = np.abs(_unit(sums) @ core)
        against = {"previous": reached, "best": np.maximum.accumulate(reached), "anchor": np.full(len(own), reached[0])}
        floor = rules.delta * against[rules.consistency][:-1] - COSINE_TOLERANCE
        broken += int((~(reached[1:] >= floor)).sum())
    for together in [rows] if rules.conflicts_across else groups:
        pairs = (together @ together.T)[np.triu_indices(len(together), 1)]
        smallest = min(smallest, float(pairs.min(initial=1.0)))
        if rules.no_conflict:
            conflicts += int((~(pairs >= -COSINE_TOLERANCE)).sum())  # NaN counts too
    return Verdict(
        conflicts == broken == below == 0,
        f"{counted(conflicts, 'pair')} in conflict, {counted(broken, 'step')} below the consistency asked for, "
        f"{counted(below, 'row')} below the core cosine",
        {"n_conflicts": conflicts, "smallest_cosine": smallest, "n_inconsistent": broken, "n_below_core_cosine": below},
    )


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    rows = vectors.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=~(norms <= ZERO_NORM))  # NaN stays NaN


def balance_was_kept(
    subset: pl.DataFrame,
    left: pl.DataFrame,
    row_ids: Sequence[str],
    source: FeatureSource,
    validation: NDArray[np.floating],
    settings: BalancedSelection,
    edges: Any = None,
) -> Verdict:
    """Every row taken has the pull and redundancy that its record says, and no row that was allowed had a better score.

    Ids (n,) and features (n, d) are of all rows, taken or left; validation is (v, d), edges (n, n) of a walk on these.
    """
    place = {row_id: number for number, row_id in enumerate(row_ids)}
    numbers = np.array([place[row_id] for row_id in subset["row_id"]])
    taken = real_rows(source, source.rows(numbers))
    sums = np.cumsum(taken, axis=0) - taken  # of the rows before
    nodes = nodes_of(validation, settings.fair)
    targets = node_weights(sums @ nodes.T) @ nodes
    weights = settings.redundancy / np.arange(1, len(taken) + 1)
    pull, repeated = np.einsum("md,md->m", taken, targets), weights * np.einsum("md,md->m", taken, sums)
    if edges is not None:
        repeated = weights * np.tril(edges[numbers][:, numbers].toarray(), -1).sum(axis=1)
    said = subset.select("pull", "redundancy").to_numpy()
    misstated = int((~(np.abs(said - np.column_stack([pull, repeated])) <= COSINE_TOLERANCE).all(axis=1)).sum())
    until = _held_until(subset, left, place, settings)
    worst = np.zeros(len(taken))
    for start in range(0, len(taken), STEPS):
        steps = np.arange(start, min(start + STEPS, len(taken)))
        directions = targets[steps] - (0 if edges is not None else weights[steps, None] * sums[steps])
        for rows, scores in cosines_towards(source, directions):
            if edges is not None:
                met = edges[rows][:, numbers].toarray()
                scores -= weights[steps] * (met.cumsum(axis=1) - met)[:, steps]
            lead = scores - (pull - repeated)[steps]
            lead[steps >= until[rows, None]] = 0
            worst[steps] = np.maximum(worst[steps], lead.max(axis=0))
    passed_over = int((worst > COSINE_TOLERANCE).sum())
    return Verdict(
        misstated == passed_over == 0,
        f"of {counted(len(taken), 'step')} {misstated} not as recorded, {passed_over} that passed over a better row",
        {"n_misstated": misstated, "n_passed_over": passed_over, "largest_lead": float(worst.max(initial=0.0))},
    )


def _held_until(
    subset: pl.DataFrame, left: pl.DataFrame, place: dict[str, int], rules: BalancedSelection
) -> NDArray[np.int64]:
    """(n,) up to which step, not included, a row may not have beaten the row taken.

    A row taken: up to its own; a row left: to the end, or until a row was taken that it conflicts with. A row that
    consistency or the floor may have refused is not compared.
    """
    steps = {row_id: order if rules.delta == 0 else 0 for order, row_id in enumerate(subset["row_id"])}
    floor = -np.inf if rules.min_core_cosine is None else rules.min_core_cosine + COSINE_TOLERANCE
    for row in left.select("row_id", "conflict_step", "n_inconsistent", "core_cosine").iter_rows(named=True):
        allowed = row["n_inconsistent"] == 0 and row["core_cosine"] >= floor
        end = len(subset) if row["conflict_step"] is None else row["conflict_step"] + 1
        steps[row["row_id"]] = end if allowed else 0
    until = np.zeros(len(place), dtype=np.int64)
    until[[place[row_id] for row_id in steps]] = list(steps.values())
    return until


def budgets_add_up(budgets: pl.DataFrame, n_rows: int, total: int, reallocate: bool = False) -> Verdict:
    """The components' budgets sum to the domain's, together they took the subset's rows, a shortfall has its cause.

    Args:
        budgets: Of the components.
        n_rows: Rows of the subset.
        total: The domain's budget.
        reallocate: Whether unmet budget is reallocated; only then may a component take more than its own.
    """
    allotted, taken = int(budgets["budget"].sum()), int(budgets["n_taken"].sum())
    exceeded = 0 if reallocate else int((budgets["n_taken"] > budgets["budget"]).sum())
    short = budgets.filter(pl.col("n_taken") < pl.col("budget"))
    unexplained = int(short["ended"].is_in(["budget", "no budget"]).sum())
    unexplained += int(reallocate and taken < total and (budgets["ended"] == "budget").any())
    passed = allotted == total and taken == n_rows <= total and exceeded == unexplained == 0
    causes = ", ".join(f"{n} by {cause}" for cause, n in sorted(short["ended"].value_counts().rows()))
    return Verdict(
        passed,
        f"{allotted} of {counted(total, 'row')} allotted, {taken} taken, {n_rows} in the subset; components that ended "
        f"short: {causes or 'none'}",
        {"budget": total, "allotted": allotted, "taken": taken, "short": total - taken, "n_short": len(short)},
    )


def graph_is_sound(nodes: pl.DataFrame, edges: pl.DataFrame) -> Verdict:
    """Neighbours and conflicts are sorted, no row is its own, and an edge has the same cosine from both ends."""
    own = int((edges["row_id"] == edges["other_row_id"]).sum())
    previous = pl.col("cosine").shift().over("row_id", "relation", order_by="rank")
    step = pl.col("cosine") - previous
    rising = (pl.col("relation") == "neighbor") & (step > COSINE_TOLERANCE)
    falling = (pl.col("relation") == "conflict") & (step < -COSINE_TOLERANCE)
    unsorted = edges.with_columns(bad=rising | falling)["bad"].sum()
    both = edges.join(
        edges, left_on=["row_id", "other_row_id", "relation"], right_on=["other_row_id", "row_id", "relation"]
    )
    asymmetric = int(((both["cosine"] - both["cosine_right"]).abs() > COSINE_TOLERANCE).sum())
    positive = int(((edges["relation"] == "conflict") & (edges["cosine"] >= 0)).sum())
    strangers = len(edges.join(nodes, left_on="other_row_id", right_on="row_id", how="anti"))
    lonely = len(nodes.join(edges.filter(pl.col("relation") == "neighbor"), on="row_id", how="anti"))
    lists = edges.group_by("row_id", "relation").agg(
        repeated=pl.len() - pl.col("other_row_id").n_unique(), gaps=pl.len() - 1 - pl.col("rank").max()
    )
    numbers = {
        "n_self_edges": own,
        "n_unsorted": int(unsorted or 0),
        "n_asymmetric": asymmetric,
        "n_positive_conflicts": positive,
        "n_unknown_rows": strangers,
        "n_rows_without_neighbors": lonely,
        "n_repeated_edges": int(lists["repeated"].sum()),
        "n_lists_with_gaps": int((lists["gaps"] != 0).sum()),
    }
    faults = ", ".join(f"{name.removeprefix('n_').replace('_', ' ')} {n}" for name, n in numbers.items())
    return Verdict(not any(numbers.values()), f"{counted(len(edges), 'edge')}: {faults}", numbers)


def constraints_bite(selection: Metrics, graph: Metrics, rules: AnySelection) -> Verdict:
    """Every rule of the walk that is in force refused some candidate; a rule that refuses nothing does nothing.

    Args:
        selection: Metrics of `selection/subset`.
        graph: Metrics of `graph/neighbors`, for the shares of negative edges.
        rules: What the walk was held to, as set.
    """
    floor = rules.min_core_cosine is not None
    ruled = {"conflict": rules.no_conflict, "consistency": rules.delta > 0, "core_cosine": floor}
    refused = {rule: int(selection[f"n_refused_by_{rule}"]) for rule, on in ruled.items() if on}
    idle = [rule.replace("_", " ") for rule, n in refused.items() if n == 0]
    near = int(selection["n_refused_within_distortion"])
    shares = {name: float(graph[f"sampled_conflicts_{name}"]) for name in ("raw", "mean_removed")}
    said = ", ".join(f"{rule.replace('_', ' ')} {n}" for rule, n in refused.items()) or "no rule, as none is in force"
    return Verdict(
        not idle,
        f"of {counted(int(selection['n_candidates']), 'candidate')} refused by {said}; within the sketch's distortion "
        f"{near}; negative edges {percent(shares['raw'], 2)} raw, {percent(shares['mean_removed'], 2)} mean-removed"
        + (f"; no candidate was refused by {', '.join(idle)}" if idle else ""),
        {f"n_refused_by_{rule}": n for rule, n in refused.items()}
        | {"n_refused_within_distortion": near, "n_candidates": int(selection["n_candidates"])}
        | {f"negative_edge_share_{name}": share for name, share in shares.items()},
    )


def walk_stays_home(selection: Metrics) -> Verdict:
    """The subset's mean gradient is nearer to that of the plain top rows than to that of a random subset."""
    subset, random, top = (float(selection[f"home_cosine{end}"]) for end in ("", "_random", "_top"))
    return Verdict(
        subset >= (random + top) / 2,
        f"cosine to the domain's mean: subset {subset:.3f}, random {random:.3f}, top rows {top:.3f}",
        {"subset": subset, "random": random, "top": top},
    )


def pool_is_free_of_leaks(excluded: pl.DataFrame, allowed: bool, own: pl.DataFrame) -> Verdict:
    """No pool row repeats a validation or test row; those that do are never trained on, unless the domain says so.

    Args:
        excluded: Rows that were not eligible.
        allowed: Whether the domain's settings allow leaks, so that none was looked for.
        own: The domain's rows. Those too short for any rule but equality are counted and named.
    """
    if allowed:
        return Verdict(False, "`allow_leaks` is set: pool rows that repeat the domain's rows may be trained on", {})
    leaks = excluded.filter(pl.col("split").is_not_null())
    test = int((leaks["split"] == "test").sum())
    reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(leaks["reason"].value_counts().rows())) or "none"
    short = own[compared_whole([Text(*pair) for pair in own.select("prompt", "response").rows()])]
    names = [f"{split} row {row_id}" for split, row_id in short.select("split", "row_id").rows()]
    more = f" and {len(names) - N_NAMED} more" if len(names) > N_NAMED else ""
    said = f"{counted(len(leaks), 'pool row')} left out for repeating the domain's ({reasons}; {test} of test rows)"
    if names:
        said += f"; of the domain's {counted(len(own), 'row')} {counted(len(names), 'is', 'are')} so short that only "
        said += f"equal text is found to repeat: {', '.join(names[:N_NAMED])}{more}"
    numbers = {"n_leaks": len(leaks), "n_leaks_of_test": test, "n_compared_whole": len(names)}
    return Verdict(leaks.is_empty(), said, {**numbers, "compared_whole": ", ".join(names) or "none"})


def sample_holds_no_withheld_row(
    row_ids: Iterable[str],
    licenses: Mapping[str, Iterable[str]],
    policy: LicensesSettings,
    withdrawn: Mapping[str, object],
) -> Verdict:
    """No row that the checkpoint was trained on is withdrawn, or has a licence that the project denies by now.

    Args:
        row_ids: The sample's rows.
        licenses: Every licence of each row; a row that is missing has left the pool with its licences.
        policy: Of licences, as it is now.
        withdrawn: The withdrawals by row id.
    """
    rows = list(row_ids)
    gone = [row for row in rows if row in withdrawn]
    refused = [row for row in rows if policy.denied(licenses.get(row, ()))]
    n_unknown = sum(row not in licenses for row in rows) if policy.in_force else 0
    due = gone or refused
    return Verdict(
        not due,
        f"of {counted(len(rows), 'row')} {counted(len(gone), 'is', 'are')} withdrawn and "
        f"{counted(len(refused), 'has', 'have')} a denied licence"
        + (f"; licences of {n_unknown} are no longer known" if n_unknown else "")
        + (f"; a new warmup is due: {command(REDRAW)}" if due else ""),
        {"n_rows": len(rows), "n_withdrawn": len(gone), "n_denied": len(refused), "n_licenses_unknown": n_unknown},
    )


def tuned_beats_base_and_random(metrics: Metrics) -> Verdict:
    """The G2IS adapter is better than a base model that does not guess, and than a random subset of the same size."""
    names = [f"minus_{other}{end}" for other in ("base", "random") for end in ("", "_low", "_high")]
    numbers = {name: float(metrics[name]) for name in names}
    said = [f"{difference_to(other, metrics)} against {other}" for other in ("base", "random")]
    covers = "95 % interval over rows, one training seed, one random subset"
    guess = guessing(metrics)
    return Verdict(
        numbers["minus_base"] < 0 and numbers["minus_random"] < 0 and guess is None,
        f"nats per token: {', '.join(said)} ({covers}; {metrics['split']} rows){f'. {guess}' if guess else ''}",
        numbers,
    )


def chain_is_whole(findings: Sequence[Finding], n_versions: int, n_files: int) -> Verdict:
    """Nothing behind the adapter was altered; what was erased or pruned on purpose is recorded and only counted."""
    counts = {state: sum(finding.state == state for finding in findings) for state in STATES}
    altered = [finding for finding in findings if finding.state == ALTERED]
    first = f"; first {altered[0].where}: {altered[0].what}" if altered else ""
    return Verdict(
        not altered,
        f"of {counted(n_versions, 'version')} with {counted(n_files, 'file')} {counts[ALTERED]} altered{first}",
        {"n_versions": n_versions, "n_files": n_files} | {f"n_{state}": n for state, n in counts.items()},
    )
