"""Dagster's UI as a person uses it, over a small project that has been refreshed once for one of its two domains."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import dagster as dg
import pytest

from g2is_assets.store.lake import Lake
from support.projects import write_project
from support.rows import write_jsonl

WAIT_MS = 120_000
"""For anything to appear: the page asks its server again and again, and a run starts a process of its own."""
STAGES = ("instructions", "warmup", "gradients", "graph", "knowledge", "selection", "finetune", "audit")
G2IS = [sys.executable, "-c", "from g2is_assets.cli import main; main()"]
SCRIPT = "<script>document.title = 'taken over'</script> <b>bold</b>"


@dataclass(frozen=True)
class Ui:
    """A running `g2is ui`."""

    settings: Path
    address: str

    @property
    def lake(self) -> Lake:
        return Lake(self.settings.parent / "lake")

    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(str(self.settings.parent / ".dagster"))


@pytest.fixture(scope="module")
def ui(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    folder = tmp_path_factory.mktemp("ui")
    settings = write_project(folder / "project", tiny_model)
    row = {"id": "x:1", "source": "<i>evil</i>", "license": "MIT", "instruction": SCRIPT, "output": "<u>no</u>"}
    write_jsonl(settings.parent / "pool" / "a.jsonl", [row])
    subprocess.run([*G2IS, "demo", "--config", str(settings), "--domain", "sums"], check=True, capture_output=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "ui.log").open("w") as log:
        command = [*G2IS, "ui", "--port", str(port), "--config", str(settings)]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            _wait_for(f"http://127.0.0.1:{port}/server_info", process)
            yield Ui(settings, f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            process.wait(timeout=60)


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(WAIT_MS // 500):
        assert process.poll() is None, "g2is ui ended by itself"
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.5)
    raise AssertionError(f"{address} does not answer")


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    opened = context.new_page()
    opened.set_default_timeout(WAIT_MS)
    yield opened
    context.close()


def materialise(page: Any, ui: Ui, asset: str, partition: str) -> None:
    """Click "Materialize", choose the partition, launch, and wait for the end of the run."""
    with ui.instance() as instance:
        before = {run.run_id for run in instance.get_runs()}
        page.goto(f"{ui.address}/assets/{asset}")
        page.get_by_role("button", name="Materialize").first.click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_text("Select a partition").click()
        page.get_by_role("menuitem").filter(has_text=partition).click()
        page.keyboard.press("Escape")
        dialog.get_by_role("button", name="Launch").click()
        status = wait_for(lambda: [r.status for r in instance.get_runs() if r.run_id not in before and r.is_finished])
    assert status == [dg.DagsterRunStatus.SUCCESS]


def wait_for(ask: Callable[[], list[Any]]) -> list[Any]:
    """The first answer that is not empty."""
    for _ in range(WAIT_MS // 500):
        if answer := ask():
            return answer
        time.sleep(0.5)
    raise AssertionError("nothing came")


def test_the_graph_shows_every_stage_from_left_to_right(page: Any, ui: Ui) -> None:
    page.goto(f"{ui.address}/asset-groups")
    places = {}
    for stage in STAGES:
        box = page.get_by_text(stage, exact=True).last
        box.wait_for()
        places[stage] = box.bounding_box()["x"]
    order = ("instructions", "warmup", "gradients", "graph", "selection", "finetune", "audit")
    assert sorted(order, key=lambda stage: places[stage]) == list(order), places
    assert page.get_by_text("newsletter").count() == 0


def test_a_partition_is_materialised_by_clicking_and_its_picture_shows(page: Any, ui: Ui) -> None:
    assert ui.lake.find("instructions/target", "words") is None
    materialise(page, ui, "instructions/target", "words")
    assert ui.lake.find("instructions/target", "words") is not None
    page.goto(f"{ui.address}/assets/instructions/target?view=partitions&partition=words")
    row = page.get_by_role("row").filter(has_text="g2is/rows")
    row.get_by_text("Show Markdown").click()
    picture = page.get_by_role("dialog").locator("img")
    picture.wait_for()
    assert picture.evaluate("image => image.complete && image.naturalWidth > 300")


def test_the_walk_is_told_in_words(page: Any, ui: Ui) -> None:
    page.goto(f"{ui.address}/assets/selection/subset?view=partitions&partition=sums")
    page.get_by_role("row").filter(has_text="g2is/first_rows").get_by_text("Taken as row 1").first.wait_for()


def test_the_report_opens_from_its_materialisation_and_cannot_reach_the_ui(page: Any, ui: Ui) -> None:
    version = ui.lake.current("audit/report", "sums")
    page.goto(f"{ui.address}/assets/audit/report?view=partitions&partition=sums")
    with page.expect_popup() as opened:
        page.get_by_role("link", name=f"/g2is/report/sums/{version.folder.name}").first.click()
    report = opened.value
    report.locator("#map-in").click()  # its script runs
    assert "sums" in report.get_by_role("heading", level=1).inner_text()
    assert report.evaluate("self.origin") == "null"


def test_other_peoples_markup_is_shown_as_text(page: Any, ui: Ui) -> None:
    page.goto(f"{ui.address}/assets/instructions/pool?view=events")
    page.get_by_text("g2is/first_rows").wait_for()
    assert page.title() != "taken over"
    assert page.locator("script", has_text="taken over").count() == 0
    for tag in ("i", "u", "b"):
        assert page.locator(tag, has_text="evil").or_(page.locator(tag, has_text="bold")).count() == 0


ATTACK = """async address => {
  await fetch(address, {method: "POST", mode: "no-cors", body: "text"}).catch(() => 0);
  await new Promise(end => { const image = new Image(); image.onload = image.onerror = end; image.src = address; });
  return await new Promise(end => {
    const socket = new WebSocket(address.replace(/^http/, "ws").split("?")[0], "graphql-ws");
    socket.onopen = () => end("open"); socket.onerror = () => end("refused");
  });
}"""


def test_a_page_of_another_site_can_do_nothing_here(page: Any, ui: Ui) -> None:
    said = 'eventParams: {assetKey: {path: ["forged"]}, eventType: ASSET_MATERIALIZATION}'
    forged = quote(f"mutation {{ reportRunlessAssetEvents({said}) {{ __typename }} }}")
    other = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    Thread(target=other.serve_forever, daemon=True).start()
    try:
        page.goto(
            f"http://localhost:{other.server_port}/no-such-page"
        )  # of this machine: Chromium itself asks about others
        assert page.evaluate(ATTACK, f"{ui.address}/graphql?query={forged}") == "refused"
    finally:
        other.shutdown()
        other.server_close()
    with ui.instance() as instance:
        assert instance.fetch_materializations(dg.AssetKey("forged"), limit=1).records == []


def test_a_schedule_is_switched_on(page: Any, ui: Ui) -> None:
    page.goto(f"{ui.address}/automation")
    page.get_by_role("link", name="refresh_sums").click()
    page.locator("label", has=page.get_by_role("checkbox")).first.click()
    with ui.instance() as instance:
        running = wait_for(lambda: [s.instigator_name for s in instance.all_instigator_state() if s.is_running])
    assert running == ["refresh_sums"]


def test_a_failed_check_shows_its_reason(page: Any, ui: Ui) -> None:
    file = ui.lake.current("finetune/adapter", "sums").folder / "adapter" / "adapter_config.json"
    file.write_text(file.read_text() + " ")
    materialise(page, ui, "audit/lineage", "sums")
    page.goto(f"{ui.address}/assets/audit/lineage?view=checks")
    page.get_by_text("chain_is_whole").first.click()
    page.get_by_text("adapter_config.json").first.wait_for()
    page.get_by_text("Failed").first.wait_for()
