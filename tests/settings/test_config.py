"""The sections of a settings file: defaults, and wrong values, which are refused with file, key and remedy."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from g2is_assets.errors import SettingsError
from g2is_assets.settings.project import load_project
from support.settings import SOURCES, add_domain, load, refusal


def test_a_file_with_only_sources_gets_the_demo_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path).settings
    assert [source.path for source in settings.instructions.sources] == ["pool.jsonl"]
    assert (settings.warmup.share, settings.selection.walk) == (0.10, "balanced")
    assert (settings.gradients.sketch_dim, settings.gradients.bits) == (16384, 4)


def test_sources_may_be_tables_with_source_and_licence(tmp_path: Path) -> None:
    file = tmp_path / "g2is.toml"
    file.write_text('[instructions]\nsources = ["a.jsonl", { path = "b.parquet", source = "b", license = "mit" }]\n')
    plain, table = load_project(file).settings.instructions.sources
    assert (plain.path, plain.source, plain.license) == ("a.jsonl", None, None)
    assert (table.path, table.source, table.license) == ("b.parquet", "b", "mit")


def source_refusal(folder: Path, source: str) -> str:
    (folder / "g2is.toml").write_text(f"[instructions]\nsources = [{source}]\n")
    with pytest.raises(SettingsError) as refused:
        load_project(folder / "g2is.toml")
    return str(refused.value).removeprefix(f"{folder / 'g2is.toml'}: instructions.sources.0")


def test_an_owner_that_nobody_named_is_the_team_of_the_home_folder(tmp_path: Path) -> None:
    (tmp_path / "triage").mkdir()
    file = tmp_path / "triage" / "g2is.toml"
    file.write_text('[instructions]\nsources = ["pool.jsonl"]\n')
    assert load_project(file).settings.owner == "team:triage"
    file.write_text('owner = "a@example.org"\n' + file.read_text())
    assert load_project(file).settings.owner == "a@example.org"


def test_a_source_may_be_a_data_set_of_the_hub_with_columns_of_its_own(tmp_path: Path) -> None:
    said = 'hub = "owner/na-me.1", config = "main", split = "test", revision = "v1", columns = { messages = "turns" }'
    (tmp_path / "g2is.toml").write_text(f"[instructions]\nsources = [{{ {said} }}]\n")
    (source,) = load_project(tmp_path / "g2is.toml").settings.instructions.sources
    assert (source.path, source.hub, source.config, source.split) == (None, "owner/na-me.1", "main", "test")
    assert (source.revision, source.columns.messages, source.columns.prompt) == ("v1", "turns", None)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{}", ": a source has a `path` or a `hub`, and not both"),
        ('{ path = "a", hub = "b/c" }', ": a source has a `path` or a `hub`, and not both"),
        ('{ path = "a", split = "test" }', ": `config`, `split` and `revision` go with `hub`; leave them out"),
        ('{ hub = "no-owner" }', ".hub: String should match pattern"),
        ('{ path = "a", columns = { prompt = "q" } }', ".columns: `prompt` and `response` go together"),
        ('{ path = "a", columns = { messages = "m", prompt = "q", response = "r" } }', ".columns: name `messages`, or"),
        ('{ path = "a", columns = { input = "i" } }', ".columns: `input` stands below a prompt"),
        ('{ path = "a", columns = { prompt = 1, response = "r" } }', ".columns.prompt: Input should be a valid string"),
    ],
)
def test_a_source_that_is_none_is_refused_with_one_reason(tmp_path: Path, source: str, said: str) -> None:
    refused = source_refusal(tmp_path, source)
    assert refused.startswith(said)
    assert "Tuple should have" not in refused


def test_an_unknown_role_of_a_column_is_refused_with_the_nearest_known(tmp_path: Path) -> None:
    (tmp_path / "g2is.toml").write_text('[instructions]\nsources = [{ path = "a", columns = { promt = "q" } }]\n')
    with pytest.raises(SettingsError, match=r"unknown setting '.*columns\.promt'; did you mean 'prompt'\?$"):
        load_project(tmp_path / "g2is.toml")


@pytest.mark.parametrize(
    ("text", "named", "meant"),
    [
        ("[selection]\nbuget = 0.1", "selection.buget", "budget"),
        ("[selektion]\nbudget = 0.1", "selektion", "selection"),
        ("[warmup]\nlearning_rat = 0.1", "warmup.learning_rat", "learning_rate"),
        ("[gradients]\nsketch = 64", "gradients.sketch", "sketch_dim"),
    ],
)
def test_an_unknown_key_is_refused_with_the_file_and_the_key_that_was_meant(
    tmp_path: Path, text: str, named: str, meant: str
) -> None:
    message = refusal(tmp_path, text)
    assert str(tmp_path / "g2is.toml") in message
    assert f"unknown setting '{named}'" in message
    assert f"did you mean '{meant}'?" in message


@pytest.mark.parametrize("name", ["aws_secret_access_key", "aws_access_key_id", "AWS_SESSION_TOKEN", "azure_sas_key"])
def test_credentials_are_refused_since_settings_are_recorded(tmp_path: Path, name: str) -> None:
    message = refusal(tmp_path, f'[storage]\n{name} = "s3cr3t"')
    assert f"`{name}` is a credential; take it out and set the variable {name.upper()} instead" in message
    assert "s3cr3t" not in message


def test_an_unknown_key_like_no_other_is_refused_with_those_there_are(tmp_path: Path) -> None:
    message = refusal(tmp_path, "[graph]\nzzz = 1")
    assert "unknown setting 'graph.zzz'" in message
    assert "n_neighbors" in message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[warmup]\nshare = 0.0", "warmup.share"),
        ("[warmup]\nshare = 1.5", "warmup.share"),
        ("[warmup]\nshare = nan", "warmup.share"),
        ("[warmup]\nrank = 0", "warmup.rank"),
        ("[warmup]\nlearning_rate = 1.0", "warmup.learning_rate"),
        ('[warmup]\nschedule = "sine"', "warmup.schedule"),
        ("[gradients]\nkinds = []", "gradients.kinds"),
        ('[gradients]\nkinds = ["adagrad"]', "gradients.kinds"),
        ("[gradients]\nsketch_dim = 63", "gradients.sketch_dim"),
        ("[gradients]\nnnz = 65", "gradients.nnz"),
        ("[graph]\nn_conflicts = -1", "graph.n_conflicts"),
        ("[graph]\nduplicate_cosine = 0.9", "graph.duplicate_cosine"),
        ("[knowledge]\nexplained_variance = 1.0", "knowledge.explained_variance"),
        ("[selection]\nbudget = 0", "selection.budget"),
        ("[selection]\nbudget = -1", "selection.budget"),
        ("[selection]\nbudget = nan", "selection.budget"),
        ("[selection]\nbudget = inf", "selection"),
        ("[selection]\ndelta = 1.01", "selection.delta"),
        ("[selection]\nredundancy = -0.1", "selection.redundancy"),
        ("[selection]\nredundancy = 1.1", "selection.redundancy"),
        ("[selection]\nmin_core_cosine = -1.01", "selection.min_core_cosine"),
        ("[finetune]\nepochs = 1.5", "finetune.epochs"),
        ('[finetune]\nbatch_size = "many"', "finetune.batch_size"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    message = refusal(tmp_path, text)
    assert str(tmp_path / "g2is.toml") in message
    assert named in message


@pytest.mark.parametrize("text", ["threads = -1\n", "keep_versions = 0\n", "model = 5\n"])
def test_a_wrong_value_outside_of_the_sections_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "g2is.toml"
    file.write_text(text + SOURCES)
    with pytest.raises(SettingsError, match=text.split()[0]):
        load_project(file)


def test_a_file_without_sources_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "g2is.toml"
    file.write_text("[instructions]\nsources = []\n")
    with pytest.raises(SettingsError, match=r"instructions\.sources"):
        load_project(file)
    file.write_text("")
    with pytest.raises(SettingsError, match="instructions"):
        load_project(file)


@pytest.mark.parametrize(("budget", "value"), [("0.05", 0.05), ("0.999", 0.999), ("1", 1), ("25", 25), ("25.0", 25)])
def test_a_budget_is_a_share_below_one_and_a_whole_count_from_one_up(tmp_path: Path, budget: str, value: float) -> None:
    assert load(tmp_path, f"[selection]\nbudget = {budget}").settings.selection.budget == value


def test_licences_are_compared_without_case_and_space(tmp_path: Path) -> None:
    policy = load(tmp_path, '[licenses]\nallow = [" MIT", "Apache-2.0"]\nunknown = "deny"').settings.licenses
    assert policy.allow == {"mit", "apache-2.0"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('allow = ["MIT"]', "licenses: say what becomes of rows without a licence"),
        ('deny = ["MIT"]', 'unknown = "allow" or "deny"'),
        ('allow = ["MIT"]\ndeny = ["mit "]\nunknown = "deny"', "licenses: mit in both allow and deny; keep one"),
        ('deny = ["Unknown"]\nunknown = "deny"', "licenses.deny: name licences here"),
        ('deny = [" "]\nunknown = "deny"', "licenses.deny: name licences here"),
        ('allow = "MIT"\nunknown = "deny"', "licenses.allow"),
        ('allow = [1]\nunknown = "deny"', "licenses.allow"),
        ('unknown = "maybe"', "licenses.unknown"),
    ],
)
def test_a_licence_policy_that_leaves_a_question_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, f"[licenses]\n{text}")


def test_withdrawals_lie_beside_the_settings_unless_they_say_otherwise(tmp_path: Path) -> None:
    assert load(tmp_path).withdrawn == tmp_path / "withdrawn.jsonl"
    (tmp_path / "g2is.toml").write_text('withdrawn = "legal/gone.jsonl"\n' + SOURCES)
    assert load_project(tmp_path / "g2is.toml").withdrawn == tmp_path / "legal" / "gone.jsonl"


@pytest.mark.parametrize("budget", ["1.5", "25.01"])
def test_a_fractional_budget_above_one_is_refused(tmp_path: Path, budget: str) -> None:
    message = refusal(tmp_path, f"[selection]\nbudget = {budget}")
    assert budget in message
    assert "whole" in message


@pytest.mark.parametrize("section", ["graph", "selection"])
def test_a_kind_that_is_not_stored_is_refused(tmp_path: Path, section: str) -> None:
    message = refusal(tmp_path, f'[{section}]\nkind = "sgd"')
    assert f"{section}.kind = 'sgd' is not among gradients.kinds" in message


@pytest.mark.parametrize(
    "rules",
    [
        "explained_variance = 0.5\nn_components = 3",
        "n_components = 3\ncomponent_fraction = 0.5",
        "explained_variance = 0.5\ncomponent_fraction = 0.5",
    ],
)
def test_two_rules_for_the_number_of_components_are_refused(tmp_path: Path, rules: str) -> None:
    assert "set only one of" in refusal(tmp_path, f"[knowledge]\n{rules}")


def test_settings_cannot_be_changed_after_loading(tmp_path: Path) -> None:
    add_domain(tmp_path, "shop")
    project = load(tmp_path)
    for section, name in (
        (project, "path"),
        (project.settings, "model"),
        (project.settings.selection, "budget"),
        (project.domains["shop"], "name"),
        (project.domains["shop"].finetune, "epochs"),
    ):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, name, getattr(section, name))


def test_only_components_are_counted(tmp_path: Path) -> None:
    assert "has no components to count" in refusal(tmp_path, '[knowledge]\nnodes = "rows"\nn_components = 3')
    add_domain(tmp_path, "rows", '[knowledge]\nnodes = "rows"\n')
    knowledge = load(tmp_path, "[knowledge]\nn_components = 3\n").domains["rows"].knowledge
    assert (knowledge.nodes, knowledge.n_components) == ("rows", None)
