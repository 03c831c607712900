"""The file of withdrawals: lines are added whole or not at all, and a damaged line is named."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from g2is_assets.errors import SettingsError
from g2is_assets.store.withholding import Withdrawal, add_withdrawals, read_withdrawals, require_kept

AT = "2026-01-31T12:00:00+00:00"
GOOD = {"row_id": "0" * 32, "reason": "asked", "at": AT, "by": "ann"}


def withdrawal(n: int, reason: str = "asked") -> Withdrawal:
    return Withdrawal(row_id=f"{n:032x}", reason=reason, at=AT, by="ann")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "withdrawn.jsonl"


def test_no_file_is_no_withdrawal(file: Path) -> None:
    assert read_withdrawals(file) == {}


def test_what_was_added_is_read_and_earlier_lines_stay_as_they_are(file: Path) -> None:
    odd = json.dumps({"by": "ann", "at": AT, "reason": "a line\u2028break", "row_id": "0" * 32}, ensure_ascii=False)
    file.write_text(odd, encoding="utf-8")  # without a line end, as an editor may leave it
    assert add_withdrawals(file, [withdrawal(1), withdrawal(2)]) == [withdrawal(1), withdrawal(2)]
    assert file.read_text(encoding="utf-8").startswith(odd + "\n")
    assert list(read_withdrawals(file)) == ["0" * 32, f"{1:032x}", f"{2:032x}"]


def test_withdrawing_twice_changes_nothing_and_the_first_reason_stands(file: Path) -> None:
    add_withdrawals(file, [withdrawal(1), withdrawal(1, "said twice")])
    before = file.read_bytes()
    assert add_withdrawals(file, [withdrawal(1, "another")]) == []
    assert file.read_bytes() == before
    assert read_withdrawals(file)[f"{1:032x}"].reason == "asked"


def test_withdrawals_at_the_same_time_are_all_kept(file: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: add_withdrawals(file, [withdrawal(n)]), range(40)))
    assert len(read_withdrawals(file)) == 40


def test_stopped_before_the_rename_the_file_is_as_it_was(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_withdrawals(file, [withdrawal(1)])
    before = file.read_bytes()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        add_withdrawals(file, [withdrawal(2)])
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        ("[]", "the line: Input should be"),
        (json.dumps(GOOD | {"row_id": "abc"}), "row_id: "),
        (json.dumps(GOOD | {"reason": " "}), "reason: "),
        (json.dumps(GOOD | {"at": "yesterday"}), "at: "),
        (json.dumps(GOOD | {"at": "2026-01-31T12:00:00"}), "at: a time in UTC"),
        (json.dumps(GOOD | {"at": "2026-01-31T12:00:00+02:00"}), "at: a time in UTC"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "by"}), "by: "),
        (json.dumps(GOOD | {"undone": True}), "undone: "),
    ],
)
def test_a_damaged_line_is_named_and_nothing_is_added(file: Path, line: str, fault: str) -> None:
    file.write_text(f"{json.dumps(GOOD)}\n{line}\n{json.dumps(GOOD)}\n")
    before = file.read_bytes()
    for attempt in (lambda: read_withdrawals(file), lambda: add_withdrawals(file, [withdrawal(3)])):
        with pytest.raises(SettingsError) as refused:
            attempt()
        assert f"{file}, line 2: no withdrawal ({fault}" in str(refused.value)
    assert file.read_bytes() == before


def test_a_withdrawal_is_lifted_by_a_line_and_may_come_again(file: Path) -> None:
    lifting = withdrawal(1, "a mistake").model_copy(update={"lifted": True})
    assert add_withdrawals(file, [lifting]) == []  # of a row that is not withdrawn
    add_withdrawals(file, [withdrawal(1), withdrawal(2)])
    assert add_withdrawals(file, [lifting]) == [lifting]
    assert list(read_withdrawals(file)) == [withdrawal(2).row_id]
    add_withdrawals(file, [withdrawal(1, "again")])
    assert read_withdrawals(file)[withdrawal(1).row_id].reason == "again"
    assert [json.loads(line).get("lifted", False) for line in file.read_text().splitlines()] == [
        False,
        False,
        True,
        False,
    ]


def test_a_withdrawal_that_the_lake_knows_and_the_file_lacks_is_refused(file: Path) -> None:
    require_kept({"a": withdrawal(1)}, ["a"], file)
    with pytest.raises(SettingsError, match=r"withdrawn\.jsonl: the withdrawal of b is missing.*restore the lines"):
        require_kept({"a": withdrawal(1)}, ["a", "b"], file)
