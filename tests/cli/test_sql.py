"""`g2is sql`: what it prints, what it cannot reach, and what it says of mistakes."""

import csv
import io
import json
import os
import re
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result

from g2is_assets.cli import main
from g2is_assets.contracts.tables import views
from g2is_assets.store.lake import Lake
from g2is_assets.store.query import list_views


def sql(settings: Path, *arguments: str, width: int = 100) -> Result:
    return CliRunner().invoke(main, ["sql", *arguments, "--config", str(settings)], env={"COLUMNS": str(width)})


def test_a_query_prints_a_table_and_says_what_it_left_out(refreshed: Path) -> None:
    result = sql(refreshed, "SELECT sources, prompt, n_prompt_tokens FROM instructions_pool ORDER BY row_id")
    assert result.exit_code == 0, result.output
    assert "No rows" not in result.output
    assert "Only the first" not in result.output  # 40 rows, which is all
    few = sql(refreshed, "SELECT sources, prompt FROM instructions_pool", "--limit", "3")
    assert few.output.count('["') == 3
    assert "Only the first 3 rows; there are more: raise --limit." in few.output
    assert max(map(len, few.output.splitlines())) <= 100


def test_columns_for_which_a_terminal_has_no_room_are_named(refreshed: Path) -> None:
    result = sql(refreshed, "FROM instructions_pool LIMIT 1", width=60)
    assert max(map(len, result.output.splitlines())) <= 60
    shown, left_out = result.output.split("Too narrow for ")
    assert "sources" in left_out
    assert "row_id" in left_out  # what people read has the room
    assert shown.index("prompt") < shown.index("response")


def test_json_holds_every_value_of_every_row_and_nothing_that_json_lacks(refreshed: Path) -> None:
    query = (
        "SELECT s.row_id, p.row_id, p.messages, s.core_cosine, 'nan'::DOUBLE AS nothing, 1.5::DECIMAL AS exact, "
        "DATE '2026-01-31' AS day, 'a'::BLOB AS bytes, MAP {'x': 1} AS map FROM selection_subset s "
        "JOIN instructions_pool p USING (row_id)"
    )
    result = sql(refreshed, query, "--json")
    assert result.exit_code == 0, result.output
    records = json.loads(result.stdout)
    assert len(records) == 6
    first = records[0]
    assert first["row_id"] == first["row_id_1"]
    assert first["messages"][0]["role"] == "user"
    assert (first["nothing"], first["exact"], first["day"], first["bytes"]) == (None, 1.5, "2026-01-31", "61")
    assert first["map"] == {"x": 1}
    cut = sql(refreshed, query, "--json", "--limit", "2")
    assert len(json.loads(cut.stdout)) == 2
    assert "Only the first 2 rows" in cut.stderr


def test_csv_can_be_read_back(refreshed: Path) -> None:
    result = sql(refreshed, "SELECT row_id, ids, prompt FROM instructions_pool ORDER BY 1", "--csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert len(rows) == 40
    assert json.loads(rows[0]["ids"])[0].split(":")[0] in ("sums", "words")


def test_without_a_query_every_view_is_listed_with_what_its_columns_mean(refreshed: Path) -> None:
    found = list_views(Lake(refreshed.parent / "lake"))
    assert len(found) > 20
    for view in found:
        assert view.meaning, view.name
        assert {name for name, *_ in view.columns} <= views()[view.name].columns.keys()
        assert all(meaning for *_, meaning in view.columns), view.name
    shown = sql(refreshed, width=80)
    assert re.search(r"│ selection_subset +│ +6 │ The rows that the walk took", shown.output)
    assert len(shown.output.splitlines()) == len(found) + 5  # a line each, beside the head, and what comes next
    assert f"`g2is sql {found[0].name} --config" in shown.output
    of_one = sql(refreshed, "selection_subset", width=160)
    assert re.search(r"│ predecessor_cosine +│ DOUBLE +│ Coherence: cosine to the predecessor", of_one.output)
    records = json.loads(sql(refreshed, "selection_subset", "--json").stdout)
    assert [record["column"] for record in records] == list(views()["selection_subset"].columns)
    listed = json.loads(sql(refreshed, "--json").stdout)
    assert {view["name"] for view in listed} == {view.name for view in found}
    assert set(listed[0]["columns"][0]) == {"name", "type", "meaning"}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM poetry", "does not exist"),
        ("SELECT row_idd FROM instructions_pool", '"row_id"'),
        ("SELECT 'a'::INT", "Could not convert"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("  ", "0 statements"),
        ("CREATE TABLE t AS SELECT 1", "type CREATE"),
        ("DROP VIEW instructions_pool", "type DROP"),
        ("INSERT INTO instructions_pool SELECT * FROM instructions_pool", "type INSERT"),
        ("SET enable_external_access = true", "type SET"),
        ("INSTALL httpfs", "one SELECT is needed"),
    ],
)
def test_a_mistake_is_one_line(refreshed: Path, query: str, message: str) -> None:
    result = sql(refreshed, query)
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert isinstance(result.exception, SystemExit)


