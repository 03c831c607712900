"""Data sets of the hub come whole and pinned from a hub on this machine, or are refused with what to do."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from g2is_assets.contracts.instructions import Instruction
from g2is_assets.errors import SourceError
from g2is_assets.settings.config import Source
from g2is_assets.store.hub import commit_of
from g2is_assets.store.sources import find_files, read_rows, relative_name
from support.hub import Hub, serving_hub

NAME = "somebody/sums"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serving_hub(tmp_path / "cache") as serving:
        yield serving


def lines(*prompts: str) -> str:
    return "".join(json.dumps({"prompt": prompt, "response": "r"}) + "\n" for prompt in prompts)


def prompts(**said: str) -> list[str]:
    """Prompts of all rows of the data set, in the order of its files."""
    source = Source.model_validate({"hub": NAME} | said)
    (file,) = find_files(source, Path())
    rows = list(read_rows(file, source, Path()))
    assert all(isinstance(row, Instruction) for row in rows)
    return [row.prompt for row in rows if isinstance(row, Instruction)]


def refusal(**said: str) -> str:
    with pytest.raises(SourceError) as refused:
        prompts(**said)
    assert "\n" not in str(refused.value)
    assert refused.value.__cause__ is None
    return str(refused.value)


def test_rows_name_data_set_file_and_line(hub: Hub) -> None:
    hub.commit(NAME, {"train.jsonl": "\n" + lines("a")})
    (file,) = find_files(Source(hub=NAME), Path())
    assert relative_name(file, Path("/elsewhere")) == file == "hub:somebody/sums/default/train"
    (row,) = read_rows(file, Source(hub=NAME, license="MIT"), Path())
    assert isinstance(row, Instruction)
    assert (row.file, row.line, row.source, row.license) == ("hub:somebody/sums/train.jsonl", 2, NAME, "MIT")


def test_a_broken_file_of_a_data_set_is_named_as_the_hub_names_it(hub: Hub) -> None:
    hub.commit(NAME, {"train.jsonl": lines("a") + "{"})
    assert "hub:somebody/sums/train.jsonl, line 2: not valid JSON" in refusal()


@pytest.mark.parametrize(
    ("files", "split", "expected"),
    [
        (["train.jsonl", "test.jsonl"], "train", ["train.jsonl"]),
        (["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl"], "train", "all"),
        (["data/train_sft-00000-of-00001.jsonl", "data/train-00000-of-00001.jsonl"], "train", ["data/train-00000"]),
        (["data/train_sft-00000-of-00001.jsonl", "train.jsonl"], "train_sft", ["data/train_sft"]),
        (["train/a.jsonl", "train/b/c.jsonl", "test/a.jsonl"], "train", ["train/a", "train/b/c"]),
        (["x/train/a.jsonl"], "train", "all"),
        (["sums_train.jsonl", "sums-dev.jsonl"], "validation", ["sums-dev"]),
        (["alpaca.jsonl", "more/rows.jsonl", "train.py.txt"], "train", ["alpaca", "more/rows"]),
        (["training_rows.jsonl", "retrained.jsonl"], "train", ["training_rows"]),
    ],
)
def test_without_a_word_of_the_readme_names_tell_the_split(
    hub: Hub, files: list[str], split: str, expected: list[str] | str
) -> None:
    hub.commit(NAME, {file: lines(file) for file in files} | {"README.md": "# Sums\n", "train.png": b"\x89"})
    wanted = [file for file in sorted(files) if expected == "all" or any(file.startswith(e) for e in expected)]
    assert prompts(split=split) == wanted


README = """---
license: mit
configs:
- config_name: easy
  data_files:
  - split: train
    path: ["easy/*.jsonl", "./more.jsonl"]
  - split: test
    path: odd/t?st.jsonl
- config_name: hard
  default: true
  data_files: "hard/**/*.csv"
- config_name: folder
  data_dir: below
