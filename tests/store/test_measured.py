"""What trainings were worth: what their name depends on, several writers, and that a damaged file is told."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from g2is_assets.errors import StoreError
from g2is_assets.store.measured import Cell, CellAnswers, CellGeneral, CellKey, CellScores, Exam, Measured

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
ANSWERS = CellAnswers(asked="q", row_id=["z"], right=[False], n_tokens=5, seconds=2.0)
GENERAL = CellGeneral(version="1", row_id=["p", "q"], nll=[2.5, 3.5], n_tokens=7, seconds=0.5)


def test_a_cell_is_found_by_what_it_was_made_from_and_holds_what_was_written(tmp_path: Path) -> None:
    measured = Measured(tmp_path, "main")
    assert measured.find(KEY) is None
    measured.put(cell())
    measured.put(cell(replace(KEY, domain="code"), scores=None))
    measured.put(cell(scores=SCORES, answers=ANSWERS, general=GENERAL))
    found = Measured(tmp_path, "main").find(KEY)
    assert found == cell(scores=SCORES, answers=ANSWERS, general=GENERAL)
    assert found.best_validation_nll == 1.5
    assert [file.name for file in tmp_path.glob("[!.]*")] == ["main.parquet"]
    table = pl.read_parquet(tmp_path / "main.parquet")
    assert (table["domain"].to_list(), table["digest"][1]) == (["code", "math"], KEY.digest)


def test_what_another_study_measured_is_found_and_its_file_left_alone(tmp_path: Path) -> None:
    Measured(tmp_path, "first").put(cell(scores=SCORES))
    before = (tmp_path / "first.parquet").read_bytes()
    second = Measured(tmp_path, "second")
    assert second.find(KEY) == cell(scores=SCORES)
    second.put(cell())
    assert second.find(KEY) == cell()
    assert (tmp_path / "first.parquet").read_bytes() == before
    assert list(second.all()) == [KEY.digest]


def test_two_writers_lose_nothing_of_each_other(tmp_path: Path) -> None:
    keys = [replace(KEY, domain=f"d{n}") for n in range(20)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: Measured(tmp_path, "main").put(cell(key)), keys))
    assert Measured(tmp_path, "main").all().keys() == {key.digest for key in keys}


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
        test = pl.DataFrame(rows, schema=["row_id", "answer", "choices"], orient="row")
        return Exam(test, answer_tokens=0, general=test).test_digest

    asked, other = ("a", "yes", ["yes", "no"]), ("b", None, None)
    assert digest(asked, other) == digest(other, asked)
    changed = [[("a", "no", ["yes", "no"]), other], [("a", "yes", ["yes", "no", "maybe"]), other], [asked]]
    assert len({digest(asked, other), *(digest(*rows) for rows in changed)}) == 4


@pytest.mark.parametrize(
    "spoil",
    [
        lambda table: table.with_columns(best_epoch=pl.lit(3, pl.Int64)),
        lambda table: table.with_columns(n_rows=pl.lit(9, pl.Int64)),
        lambda table: table.with_columns(finetune=pl.lit('{"learning_rate":0.1,"seed":1}')),
        lambda table: table.with_columns(finetune=pl.lit("{")),
        lambda table: table.with_columns(pl.col("scores").struct.with_fields(row_id=pl.lit(["x"]))),
        lambda table: table.drop("general"),
    ],
    ids=["an unmeasured epoch", "other rows", "another rate", "no JSON", "a score without a row", "a column less"],
)
def test_a_damaged_file_is_an_error_that_names_it(
    tmp_path: Path, spoil: Callable[[pl.DataFrame], pl.DataFrame]
) -> None:
    measured = Measured(tmp_path, "main")
    measured.put(cell(scores=SCORES))
    spoil(pl.read_parquet(measured.file)).write_parquet(measured.file)
    with pytest.raises(StoreError, match=r"main\.parquet.*restore it"):
        measured.find(KEY)


def test_a_file_that_was_cut_short_is_an_error_and_nothing_is_written_over_it(tmp_path: Path) -> None:
    measured = Measured(tmp_path, "main")
    measured.put(cell())
    measured.file.write_bytes(cut := measured.file.read_bytes()[:-20])
    with pytest.raises(StoreError, match=r"main\.parquet is damaged"):
        measured.put(cell(scores=SCORES))
    assert measured.file.read_bytes() == cut
