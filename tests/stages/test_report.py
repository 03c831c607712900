"""The report of a real refresh: about the versions it names, skipped if they are the same, found where it says."""

import asyncio
import html
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from g2is_assets.cli.guard import Reports
from g2is_assets.contracts.audit import PAGE, QUOTED
from g2is_assets.contracts.selection import SUBSET
from g2is_assets.stages.finetune import chosen_rows
from g2is_assets.store.lake import Lake
from support.projects import write_project
from support.runs import computed, run, run_all

MakeProject = Callable[..., Path]


@pytest.fixture(scope="module")
def built_once(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = write_project(tmp_path_factory.mktemp("reported") / "project", tiny_model)
    domain = settings.parent / "domains" / "sums" / "domain.toml"
    domain.write_text('title = "Sums & <more>"\n[selection]\nwalk = "balanced"\n')
    with dg.DagsterInstance.ephemeral() as instance:
        run_all(settings, instance, "sums")
    return settings


@pytest.fixture
def built(built_once: Path, tmp_path: Path) -> Path:
    shutil.copytree(built_once.parent, tmp_path / "project")
    return tmp_path / "project" / built_once.name


async def served(lake: Lake, path: str) -> tuple[int, bytes]:
    """What `g2is ui` answers to a browser that follows the link."""
    told: list[Any] = []

    async def send(message: Any) -> None:
        told.append(message)

    await Reports(send, lake.place("audit/report"))({"type": "http", "path": path}, send, send)
    return told[0]["status"], told[1]["body"]


def page_of(settings: Path) -> Path:
    return Lake(settings.parent / "lake").current("audit/report", "sums").folder / PAGE


def test_the_page_is_about_the_current_versions_and_metadata_and_pointer_lead_to_it(
    built: Path, instance: dg.DagsterInstance
) -> None:
    result = run(built, instance, "refresh_domain", "sums")
    assert set(computed(result).values()) == {False}
    lake, page = Lake(built.parent / "lake"), page_of(built)
    text = page.read_text(encoding="utf-8")
    adapter = lake.current("finetune/adapter", "sums")
    assert adapter.folder.name in text
    assert str(adapter.as_input.manifest_sha256) in text
    assert "<bdi>Sums &amp; &lt;more&gt;</bdi>" in text
    made = [event.step_materialization_data.materialization for event in result.get_asset_materialization_events()]
    metadata = next(m.metadata for m in made if m.asset_key.path[-1] == "report")
    assert metadata["g2is/page"] == dg.MetadataValue.path(str(page.resolve()))
    link = f"/g2is/report/sums/{page.parent.name}"
    assert next(iter(metadata.items())) == ("g2is/page_url", dg.MetadataValue.url(link))
    assert asyncio.run(served(Lake(built.parent / "lake"), link)) == (200, page.read_bytes())
    assert f'href="{page.parent.name}/report.html"' in (page.parents[1] / PAGE).read_text()
    taken = lake.current("selection/subset", "sums").read(SUBSET)["row_id"]
    quoted = lake.current("audit/report", "sums").read(QUOTED)
    assert set(quoted.filter(quoted["place"] == "taken")["row_id"]) == set(taken)


def test_its_checks_say_what_those_in_the_ui_say(built: Path, instance: dg.DagsterInstance) -> None:
    text = html.unescape(page_of(built).read_text(encoding="utf-8"))
    results = run_all(built, instance, "sums")
    elsewhere = {"directions_are_stored", "sample_holds_no_withheld_row", "chain_is_whole"}
    said = {e.check_name: e for result in results for e in result.get_asset_check_evaluations()}
    assert elsewhere < said.keys()
    for name, evaluation in said.items():
        assert name in text
        if name not in elsewhere:
            severity = "error" if evaluation.severity == dg.AssetCheckSeverity.ERROR else "warning"
            word, mark = ("passed", "passed") if evaluation.passed else ("failed", severity)
            found = re.sub("`(.*?)`", r"<code>\1</code>", str(evaluation.description).partition(": ")[2])
            assert (
                f'<span class="{mark}">{word}</span></td><td data-name="Severity">{severity}</td>'
                f'<td data-name="What it found">{found}</td>'
            ) in text, name


def test_another_title_makes_the_page_anew_and_trains_nothing(built: Path, instance: dg.DagsterInstance) -> None:
    file = built.parent / "domains" / "sums" / "domain.toml"
    file.write_text(file.read_text().replace("<more>", "differences"))
    done = computed(run(built, instance, "refresh_domain", "sums"))
    assert {name for name, value in done.items() if value} == {"audit/lineage[sums]", "audit/report[sums]"}
    assert "<bdi>Sums &amp; differences</bdi>" in page_of(built).read_text(encoding="utf-8")


def test_after_another_adapter_the_page_says_what_changed_and_what_was_served_before(
    built: Path, instance: dg.DagsterInstance
) -> None:
    assert "What changed" not in page_of(built).read_text(encoding="utf-8")
    lake, file = Lake(built.parent / "lake"), built.parent / "domains" / "sums" / "domain.toml"
    before = lake.current("selection/subset", "sums").read(SUBSET)["row_id"]
    file.write_text("budget = 2\n" + file.read_text())
    assert run(built, instance, "refresh_domain", "sums").success
    now = lake.current("selection/subset", "sums").read(SUBSET)["row_id"]
    went = [row_id for row_id in before if row_id not in set(now)]
    text = page_of(built).read_text(encoding="utf-8")
    assert f"2 rows of its subset were taken again, 0 came, {len(went)} went." in text
    assert all(f"<code>{row_id[:8]}</code>" in text for row_id in went)
    assert "selection/subset: another version (budget 0.15 -&gt; 2.0)" in text
    assert "Served before" in text
    made = page_of(built)
    done = computed(run(built, instance, "refresh_domain", "sums"))
    assert not done["audit/report[sums]"]
    assert page_of(built) == made


@pytest.mark.parametrize(
    ("n_rows", "chosen"),
    [
        (0, "-------"),
        (1, "---t---"),
        (4, "b-wtt--"),
        (6, "bwwttb-"),
        (7, "bwwttbt"),
        (50, "bwwttbt"),
    ],
)
def test_rows_are_shown_that_gained_most_least_and_typically(n_rows: int, chosen: str) -> None:
    change = np.array([-3.0, 0.5, 1.0, 0.0, -1.0, -2.0, 0.2])
    names = {"best": "b", "worst": "w", "typical": "t", None: "-"}
    assert "".join(names[name] for name in chosen_rows(change, n_rows)) == chosen
