"""Several checkpoints of the warmup: gradients at each, cosines summed by their rates, nothing computed twice."""

import math
import re
import shutil
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from g2is_assets.contracts.gradients import EARLIER, INDEX
from g2is_assets.contracts.selection import SUBSET
from g2is_assets.contracts.warmup import CHECKPOINTS
from g2is_assets.settings.project import load_project
from g2is_assets.stages.features import settings_of_vectors, stores_of
from g2is_assets.store.erasure import erase
from g2is_assets.store.features import vectors_in
from g2is_assets.store.lake import Lake
from g2is_assets.store.version import Version
from support.commands import g2is
from support.projects import flip, lake_of, write_project
from support.runs import run, run_all, select
from support.shared import copied

KIND = "adam_without_momentum"


def several(settings: Path, n: int) -> None:
    """Keep so many checkpoints, of three epochs."""
    kept = settings.read_text().replace("share = 0.2\nepochs = 1", "share = 0.2\nepochs = 3\ncheckpoints = 1")
    settings.write_text(re.sub(r"checkpoints = \d", f"checkpoints = {n}", kept))


def codes_of(lake: Lake, gradients: Version, kind: str) -> list[dict[str, np.ndarray]]:
    """By checkpoint the codes of every row, straight from the shards' files."""
    parts, index = lake.parts_of(gradients), gradients.read(INDEX)
    tables = gradients.read(EARLIER).partition_by("checkpoint", maintain_order=True)
    found = []
    for table in [*tables, index]:
        rows = table.select("row_id", "shard", "position").rows()
        found.append({row: vectors_in(parts[shard], kind)[position].astype(float) for row, shard, position in rows})
    return found


