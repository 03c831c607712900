"""`g2is export`: files that other trainers read, an adapter that PEFT loads, and what is not let out."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner, Result

from g2is_assets.cli import main
from g2is_assets.contracts.instructions import POOL, Instruction, turns_of
from g2is_assets.contracts.selection import SUBSET
from g2is_assets.settings.config import Source
from g2is_assets.store.files import made_whole
from g2is_assets.store.serving import promote
from g2is_assets.store.sources import read_rows
from g2is_assets.store.version import Version
from support.projects import lake_of
from support.rows import arithmetic_row, write_jsonl
from support.runs import refresh, refresh_subset

DOMAIN = "sums"
QUESTION = {"role": "user", "content": "Add 5 drums and 6 drums."}


def export(settings: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["export", *arguments, "--config", str(settings)])


def records(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def subset_of(settings: Path) -> tuple[Version, list[str]]:
    version = lake_of(settings).current("selection/subset", DOMAIN)
    return version, version.read(SUBSET)["row_id"].to_list()


def test_messages_hold_every_row_in_the_order_of_the_walk_and_where_it_comes_from(
    refreshed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "made" / "subset.jsonl"
    result = export(refreshed, "subset", DOMAIN, "--format", "messages", "--out", str(out))
    assert result.exit_code == 0, result.output
    version, row_ids = subset_of(refreshed)
    pool = {
        row["row_id"]: row for row in lake_of(refreshed).current("instructions/pool").read(POOL).iter_rows(named=True)
    }
    found = records(out)
    assert [record["row_id"] for record in found] == row_ids
    assert [record["order"] for record in found] == list(range(len(row_ids)))
    for record in found:
        row = pool[record["row_id"]]
        assert record["messages"] == turns_of(row)[0]
        assert all(record[name] == row[name] for name in ("ids", "sources", "licenses"))
        assert (record["domain"], record["subset_version"]) == (DOMAIN, version.folder.name)
        assert isinstance(record["core_cosine"], float)
    assert f"Wrote {len(found)} rows to {out}" in result.stdout
    assert result.stderr == ""


def test_alpaca_is_what_the_entry_beside_it_says(refreshed: Path, tmp_path: Path) -> None:
    other = {"other": {"file_name": "other.jsonl"}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(other))
    for name in ("subset.json", "lines.jsonl"):
        assert export(refreshed, "subset", DOMAIN, "--format", "alpaca", "--out", str(tmp_path / name)).exit_code == 0
    found = json.loads((tmp_path / "subset.json").read_text())
    assert found == records(tmp_path / "lines.jsonl")
    assert len(found) == len(subset_of(refreshed)[1])
    for record in found:
        assert record["instruction"]
        assert record["output"]
        assert (record["input"], record["system"], record["history"]) == ("", "", [])
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert info.keys() == {"other", "subset", "lines"}
    assert info["subset"]["file_name"] == "subset.json"
    assert set(info["subset"]["columns"].values()) <= found[0].keys()
    again = export(refreshed, "subset", DOMAIN, "--format", "messages", "--out", str(tmp_path / "lines.jsonl"))
    assert again.exit_code == 0
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert (info["lines"]["formatting"], info["other"]) == ("sharegpt", other["other"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "dataset_info.json",
        "lines.axolotl.yaml",
        "lines.jsonl",
        "subset.json",
    ]
    talks = export(refreshed, "subset", DOMAIN, "--format", "sharegpt", "--out", str(tmp_path / "lines.jsonl"))
    assert talks.exit_code == 0
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert set(info["lines"]["columns"].values()) <= records(tmp_path / "lines.jsonl")[0].keys()
    assert not (tmp_path / "lines.axolotl.yaml").exists()  # which told of the turns that were in that file


def test_an_export_is_a_source_of_the_same_rows(refreshed: Path, tmp_path: Path) -> None:
    for form in ("messages", "sharegpt", "alpaca"):
        file = tmp_path / f"{form}.jsonl"
        assert export(refreshed, "subset", DOMAIN, "--format", form, "--out", str(file)).exit_code == 0
        read = [row for row in read_rows(str(file), Source(path=str(file)), tmp_path) if isinstance(row, Instruction)]
        assert [row.row_id for row in read] == subset_of(refreshed)[1]
        names = ("ids", "sources", "licenses")
        assert [row.labels for row in read] == [{name: record[name] for name in names} for record in records(file)]


def with_conversations(settings: Path, *turns: dict[str, str]) -> None:
    """Let the domain choose from conversations with these turns before the question, and refresh."""
    for file in (settings.parent / "pool").iterdir():
        file.unlink()
    rows = []
    for n in range(24):
        row = arithmetic_row(n)
        asked = {"role": "user", "content": row["instruction"]}
        messages = [*turns, asked, {"role": "assistant", "content": row["output"]}]
        rows.append({"id": row["id"], "source": "talks", "messages": messages})
    write_jsonl(settings.parent / "pool" / "talks.jsonl", rows)
    refresh_subset(settings, DOMAIN)


def test_several_turns_go_into_the_history_and_what_alpaca_cannot_hold_is_refused(copy: Path, tmp_path: Path) -> None:
    settings = copy
    system = {"role": "system", "content": "Count aloud."}
    reply = {"role": "assistant", "content": "11"}
    with_conversations(settings, system, QUESTION, reply)
    out = tmp_path / "out.jsonl"
    result = export(settings, "subset", DOMAIN, "--format", "alpaca", "--out", str(out))
    assert result.exit_code == 0, result.output
    for record in records(out):
        assert record["history"] == [[QUESTION["content"], reply["content"]]]
        assert record["system"] == system["content"]
        assert record["instruction"].startswith("Add ")
    assert "mask_history" not in result.stderr  # all answers carry loss, here as there
    before = out.read_bytes()
    with_conversations(settings, QUESTION)
    refused = export(settings, "subset", DOMAIN, "--format", "alpaca", "--out", str(out))
    assert refused.exit_code == 1
    assert "turns that do not alternate between user and assistant" in refused.stderr
    assert "--format messages" in refused.stderr
    assert out.read_bytes() == before
    told = export(settings, "subset", DOMAIN, "--format", "messages", "--out", str(out))
    assert told.exit_code == 0
    assert "LLaMA-Factory skips such" in told.stderr
    assert [message["role"] for message in records(out)[0]["messages"]] == ["user", "user", "assistant"]


def test_a_system_message_of_the_project_and_cut_responses_are_told(copy: Path, tmp_path: Path) -> None:
    text = copy.read_text().replace("max_length = 96", 'max_length = 52\nsystem = "Add up."')
    copy.write_text(text)
    refresh_subset(copy, DOMAIN)
    out = tmp_path / "out.jsonl"
    result = export(copy, "subset", DOMAIN, "--format", "messages", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert all(r["messages"][0] == {"role": "system", "content": "Add up."} for r in records(out))
    assert f"{len(records(out))} rows begin with the project's `system` message" in result.stderr
    assert "cut in training here, whole in the file" in result.stderr


def test_rows_that_were_withdrawn_or_denied_since_are_not_let_out_until_a_refresh(copy: Path, tmp_path: Path) -> None:
    settings, out, folder = copy, tmp_path / "out.jsonl", tmp_path / "adapter"
    row = subset_of(settings)[1][0]
    said = CliRunner().invoke(
        main, ["withdraw", "--row", row, "--reason", "asked by its author", "--config", str(settings)]
    )
    assert said.exit_code == 0, said.output
    for arguments in (("subset", DOMAIN, "--format", "messages", "--out", str(out)), ("adapter", DOMAIN, str(folder))):
        refused = export(settings, *arguments)
        assert refused.exit_code == 1
        assert "may no longer be used (1 withheld" in refused.stderr
        assert "asked by its author" in refused.stderr
        assert "refresh pool and domain" in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]
    refresh(settings, DOMAIN)
    assert export(settings, "subset", DOMAIN, "--format", "messages", "--out", str(out)).exit_code == 0
    assert row not in [record["row_id"] for record in records(out)]
    assert export(settings, "adapter", DOMAIN, str(folder)).exit_code == 0
    settings.write_text(settings.read_text() + '\n[licenses]\ndeny = ["Apache-2.0"]\nunknown = "allow"\n')
    denied = export(settings, "subset", DOMAIN, "--format", "messages", "--out", str(out))
    assert denied.exit_code == 1
    assert "license (Apache-2.0)" in denied.stderr


def test_a_stale_subset_is_exported_with_one_line_that_says_so(copy: Path, tmp_path: Path) -> None:
    copy.write_text(copy.read_text().replace("budget = 0.15", "budget = 0.2"))
    result = export(copy, "subset", DOMAIN, "--format", "messages", "--out", str(tmp_path / "a.jsonl"))
    assert result.exit_code == 0
    assert len(records(tmp_path / "a.jsonl")) == 6
    (line,) = result.stderr.splitlines()
    assert "selection/subset[sums] is stale (setting selection.budget 0.15 -> 0.2)" in line


def test_mistakes_are_one_line_and_leave_nothing(refreshed: Path, tmp_path: Path) -> None:
    lake = refreshed.parent / "lake"
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("mine")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "dataset_info.json").write_text("{")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "dataset_info.json").write_text('{"a": {"file_name": "another.json"}}')
    subset = ("subset", DOMAIN, "--format", "messages", "--out")
    for arguments, message in (
        (("subset", "poetry", "--format", "messages"), "there is no domain 'poetry'"),
        (("subset", "words", "--format", "messages"), "selection/subset[words] has not been materialised"),
        ((*subset, str(tmp_path / "a.csv")), "must end in .jsonl or .json"),
        ((*subset, str(tmp_path / "dataset_info.json")), "not be dataset_info.json, which lists it"),
        ((*subset, str(lake / "a.jsonl")), "lies in the lake"),
        ((*subset, str(damaged / "a.jsonl")), "cannot be read as JSON"),
        ((*subset, str(foreign / "a.jsonl")), "an entry 'a' of another file"),
        ((*subset, str(taken / "mine.txt" / "a.jsonl")), "name another place"),
        (("adapter", "poetry", str(tmp_path / "b")), "there is no domain 'poetry'"),
        (("adapter", "words", str(tmp_path / "b")), "finetune/adapter[words] has not been materialised"),
        (("adapter", DOMAIN, str(taken)), "is not an empty folder"),
        (("adapter", DOMAIN, str(taken / "mine.txt")), "is not an empty folder"),
        (("adapter", DOMAIN, str(lake / "b")), "lies in the lake"),
    ):
        result = export(refreshed, *arguments)
        assert result.exit_code == 1, arguments
        assert message in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    assert export(refreshed, "subset", DOMAIN).exit_code == 2  # no --format
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "damaged/dataset_info.json",
        "foreign/dataset_info.json",
        "taken/mine.txt",
    ]


def test_a_folder_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), made_whole(tmp_path / "new") as scratch:
        (scratch / "half.txt").rename(scratch.parent / "nowhere" / "half.txt")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    with made_whole(tmp_path / "empty") as scratch:
        (scratch / "whole.txt").write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    assert (tmp_path / "empty" / "whole.txt").read_text() == "whole"


def test_an_exported_adapter_loads_as_its_card_says(refreshed: Path, tmp_path: Path) -> None:
    result = export(refreshed, "adapter", DOMAIN, str(tmp_path / "sums_adapter"))
    assert result.exit_code == 0, result.output
    folder = tmp_path / "sums_adapter"
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    (tmp_path / "model").symlink_to(refreshed.parent / "model")
    card = (folder / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", card, flags=re.S)
    assert code
    assert len(code.group(1).strip().splitlines()) == 3
    scope: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as here:
        here.chdir(tmp_path)
        exec(code.group(1), scope)
    model = scope["model"]
    made = lake_of(refreshed).current("finetune/adapter", DOMAIN).folder / "adapter" / "adapter_model.safetensors"
    assert (folder / "adapter_model.safetensors").read_bytes() == made.read_bytes()
    ids = torch.arange(5).unsqueeze(0)
    assert model(input_ids=ids).logits.shape[:2] == (1, 5)
    assert any("lora_B" in name for name, _ in model.named_parameters())


def test_the_card_says_what_is_known_and_names_no_place_of_this_machine(refreshed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert export(refreshed, "adapter", DOMAIN, str(folder)).exit_code == 0
    card = (folder / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "peft"
    assert front["license"] == "apache-2.0"
    assert "base_model" not in front  # a local folder: no name that a hub knows
    lake = lake_of(refreshed)
    subset, row_ids = subset_of(refreshed)
    adapter = lake.current("finetune/adapter", DOMAIN)
    scores = lake.current("finetune/evaluation", DOMAIN).manifest.metrics
    for part in (
        subset.folder.name,
        subset.manifest.data_version,
        lake.current("instructions/pool").manifest.data_version,
        adapter.manifest.data_version,
        str(adapter.as_input.manifest_sha256),
        f"| Apache-2.0 | {len(row_ids)} |",
        "of 7 test rows",
        f"{scores['nll_g2is']:.4f}",
        f"[{scores['minus_random_low']:+.4f}, {scores['minus_random_high']:+.4f}]",
    ):
        assert part in card
    sources = [int(n) for n in re.findall(r"^\| (?:sums|words) \| (\d+) \|$", card, flags=re.M)]
    assert sum(sources) == len(row_ids)
    for file in folder.iterdir():
        for place in (refreshed.parent, tmp_path, Path.home(), Path.cwd()):
            assert str(place).encode() not in file.read_bytes()


def test_the_served_adapter_is_exported_also_when_a_newer_one_was_not_promoted(copy: Path, tmp_path: Path) -> None:
    settings, lake = copy, lake_of(copy)
    first = lake.current("finetune/adapter", DOMAIN)
    score = lake.current("finetune/evaluation", DOMAIN).manifest.metrics["nll_g2is"]
    settings.write_text(settings.read_text().replace("budget = 0.15", "budget = 0.2"))
    refresh(settings, DOMAIN)
    second = lake.current("finetune/adapter", DOMAIN)
    promote(lake, DOMAIN, first.folder.name)
    result = export(settings, "adapter", DOMAIN, str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert f"Wrote version {first.folder.name}" in result.stdout
    assert f"a newer one, {second.folder.name}, was not promoted" in result.stderr
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"{score:.4f}" in card
    assert first.manifest.data_version in card
    assert "trained on 6 rows" in card
    (first.folder / "adapter" / "adapter_model.safetensors").write_bytes(b"damaged")
    damaged = export(settings, "adapter", DOMAIN, str(tmp_path / "again"))
    assert damaged.exit_code == 1
    assert "differs from its manifest" in damaged.stderr
    assert not (tmp_path / "again").exists()
    (first.folder.parent / "served.json").unlink()
    unserved = export(settings, "adapter", DOMAIN, str(tmp_path / "again"))
    assert unserved.exit_code == 0
    assert "no adapter of this domain has been promoted" in unserved.stderr


def test_a_killed_export_leaves_the_file_that_was_there(refreshed: Path, tmp_path: Path) -> None:
    """The new text stands beside the old one until it is whole."""
    out = tmp_path / "a.jsonl"
    out.write_text("old\n")
    code = (
        "import os\n"
        "from g2is_assets.cli import main\n"
        "os.replace = lambda *_: os._exit(9)\n"
        f"main(['export', 'subset', {DOMAIN!r}, '--format', 'messages', '--out', {str(out)!r}, "
        f"'--config', {str(refreshed)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr
    assert out.read_text() == "old\n"
    assert not (tmp_path / "dataset_info.json").exists()
