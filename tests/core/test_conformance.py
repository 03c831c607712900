"""The walk, the budgets and core knowledge reproduce the published implementation (see tests/conformance)."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from g2is_assets.core.codes import quantise
from g2is_assets.core.knowledge import allocate_budgets, core_knowledge
from g2is_assets.core.rows import unit_rows
from g2is_assets.core.walk import gradient_walk

FOLDERS = [Path(__file__).parents[1] / "conformance"]
if os.environ.get("G2IS_CONFORMANCE"):
    FOLDERS.append(Path(os.environ["G2IS_CONFORMANCE"]))

CASES = [
    pytest.param(folder, case, id=f"{'own' if number == 0 else 'given'}-{case['name']}")
    for number, folder in enumerate(FOLDERS)
    for case in json.loads((folder / "cases.json").read_text())
]


def arrays(folder: Path, case: dict) -> dict[str, np.ndarray]:
    with np.load(folder / f"{case['name']}.npz") as file:
        return dict(file)


def first_difference(found: np.ndarray, expected: np.ndarray) -> str:
    for step, (ours, theirs) in enumerate(zip(found, expected, strict=False)):
        if ours != theirs:
            return f"step {step}: row {ours} instead of {theirs}"
    return f"{len(found)} rows instead of {len(expected)}"


def test_the_six_synthetic_cases_are_there():
    names = {case["name"] for case in json.loads((FOLDERS[0] / "cases.json").read_text())}
    assert names == {"easy", "conflict_heavy", "many_components", "strict_delta", "duplicates", "count_components"}


@pytest.mark.parametrize(("folder", "case"), CASES)
def test_the_reference_walk_takes_the_published_rows_in_the_published_order(folder: Path, case: dict):
    data = arrays(folder, case)
    walk = gradient_walk(data["pool_gradients"], data["components"], data["budgets"], delta=case["delta"])
    if case["name"] == "duplicates":
        unit = unit_rows(data["pool_gradients"])
        np.testing.assert_array_equal(unit[walk.rows], unit[data["selected"]])
    else:
        assert walk.rows.tolist() == data["selected"].tolist(), first_difference(walk.rows, data["selected"])


@pytest.mark.parametrize(("folder", "case"), CASES)
def test_the_g2is_method_without_options_is_the_reference_walk_over_the_same_codes(folder: Path, case: dict):
    data = arrays(folder, case)
    codes = quantise(data["pool_gradients"])
    problem, delta = (codes, data["components"], data["budgets"]), case["delta"]
    reference, walk = gradient_walk(*problem, delta=delta), gradient_walk(*problem, delta=delta, method="g2is")
    if case["name"] == "duplicates":
        np.testing.assert_array_equal(codes[walk.rows], codes[reference.rows])
    else:
        assert walk.rows.tolist() == reference.rows.tolist()


@pytest.mark.parametrize(("folder", "case"), CASES)
def test_budgets_are_split_as_published(folder: Path, case: dict):
    data = arrays(folder, case)
    total = int(len(data["pool_gradients"]) * case["fraction"])
    assert allocate_budgets(total, data["weights"]).tolist() == data["budgets"].tolist()


@pytest.mark.parametrize(("folder", "case"), CASES)
def test_core_knowledge_has_the_published_weights_and_directions_up_to_sign(folder: Path, case: dict):
    data = arrays(folder, case)
    keep = case["keep"]
    rule = {"explained_variance": keep} if keep < 1 else {"n_components": int(keep)}
    knowledge = core_knowledge(data["validation_gradients"], **rule)
    np.testing.assert_allclose(knowledge.weights, data["weights"], atol=1e-5)
    cosines = np.einsum("cd,cd->c", unit_rows(knowledge.components), unit_rows(data["components"]))
    np.testing.assert_allclose(np.abs(cosines), 1.0, atol=1e-5)
