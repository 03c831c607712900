"""Settings load whole or are refused with file, key and remedy."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from g2is_assets.errors import NoProjectError, SettingsError
from g2is_assets.settings.project import Project, load_project, settings_path

SOURCES = '[instructions]\nsources = ["pool.jsonl"]\n'


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("G2IS_CONFIG", raising=False)
    monkeypatch.delenv("G2IS_HOME", raising=False)


def load(folder: Path, text: str = "") -> Project:
    file = folder / "g2is.toml"
    file.write_text(SOURCES + text, encoding="utf-8")
    return load_project(file)


def refusal(folder: Path, text: str = "") -> str:
    with pytest.raises(SettingsError) as refused:
        load(folder, text)
    return str(refused.value)


def add_domain(
    folder: Path, name: str = "shop", toml: str | None = None, files: tuple[str, ...] = ("validation.jsonl",)
) -> Path:
    domain = folder / "domains" / name
    domain.mkdir(parents=True)
    for file in files:
        (domain / file).write_text("")
    if toml is not None:
        (domain / "domain.toml").write_text(toml, encoding="utf-8")
    return domain


def test_a_file_with_only_sources_gets_the_demo_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path).settings
    assert [source.path for source in settings.instructions.sources] == ["pool.jsonl"]
    assert (settings.warmup.share, settings.gradients.sketch_dim, settings.selection.walk) == (
        0.10,
        8192,
        "balanced",
    )


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


def test_the_published_walk_takes_no_option_of_ours(tmp_path: Path) -> None:
    assert load(tmp_path, '[selection]\nwalk = "reference"\ndelta = 0.7').settings.selection.delta == 0.7
    for option in ('consistency = "best"', "redundancy = 0.5", "no_conflict = false", "reallocate = true"):
        name = option.split(" ")[0]
        message = refusal(tmp_path, f'[selection]\nwalk = "reference"\n{option}')
        assert f'selection: `{name}` is no key of walk = "reference", but of ' in message, option
    assert "did you mean 'delta'?" in refusal(tmp_path, '[selection]\nwalk = "reference"\ndelte = 0.7')


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ('method = "reference"', 'walk = "reference"'),
        ('method = "g2is"', 'walk = "balanced" or walk = "gradient"'),
        ('next_row = "coherence"', 'walk = "gradient"'),
        ('next_row = "balance"', 'walk = "balanced"'),
    ],
)
def test_a_spelling_of_before_is_refused_with_the_new_one(tmp_path: Path, before: str, now: str) -> None:
    assert now in refusal(tmp_path, f"[selection]\n{before}")
    add_domain(tmp_path, "math", f"[selection]\n{before}\n")
    assert now in refusal(tmp_path)


def test_a_walk_that_there_is_not_is_refused_with_those_there_are(tmp_path: Path) -> None:
    assert "walk must be one of balanced, gradient, reference (given: 'random')" in refusal(
        tmp_path, '[selection]\nwalk = "random"'
    )


def test_a_domain_with_another_walk_inherits_what_that_walk_has(tmp_path: Path) -> None:
    add_domain(tmp_path, "papers", '[selection]\nwalk = "gradient"\n')
    said = "[selection]\nredundancy = 0.5\nmemory_gb = 2.0\ndelta = 0.4\n"
    selection = load(tmp_path, said).domains["papers"].selection
    assert (selection.walk, selection.memory_gb, selection.delta, selection.kind) == ("gradient", 2.0, 0.4, "adam")


def test_the_balanced_walk_has_no_rule_but_those_it_is_given(tmp_path: Path) -> None:
    add_domain(tmp_path, "plain")
    add_domain(tmp_path, "papers", '[selection]\nwalk = "gradient"\n')
    add_domain(tmp_path, "ruled", "[selection]\nno_conflict = true\ndelta = 0.5\n")
    domains = load(tmp_path, '[selection]\nwalk = "balanced"\n').domains
    rules = {name: (domain.selection.delta, domain.selection.no_conflict) for name, domain in domains.items()}
    assert rules == {"plain": (0.0, False), "papers": (0.8, True), "ruled": (0.5, True)}
    assert domains["plain"].selection.redundancy == 0.25


@pytest.mark.parametrize("redundancy", ["-0.1", "1.1"])
def test_redundancy_is_a_share(tmp_path: Path, redundancy: str) -> None:
    assert "selection.redundancy" in refusal(tmp_path, f"[selection]\nredundancy = {redundancy}")


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


def test_a_missing_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml does not exist; name another with --config or G2IS_CONFIG"):
        load_project(tmp_path / "nowhere.toml")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_project(tmp_path)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"[instructions\n", "not valid TOML"),
        (b"a = 1\na = 2\n", "not valid TOML"),
        (b"model = '\xff\xfe'\n", "cannot be read"),
        (b"model = " + b"[" * 3000, "g2is.toml"),
        (b"threads = " + b"1" * 5000, "g2is.toml"),
        (b"model = 0x" + b"f" * 5000 + b"\n" + SOURCES.encode(), "model"),
    ],
    ids=["broken", "repeated", "not_utf8", "deeply_nested", "too_many_digits", "huge_value"],
)
def test_a_file_that_is_no_toml_is_refused_by_name(tmp_path: Path, content: bytes, fault: str) -> None:
    file = tmp_path / "g2is.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        load_project(file)
    assert str(file) in str(refused.value)
    assert fault in str(refused.value)


def test_the_settings_file_is_the_one_given_then_the_variable_then_the_nearest_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tmp_path / "repository" / "inner" / "deep"
    (below.parent / "g2is.toml").mkdir(parents=True)  # a folder is no settings file
    below.mkdir()
    monkeypatch.chdir(below)
    with pytest.raises(NoProjectError, match="make one with `g2is init`"):
        settings_path()
    for folder in ("data", "repository/data", "repository", "repository/inner/data"):
        place = f"{folder}/g2is.toml"
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).touch()
        assert settings_path() == (tmp_path / place).resolve()  # each is nearer than the one before
    monkeypatch.setenv("G2IS_CONFIG", str(tmp_path / "other.toml"))
    assert settings_path() == (tmp_path / "other.toml").resolve()
    assert settings_path("mine.toml") == (below / "mine.toml").resolve()
    (tmp_path / "other.toml").write_text(SOURCES)
    assert load_project().path == (tmp_path / "other.toml").resolve()


def test_paths_are_relative_to_the_settings_file_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, elsewhere = tmp_path / "project" / "data", tmp_path / "elsewhere"
    (data / "targets" / "shop").mkdir(parents=True)
    (tmp_path / "project" / "model").mkdir()
    elsewhere.mkdir()
    (data / "g2is.toml").write_text('model = "../model"\nhome = ".."\ndomains = "targets"\n' + SOURCES)
    monkeypatch.chdir(elsewhere)
    project = load_project(Path("../project/data/g2is.toml"))
    assert project.home == (tmp_path / "project").resolve()
    assert project.model == str((tmp_path / "project" / "model").resolve())
    assert list(project.domains) == ["shop"]


def test_a_model_that_is_no_folder_stays_a_name(tmp_path: Path) -> None:
    file = tmp_path / "g2is.toml"
    file.write_text('model = "org/name"\n' + SOURCES)
    assert load_project(file).model == "org/name"


def test_the_home_variable_moves_the_lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(tmp_path).home == tmp_path.resolve()
    monkeypatch.setenv("G2IS_HOME", str(tmp_path / "moved"))
    assert load(tmp_path).home == (tmp_path / "moved").resolve()


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


TOML_VALUES = st.sampled_from(["1", "-1", "0.5", "inf", "nan", "true", '"x"', "[]", '["a"]', "{}", "1979-05-27", ""])
TOML_KEYS = st.sampled_from(["model", "home", "threads", "sources", "budget", "share", "kinds", "rank", "seed", "x"])
TOML_HEADS = st.sampled_from(["[instructions]", "[selection]", "[warmup]", "[gradients]", "[[warmup]]", "[x]"])
TOML_LINES = st.one_of(TOML_HEADS, st.tuples(TOML_KEYS, TOML_VALUES).map(" = ".join), st.text(max_size=20))


@settings(max_examples=50, deadline=None)
@given(st.one_of(st.text(max_size=80), st.lists(TOML_LINES, max_size=8).map("\n".join)), st.booleans())
def test_any_text_is_loaded_or_refused_as_settings(text: str, with_sources: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "g2is.toml"
        file.write_bytes(((SOURCES if with_sources else "") + text).encode("utf-8", "replace"))
        try:
            project = load_project(file)
        except SettingsError as refused:
            assert str(file) in str(refused)  # noqa: PT017
        else:
            assert project.settings.instructions.sources


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


def test_only_components_are_counted(tmp_path: Path) -> None:
    assert "has no components to count" in refusal(tmp_path, '[knowledge]\nnodes = "rows"\nn_components = 3')
    add_domain(tmp_path, "rows", '[knowledge]\nnodes = "rows"\n')
    knowledge = load(tmp_path, "[knowledge]\nn_components = 3\n").domains["rows"].knowledge
    assert (knowledge.nodes, knowledge.n_components) == ("rows", None)
