"""Every evaluator is seen passing and failing on arrays made by hand."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from g2is_assets.core.codes import quantise
from g2is_assets.settings.config import LicensesSettings
from g2is_assets.settings.selection import AnySelection, BalancedSelection, GradientSelection
from g2is_assets.stages.evaluators import (
    Verdict,
    budgets_add_up,
    components_are_orthonormal_and_oriented,
    constraints_bite,
    directions_are_stored,
    graph_is_sound,
    pool_is_free_of_leaks,
    sample_holds_no_withheld_row,
    subset_keeps_the_rules,
    tuned_beats_base_and_random,
    walk_stays_home,
)
from g2is_assets.stages.warmup import sample_stands_for_the_pool


def half(*rows: list[float]) -> np.ndarray[Any, np.dtype[np.float16]]:
    return np.array(rows, dtype=np.float16)


def single(*rows: list[float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(rows, dtype=np.float32)


def codes(*rows: list[int]) -> np.ndarray[Any, np.dtype[np.int8]]:
    return np.array(rows, dtype=np.int8)


def test_codes_that_reach_the_largest_of_their_bits_pass() -> None:
    verdict = directions_are_stored([codes([127, 0]), codes([60, -127])], 8)
    assert verdict.passed
    assert (verdict.numbers["n_vectors"], verdict.numbers["n_bad"]) == (2, 0)
    assert directions_are_stored([codes([3, -7])], 4).passed
    assert directions_are_stored([quantise(np.random.default_rng(0).normal(size=(20, 512)))], 8).passed


def test_no_vector_at_all_passes() -> None:
    assert directions_are_stored([], 8).passed


@pytest.mark.parametrize("row", [[126, 0], [0, 0], [-128, 5]])
def test_codes_without_a_direction_or_of_other_bits_fail_and_are_counted(row: list[int]) -> None:
    verdict = directions_are_stored([codes([127, 0], row), codes([0, -127])], 8)
    assert not verdict.passed
    assert (verdict.numbers["n_vectors"], verdict.numbers["n_bad"]) == (3, 1)
    assert "1 of 3" in verdict.description


def test_orthonormal_directions_towards_the_mean_pass() -> None:
    verdict = components_are_orthonormal_and_oriented(single([1, 0, 0], [0, 0.6, 0.8]), single([0.5, 0, 0.1])[0])
    assert verdict.passed
    assert verdict.numbers["n_components"] == 2
    assert verdict.numbers["smallest_product_with_mean"] == pytest.approx(0.08)


def test_a_direction_at_right_angles_to_the_mean_passes() -> None:
    assert components_are_orthonormal_and_oriented(single([1, 0], [0, 1]), single([1, 0])[0]).passed


@pytest.mark.parametrize(
    ("directions", "deviation"),
    [([[1, 0], [0.1, 0.995]], 0.1), ([[0.9, 0], [0, 1]], 0.19), ([[1, 0], [1, 0]], 1.0)],
    ids=["not_orthogonal", "not_unit", "repeated"],
)
def test_directions_that_are_not_orthonormal_fail(directions: list[list[float]], deviation: float) -> None:
    verdict = components_are_orthonormal_and_oriented(single(*directions), single([1, 1])[0])
    assert not verdict.passed
    assert verdict.numbers["largest_deviation"] == pytest.approx(deviation, abs=0.01)


def test_a_direction_away_from_the_mean_fails() -> None:
    verdict = components_are_orthonormal_and_oriented(single([1, 0], [0, -1]), single([0.5, 0.5])[0])
    assert not verdict.passed
    assert verdict.numbers["smallest_product_with_mean"] == pytest.approx(-0.5)


def test_a_direction_that_is_not_a_number_fails() -> None:
    assert not components_are_orthonormal_and_oriented(single([1, 0], [0, float("nan")]), single([1, 1])[0]).passed


@pytest.mark.parametrize("nodes", ["rows", "mean"])
def test_other_nodes_need_only_be_unit(nodes: str) -> None:
    assert components_are_orthonormal_and_oriented(single([1, 0], [0.6, 0.8]), single([-1, 0])[0], nodes).passed
    assert not components_are_orthonormal_and_oriented(single([1, 0], [0.6, 0.9]), single([1, 0])[0], nodes).passed


def walked(*components: int) -> pl.DataFrame:
    """A subset that took its rows for these components, in order."""
    return pl.DataFrame({"component": components}).with_row_index("order")


EAST = single([1, 0], [0, 1])
PUBLISHED = GradientSelection(delta=0.8)


def replace(rules: AnySelection, **others: Any) -> AnySelection:
    return rules.model_copy(update=others)


def test_a_walk_without_conflict_that_keeps_its_consistency_passes() -> None:
    verdict = subset_keeps_the_rules(walked(0, 0, 1), half([1, 0], [0.6, 0.8], [-1, 0]), EAST, PUBLISHED)
    assert verdict.passed
    assert (verdict.numbers["n_conflicts"], verdict.numbers["n_inconsistent"]) == (0, 0)
    assert verdict.numbers["smallest_cosine"] == pytest.approx(0.6, abs=1e-3)


def test_rows_at_right_angles_are_no_conflict_and_the_threshold_itself_is_kept() -> None:
    at_threshold = replace(PUBLISHED, delta=0.5**0.5)
    assert subset_keeps_the_rules(walked(0, 0), half([1, 0], [0, 1]), EAST, at_threshold).passed


def test_two_rows_of_one_component_in_conflict_fail() -> None:
    verdict = subset_keeps_the_rules(walked(0, 0, 1), half([0.8, 0.6], [0.6, -0.9], [-1, 0]), EAST, PUBLISHED)
    assert not verdict.passed
    assert (verdict.numbers["n_conflicts"], verdict.numbers["n_inconsistent"]) == (1, 0)
    assert verdict.numbers["smallest_cosine"] == pytest.approx(-0.055, abs=1e-3)


def test_a_conflict_with_a_row_that_is_not_the_predecessor_fails_too() -> None:
    rows = half([1, 0], [0.6, 0.8], [-0.6, 0.8])
    loose = replace(PUBLISHED, delta=0.0)
    assert subset_keeps_the_rules(walked(0, 0, 0), rows, EAST, loose).numbers["n_conflicts"] == 1


def test_a_conflict_between_components_fails_only_where_it_is_forbidden() -> None:
    rows, walk = half([1, 0], [-0.1, 1]), walked(0, 1)
    assert subset_keeps_the_rules(walk, rows, EAST, PUBLISHED).passed
    across = subset_keeps_the_rules(walk, rows, EAST, replace(PUBLISHED, conflicts_across=True))
    assert (across.passed, across.numbers["n_conflicts"]) == (False, 1)


def test_rows_in_conflict_pass_where_that_rule_is_off() -> None:
    rows, free = half([0.8, 0.6], [0.6, -0.9]), replace(PUBLISHED, delta=0.0, no_conflict=False)
    assert subset_keeps_the_rules(walked(0, 0), rows, EAST, free).passed
    assert not subset_keeps_the_rules(walked(0, 0), rows, EAST, replace(free, no_conflict=True)).passed


def test_a_step_below_its_consistency_fails() -> None:
    # The sum of (1, 0) and (0, 1) has cosine 0.71 to the component.
    verdict = subset_keeps_the_rules(walked(0, 0), half([1, 0], [0, 1]), EAST, PUBLISHED)
    assert not verdict.passed
    assert (verdict.numbers["n_conflicts"], verdict.numbers["n_inconsistent"]) == (0, 1)
    assert subset_keeps_the_rules(walked(0, 0), half([1, 0], [0, 1]), EAST, replace(PUBLISHED, delta=0.5)).passed


def test_consistency_is_measured_against_the_value_that_the_rules_name() -> None:
    # Cosines of the sums to the component: 0.80, 0.94, 0.75.
    rows = single([0.8, 0.6], [0.93, -0.37], [0.1, 1.0])
    walk = walked(0, 0, 0)

    def broken(consistency: str) -> float:
        rules = replace(PUBLISHED, delta=0.9, consistency=consistency)
        return subset_keeps_the_rules(walk, rows, EAST, rules).numbers["n_inconsistent"]

    sums = np.cumsum(rows / np.linalg.norm(rows, axis=1, keepdims=True), axis=0)
    np.testing.assert_allclose(sums[:, 0] / np.linalg.norm(sums, axis=1), [0.8, 0.99, 0.828], atol=0.005)
    assert (broken("previous"), broken("best"), broken("anchor")) == (1, 1, 0)


def test_a_row_below_the_core_cosine_fails() -> None:
    rules = replace(PUBLISHED, min_core_cosine=0.7)
    verdict = subset_keeps_the_rules(walked(0, 0), half([1, 0], [0.6, 0.8]), EAST, rules)
    assert (verdict.passed, verdict.numbers["n_below_core_cosine"]) == (False, 1)


def test_components_that_take_turns_are_kept_apart_by_their_order() -> None:
    assert subset_keeps_the_rules(walked(0, 1, 0), half([1, 0], [-1, 0], [0.8, 0.6]), EAST, PUBLISHED).passed


def budgets(*rows: tuple[int, int, str]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["budget", "n_taken", "ended"], orient="row")


def test_budgets_that_sum_to_the_domains_pass_also_when_a_walk_ended_short_for_a_reason() -> None:
    verdict = budgets_add_up(budgets((6, 6, "budget"), (4, 3, "conflict")), n_rows=9, total=10)
    assert verdict.passed
    assert verdict.numbers == {"budget": 10, "allotted": 10, "taken": 9, "short": 1, "n_short": 1}
    assert "1 by conflict" in verdict.description


def test_only_with_reallocation_may_a_component_take_more_than_its_budget() -> None:
    table = budgets((6, 7, "budget"), (4, 3, "conflict"))
    assert budgets_add_up(table, n_rows=10, total=10, reallocate=True).passed
    assert not budgets_add_up(table, n_rows=10, total=10).passed


def test_reallocation_that_stops_while_a_walk_could_go_on_fails() -> None:
    assert not budgets_add_up(budgets((6, 6, "budget"), (4, 3, "conflict")), 9, 10, reallocate=True).passed
    assert budgets_add_up(budgets((6, 6, "consistency"), (4, 3, "conflict")), 9, 10, reallocate=True).passed


def test_a_row_that_is_not_finite_is_in_conflict_with_all() -> None:
    verdict = subset_keeps_the_rules(walked(0, 0, 0), half([1, 0], [float("nan"), 0], [1, 0]), EAST, PUBLISHED)
    assert not verdict.passed
    assert verdict.numbers["n_conflicts"] == 2


def test_a_zero_row_is_in_conflict_with_none() -> None:
    walk = walked(0, 0)
    assert subset_keeps_the_rules(walk, half([1, 0], [0, 0]), EAST, PUBLISHED).passed


@pytest.mark.parametrize(
    ("rows", "n_rows", "total"),
    [
        ([(6, 6, "budget"), (3, 3, "budget")], 9, 10),
        ([(6, 6, "budget"), (4, 4, "budget")], 9, 10),
        ([(6, 6, "budget"), (4, 3, "budget")], 9, 10),
    ],
    ids=["not_all_allotted", "rows_missing_from_the_subset", "short_without_a_cause"],
)
def test_budgets_that_do_not_add_up_fail(rows: list[tuple[int, int, str]], n_rows: int, total: int) -> None:
    assert not budgets_add_up(budgets(*rows), n_rows, total).passed


def edges(*rows: tuple[str, str, str, int, float]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["row_id", "other_row_id", "relation", "rank", "cosine"], orient="row")


NODES = pl.DataFrame({"row_id": ["a", "b", "c"]})
SOUND = [
    ("a", "b", "neighbor", 0, 0.9),
    ("a", "c", "neighbor", 1, 0.2),
    ("b", "a", "neighbor", 0, 0.9),
    ("c", "b", "conflict", 0, -0.5),
    ("b", "c", "conflict", 0, -0.5),
    ("c", "a", "neighbor", 0, 0.2),
]


def test_a_sorted_symmetric_graph_without_self_edges_passes() -> None:
    assert graph_is_sound(NODES, edges(*SOUND)).passed


@pytest.mark.parametrize(
    ("number", "row", "fault"),
    [
        (1, ("a", "c", "neighbor", 1, 0.95), "n_unsorted"),
        (1, ("a", "a", "neighbor", 1, 0.2), "n_self_edges"),
        (2, ("b", "a", "neighbor", 0, 0.8), "n_asymmetric"),
        (3, ("c", "a", "conflict", 0, 0.1), "n_positive_conflicts"),
        (1, ("a", "x", "neighbor", 1, 0.2), "n_unknown_rows"),
        (1, ("a", "b", "neighbor", 1, 0.9), "n_repeated_edges"),
        (1, ("a", "c", "neighbor", 2, 0.2), "n_lists_with_gaps"),
        (5, ("c", "a", "conflict", 1, -0.1), "n_rows_without_neighbors"),
    ],
)
def test_an_unsound_graph_fails(number: int, row: tuple[str, str, str, int, float], fault: str) -> None:
    verdict = graph_is_sound(NODES, edges(*SOUND[:number], row, *SOUND[number + 1 :]))
    assert not verdict.passed
    assert verdict.numbers[fault] >= 1


SELECTION: dict[str, int | float | str] = {
    "n_candidates": 90,
    "n_refused_by_conflict": 7,
    "n_refused_by_consistency": 0,
    "n_refused_by_core_cosine": 0,
    "n_refused_within_distortion": 3,
    "home_cosine": 0.3,
    "home_cosine_random": 0.2,
    "home_cosine_top": 0.5,
}
SHARES = {"sampled_conflicts_raw": 0.001, "sampled_conflicts_mean_removed": 0.53}


def test_a_rule_in_force_that_refuses_nothing_is_named() -> None:
    verdict = constraints_bite(SELECTION, SHARES, GradientSelection())
    assert not verdict.passed
    assert "no candidate was refused by consistency" in verdict.description
    assert (verdict.numbers["n_refused_by_conflict"], verdict.numbers["n_refused_within_distortion"]) == (7, 3)


def test_rules_that_all_refuse_something_pass() -> None:
    assert constraints_bite(SELECTION, SHARES, GradientSelection(delta=0)).passed


def test_where_no_rule_is_in_force_none_is_missed() -> None:
    verdict = constraints_bite(SELECTION, SHARES, BalancedSelection())
    assert verdict.passed
    assert "none is in force" in verdict.description


def test_two_verdicts_together_pass_only_if_both_do() -> None:
    good, bad = Verdict(True, "well", {"a": 1}), Verdict(False, "badly", {"b": 2})
    assert good.also(bad) == Verdict(False, "well; badly", {"a": 1, "b": 2})
    assert good.also(good).passed


def test_a_walk_nearer_to_random_rows_than_to_the_top_rows_does_not_stay_home() -> None:
    assert not walk_stays_home(SELECTION).passed
    assert walk_stays_home(SELECTION | {"home_cosine": 0.36}).passed


def test_leaks_are_counted_by_reason_and_split() -> None:
    schema = {"row_id": pl.String, "reason": pl.String, "split": pl.String}
    rows = [("a", "near-duplicate", None), ("b", "equal", "test"), ("c", "word trigrams", "validation")]
    excluded = pl.DataFrame(rows, schema=schema, orient="row")
    own = target_rows(["How many apples are in six full boxes?", "一共有多少个苹果装在六个满箱里面?"])
    verdict = pool_is_free_of_leaks(excluded, False, own)
    assert not verdict.passed
    assert "short" not in verdict.description
    none = {"n_compared_whole": 0, "compared_whole": "none"}
    assert verdict.numbers == {"n_leaks": 2, "n_leaks_of_test": 1, **none}
    assert pool_is_free_of_leaks(excluded[:1], False, own).passed


def target_rows(prompts: list[str]) -> pl.DataFrame:
    rows = [(f"r{number}", "test", prompt, "7") for number, prompt in enumerate(prompts)]
    return pl.DataFrame(rows, schema=["row_id", "split", "prompt", "response"], orient="row")


def test_rows_that_leaks_cannot_be_told_of_but_by_equality_are_counted_and_named() -> None:
    excluded = pl.DataFrame(schema={"row_id": pl.String, "reason": pl.String, "split": pl.String})
    own = target_rows(["How many apples are in six full boxes?", *["Go on", "继续", "👍", "?!", "x=1;y=2", ""]])
    verdict = pool_is_free_of_leaks(excluded, False, own)
    assert verdict.passed
    assert "of the domain's 7 rows 6 are so short" in verdict.description
    assert verdict.description.endswith("test row r1, test row r2, test row r3, test row r4, test row r5 and 1 more")
    assert verdict.numbers["n_compared_whole"] == 6
    assert str(verdict.numbers["compared_whole"]).endswith("test row r5, test row r6")


def test_leaks_that_are_allowed_are_a_warning_of_their_own() -> None:
    assert not pool_is_free_of_leaks(pl.DataFrame(), True, pl.DataFrame()).passed


POLICY = LicensesSettings(deny=frozenset({"gpl"}), unknown="allow")


def test_a_sample_without_withheld_rows_passes() -> None:
    assert sample_holds_no_withheld_row(["a"], {"a": ["MIT"]}, POLICY, {"b": "asked"}).passed
    assert sample_holds_no_withheld_row(["a"], {}, LicensesSettings(), {}).passed


def test_a_sample_with_a_withdrawn_or_denied_row_fails_and_says_what_is_due() -> None:
    licenses = {"a": ["MIT"], "b": ["MIT", "GPL"], "c": ["MIT"]}
    verdict = sample_holds_no_withheld_row(["a", "b", "c", "d"], licenses, POLICY, {"c": "asked"})
    assert not verdict.passed
    assert verdict.numbers == {"n_rows": 4, "n_withdrawn": 1, "n_denied": 1, "n_licenses_unknown": 1}
    assert "`g2is refresh --all --redraw-warmup`" in verdict.description
    assert not sample_holds_no_withheld_row(["d"], {}, LicensesSettings(), {"d": "asked"}).passed


def metrics(base: float, random: float) -> dict[str, int | float | str]:
    spread = {f"minus_{n}{end}": d + s for n, d in (("base", base), ("random", random)) for end, s in ENDS}
    return {"split": "test", "nll_base": 3.0, "n_vocabulary": 49152} | spread


ENDS = (("", 0.0), ("_low", -0.1), ("_high", 0.1))


def test_an_adapter_better_than_both_passes_and_says_by_how_much() -> None:
    verdict = tuned_beats_base_and_random(metrics(-0.5, -0.2))
    assert verdict.passed
    assert verdict.numbers["minus_base"] == -0.5
    assert "-0.2000 [-0.3000, -0.1000] against random" in verdict.description
    assert "test rows" in verdict.description


@pytest.mark.parametrize(("base", "random"), [(0.1, -0.2), (-0.5, 0.1), (-0.5, 0.0), (0.0, -0.5), (float("nan"), -0.5)])
def test_an_adapter_that_is_not_better_than_both_fails(base: float, random: float) -> None:
    assert not tuned_beats_base_and_random(metrics(base, random)).passed


@pytest.mark.parametrize(
    ("n_sample", "n_gone", "passed"),
    [(40, 0, True), (20, 0, True), (80, 0, True), (19, 0, False), (81, 0, False), (40, 10, True), (40, 11, False)],
)
def test_a_sample_stands_for_the_pool_up_to_a_factor_of_two_and_a_quarter_gone(
    n_sample: int, n_gone: int, passed: bool
) -> None:
    pool = pl.Series([f"row {n}" for n in range(400)])
    sample = pl.Series([*pool[: n_sample - n_gone], *(f"gone {n}" for n in range(n_gone))])
    verdict = sample_stands_for_the_pool(sample, pool, 0.1)
    assert (verdict.passed, verdict.numbers["n_wanted"], verdict.numbers["n_gone"]) == (passed, 40, n_gone)
    assert ("--redraw-warmup" in verdict.description) is not passed


def test_a_base_model_that_guesses_is_no_success() -> None:
    guess = tuned_beats_base_and_random(metrics(-0.5, -0.2) | {"nll_base": 10.79})
    assert not guess.passed
    assert "guessing: its loss of 10.79 nats is about that of drawing every token blindly from 49,152 (10.80)" in (
        guess.description
    )
