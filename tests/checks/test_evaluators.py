"""Every evaluator is seen passing and failing on arrays made by hand."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from g2is_assets.checks.evaluators import (
    budgets_add_up,
    components_are_orthonormal_and_oriented,
    features_are_unit,
    subset_keeps_the_rules,
    tuned_beats,
)


def half(*rows: list[float]) -> np.ndarray[Any, np.dtype[np.float16]]:
    return np.array(rows, dtype=np.float16)


def single(*rows: list[float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(rows, dtype=np.float32)


def test_unit_vectors_pass() -> None:
    verdict = features_are_unit(half([1, 0], [0.6, -0.8]))
    assert verdict.passed
    assert (verdict.numbers["n_vectors"], verdict.numbers["n_bad"]) == (2, 0)
    assert verdict.numbers["largest_deviation"] < 1e-3


def test_random_unit_vectors_survive_half_precision() -> None:
    vectors = np.random.default_rng(0).normal(size=(20, 512))
    assert features_are_unit((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)).passed


def test_no_vector_at_all_passes() -> None:
    assert features_are_unit(np.empty((0, 4), dtype=np.float16)).passed


@pytest.mark.parametrize("row", [[0.99, 0], [0, 0], [float("nan"), 0], [float("inf"), 0]])
def test_a_vector_of_another_norm_or_not_finite_fails_and_is_counted(row: list[float]) -> None:
    verdict = features_are_unit(half([1, 0], row, [0, 1]))
    assert not verdict.passed
    assert (verdict.numbers["n_vectors"], verdict.numbers["n_bad"]) == (3, 1)
    assert np.isfinite(verdict.numbers["largest_deviation"])
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


def walked(*steps: tuple[int, int, float | None, float]) -> pl.DataFrame:
    """A subset of (component, step, consistency before, consistency), in order."""
    columns = ["component", "step", "consistency_before", "consistency"]
    types = {"consistency_before": pl.Float64, "consistency": pl.Float64}
    return pl.DataFrame(steps, schema=columns, orient="row", schema_overrides=types).with_row_index("order")


WALK = walked((0, 0, None, 0.9), (0, 1, 0.9, 0.8), (1, 0, None, 0.7))


def test_a_walk_without_conflict_that_keeps_its_consistency_passes() -> None:
    verdict = subset_keeps_the_rules(WALK, half([1, 0], [0.6, 0.8], [-1, 0]), 0.8)
    assert verdict.passed
    assert (verdict.numbers["n_conflicts"], verdict.numbers["n_inconsistent"]) == (0, 0)
    assert verdict.numbers["smallest_cosine"] == pytest.approx(0.6, abs=1e-3)


def test_rows_at_right_angles_are_no_conflict_and_the_threshold_itself_is_kept() -> None:
    walk = walked((0, 0, None, 1.0), (0, 1, 1.0, 0.8))
    assert subset_keeps_the_rules(walk, half([1, 0], [0, 1]), 0.8).passed


def test_two_rows_of_one_component_in_conflict_fail() -> None:
    verdict = subset_keeps_the_rules(WALK, half([1, 0], [-0.6, 0.8], [-1, 0]), 0.8)
    assert not verdict.passed
    assert (verdict.numbers["n_conflicts"], verdict.numbers["n_inconsistent"]) == (1, 0)
    assert verdict.numbers["smallest_cosine"] == pytest.approx(-0.6, abs=1e-3)


def test_a_conflict_with_a_row_that_is_not_the_predecessor_fails_too() -> None:
    walk = walked((0, 0, None, 1.0), (0, 1, 1.0, 1.0), (0, 2, 1.0, 1.0))
    assert subset_keeps_the_rules(walk, half([1, 0], [0.6, 0.8], [-0.6, 0.8]), 0.8).numbers["n_conflicts"] == 1


def test_a_step_below_its_consistency_fails() -> None:
    walk = walked((0, 0, None, 0.9), (0, 1, 0.9, 0.71))
    verdict = subset_keeps_the_rules(walk, half([1, 0], [0.6, 0.8]), 0.8)
    assert not verdict.passed
    assert (verdict.numbers["n_conflicts"], verdict.numbers["n_inconsistent"]) == (0, 1)
    assert subset_keeps_the_rules(walk, half([1, 0], [0.6, 0.8]), 0.5).passed


def test_components_that_take_turns_are_kept_apart_by_their_order() -> None:
    walk = walked((0, 0, None, 1.0), (1, 0, None, 1.0), (0, 1, 1.0, 1.0))
    assert subset_keeps_the_rules(walk, half([1, 0], [-1, 0], [0.8, 0.6]), 0.8).passed


def budgets(*pairs: tuple[int, int]) -> pl.DataFrame:
    return pl.DataFrame(pairs, schema=["budget", "n_taken"], orient="row")


def test_budgets_that_sum_to_the_domains_pass_also_when_a_walk_ended_short() -> None:
    verdict = budgets_add_up(budgets((6, 6), (4, 3)), n_rows=9, total=10)
    assert verdict.passed
    assert verdict.numbers == {"budget": 10, "allotted": 10, "taken": 9, "short": 1}


@pytest.mark.parametrize(
    ("pairs", "n_rows", "total"),
    [([(6, 6), (3, 3)], 9, 10), ([(6, 6), (4, 4)], 9, 10), ([(6, 7), (4, 3)], 10, 10)],
    ids=["not_all_allotted", "rows_missing_from_the_subset", "one_took_too_many"],
)
def test_budgets_that_do_not_add_up_fail(pairs: list[tuple[int, int]], n_rows: int, total: int) -> None:
    assert not budgets_add_up(budgets(*pairs), n_rows, total).passed


def metrics(base: float, random: float) -> dict[str, int | float | str]:
    spread = {f"minus_{n}{end}": d + s for n, d in (("base", base), ("random", random)) for end, s in ENDS}
    return {"split": "test"} | spread


ENDS = (("", 0.0), ("_low", -0.1), ("_high", 0.1))


def test_an_adapter_better_than_both_passes_and_says_by_how_much() -> None:
    verdict = tuned_beats(metrics(-0.5, -0.2))
    assert verdict.passed
    assert verdict.numbers["minus_base"] == -0.5
    assert "-0.2000 [-0.3000, -0.1000] against random" in verdict.description
    assert "test rows" in verdict.description


@pytest.mark.parametrize(("base", "random"), [(0.1, -0.2), (-0.5, 0.1), (-0.5, 0.0), (0.0, -0.5), (float("nan"), -0.5)])
def test_an_adapter_that_is_not_better_than_both_fails(base: float, random: float) -> None:
    assert not tuned_beats(metrics(base, random)).passed
