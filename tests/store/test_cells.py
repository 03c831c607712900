"""Cells: what their name depends on, and that a damaged one is told."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from g2is_assets.errors import StoreError
from g2is_assets.store.cells import (
    Cell,
    CellKey,
    CellScores,
    all_cells,
    digest_of_test,
    find_cell,
    write_cell,
)

KEY = CellKey("math", "model", "template", ("b", "a"), {"seed": 1, "learning_rate": 1e-4}, ("v1", "v2"))


def cell(key: CellKey = KEY, **update: object) -> Cell:
    made = Cell(
        digest=key.digest,
        domain=key.domain,
        n_rows=len(key.rows),
        finetune=dict(key.finetune),
        n_tokens=30,
        n_tokens_passed=50,
        best_epoch=1,
        validation_nll=[2.0, 1.5, 1.75],
        seconds=3.5,
        made={"at": "now", "threads": "1"},
    )
    return Cell.model_validate(made.model_dump() | update)


SCORES = CellScores(
    test="t", row_id=["x", "y"], nll=[1.0, 2.0], n_response_tokens=[3, 4], correct=[True, None], n_tokens=9, seconds=1.0
)


def test_a_cell_is_found_by_what_it_was_made_from_and_holds_what_was_written(tmp_path: Path) -> None:
    assert find_cell(tmp_path, KEY) is None
    file = write_cell(tmp_path, cell(scores=SCORES))
    assert file == tmp_path / "math" / f"{KEY.digest[:16]}.json"
    found = find_cell(tmp_path, KEY)
    assert found == cell(scores=SCORES)
    assert found.best_validation_nll == 1.5
    assert all_cells(tmp_path) == [found]


def test_everything_that_determines_the_training_is_in_the_name() -> None:
    others = [
        replace(KEY, domain="code"),
        replace(KEY, model="other"),
        replace(KEY, template="other"),
        replace(KEY, rows=("a", "b")),
        replace(KEY, finetune={"seed": 2, "learning_rate": 1e-4}),
        replace(KEY, finetune={"seed": 1, "learning_rate": 2e-4}),
        replace(KEY, validation=("v1",)),
    ]
    assert len({KEY.digest, *(other.digest for other in others)}) == 1 + len(others)
    # The order of the validation rows changes nothing: they are sorted by length where they are used.
    assert replace(KEY, validation=("v2", "v1")).digest == KEY.digest


def test_scores_count_only_for_the_test_rows_that_were_scored() -> None:
    scored = cell(scores=SCORES)
    assert scored.scores_on("t") == SCORES
    assert scored.scores_on("other") is None
    assert cell().scores_on("t") is None


def test_test_rows_are_the_same_in_any_order_and_others_with_other_choices() -> None:
    def digest(*rows: tuple[str, str | None, list[str] | None]) -> str:
        return digest_of_test(pl.DataFrame(rows, schema=["row_id", "answer", "choices"], orient="row"))

    asked, other = ("a", "yes", ["yes", "no"]), ("b", None, None)
    assert digest(asked, other) == digest(other, asked)
    changed = [[("a", "no", ["yes", "no"]), other], [("a", "yes", ["yes", "no", "maybe"]), other], [asked]]
    assert len({digest(asked, other), *(digest(*rows) for rows in changed)}) == 4


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-20],
        lambda text: text.replace('"best_epoch": 1', '"best_epoch": 3'),
        lambda text: text.replace('"row_id": ["x", "y"]', '"row_id": ["x"]'),
        lambda text: text.replace(KEY.digest, "0" * 64),
        lambda text: text.replace(f'"n_rows": {len(KEY.rows)}', '"n_rows": 9'),
        lambda text: text.replace('"learning_rate": 0.0001', '"learning_rate": 0.1'),
    ],
    ids=["cut short", "an unmeasured epoch", "a score without a row", "another cell", "other rows", "another rate"],
)
def test_a_damaged_cell_is_an_error_that_names_the_file(tmp_path: Path, spoil) -> None:  # type: ignore[no-untyped-def]
    file = write_cell(tmp_path, cell(scores=SCORES))
    text = file.read_text()
    file.write_text(spoil(text))
    assert file.read_text() != text
    with pytest.raises(StoreError, match=f"{file.name}.*delete it"):
        find_cell(tmp_path, KEY)
