"""`g2is domain rename` and `remove`: what they change, what a kill in between leaves, and what gc prunes then."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from g2is_assets.cli.domain import rename_domain
from g2is_assets.settings.project import load_project
from g2is_assets.stages.studies import load_studies
from support.commands import answer, g2is
from support.projects import lake_of, payload, study_of
from support.shared import copied
from support.stops import Stop, stopping

JOINT = '# both\nmembers = ["sums", "words"]  # in this order\nbudget = 5\n'


def domains(settings: Path) -> set[str]:
    return set(load_project(settings).domains)


def everything(root: Path) -> dict[str, bytes]:
    """Every file of what people write."""
    files = [*root.glob("domains/*/*"), *root.glob("studies/*")]
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(files)}


@pytest.fixture
def joined(make_project: Callable[..., Path]) -> Path:
    """A project with a joint domain and a study that name its domains."""
    settings = make_project()
    (settings.parent / "domains" / "both").mkdir()
    (settings.parent / "domains" / "both" / "domain.toml").write_text(JOINT)
    (settings.parent / "studies").mkdir()
    study = study_of('domains = ["sums"]  # one\nbudgets = [4]', "random")
    (settings.parent / "studies" / "few.toml").write_text(study)
    return settings


def test_a_domain_is_renamed_wherever_it_is_named_and_comments_stay(joined: Path) -> None:
    before = everything(joined.parent)
    would = g2is(joined, "domain", "rename", "sums", "arithmetic", "--dry-run")
    assert "Would be renamed: sums -> arithmetic" in would.output
    assert everything(joined.parent) == before
    done = g2is(joined, "domain", "rename", "sums", "arithmetic")
    assert done.exit_code == 0, done.output
    assert domains(joined) == {"arithmetic", "both", "words"}
    joint = (joined.parent / "domains" / "both" / "domain.toml").read_text()
    assert joint == JOINT.replace("sums", "arithmetic")
    study = (joined.parent / "studies" / "few.toml").read_text()
    assert 'domains = ["arithmetic"]  # one\n' in study
    assert load_studies(load_project(joined))["few"].domains == ("arithmetic",)
    rows = load_project(joined).domain("arithmetic").validation[0]
    assert rows.read_bytes() == before["domains/sums/validation.jsonl"]


def test_killed_before_any_of_its_changes_the_project_loads_and_the_same_command_goes_on(
    joined: Path, tmp_path: Path
) -> None:
    reached, n = set(), 0
    while True:
        settings = copied(joined, tmp_path / str(n))
        try:
            with pytest.MonkeyPatch.context() as patch:
                stopping(patch, n)
                rename_domain(settings, "sums", "arithmetic", dry_run=False)
            break
        except Stop:
            found = domains(settings) & {"sums", "arithmetic"}
            reached.add(frozenset(found))
            assert found
            assert load_studies(load_project(settings))["few"].domains[0] in found
        if "sums" in found:
            rename_domain(settings, "sums", "arithmetic", dry_run=False)
        assert domains(settings) == {"arithmetic", "both", "words"}
        n += 1
    assert frozenset({"sums"}) in reached
    assert n > 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rename", "nobody", "somebody"), "there is no domain 'nobody'"),
        (("rename", "sums", "a/b"), "a domain's name must match"),
        (("rename", "sums", "all"), "a domain's name must match"),
        (("rename", "sums", "words"), "words exists; take another name, or remove that domain first"),
        (("rename", "sums", "sums"), "sums exists; take another name"),
        (("remove", "nobody"), "there is no domain 'nobody'"),
        (("remove", "words"), "takes the rows of 'words'; take it out there first"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_changed(
    joined: Path, arguments: tuple[str, ...], message: str
) -> None:
    before = everything(joined.parent)
    result = g2is(joined, "domain", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert everything(joined.parent) == before


def test_a_removed_domain_leaves_its_rows_aside_and_the_lake_as_it_was(copy: Path) -> None:
    (copy.parent / "studies").mkdir()
    (copy.parent / "studies" / "few.toml").write_text(study_of('domains = ["sums"]', "random"))
    before, rows = payload(copy.parent / "lake"), (copy.parent / "domains" / "sums" / "test.jsonl").read_bytes()
    would = g2is(copy, "domain", "remove", "sums", "--dry-run").output
    assert "Would be removed: sums" in would
    assert domains(copy) == {"sums", "words"}
    done = g2is(copy, "domain", "remove", "sums")
    assert done.exit_code == 0, done.output
    assert "few.toml names it: that study cannot run until its `domains` leaves it out" in done.output
    assert "is still served" in done.output
    assert domains(copy) == {"words"}
    (aside,) = (copy.parent / "domains").glob(".removed-sums-*")
    assert (aside / "test.jsonl").read_bytes() == rows
    assert payload(copy.parent / "lake") == before
    heads = answer(copy, "audit", "verify")
    assert [head["whole"] for head in heads] == [True]  # the adapter of a domain that is gone
    aside.rename(aside.with_name("sums"))
    assert answer(copy, "domain", "list")[0]["state"] == "current"


def test_what_a_removed_domain_left_is_pruned_when_that_is_asked_for_and_its_record_stays(copy: Path) -> None:
    assert g2is(copy, "domain", "remove", "sums").exit_code == 0
    place = lake_of(copy).place("finetune/adapter", "sums")
    (version,) = (folder for folder in place.iterdir() if folder.is_dir())
    assert g2is(copy, "gc", "--min-age-hours", "0").exit_code == 0
    assert (version / "adapter").exists()
    assert g2is(copy, "gc", "--min-age-hours", "0", "--removed", "--dry-run").exit_code == 0
    assert (place / "current.json").exists()
    assert g2is(copy, "gc", "--min-age-hours", "0", "--removed").exit_code == 0
    assert not (version / "adapter").exists()
    assert (version / "manifest.json").exists()
    assert not list(place.glob("*.json"))
    assert lake_of(copy).current("instructions/pool")
    row = json.loads(g2is(copy, "sql", "SELECT count(*) AS n FROM instructions_pool", "--json").stdout)
    assert row == [{"n": 40}]


def test_renamed_back_the_versions_of_before_serve_again(copy: Path) -> None:
    there = g2is(copy, "domain", "rename", "sums", "adding").output
    assert "The lake keeps all versions of sums" in there
    states = {record["domain"]: record["state"] for record in answer(copy, "domain", "list")}
    assert states == {"adding": "missing", "words": "missing"}
    back = g2is(copy, "domain", "rename", "adding", "sums").output
    assert "The lake holds versions of a domain of the name sums" in back
    assert answer(copy, "domain", "list")[0]["state"] == "current"
