"""What is shown of a version comes from its tables alone, as text and pictures, and says so where it cannot."""

from pathlib import Path

import polars as pl
import pytest

from g2is_assets.contracts import finetune as finetune_contracts
from g2is_assets.contracts.contract import Contract
from g2is_assets.contracts.instructions import POOL, REJECTED, TARGET, WITHHELD
from g2is_assets.contracts.warmup import TRAINING_LOG
from g2is_assets.reports.drawn import draw
from g2is_assets.reports.shown import show
from g2is_assets.store.lake import Lake
from g2is_assets.store.version import Draft, Recipe, Version
from support.rows import UNREMARKABLE

HOSTILE = "<script>alert('x')</script> | a | **b** ![i](http://example.org)"


def instruction(number: int, prompt: str, **more: object) -> dict[str, object]:
    said = {"messages": [{"role": "user", "content": prompt}], "prompt": prompt, "response": f"answer {number} | $x$"}
    counts = {"n_prompt_tokens": 3, "n_response_tokens": number + 1, **UNREMARKABLE}
    origin = {"ids": [], "sources": ["a $ource | 1"], "licenses": ["MIT"], "answer": None, "choices": None}
    return {"row_id": f"{number:032d}", **origin, **said, **counts, **more}


def make(lake: Lake, asset: str, tables: list[tuple[Contract, pl.DataFrame]], **recipe: object) -> Version:
    def write(draft: Draft) -> None:
        for contract, table in tables:
            draft.write(contract, table)

    partition, inputs = recipe.get("partition"), recipe.get("inputs", {})
    return lake.make(Recipe(asset, partition, "1", {}, inputs), "run", write)[0]  # type: ignore[arg-type]


def make_pool(lake: Lake, n: int) -> Version:
    rows = [instruction(number, HOSTILE if number == 0 else f"prompt {number}") for number in range(n)]
    out = {"file": "f", "line": 1, "id": None, "source": "s", "reason": "empty response"}
    tables = [
        (POOL, pl.DataFrame(rows, schema=POOL.schema)),
        (REJECTED, pl.DataFrame([out], schema=REJECTED.schema)),
        (WITHHELD, pl.DataFrame(schema=WITHHELD.schema)),
    ]
    return make(lake, "instructions/pool", tables)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_the_first_rows_show_what_sources_say_as_text(lake: Lake) -> None:
    shown = show(lake, make_pool(lake, 7), draw, n_rows=2)
    first, second = shown["first_rows"]
    assert list(first.values()) == ["0" * 8, "a $ource | 1", "MIT", HOSTILE, "answer 0 | $x$", 1]
    assert second.keys() == first.keys() >= {"row_id", "prompt"}
    assert "first_rows" not in show(lake, make_pool(lake, 7), draw, n_rows=0)


def test_every_table_is_named_with_its_view_its_rows_and_its_meaning(lake: Lake) -> None:
    tables = show(lake, make_pool(lake, 7), draw)["tables"]
    assert [tables[0][name] for name in ("file", "rows", "view in g2is.duckdb", "meaning")] == [
        "pool.parquet",
        7,
        "instructions_pool",
        POOL.meaning,
    ]


@pytest.mark.parametrize("n", [2, 300])
def test_a_version_has_its_pictures(lake: Lake, n: int) -> None:
    assert show(lake, make_pool(lake, n), draw)["rows"].startswith("![rows](data:image/png;base64,iVBORw0KGgo")


def evaluation(lake: Lake) -> tuple[Version, list[Version]]:
    """A scored domain with all that it was made from."""
    target = [instruction(n, HOSTILE, domain="d", split="test") for n in range(3)]
    tables = [(TARGET, pl.DataFrame(target, schema=TARGET.schema))]
    behind = [make(lake, "instructions/target", tables, partition="d")]
    log = pl.DataFrame(
        {"step": [1], "epoch": [1.0], "train_loss": [2.0], "learning_rate": [0.1], "validation_loss": [None]},
        schema=TRAINING_LOG.schema,
    )
    behind += [make(lake, f"finetune/{n}", [(TRAINING_LOG, log)], partition="d") for n in ("adapter", "baseline")]
    scores = [
        {
            "domain": "d",
            "split": "test",
            "row_id": row["row_id"],
            "model": m,
            "nll": 1.0 + k,
            "n_response_tokens": 1,
            "right": None,
        }
        for m in ("base", "g2is", "random")
        for k, row in enumerate(target)
    ]
    said = [
        {"domain": "d", "row_id": f"{0:032d}", "model": model, "chosen": "best"}
        | {"response": f"<b>{model}</b>", "right": model == "g2is"}
        for model in ("base", "g2is")
    ]
    tables = [
        (finetune_contracts.SCORES, pl.DataFrame(scores, schema=finetune_contracts.SCORES.schema)),
        (finetune_contracts.ANSWERS, pl.DataFrame(said, schema=finetune_contracts.ANSWERS.schema)),
    ]
    inputs = {version.manifest.asset: version.as_input for version in behind}
    return make(lake, "finetune/evaluation", tables, partition="d", inputs=inputs), behind


def test_answers_stand_side_by_side(lake: Lake) -> None:
    shown = show(lake, evaluation(lake)[0], draw)
    (row,) = shown["first_rows"]
    assert list(row.values()) == ["0" * 8, HOSTILE, "answer 0 | $x$", "<b>base</b>", "<b>g2is</b>", False, True]
    assert {"scores", "losses"} <= shown.keys()


def test_where_an_input_is_gone_the_rest_is_shown_and_says_so(lake: Lake) -> None:
    version, behind = evaluation(lake)
    (behind[1].folder / "log.parquet").unlink()
    shown = show(lake, version, draw)
    assert shown.keys() == {"tables", "first_rows", "pictures"}
    assert "no longer whole" in shown["pictures"]
