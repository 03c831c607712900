"""The leaderboard on scores small enough to work by hand, and its pictures and tables."""

import io

import polars as pl
import pytest

from g2is_assets.contracts import study as contracts
from g2is_assets.contracts.instructions import POOL
from g2is_assets.core.sampling import mean_paired_difference
from g2is_assets.errors import StoreError
from g2is_assets.reports.leaderboard import (
    Leaderboard,
    Standing,
    build_leaderboard,
    leaderboard_tables,
    paired,
    standings_of,
)
from g2is_assets.reports.pictures.training import grid_picture, interval_picture
from support.rows import UNREMARKABLE

# By domain, variant and seed: NLL of the rows a, b, c. They have 1, 1 and 2 response tokens.
NLL = {
    ("east", "base", 0): [3.0, 3.0, 3.0],
    ("east", "random", 0): [2.0, 2.0, 2.0],
    ("east", "random", 1): [2.0, 3.0, 1.0],
    ("east", "less", 0): [1.0, 1.0, 1.0],
    ("east", "new", 0): [1.0, 1.0, 4.0],
    ("east", "new", 1): [1.0, 2.0, 3.0],
    ("west", "base", 0): [5.0, 5.0, 5.0],
    ("west", "random", 0): [4.0, 4.0, 4.0],
    ("west", "random", 1): [4.0, 4.0, 4.0],
    ("west", "less", 0): [4.5, 4.5, 4.5],
    ("west", "new", 0): [3.0, 3.0, 3.0],
    ("west", "new", 1): [3.0, 3.0, 3.0],
    ("west", "only_here", 0): [1.0, 1.0, 1.0],
}
ROWS = {"random": {0: ["p", "q"], 1: ["r", "s"]}, "less": {0: ["p", "q"]}, "new": {0: ["q", "r"], 1: ["q", "r"]}}
ROWS["only_here"] = {0: ["s"]}
LENGTHS = {"p": 10, "q": 20, "r": 30, "s": 40}


def names(domain: str, variant: str, seed: int) -> dict[str, object]:
    return {"study": "main", "domain": domain, "variant": variant, "budget": 2.0, "seed": seed}


def table(rows: list[dict[str, object]], contract: contracts.Contract) -> pl.DataFrame:
    return contract.validate(pl.DataFrame(rows, schema=contract.schema).sort(contract.sorted_by))


def build(final: set[str] = frozenset()) -> Leaderboard:  # type: ignore[assignment]
    scores, general, trainings, subset = [], [], [], []
    for (domain, variant, seed), values in NLL.items():
        for row_id, nll, n_tokens in zip("abc", values, (1, 1, 2), strict=True):
            right = {"a": seed == 0, "b": True}.get(row_id) if domain == "east" else None
            row = {"row_id": row_id, "part": "development", "nll": nll, "n_response_tokens": n_tokens, "correct": right}
            scores.append(names(domain, variant, seed) | row)
            scores.append(names(domain, variant, seed) | row | {"row_id": f"z{row_id}", "part": "final", "nll": 9.0})
        # Some variants took p; w was scored after some trainings only.
        of_pool = {"p": 9.0, "u": 1.0 + seed, "v": 2.0} | ({"w": 50.0} if variant == "new" else {})
        general += [names(domain, variant, seed) | {"row_id": row, "nll": nll} for row, nll in of_pool.items()]
        chosen = {"learning_rate": 1e-4, "chosen": True, "cell": f"{domain}{variant}{seed}", "n_rows": 2}
        numbers = {
            "n_tokens": 0 if variant == "base" else 100 * (seed + 1),
            "best_epoch": 1,
            "validation_nll": 1.0,
            "seconds": 1.0,
        }
        trainings.append(names(domain, variant, seed) | chosen | numbers)
        trainings.append(trainings[-1] | {"chosen": False, "learning_rate": 2e-4, "n_tokens": 7_000_000})
        for order, row_id in enumerate(ROWS.get(variant, {}).get(seed, [])):
            subset.append(names(domain, variant, seed) | {"order": order, "row_id": row_id, "score": None})
    filled = {"messages": [], "prompt": "", "response": "", "ids": [], "licenses": [], "n_prompt_tokens": 1}
    sources = {"p": ["one"], "q": ["one", "two"], "r": ["two"], "s": ["two"]}
    pool = [
        filled | {"row_id": row_id, "n_response_tokens": n, "sources": sources[row_id], **UNREMARKABLE}
        for row_id, n in LENGTHS.items()
    ]
    seconds = pl.DataFrame(
        {"study": ["main"], "domain": ["east"], "variant": ["new"], "budget": [2.0], "seconds": [1.5]}
    )
    one_by_one = {
        "subset": pl.DataFrame(subset, schema=contracts.SUBSET.schema),
        "adapter": pl.DataFrame(trainings, schema=contracts.ADAPTER.schema),
        "score": pl.DataFrame(scores, schema=contracts.SCORES.schema),
        "general": pl.DataFrame(general, schema=contracts.GENERAL.schema),
    }
    board = build_leaderboard(**one_by_one, pool=table(pool, POOL), seconds=seconds, final=final)
    contracts.LEADERBOARD.validate(board.leaderboard)
    contracts.OVERLAP.validate(board.overlap)
    contracts.SOURCES.validate(board.sources)
    return board