---
# Sums
"""


def test_the_readme_says_which_files_a_configuration_has(hub: Hub) -> None:
    names = ("easy/a.jsonl", "easy/deep/b.jsonl", "more.jsonl", "odd/test.jsonl", "below/train.jsonl", "train.jsonl")
    files: dict[str, str | bytes] = {name: lines(name) for name in names}
    hub.commit(NAME, files | {"README.md": README, "hard/x/a.csv": "prompt,response\nhard,r\n"})
    assert prompts(config="easy") == ["easy/a.jsonl", "more.jsonl"]
    assert prompts(config="easy", split="test") == ["odd/test.jsonl"]
    assert prompts() == prompts(config="hard") == ["hard"]
    assert prompts(config="folder") == ["below/train.jsonl"]
    assert "it has no split 'dev'; `split` may be: test, train" in refusal(config="easy", split="dev")
    assert "no such configuration; `config` may be: easy, folder, hard" in refusal(config="odd")


@pytest.mark.parametrize("path", ["../../../secret.jsonl", "/etc/*.jsonl", "a.jsonl"])
def test_a_readme_leads_to_files_of_its_own_data_set_alone(hub: Hub, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.jsonl").write_text(lines("secret"))
    readme = f"---\nconfigs:\n- config_name: default\n  data_files: {path}\n---\n"
    hub.commit(NAME, {"README.md": readme, "b.jsonl": lines("b")})
    assert f"no file is named {path}, as its README says" in refusal()


def test_several_configurations_without_a_default_have_to_be_named(hub: Hub) -> None:
    readme = README.replace("  default: true\n", "")
    hub.commit(NAME, {"README.md": readme})
    assert "several configurations and none is the default; `config` may be: easy, folder, hard" in refusal()
    hub.commit(NAME, {"README.md": "---\nconfigs: [\n---\n"})
    assert "its README cannot be read" in refusal()


def test_packed_and_columnar_files_are_read_like_any(hub: Hub, tmp_path: Path) -> None:
    pl.DataFrame({"prompt": ["a", "b"], "response": ["x", "y"]}).write_parquet(tmp_path / "rows")
    hub.commit(NAME, {"data/train-00000-of-00001.parquet": (tmp_path / "rows").read_bytes()})
    assert prompts() == ["a", "b"]


def test_a_commit_stays_what_it_was_when_the_branch_goes_on(hub: Hub) -> None:
    first = hub.commit(NAME, {"train.jsonl": lines("first")})
    assert commit_of(Source(hub=NAME)) == first
    second = hub.commit(NAME, {"train.jsonl": lines("second")})
    assert commit_of(Source(hub=NAME)) == second
    assert prompts(revision=first) == ["first"]
    assert prompts() == ["second"]


def test_a_commit_that_is_in_the_cache_is_read_without_asking_for_files_again(hub: Hub) -> None:
    commit = hub.commit(NAME, {"train.jsonl": lines("a")})
    prompts(revision=commit)
    hub.asked.clear()
    assert prompts(revision=commit) == ["a"]
    assert [asked for asked in hub.asked if "resolve" in asked] == []


def test_offline_what_is_in_the_cache_is_read_and_nothing_else(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [(split, n) for split in ("train", "test") for n in (0, 1)]
    commit = hub.commit(NAME, {f"data/{split}-0000{n}-of-00002.jsonl": lines(f"{split} {n}") for split, n in shards})
    assert prompts() == ["train 0", "train 1"]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert commit_of(Source(hub=NAME)) == commit
    assert prompts() == prompts(revision=commit) == ["train 0", "train 1"]
    assert "no split 'test'" in refusal(split="test")
    assert "not all of it is in this machine's cache" in refusal(hub="somebody/else")
    assert "refresh once with a network and without HF_HUB_OFFLINE" in refusal(revision="v2")
    assert hub.asked == []


def test_offline_a_download_that_broke_off_is_not_taken_for_the_whole(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.commit(NAME, {f"data/train-0000{n}-of-00002.jsonl": lines(str(n)) for n in (0, 1)})
    prompts()
    (gone,) = (tmp_path / "cache").rglob("train-00001-of-00002.jsonl")
    gone.unlink()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "not all of it is in this machine's cache" in refusal()


def test_a_private_data_set_is_read_by_a_token_which_is_never_shown(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.commit(NAME, {"train.jsonl": lines("a")})
    hub.private.add(NAME)
    assert "set HF_TOKEN to a token that may read it" in refusal()
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "hf_wrong" not in refusal()
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert prompts() == ["a"]
    hub.gated.add(NAME)
    assert "gives access on request" in refusal()
    assert hub.token not in refusal()


def test_an_unknown_data_set_revision_or_split_is_told(hub: Hub) -> None:
    hub.commit(NAME, {"train.jsonl": lines("a")})
    assert "the hub has no such data set, or it is private; correct `hub`" in refusal(hub="somebody/else")
    assert "hub:somebody/sums@v9/default/train: it has no revision 'v9'; correct `revision`" in refusal(revision="v9")
    assert "it has no split 'test'; `split` may be: train" in refusal(split="test")
    hub.commit(NAME, {"README.md": "# Nothing\n"})
    assert "`split` may be: none; it has no files that can be read" in refusal()
    assert "the hub cannot be read: " in refusal(hub="../..")


def test_a_hub_that_does_not_answer_is_told_without_its_credentials(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://us3r:s3cr3t@127.0.0.1:9")
    said = refusal()
    assert "the hub cannot be asked" in said
    assert "s3cr3t" not in said


def test_mirror_token_and_offline_are_those_of_the_environment(hub: Hub, tmp_path: Path) -> None:
    hub.commit(NAME, {"train.jsonl": lines("a")})
    hub.private.add(NAME)
    code = (
        "from g2is_assets.store.hub import fetched; from g2is_assets.settings.config import Source; "
        f"print(open(fetched(Source(hub={NAME!r}))[0][0]).read())"
    )
    own = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": hub.token, "HF_HUB_OFFLINE": "0"}
    for offline in ("0", "1"):
        environment = os.environ | own | {"HF_HUB_OFFLINE": offline}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == lines("a").strip(), done.stderr
        hub.asked.clear()
