"""Graph and selection on a changing pool and with other settings, and the reasons that `g2is why` gives."""

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import duckdb
import polars as pl
import pytest
from click.testing import CliRunner

from g2is_assets.cli import main
from g2is_assets.contracts import graph as graph_contracts
from g2is_assets.contracts import selection as contracts
from g2is_assets.contracts.instructions import TARGET
from g2is_assets.core.rows import unit_rows
from g2is_assets.errors import SettingsError
from g2is_assets.reports.why import explain
from g2is_assets.settings.project import load_project
from g2is_assets.stages.checks import EXAMINED
from g2is_assets.stages.features import all_rows, stored_features
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.lake import Lake
from g2is_assets.store.version import Version
from support import runs
from support.projects import lake_of, write_project
from support.rows import arithmetic_row, write_jsonl
from support.runs import run


def refresh_pool(settings: Path, instance: dg.DagsterInstance) -> None:
    assert run(settings, instance, "refresh_pool").success


def select(settings: Path, instance: dg.DagsterInstance, domain: str) -> Version:
    """The domain's assets up to its subset, with their checks."""
    result = runs.select(settings, instance, domain)
    broken = [
        check.check_name
        for check in result.get_asset_check_evaluations()
        if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR
    ]
    assert broken == []
    return lake_of(settings).current("selection/subset", domain)


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture(scope="module")
def project(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, instance: dg.DagsterInstance) -> Path:
    """A pool with a near-duplicate by text and a copy of a domain's test row, refreshed with the domain `sums`.

    Another of its test rows asks a single word.
    """
    settings = write_project(tmp_path_factory.mktemp("selection"), tiny_model)
    shouted = arithmetic_row(3) | {"id": "shouted", "instruction": str(arithmetic_row(3)["instruction"]).upper()}
    leak = arithmetic_row(207, "sums") | {"id": "leak", "output": "I do not know, sorry, ask another day."}
    write_jsonl(settings.parent / "pool" / "more.jsonl", [shouted, leak])
    test = settings.parent / "domains" / "sums" / "test.jsonl"
    write_jsonl(test, [*map(json.loads, test.read_text().splitlines()[:-1]), {"instruction": "继续", "output": "14"}])
    refresh_pool(settings, instance)
    select(settings, instance, "sums")
    return settings


def graph_tables(lake: Lake) -> dict[str, pl.DataFrame]:
    version = lake.current("graph/neighbors")
    contracts_of = {
        "neighbors": graph_contracts.NODES,
        "edges": graph_contracts.EDGES,
        "duplicates": graph_contracts.DUPLICATES,
        "groups": graph_contracts.GROUPS,
    }
    return {name: version.read(contract) for name, contract in contracts_of.items()}


def test_rows_of_equal_text_are_one_group_of_which_one_is_eligible(project: Path) -> None:
    lake = lake_of(project)
    pool = pl.read_parquet(lake.current("instructions/pool").folder / "pool.parquet")
    pair = set(pool.filter(pl.col("response") == arithmetic_row(3)["output"])["row_id"])
    groups = graph_tables(lake)["groups"]
    assert len(pair) == 2
    assert set(groups.filter(pl.col("row_id").is_in(pair))["duplicate_group"]) == {min(pair)}
    excluded = lake.current("selection/subset", "sums").read(contracts.EXCLUDED)
    assert max(pair) in excluded.filter(pl.col("reason") == "near-duplicate")["row_id"]


def test_a_row_too_short_to_be_found_but_by_equality_is_named_by_the_check(project: Path) -> None:
    lake = lake_of(project)
    (check,) = (check for check in EXAMINED if check.name == "pool_is_free_of_leaks")
    verdict = check.evaluate(Workspace(load_project(project)), lake.current("selection/subset", "sums"))
    row_id = lake.current("instructions/target", "sums").read(TARGET).filter(prompt="继续")["row_id"].item()
    assert verdict.numbers["compared_whole"] == f"test row {row_id}"


def test_a_pool_row_with_the_prompt_of_a_test_row_is_left_out_and_said(project: Path) -> None:
    version = lake_of(project).current("selection/subset", "sums")
    leaks = version.read(contracts.EXCLUDED).filter(pl.col("split").is_not_null())
    assert leaks.select("reason", "split").rows() == [("equal", "test")]
    assert version.manifest.metrics["n_leaks"] == 1
    answer = explain(lake_of(project), "sums", "leak")
    assert answer.state == "excluded"
    assert "repeats the test row" in answer.lines[1]