def row(board: pl.DataFrame, domain: str, variant: str) -> dict[str, object]:
    found = board.filter(domain=domain, variant=variant)
    assert len(found) == 1
    return found.row(0, named=True)


def test_means_are_over_rows_then_over_seeds():
    new = row(build().leaderboard, "east", "new")
    assert new["nll"] == pytest.approx((2.0 + 2.0) / 2)
    # By token: (1 + 1 + 2 * 4) / 4 = 2.5 and (1 + 2 + 2 * 3) / 4 = 2.25.
    assert new["nll_by_token"] == pytest.approx((2.5 + 2.25) / 2)
    # Row b is right both times, a only with seed 0, c has no choices.
    assert new["accuracy"] == pytest.approx(3 / 4)
    assert (new["n_rows_scored"], new["n_seeds"], new["n_domains"]) == (3, 2, 1)
    # Only chosen trainings count: 100 and 200 tokens.
    assert (new["n_rows"], new["n_tokens"]) == (2, 150)
    assert new["mean_response_tokens"] == pytest.approx((20 + 30 + 20 + 30) / 4)
    assert new["selection_s"] == 1.5
    assert row(build().leaderboard, "west", "new")["accuracy"] is None


def test_rows_of_the_pool_count_where_all_were_scored_on_them_and_none_took_them():
    board = build().leaderboard
    assert row(board, "east", "base")["general_nll"] == pytest.approx((1 + 2) / 2)
    assert row(board, "east", "new")["general_nll"] == pytest.approx((1 + 2 + 2 + 2) / 4)
    assert row(board, "all", "new")["general_nll"] == pytest.approx((1 + 2 + 2 + 2) / 4)


def test_ranks_follow_the_mean_and_of_equals_the_name():
    east = build().leaderboard.filter(domain="east")
    assert east.select("rank", "variant").rows() == [(1, "less"), (2, "new"), (3, "random"), (4, "base")]
    # Both 2.0.
    assert row(east, "east", "new")["nll"] == row(east, "east", "random")["nll"]


def test_differences_are_paired_by_row_and_by_seed():
    board = build().leaderboard
    new = row(board, "east", "new")
    expected = mean_paired_difference([([[-1, -1, 2], [-1, -1, 2]], [[0, 0, 0], [0, 0, 0]])])
    assert (new["minus_random"], new["minus_random_low"], new["minus_random_high"]) == pytest.approx(expected)
    assert new["minus_random"] == pytest.approx(0.0)
    # `less` has one seed, `new` two.
    assert new["minus_less"] == pytest.approx(new["nll"] - row(board, "east", "less")["nll"])
    assert (new["n_better_than_random"], new["n_like_random"], new["n_worse_than_random"]) == (0, 1, 0)
    less = row(board, "east", "less")
    assert less["minus_random"] == -1.0
    assert less["minus_less"] is None
    assert less["n_better_than_less"] is None


def standing(seeds: list[int], nll: list[list[float]], row_ids: str = "abc") -> Standing:
    scores = [
        names("east", "new", seed) | {"row_id": row_id, "part": "final", "nll": value, "n_response_tokens": 1}
        for seed, values in zip(seeds, nll, strict=True)
        for row_id, value in zip(row_ids, values, strict=True)
    ]
    return standings_of(pl.DataFrame(scores, schema=contracts.SCORES.schema))["east"]["new"]