def test_no_file_outside_the_lake_can_be_read_and_none_written(refreshed: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("word\nhidden\n")
    lake = refreshed.parent / "lake"
    database = (lake / "g2is.duckdb").read_bytes()
    around = os.path.relpath(secret, lake)
    for query in (
        f"SELECT * FROM read_csv('{secret}')",
        f"SELECT * FROM '{secret}'",
        f"SELECT * FROM read_text('{lake}/{around}')",
        f"SELECT * FROM glob('{tmp_path}/*')",
        "SELECT * FROM read_csv('https://example.com/a.csv')",
        f"ATTACH '{tmp_path}/other.duckdb'",
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        f"COPY (SELECT 1) TO '{lake}/out.csv'",
        f"EXPLAIN ANALYZE COPY (SELECT 1) TO '{lake}/out.csv'",
        f"SELECT * FROM query('COPY (SELECT 1) TO ''{lake}/out.csv''')",
        f"EXPORT DATABASE '{tmp_path}/all'",
        "SELECT * FROM secret",  # a variable of this function
    ):
        result = sql(refreshed, query)
        assert result.exit_code == 1, query
        assert "hidden" not in result.output
        assert "Traceback" not in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]
    assert not (lake / "out.csv").exists()
    assert (lake / "g2is.duckdb").read_bytes() == database


def test_other_files_of_the_lake_can_be_read(refreshed: Path) -> None:
    result = sql(refreshed, f"SELECT count(*) AS n FROM '{refreshed.parent}/lake/selection/subset/*/*/subset.parquet'")
    assert result.exit_code == 0, result.output
    assert " 6 │" in result.output


def test_without_a_lake_the_remedy_is_told(make_project: object, tmp_path: Path) -> None:
    settings = make_project()  # type: ignore[operator]
    for arguments in ((), ("SELECT 1",)):
        result = sql(settings, *arguments)
        assert result.exit_code == 1
        assert f"nothing has been materialised yet; run `g2is refresh --all --config {settings}` first" in result.stderr
    assert not (settings.parent / "lake").exists()
    assert sql(settings, "SELECT 1", "--json", "--csv").exit_code == 2


def test_a_view_whose_file_is_gone_and_a_database_in_use_say_what_to_do(copy: Path) -> None:
    moved = sql(copy, "SELECT * FROM instructions_pool")
    assert moved.exit_code == 1
    assert "if it was moved there, the next refresh rebuilds its views" in moved.stderr
    database = copy.parent / "lake" / "g2is.duckdb"
    with duckdb.connect(str(database)) as connection:
        gone = f"{database.parent}/gone.parquet"
        connection.execute("CREATE OR REPLACE VIEW instructions_pool AS SELECT 1 AS n")
        connection.execute(f"COPY (SELECT 1 AS n) TO '{gone}'")
        connection.execute(f"CREATE OR REPLACE VIEW instructions_pool AS SELECT * FROM read_parquet('{gone}')")
    Path(gone).unlink()
    result = sql(copy, "SELECT * FROM instructions_pool")
    assert result.exit_code == 1
    assert "a refresh mends the lake and rebuilds its views" in result.stderr
    database.write_bytes(b"no database at all" * 1000)
    assert "the next refresh makes it anew" in sql(copy, "SELECT 1").stderr
