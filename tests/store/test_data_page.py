"""The examples of docs/data.md: files and settings as they stand there are read, and every row is usable."""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from g2is_assets.contracts.instructions import Instruction
from g2is_assets.settings.config import Source
from g2is_assets.settings.project import load_project
from g2is_assets.store.sources import find_files, read_rows
from g2is_assets.training.text import Template, normalise
from support.hub import Hub, serving_hub
from support.models import byte_tokenizer
from support.templates import FAMILIES

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`([\w/.]+)`[^\n]*:\n\n```\w+\n(.*?)^```$", PAGE, flags=re.M | re.S))
SETTINGS = re.findall(r"^```toml\n(.*?)^```$", PAGE, flags=re.M | re.S)
ROW = '{"prompt": "1 + 1?", "response": "2"}\n'
EXAMS = "---\nconfigs:\n- config_name: hard\n  data_files: [{split: test, path: 'hard/*.jsonl'}]\n---\n"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serving_hub(tmp_path / "cache") as serving:
        yield serving


@pytest.mark.parametrize("text", SETTINGS)
def test_settings_of_the_page_give_usable_rows_of_its_files(tmp_path: Path, text: str, hub: Hub) -> None:
    hub.commit("somebody/sums", {"train.jsonl": ROW})
    commit = hub.commit("somebody/exams", {"README.md": EXAMS, "hard/a.jsonl": ROW})
    (tmp_path / "pool").mkdir()
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "pool" / "packed.jsonl.gz").write_bytes(gzip.compress(ROW.encode()))
    (tmp_path / "g2is.toml").write_text(text.replace("COMMIT", commit), encoding="utf-8")
    for source in load_project(tmp_path / "g2is.toml").settings.instructions.sources:
        for file in find_files(source, tmp_path):
            if "://" not in file:
                rows = list(read_rows(file, source, tmp_path))
                assert rows
                assert [row for row in rows if not isinstance(row, Instruction)] == []


def test_rows_of_the_page_are_written_by_a_template_that_knows_tools_and_reasoning(tmp_path: Path) -> None:
    family = FAMILIES["qwen3"]
    tokenizer = byte_tokenizer(family.chat, additional_special_tokens=list(family.special))
    for name in ("pool/shapes.jsonl", "pool/chats.jsonl"):
        file = tmp_path / Path(name).name
        file.write_text(FILES[name], encoding="utf-8")
        found = normalise(read_rows(str(file), Source(path=name), tmp_path), Template(tokenizer, 4096))
        assert found.rejected.is_empty()
        assert set(found.rows["lost"].explode().drop_nulls()) <= {"reasoning"}  # of an answer before the last


def test_the_page_has_the_files_that_its_settings_name() -> None:
    assert {"pool/faq.csv", "pool/more.json", "pool/exam.tsv", "pool/shapes.jsonl", "pool/chats.jsonl"} <= FILES.keys()
    assert len(SETTINGS) >= 5


def test_the_rows_that_the_readme_shows_are_usable(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```json\n(.*?)^```$", readme, flags=re.M | re.S)
    assert shown
    for block in shown:
        (tmp_path / "rows.jsonl").write_text(block, encoding="utf-8")
        rows = list(read_rows(str(tmp_path / "rows.jsonl"), Source(path="rows.jsonl"), tmp_path))
        assert rows
        assert [row for row in rows if not isinstance(row, Instruction)] == []