def test_all_seeds_of_both_count_and_rows_must_be_the_same():
    two, one = standing([0, 1], [[9, 9, 9], [1, 2, 3]]), standing([1], [[1, 2, 4]])
    pair = paired(two, one)
    assert pair
    assert [values.tolist() for values in pair] == [[[9, 9, 9], [1, 2, 3]], [[1, 2, 4]]]
    with pytest.raises(StoreError, match="scored on different test rows"):
        paired(one, standing([1], [[2, 4, 1]], row_ids="bcz"))


def test_one_row_is_too_few_for_an_interval():
    assert paired(standing([0], [[1]], "a"), standing([0], [[2]], "a")) is None


def test_all_is_the_mean_over_domains_of_variants_that_are_scored_in_each():
    board = build().leaderboard
    assert set(board.filter(domain="all")["variant"]) == {"base", "random", "less", "new"}
    assert set(board.filter(domain="west")["variant"]) == {"base", "random", "less", "new", "only_here"}
    new = row(board, "all", "new")
    assert new["nll"] == pytest.approx((2.0 + 3.0) / 2)
    assert new["minus_random"] == pytest.approx((0.0 - 1.0) / 2)
    # Only the east varies, so the interval is half as wide as there.
    east = row(board, "east", "new")
    width = new["minus_random_high"] - new["minus_random_low"]
    assert width == pytest.approx((east["minus_random_high"] - east["minus_random_low"]) / 2)
    assert (new["n_better_than_random"], new["n_like_random"], new["n_worse_than_random"]) == (1, 1, 0)
    # Not told apart in the east, better in the west.
    assert (new["n_better_than_less"], new["n_like_less"], new["n_worse_than_less"]) == (1, 1, 0)
    assert new["accuracy"] == pytest.approx(3 / 4)
    assert (new["n_domains"], new["n_rows_scored"]) == (2, 6)
    assert row(board, "all", "base")["mean_response_tokens"] is None


def test_final_rows_are_left_out_until_they_are_opened():
    assert set(build().leaderboard["part"]) == {"development"}
    opened = build(final={"main"}).leaderboard
    assert set(opened["part"]) == {"development", "final"}
    assert set(opened.filter(part="final")["nll"]) == {9.0}
    assert set(build(final={"another"}).leaderboard["part"]) == {"development"}


def test_overlap_counts_the_rows_that_two_variants_chose_in_common():
    overlap = build().overlap.filter(domain="east")
    assert overlap.select("variant", "other", "n_common", "jaccard").rows() == [
        ("less", "new", 1, pytest.approx(1 / 3)),
        ("less", "random", 2, 1.0),
        ("new", "random", 1, pytest.approx(1 / 3)),
    ]


def test_sources_are_shares_of_the_rows_chosen_beside_those_of_the_pool():
    sources = build().sources.filter(domain="east", variant="random")
    # Rows p and q with seed 0, r and s with seed 1; q has both sources.
    assert sources.select("source", "n_rows", "share", "pool_share").rows() == [
        ("one", 1.0, 0.5, 0.5),
        ("two", 1.5, 0.75, 0.75),
    ]


def test_pictures_are_images_of_every_part():
    import matplotlib.image

    small, large = build().leaderboard, build(final={"main"}).leaderboard
    for draw in (grid_picture, interval_picture):
        heights = [matplotlib.image.imread(io.BytesIO(draw(board)), format="png").shape[0] for board in (small, large)]
        assert heights[1] > 1.5 * heights[0] > 0
    assert grid_picture(small) == grid_picture(small)
    # Under way: in one domain only the base model is scored so far.
    begun = small.filter((pl.col("domain") == "east") | (pl.col("variant") == "base"))
    assert len({grid_picture(begun), grid_picture(small), grid_picture(begun.filter(variant="base"))}) == 3


def test_where_neither_random_nor_less_was_scored_there_is_no_picture_of_differences():
    board = build().leaderboard
    none = pl.lit(None, pl.Float64)
    alone = board.with_columns(study=pl.lit("other"), minus_random=none, minus_less=none)
    assert interval_picture(alone) is None
    assert interval_picture(pl.concat([board, alone])) == interval_picture(board)
    assert interval_picture(board)
    assert interval_picture(board.filter(variant="base")) is None


def test_the_terminal_shows_all_domains_last_and_how_many_seeds():
    tables = leaderboard_tables(build().leaderboard)
    assert [title.split(",")[0] for title, _ in tables] == ["east", "west", "all"]
    (line,) = [row for row in tables[0][1] if row["variant"] == "new"]
    assert line["NLL"] == "2.0000"
    assert line["minus less"].startswith("+1.0000 [")
    assert "1 to 2 seeds" in tables[0][0]
