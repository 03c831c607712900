"""Every picture is a small PNG on a light background, with many rows, with one, with none, and with odd names."""

import io
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from PIL import Image

from g2is_assets.contracts import finetune as finetune_contracts
from g2is_assets.contracts import graph as graph_contracts
from g2is_assets.contracts import knowledge as knowledge_contracts
from g2is_assets.contracts import selection as selection_contracts
from g2is_assets.contracts.warmup import TRAINING_LOG
from g2is_assets.reports.pictures import common, data, graph, training
from g2is_assets.stages.graph import cosine_histogram

ODD = ("$x^{$ <b>", "日本語の出典", "a very long name of a source that goes on and on", "", "plain")


def random(n: int) -> np.random.Generator:
    return np.random.default_rng(n)


def names(n: int, n_sources: int = 12) -> list[str]:
    return [ODD[k] if k < len(ODD) else f"source {k}" for k in random(n).integers(0, min(n, n_sources), n)]


def rows(n: int) -> bytes:
    table = pl.DataFrame({"sources": [[name] for name in names(n)], "n_response_tokens": random(n).integers(1, 500, n)})
    table = table.cast({"sources": pl.List(pl.String), "n_response_tokens": pl.Int64})
    reasons = pl.DataFrame({"reason": ["empty response: line 1"] * (n // 2)}, schema={"reason": pl.String})
    return data.rows_picture(table, reasons, reasons.head(1))


def log(n: int) -> pl.DataFrame:
    table = {"step": range(n), "epoch": np.arange(n) / 10, "train_loss": [None, *random(n).random(n)][:n]}
    return pl.DataFrame(
        table | {"learning_rate": [0.1] * n, "validation_loss": [1.0, *[None] * n][:n]}, schema=TRAINING_LOG.schema
    )


def losses(n: int) -> bytes:
    return training.loss_picture({"random $": log(n), "g2is": log(n)})


def vectors(n: int) -> bytes:
    table = {"source": names(n), "loss": random(n).gamma(2, 1, n), "norm": random(n).lognormal(3, 1, n)}
    return data.vectors_picture(pl.DataFrame(table, schema={"source": pl.String, "loss": float, "norm": float}))


def time(n: int) -> bytes:
    metrics = {"n_computed": n, "n_reused": 3, "mix_share": 0.1, "sketch_share": 0.1, "rows_per_s": 2.0}
    return data.time_picture(metrics | {"peak_share": 1.2 if n > 1 else 0.4})


def cosines(n: int) -> bytes:
    values = np.clip(random(n).normal(0, 0.3, n), -1, 1).astype(np.float32)
    return graph.cosine_picture(cosine_histogram({"raw": values, "mean_removed": -values}))


def places(n: int) -> pl.DataFrame:
    xy = random(n).standard_normal((n, 2)).astype(np.float32)
    return pl.DataFrame(
        {"row_id": [f"{k:08d}" for k in range(n)], "x": xy[:, 0], "y": xy[:, 1]}, schema=graph_contracts.MAP.schema
    )


def the_map(n: int) -> bytes:
    return graph.map_picture(places(n).with_columns(source=pl.Series(names(n), dtype=pl.String)))


def spectrum(n: int) -> bytes:
    shares = np.sort(random(n).random(n))[::-1]
    table = {"domain": ["d"] * n, "component": range(n), "variance_share": shares / max(shares.sum(), 1)}
    schema = knowledge_contracts.SPECTRUM.schema
    return data.spectrum_picture(pl.DataFrame(table | {"kept": np.arange(n) < 3}, schema=schema))


def loadings(n: int) -> bytes:
    table = {"domain": ["d"] * n * 2, "row_id": np.repeat([f"{k:08d}" for k in range(n)], 2).tolist()}
    numbers = {"component": [0, 1] * n, "cosine": random(n).uniform(-1, 1, 2 * n)}
    return data.loadings_picture(pl.DataFrame(table | numbers, schema=knowledge_contracts.LOADINGS.schema))


def subset(n: int, n_walks: int = 9) -> pl.DataFrame:
    component = np.sort(np.arange(n) % n_walks)
    step = np.arange(n) - np.searchsorted(component, component)
    numbers = {name: random(n).random(n) for name, t in selection_contracts.SUBSET.schema.items() if t == pl.Float64}
    table = pl.DataFrame(
        {
            **{name: [None] * n for name in selection_contracts.SUBSET.schema},
            "domain": ["d"] * n,
            "order": range(n),
            "row_id": [f"{k:08d}" for k in range(n)],
            "component": component,
            "step": step,
            "pulled_by": [[]] * n,
            **numbers,
        },
        schema=selection_contracts.SUBSET.schema,
    )
    of_steps = ("min_cosine", "predecessor_cosine")
    return table.with_columns(pl.when(pl.col("step") > 0).then(pl.col(name)).alias(name) for name in of_steps)


def walk(n: int) -> bytes:
    return graph.walk_picture(places(2 * n), subset(n))


def one_walk(n: int) -> bytes:
    return graph.walk_picture(places(2 * n), subset(n, 1))


def steps(n: int) -> bytes:
    return graph.steps_picture(subset(n), balanced=False)


def balanced_steps(n: int) -> bytes:
    return graph.steps_picture(subset(n, 1), balanced=True)


def mix(n: int) -> bytes:
    every = pl.Series([[name] for name in names(n, 40)], dtype=pl.List(pl.String))
    return graph.mix_picture(every.head(n // 2 + 1), every)


def scores(n: int) -> bytes:
    parts = [
        {"domain": "d", "split": "test", "row_id": f"{k:08d}", "model": model, "nll": 1 + value, "n_response_tokens": 3}
        for model in ("base", "g2is", "random")
        for k, value in enumerate(random(n).random(n))
    ]
    return training.scores_picture(pl.DataFrame(parts, schema=finetune_contracts.SCORES.schema))


DRAWN: list[Callable[[int], bytes]] = [
    rows,
    losses,
    vectors,
    time,
    cosines,
    the_map,
    spectrum,
    loadings,
    walk,
    one_walk,
    steps,
    balanced_steps,
    mix,
    scores,
]


@pytest.mark.parametrize("n", [0, 1, 2, 300], ids="{} rows".format)
@pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)
def test_a_picture_is_a_small_png_on_a_light_background(draw: Callable[[int], bytes], n: int) -> None:
    png = draw(n)
    assert len(png) < 60_000
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        assert 200 < image.width < 1200
        colours = image.convert("RGBA").getcolors(image.width * image.height)
        count, colour = max(colours)
    assert colour == (255, 255, 255, 255)
    assert count > 0.3 * image.width * image.height
    assert len(colours) > 2


@pytest.mark.parametrize("draw", [the_map, walk, losses, vectors], ids=lambda draw: draw.__name__)
def test_many_rows_are_sampled_so_that_the_picture_stays_small(draw: Callable[[int], bytes]) -> None:
    assert len(draw(60_000)) < 60_000


def test_the_same_tables_give_the_same_picture_and_others_another() -> None:
    assert the_map(300) == the_map(300)
    assert len({draw(300) for draw in DRAWN}) == len(DRAWN)
    assert the_map(300) != the_map(301)


def test_a_sample_says_that_it_is_one() -> None:
    table = pl.DataFrame({"n": range(1000)})
    assert common.sample(table, 1000)[1] == "1,000 rows"
    drawn, said = common.sample(table, 10)
    assert said == "a sample of 10 of 1,000 rows"
    assert drawn["n"].is_sorted()
    assert drawn["n"].n_unique() == 10
    assert drawn.equals(common.sample(table, 10)[0])


def test_only_the_largest_names_are_kept() -> None:
    kept = common.largest(pl.Series("source", ["a", "b", "b", "c", "c", "d"]), 2)
    assert kept.to_list() == ["others", "b", "b", "c", "c", "others"]
    assert kept.name == "source"


def test_histograms_count_every_pair_and_part_at_zero() -> None:
    table = cosine_histogram({"raw": np.array([-1, -0.004, 0, 0.004, 1.00001], dtype=np.float32)})
    graph_contracts.COSINES.validate(table)
    assert table["n_pairs"].sum() == 5
    assert table.filter(pl.col("high") <= 1e-9)["n_pairs"].sum() == 2