def test_every_eligible_row_is_taken_or_has_a_reason_per_component(project: Path) -> None:
    lake = lake_of(project)
    version = lake.current("selection/subset", "sums")
    left, subset = version.read(contracts.LEFT), version.read(contracts.SUBSET)
    budgets = version.read(contracts.BUDGETS)
    excluded = version.read(contracts.EXCLUDED)
    walked = budgets.filter(pl.col("budget") > 0)
    per_row = left.group_by("row_id").len()
    assert set(per_row["len"]) == {len(walked)}
    everything = [*per_row["row_id"], *subset["row_id"], *excluded["row_id"]]
    assert sorted(everything) == sorted(graph_tables(lake)["neighbors"]["row_id"])
    reasons = left.select(conflict=pl.col("conflict_row").is_not_null(), ranked=pl.col("rank").is_not_null())
    assert (reasons["conflict"] ^ reasons["ranked"]).all()


def test_why_tells_anchors_from_later_rows(project: Path, instance: dg.DagsterInstance) -> None:
    (project.parent / "domains" / "words" / "domain.toml").write_text(PAPERS_WALK)
    lake = lake_of(project)
    subset = select(project, instance, "words").read(contracts.SUBSET)
    anchor = explain(lake, "words", subset["row_id"][0])
    assert (anchor.state, anchor.records[0]["step"]) == ("taken", 0)
    assert "anchor" in anchor.lines[2]
    later = subset.filter(pl.col("step") > 0)
    assert len(later)
    walked = explain(lake, "words", later["row_id"][0])
    assert later["predecessor"][0][:8] in "\n".join(walked.lines)


def test_why_names_the_row_in_conflict_in_words_as_json_and_as_sql(project: Path, instance: dg.DagsterInstance) -> None:
    # Features without momentum, so that there are conflicts.
    words = f'{PAPERS_WALK}kind = "adam_without_momentum"\n'
    (project.parent / "domains" / "words" / "domain.toml").write_text(words)
    lake = lake_of(project)
    left = select(project, instance, "words").read(contracts.LEFT)
    refused = left.filter(pl.col("conflict_row").is_not_null()).row(0, named=True)
    asked = CliRunner().invoke(main, ["why", "--config", str(project), "words", refused["row_id"][:12]])
    assert asked.exit_code == 0, asked.output
    assert f"in conflict from step {refused['conflict_step']} on, with {refused['conflict_row'][:8]}" in asked.output
    as_json = CliRunner().invoke(main, ["why", "--config", str(project), "--json", "words", refused["row_id"]])
    assert json.loads(as_json.output)["trace"] == left.filter(pl.col("row_id") == refused["row_id"]).to_dicts()
    with duckdb.connect(str(lake.root / "g2is.duckdb"), read_only=True) as views:
        query = "SELECT conflict_row FROM selection_subset_left WHERE domain = 'words' AND row_id = ? AND component = ?"
        found = views.execute(query, [refused["row_id"], refused["component"]]).fetchone()
    assert found == (refused["conflict_row"],)