def units(codes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {row: vector / math.sqrt(vector @ vector) for row, vector in codes.items()}


@pytest.fixture(scope="module")
def story(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Version, Version]:
    """A project selected with one checkpoint, then with three: its settings, and the gradients before and after."""
    settings, made = write_project(tmp_path_factory.mktemp("several") / "project", tiny_model), []
    with dg.DagsterInstance.ephemeral() as instance:
        for n in (1, 3):
            several(settings, n)
            run_all(settings, instance)
            select(settings, instance, "sums")
            made.append(lake_of(settings).current("gradients/pool"))
    return settings, *made


def test_from_one_checkpoint_to_three_two_are_computed(story: tuple[Path, Version, Version]) -> None:
    settings, one, three = story
    n_rows = one.manifest.n_rows["index"]
    assert (one.manifest.metrics["n_computed"], one.manifest.metrics["n_reused"]) == (n_rows, 0)
    assert (three.manifest.metrics["n_computed"], three.manifest.metrics["n_reused"]) == (2 * n_rows, n_rows)
    (before,), after = stores_of(one.manifest.settings)[0], stores_of(three.manifest.settings)[0]
    assert len(set(after)) == 3
    assert after[-1] == before
    assert list(settings_of_vectors(three.manifest.settings)) == ["epoch_1", "epoch_2", "."]
    same = ["row_id", "shard", "position"]
    assert three.read(INDEX).select(same).equals(one.read(INDEX).select(same))
    assert three.read(INDEX)["sha256"].to_list() != one.read(INDEX)["sha256"].to_list()
    kept = lake_of(settings).current("warmup/checkpoint").read(CHECKPOINTS)
    assert three.manifest.settings["weights"] == kept["learning_rate"].to_list()


def test_a_rows_pull_is_the_sum_of_its_cosines_by_rate_as_less_has_it(story: tuple[Path, Version, Version]) -> None:
    settings, _, three = story
    lake = lake_of(settings)
    own, rates = lake.current("gradients/target", "sums"), three.manifest.settings["weights"]
    assert rates[0] > rates[1] > rates[2]
    pool = [units(codes) for codes in codes_of(lake, three, KIND)]
    target = [units(codes) for codes in codes_of(lake, own, "sgd")]
    first = lake.current("selection/subset", "sums").read(SUBSET).row(0, named=True)

    def influence(row: str) -> float:
        """Of Xia et al. 2024, the mean over validation rows, over the sum of rates."""
        at_each = (
            rate * np.mean([trained[row] @ mine for mine in asked.values()])
            for rate, trained, asked in zip(rates, pool, target, strict=True)
        )
        return float(sum(at_each)) / sum(rates)

    assert first["pull"] == pytest.approx(influence(first["row_id"]), abs=1e-6)
    left = lake.current("selection/subset", "sums").read(SUBSET)["row_id"]
    assert max(influence(row) for row in pool[0]) == pytest.approx(max(map(influence, left)), abs=1e-6)


def test_a_grown_pool_is_computed_at_every_checkpoint_and_the_graph_is_gone_on_from(
    story: tuple[Path, Version, Version], tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings = copied(story[0], tmp_path / "grown")
    with (settings.parent / "pool" / "words.jsonl").open("a") as file:
        file.write('{"prompt": "Say it.", "response": "So."}\n')
    run_all(settings, instance)
    lake = lake_of(settings)
    gradients = lake.current("gradients/pool").manifest
    assert gradients.metrics["n_computed"] == 3
    assert lake.current("graph/neighbors").manifest.metrics["n_known"] > 0
    assert gradients.n_rows["earlier"] == 2 * gradients.n_rows["index"]


def test_a_row_erased_is_gone_at_every_checkpoint_and_what_is_left_is_whole(
    story: tuple[Path, Version, Version], tmp_path: Path
) -> None:
    settings = copied(story[0], tmp_path / "erased")
    lake = lake_of(settings)
    gradients = lake.current("gradients/pool")
    gone = gradients.read(INDEX)["row_id"][3]
    assert all(codes[gone].any() for codes in codes_of(lake, gradients, KIND))
    erase(lake, [gone], "asked for", [])
    assert not any(codes[gone].any() for codes in codes_of(lake, lake.current("gradients/pool"), KIND))
    others = [row for row in gradients.read(INDEX)["row_id"] if row != gone]
    assert all(codes[row].any() for codes in codes_of(lake, lake.current("gradients/pool"), KIND) for row in others)


def test_why_and_verify_know_of_all_of_them(
    story: tuple[Path, Version, Version], tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings = copied(story[0], tmp_path / "asked")
    run(settings, instance, "refresh_domain", "sums")
    lake = lake_of(settings)
    first = lake.current("selection/subset", "sums").read(SUBSET)["row_id"][0]
    told = g2is(settings, "why", "sums", first)
    assert told.exit_code == 0, told.output
    assert "Taken" in told.output
    gradients = lake.current("gradients/pool")
    earliest = lake.parts_of(gradients)[gradients.read(EARLIER)["shard"][0]]
    flip(earliest.folder / "vectors.parquet")
    told = g2is(settings, "audit", "verify", "sums")
    assert told.exit_code == 1, told.output
    assert earliest.folder.name in told.output


@pytest.mark.parametrize("name", ["less", "paper"])
def test_settings_as_published_can_be_read(name: str, tmp_path: Path) -> None:
    preset = Path(__file__).parents[2] / "data" / "presets" / f"{name}.toml"
    shutil.copy(preset, tmp_path / "g2is.toml")
    (tmp_path / "domains").mkdir()
    settings = load_project(tmp_path / "g2is.toml").settings
    assert (settings.warmup.rank, settings.gradients.kinds) == (128, ("adam",))
    assert (settings.warmup.checkpoints, settings.selection.walk) == {
        "less": (4, "balanced"),
        "paper": (1, "reference"),
    }[name]


@pytest.mark.parametrize("n", [0, 4])
def test_no_more_checkpoints_than_epochs(story: tuple[Path, Version, Version], tmp_path: Path, n: int) -> None:
    settings = tmp_path / "g2is.toml"
    settings.write_text(story[0].read_text().replace("checkpoints = 3", f"checkpoints = {n}"))
    told = g2is(settings, "doctor")
    assert told.exit_code, told.output
    assert "checkpoints" in told.output
