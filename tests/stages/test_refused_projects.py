"""Pools, domains and settings that cannot be used: one clear error each, and nothing is written."""

import shutil
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from g2is_assets.errors import G2isError, MissingInputError, SettingsError, SourceError
from support.projects import payload
from support.runs import run

MakeProject = Callable[..., Path]


def test_rows_that_are_both_validation_and_test_are_refused(built: Path, instance: dg.DagsterInstance) -> None:
    folder = built.parent / "domains" / "words"
    shutil.copy(folder / "validation.jsonl", folder / "test.jsonl")
    with pytest.raises(SourceError, match="domain 'words': 5 rows are both validation and test"):
        run(built, instance, "refresh_domain", "words")


def break_settings(settings: Path, text: str) -> None:
    settings.write_text(settings.read_text() + text)


FAULTS: dict[str, tuple[Callable[[Path], object], type[G2isError], str]] = {
    "a missing pool": (
        lambda s: [file.unlink() for file in (s.parent / "pool").iterdir()],
        SourceError,
        r"pool/\*\.jsonl.*matches no file",
    ),
    "a folder as source": (
        lambda s: s.write_text(s.read_text().replace("pool/*.jsonl", "pool")),
        SourceError,
        r"pool is or matches a folder; name the files in it, such as pool/\*\.jsonl",
    ),
    "prompts that fill max_length": (
        lambda s: s.write_text(s.read_text().replace("max_length = 96", "max_length = 16")),
        SourceError,
        r"the pool is empty.*40 set aside; pool/sums\.jsonl, line 1: no response left",
    ),
    "a file that two sources name": (
        lambda s: s.write_text(s.read_text().replace('*.jsonl"]', '*.jsonl", { path = "pool/sums.jsonl" }]')),
        SourceError,
        r"sums\.jsonl is named twice in `sources`: by 'pool/\*\.jsonl' and by 'pool/sums\.jsonl'",
    ),
    "an empty pool": (
        lambda s: [file.write_text("") for file in (s.parent / "pool").iterdir()],
        SourceError,
        r"the pool is empty.*sums\.jsonl",
    ),
    "a missing column": (
        lambda s: (s.parent / "pool" / "sums.jsonl").write_text('{"question": "a", "rating": "b"}\n'),
        SourceError,
        r"sums\.jsonl, line 1: unknown columns: question, rating; beside `question` stands no response",
    ),
    "a malformed line": (
        lambda s: (s.parent / "pool" / "sums.jsonl").write_text('{"instruction": "a", "output": "b"}\n{"instr\n'),
        SourceError,
        r"sums\.jsonl, line 2: not valid JSON",
    ),
    "an unknown setting": (
        lambda s: break_settings(s, "learning_rat = 0.1\n"),
        SettingsError,
        r"g2is\.toml: unknown setting 'finetune\.learning_rat'; did you mean 'learning_rate'",
    ),
    "an unreadable model": (
        lambda s: s.write_text(s.read_text().replace('model = "', 'model = "/nowhere', 1)),
        G2isError,
        r"there is no folder /nowhere.*; correct `model`",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_pool_or_setting_raises_one_clear_error_and_writes_nothing(
    make_project: MakeProject, instance: dg.DagsterInstance, fault: str
) -> None:
    spoil, error, message = FAULTS[fault]
    settings = make_project()
    spoil(settings)
    with pytest.raises(error, match=message):
        run(settings, instance, "refresh_pool")
    # What is stale is told also then.
    assert {file.name for file in (settings.parent / "lake").rglob("*.parquet")} <= {"staleness.parquet"}
    assert list((settings.parent / "lake").rglob(".writing-*")) == []


def test_a_domain_with_one_usable_row_fails_alone(built: Path, instance: dg.DagsterInstance) -> None:
    validation = built.parent / "domains" / "words" / "validation.jsonl"
    validation.write_text('{"instruction": "a", "output": "b"}\n{"instruction": "a", "output": ""}\n')
    before = payload(built.parent / "lake")
    with pytest.raises(
        SourceError, match=r"words/validation\.jsonl: 1 usable validation row, at least 2.*line 2: empty response"
    ):
        run(built, instance, "refresh_domain", "words")
    assert payload(built.parent / "lake") == before
    assert run(built, instance, "refresh_domain", "sums").success


def test_a_test_file_without_usable_rows_is_refused(built: Path, instance: dg.DagsterInstance) -> None:
    (built.parent / "domains" / "words" / "test.jsonl").write_text("")
    with pytest.raises(SourceError, match=r"words/test\.jsonl: 0 usable test rows"):
        run(built, instance, "refresh_domain", "words")


def test_a_budget_larger_than_the_pool_is_refused(built: Path, instance: dg.DagsterInstance) -> None:
    (built.parent / "domains" / "sums" / "domain.toml").write_text("budget = 4000\n")
    before = payload(built.parent / "lake")
    with pytest.raises(SettingsError, match=r"domain 'sums': the budget of 4,000 rows is larger than the pool's \d+"):
        run(built, instance, "refresh_domain", "sums")
    assert payload(built.parent / "lake") == before


def test_a_domain_before_its_pool_names_what_to_materialise(
    make_project: MakeProject, instance: dg.DagsterInstance
) -> None:
    with pytest.raises(MissingInputError, match="warmup/checkpoint has not been materialised"):
        run(make_project(), instance, "refresh_domain", "sums")