@pytest.mark.parametrize(("asked", "said"), [("nothing", "no row is"), ("sums:", "no row is")])
def test_why_names_what_it_does_not_know(project: Path, asked: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        explain(lake_of(project), "sums", asked)


def test_a_changed_pool_goes_on_from_the_graph_before_to_the_same_graph(
    project: Path, tiny_model: Path, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    def change(settings: Path) -> None:
        pool = settings.parent / "pool"
        (pool / "more.jsonl").unlink(missing_ok=True)
        rows = (pool / "sums.jsonl").read_text().splitlines(keepends=True)
        (pool / "sums.jsonl").write_text("".join(rows[2:]))
        write_jsonl(
            pool / "new.jsonl", [{"instruction": f"Name number {n}.", "output": f"It is {n}."} for n in range(3)]
        )

    lake = lake_of(project)
    kept = {file: file.read_bytes() for file in (project.parent / "pool").iterdir()}
    change(project)
    refresh_pool(project, instance)
    assert lake.current("graph/neighbors").manifest.metrics["n_known"] > 0
    anew = write_project(tmp_path / "anew", tiny_model)
    # The same warmup, so that the vectors are the same: its sample does not follow the pool.
    for file, content in kept.items():
        (anew.parent / "pool" / file.name).write_bytes(content)
    refresh_pool(anew, instance)
    change(anew)
    for place in (anew.parent / "lake" / "graph").glob("*"):
        for version in place.glob("*-*"):
            (version / "neighbors.parquet").unlink()  # damaged: nothing to go on from
    refresh_pool(anew, instance)
    assert lake_of(anew).current("graph/neighbors").manifest.metrics["n_known"] == 0
    for name, table in graph_tables(lake).items():
        assert table.equals(graph_tables(lake_of(anew))[name]), name
    for file in (project.parent / "pool").iterdir():
        file.unlink()
    for file, content in kept.items():
        file.write_bytes(content)
    refresh_pool(project, instance)


PAPERS_WALK = '[selection]\nwalk = "gradient"\n'
OPTIONS = {
    "mean_removed": "[selection]\nmean_removed = true\n",
    "coherence": PAPERS_WALK,
    "rows": f'{PAPERS_WALK}[knowledge]\nnodes = "rows"\n',
    "mean": f'{PAPERS_WALK}[knowledge]\nnodes = "mean"\n',
    "all_rules": f'{PAPERS_WALK}kind = "adam_without_momentum"\nconsistency = "best"\nmin_core_cosine = 0.0\n'
    "conflicts_across = true\nreallocate = true\n",
    "momentum_free": f'{PAPERS_WALK}kind = "adam_without_momentum"\n[knowledge]\ncentered = false\n',
    "leaks_allowed": "[selection]\nallow_leaks = true\n",
    "conflicts_allowed": f'{PAPERS_WALK}kind = "adam_without_momentum"\nno_conflict = false\n',
    "edges": '[selection]\nneighbours_only = true\nkind = "adam"\n',
    "balance": '[selection]\nwalk = "balanced"\nkind = "adam_without_momentum"\n',
    "balance_with_rules": '[selection]\nwalk = "balanced"\nkind = "adam_without_momentum"\nno_conflict = true\n'
    "delta = 0.9\nmin_core_cosine = 0.0\nmean_removed = true\n",
}


def tell_balance_in_words(project: Path, version: Version) -> None:
    """The whole budget is component 0's, and `g2is why` tells pull, redundancy and the row that is nearest."""
    lake, subset = lake_of(project), version.read(contracts.SUBSET)
    budgets = version.read(contracts.BUDGETS).row(0, named=True)
    assert (budgets["component"], budgets["weight"], budgets["n_taken"]) == (0, 1.0, len(subset))
    assert version.manifest.n_rows["budgets"] == 1
    second = subset.row(1, named=True)
    assert second["score"] == pytest.approx(second["pull"] - second["redundancy"])
    assert second["nearest_row"] == subset["row_id"][0]
    words = "\n".join(explain(lake, "sums", second["row_id"]).lines)
    assert f"pull {second['pull']:.4f} less redundancy {second['redundancy']:.4f}" in words
    if second["margin"] is None:
        assert "all rows then allowed were taken in the end" in words
    else:
        assert f"{second['margin']:.4f} ahead of the best row that was never taken" in words
        assert ("less than the sketch's error" in words) == (second["margin"] < second["error"])
    assert f"it resembles {second['nearest_row'][:8]} (" in words
    assert f"{second['pulled_by'][0]['row_id'][:8]} (Add" in words  # a validation row, quoted
    left, floor = version.read(contracts.LEFT), version.manifest.settings["min_core_cosine"] or -1
    for row in left.sort("pull").iter_rows(named=True):
        words = "\n".join(explain(lake, "sums", row["row_id"]).lines)
        assert f"its pull was {row['pull']:.4f} and its redundancy {row['redundancy']:.4f}" in words
        reason = words.splitlines()[1]
        if row["conflict_row"] is None and row["core_cosine"] >= floor and not row["n_inconsistent"]:
            assert reason == f"Not taken: at each of {len(subset)} steps another row had more pull less redundancy."
        else:
            assert any(word in reason for word in ("in conflict", "below the smallest", "refused by consistency"))


def count_validation_rows_without_help(project: Path, version: Version) -> None:
    """From the stored vectors: of the subset, and of as many rows with the largest mean cosine to the domain's."""
    workspace, lake = Workspace(load_project(project)), lake_of(project)
    own = unit_rows(all_rows(stored_features(workspace, lake.current("gradients/target", "sums"), "sgd")[1]))
    tables = [version.read(contracts.SUBSET), version.read(contracts.LEFT)]
    ranked = pl.concat([table.select("row_id", "core_cosine") for table in tables]).sort("core_cosine", descending=True)
    for metric, rows in (
        ("n_validation_unserved", tables[0]),
        ("n_validation_unserved_top", ranked.head(len(tables[0]))),
    ):
        kind, pool = version.manifest.settings["kind"], lake.current("gradients/pool")
        features = unit_rows(all_rows(stored_features(workspace, pool, kind, rows=rows["row_id"])[1]))
        assert version.manifest.metrics[metric] == int((own @ features.mean(axis=0) <= 0).sum())


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_gives_a_subset_that_its_checks_accept(
    project: Path, instance: dg.DagsterInstance, name: str
) -> None:
    file = project.parent / "domains" / "sums" / "domain.toml"
    file.write_text(OPTIONS[name])
    try:
        version = select(project, instance, "sums")
        subset = version.read(contracts.SUBSET)
        assert len(subset) > 0
        left = version.read(contracts.LEFT)
        answer = explain(lake_of(project), "sums", left["row_id"][0])
        assert answer.state == "left"
        pulled_by = subset["pulled_by"].to_list()
        assert all(len(pairs) == 3 for pairs in pulled_by)
        assert all(pairs[0]["cosine"] >= pairs[1]["cosine"] >= pairs[2]["cosine"] for pairs in pulled_by)
        if name == "rows":
            assert version.manifest.n_rows["budgets"] == 5  # validation rows
        if name == "mean":
            assert set(subset["component"]) == {0}
        if name == "all_rules":
            assert version.manifest.metrics["n_refused_by_core_cosine"] > 0
        if name == "conflicts_allowed":
            later = subset.filter(pl.col("step") > 0)["row_id"][0]
            assert not any("conflict" in line for line in explain(lake_of(project), "sums", later).lines)
            assert version.manifest.metrics["n_refused_by_conflict"] == 0
        if name == "balance":
            count_validation_rows_without_help(project, version)
        if name.startswith("balance"):
            tell_balance_in_words(project, version)
        if name == "edges":
            assert {"graph/neighbors/edges", "graph/neighbors/groups"} <= version.manifest.inputs.keys()
            alone = subset.filter(pl.col("nearest_row").is_null())["row_id"].to_list()
            assert len(alone) > 1  # rows without an edge to one taken before, of which `why` tells none
            assert not any(
                "resembles" in line and "Of the rows" in line
                for line in explain(lake_of(project), "sums", alone[-1]).lines
            )
        if name == "leaks_allowed":
            assert version.manifest.metrics["n_leaks"] == 0
    finally:
        file.unlink()


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("min_core_cosine = 0.99", r"the walk took no row \(core cosine\)"),
        ("neighbours_only = true", "walks adam_without_momentum, .* graph/neighbors is of adam, "),
    ],
)
def test_a_walk_that_takes_no_row_or_has_edges_of_other_features_is_an_error_that_says_why(
    project: Path, instance: dg.DagsterInstance, said: str, fault: str
) -> None:
    file = project.parent / "domains" / "sums" / "domain.toml"
    file.write_text(f"[selection]\n{said}\n")
    try:
        with pytest.raises(SettingsError, match=fault):
            select(project, instance, "sums")
    finally:
        file.unlink()


