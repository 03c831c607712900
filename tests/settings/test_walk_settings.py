"""[selection]: each walk has its own keys, with its own defaults."""

from pathlib import Path

import pytest

from support.settings import add_domain, load, refusal


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


@pytest.mark.parametrize(
    ("graph", "features"),
    [
        ("", ("adam_without_momentum", True)),
        ("n_neighbors = 64", ("adam_without_momentum", True)),
        ('kind = "adam"', ("adam", True)),
        ("mean_removed = false", ("adam_without_momentum", False)),
    ],
)
def test_a_walk_on_neighbours_alone_gives_the_graph_its_features_unless_that_names_others(
    tmp_path: Path, graph: str, features: tuple[str, bool]
) -> None:
    said = f"[graph]\n{graph}\n[selection]\nmean_removed = true\n"
    alone, exact = (load(tmp_path, said + more).settings.graph for more in ("neighbours_only = true\n", ""))
    assert (alone.kind, alone.mean_removed) == features
    assert (exact.kind, exact.mean_removed) == ("adam", False)
    assert alone.n_neighbors == exact.n_neighbors


def test_a_walk_on_neighbours_alone_has_no_features_that_are_not_stored(tmp_path: Path) -> None:
    said = '[gradients]\nkinds = ["adam"]\n[selection]\nneighbours_only = true\n'
    assert "selection.kind = 'adam_without_momentum' is not among" in refusal(tmp_path, said)
