"""Domain folders: what they override, what they are called, which files they have, and joint ones."""

from pathlib import Path

import pytest

from g2is_assets.errors import SettingsError
from support.settings import add_domain, load, refusal


def test_a_domain_has_the_projects_settings_unless_it_overrides_them(tmp_path: Path) -> None:
    add_domain(tmp_path, "plain")
    add_domain(
        tmp_path,
        "special",
        'title = "The shop"\nbudget = 12\n[selection]\ndelta = 0.9\n[finetune]\nepochs = 7\n',
        ("validation.parquet", "test.jsonl"),
    )
    domains = load(tmp_path, "[selection]\nbudget = 0.02\ndelta = 0.6\n[finetune]\nrank = 4\n").domains
    assert list(domains) == ["plain", "special"]
    plain, special = domains["plain"], domains["special"]
    assert (plain.title, plain.test) == ("plain", ())
    assert (plain.selection.budget, plain.selection.delta, plain.finetune.rank) == (0.02, 0.6, 4)
    assert plain.validation == (tmp_path / "domains" / "plain" / "validation.jsonl",)
    assert special.title == "The shop"
    assert (special.selection.budget, special.selection.delta) == (12, 0.9)
    assert (special.finetune.epochs, special.finetune.rank) == (7, 4)
    assert special.validation[0].name == "validation.parquet"
    assert special.test == (tmp_path / "domains" / "special" / "test.jsonl",)


@pytest.mark.parametrize("ending", ["ndjson", "json", "csv", "tsv", "jsonl.gz", "json.zst", "csv.gz", "PARQUET"])
def test_a_domains_files_may_be_in_any_format(tmp_path: Path, ending: str) -> None:
    add_domain(tmp_path, files=(f"validation.{ending}", f"test.{ending}", "validation.md", "validation.jsonl.bak"))
    domain = load(tmp_path).domain("shop")
    assert [file.name for file in (*domain.validation, *domain.test)] == [f"validation.{ending}", f"test.{ending}"]


def test_a_domains_own_rule_replaces_the_projects(tmp_path: Path) -> None:
    add_domain(tmp_path, "own", "[knowledge]\nn_components = 3\n")
    add_domain(tmp_path, "shifted", "[knowledge]\ncentered = true\n")
    domains = load(tmp_path, "[knowledge]\nexplained_variance = 0.7\ncentered = false\n").domains
    own, shifted = domains["own"].knowledge, domains["shifted"].knowledge
    assert (own.n_components, own.explained_variance, own.centered) == (3, None, False)
    assert (shifted.n_components, shifted.explained_variance, shifted.centered) == (None, 0.7, True)


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("tittle = 'x'", "did you mean 'title'?"),
        ("[selection]\nbuget = 1", "unknown setting 'selection.buget'; did you mean 'budget'?"),
        ("[knowledge]\nn_components = 0", "knowledge.n_components"),
        ("[knowledge]\nn_components = 1\nexplained_variance = 0.5", "set only one of"),
        ("budget = 2.5", "whole"),
        ("budget = -1", "selection.budget"),
        ("budget = inf", "budget"),
        ("selection = 5", "selection"),
        ('[selection]\nkind = "sgd"', "not among gradients.kinds"),
        ("title = ", "not valid TOML"),
    ],
)
def test_a_wrong_domain_file_is_refused_by_its_name(tmp_path: Path, toml: str, named: str) -> None:
    domain = add_domain(tmp_path, "shop", toml)
    message = refusal(tmp_path, "")
    assert str(domain / "domain.toml") in message
    assert named in message


@pytest.mark.parametrize("name", ["Shop", "1shop", "_shop", "a..b", "a-b", "a b", "ä", "shop\n", "a" * 64])
def test_a_folder_that_is_no_domain_name_is_refused(tmp_path: Path, name: str) -> None:
    add_domain(tmp_path, name)
    assert "rename the folder" in refusal(tmp_path, "")


def test_a_domain_is_not_called_as_all_of_them_are(tmp_path: Path) -> None:
    add_domain(tmp_path, "all")
    assert "'all' stands for the mean over domains; rename the folder" in refusal(tmp_path, "")


def test_a_name_of_63_letters_is_a_domain_and_hidden_folders_and_files_are_none(tmp_path: Path) -> None:
    add_domain(tmp_path, "a" * 63)
    add_domain(tmp_path, ".cache")
    (tmp_path / "domains" / "README.md").write_text("not a domain")
    assert list(load(tmp_path).domains) == ["a" * 63]


@pytest.mark.parametrize("name", ["..", "../shop", "", "Shop", "shop/", "other"])
def test_a_name_that_is_no_domain_of_the_project_is_refused_with_those_there_are(tmp_path: Path, name: str) -> None:
    add_domain(tmp_path, "shop")
    project = load(tmp_path)
    assert project.domain("shop").name == "shop"
    with pytest.raises(SettingsError, match=r"no domain .*\(shop\)"):
        project.domain(name)


@pytest.mark.parametrize("stem", ["validation", "test"])
def test_two_files_of_the_same_rows_are_refused(tmp_path: Path, stem: str) -> None:
    add_domain(tmp_path, "shop", files=("validation.jsonl", f"{stem}.jsonl", f"{stem}.parquet"))
    message = refusal(tmp_path, "")
    assert f"both {stem}.jsonl and {stem}.parquet exist" in message


def test_a_joint_domain_has_the_files_of_its_members(tmp_path: Path) -> None:
    add_domain(tmp_path, "one")
    add_domain(tmp_path, "two", "", ("validation.jsonl", "test.jsonl"))
    add_domain(tmp_path, "both", 'members = ["one", "two"]', ())
    both = load(tmp_path).domains["both"]
    domains = tmp_path / "domains"
    assert both.validation == (domains / "one" / "validation.jsonl", domains / "two" / "validation.jsonl")
    assert both.test == (domains / "two" / "test.jsonl",)


@pytest.mark.parametrize("member", ["absent", "../elsewhere", "both"])
def test_a_member_that_is_no_other_domain_is_refused(tmp_path: Path, member: str) -> None:
    add_domain(tmp_path, "both", f'members = ["{member}"]', ())
    with pytest.raises(SettingsError, match="there is no other domain"):
        load(tmp_path)


def test_a_member_named_twice_is_refused(tmp_path: Path) -> None:
    add_domain(tmp_path, "one")
    add_domain(tmp_path, "both", 'members = ["one", "one"]', ())
    with pytest.raises(SettingsError, match="named twice"):
        load(tmp_path)


def test_a_joint_domain_with_rows_of_its_own_or_joint_members_is_refused(tmp_path: Path) -> None:
    add_domain(tmp_path, "one")
    add_domain(tmp_path, "both", 'members = ["one"]')
    with pytest.raises(SettingsError, match="no files of its own"):
        load(tmp_path)
    (tmp_path / "domains" / "both" / "validation.jsonl").unlink()
    add_domain(tmp_path, "more", 'members = ["both"]', ())
    with pytest.raises(SettingsError, match="is a joint domain itself"):
        load(tmp_path)