def test_why_knows_rows_that_have_left_the_pool_since(project: Path, instance: dg.DagsterInstance) -> None:
    lake = lake_of(project)
    version = lake.current("selection/subset", "sums")
    chosen = version.read(contracts.SUBSET)["row_id"][0]
    pool = pl.read_parquet(lake.current("instructions/pool").folder / "pool.parquet")
    response = pool.filter(pl.col("row_id") == chosen)["response"][0]
    files = {file: file.read_text() for file in (project.parent / "pool").iterdir()}
    for file, text in files.items():
        kept = [line for line in text.splitlines(keepends=True) if json.loads(line)["output"] != response]
        file.write_text("".join(kept))
    refresh_pool(project, instance)
    answer = explain(lake, "sums", chosen[:10])
    assert (answer.row_id, answer.state) == (chosen, "taken")
    assert "no longer in the pool" in answer.lines[0]
    for file, text in files.items():
        file.write_text(text)
    refresh_pool(project, instance)


def test_a_joint_domain_selects_for_the_rows_of_all_its_members(project: Path, instance: dg.DagsterInstance) -> None:
    folder = project.parent / "domains" / "both"
    folder.mkdir()
    (folder / "domain.toml").write_text('members = ["sums", "words"]\n')
    try:
        version = select(project, instance, "both")
        target = lake_of(project).current("instructions/target", "both").manifest.metrics
        assert (target["n_validation"], target["n_test"]) == (10, 14)
        assert version.manifest.n_rows["subset"] > 0
    finally:
        (folder / "domain.toml").unlink()
        folder.rmdir()


def test_the_mean_that_is_removed_stays_when_rows_of_the_warmup_sample_leave_the_pool(
    project: Path, instance: dg.DagsterInstance
) -> None:
    lake = lake_of(project)
    sample = pl.read_parquet(lake.current("warmup/sample").folder / "sample.parquet")
    before = lake.current("gradients/pool").manifest
    files = list((project.parent / "pool").iterdir())
    kept = {file: file.read_text() for file in files}
    gone = sample["response"][0]
    for file, text in kept.items():
        file.write_text("".join(line for line in text.splitlines(keepends=True) if json.loads(line)["output"] != gone))
    refresh_pool(project, instance)
    after = lake.current("gradients/pool").manifest
    assert after.n_rows["index"] < before.n_rows["index"]
    assert after.files["means.parquet"].sha256 == before.files["means.parquet"].sha256
    index = pl.read_parquet(lake.current("gradients/pool").folder / "index.parquet")
    assert sample["row_id"][0] not in index["row_id"]
    for file, text in kept.items():
        file.write_text(text)
    refresh_pool(project, instance)
