"""Study files that say what cannot be: refused with file, place and reason, and in no refresh's way."""

from collections.abc import Callable
from pathlib import Path

import pytest

from g2is_assets.cli.checkup import check_studies
from g2is_assets.errors import SettingsError
from g2is_assets.orchestration.definitions import build_defs
from g2is_assets.settings.project import load_project
from g2is_assets.stages.studies import find_study, load_studies
from support.projects import STUDY

FAULTS = {
    "an unknown selector": ('selector = "less"', 'selector = "lesss"', r"variants\.less\.selector: no such selector"),
    "an unknown domain": ("title", 'domains = ["nowhere"]\ntitle', "there is no domain nowhere; known: sums, words"),
    "options that do not count": (
        'selector = "less"',
        'selector = "less"\noptions = { redundancy = 0.1 }',
        "'less' does not read the option 'redundancy'; it reads none",
    ),
    "an option that only others read": (
        'selector = "less"',
        'selector = "g2is_without_graph"\noptions = { redundancy = 0.1 }',
        "'g2is_without_graph' does not read the option 'redundancy'; it reads kind, mean_removed",
    ),
    "a budget in the options": (
        'selector = "less"',
        'selector = "g2is"\noptions = { budget = 0.1 }',
        "'g2is' does not read the option 'budget'",
    ),
    "knowledge that does not count": (
        'selector = "less"',
        'selector = "g2is"\noptions = { kind = "adam" }\nknowledge = { nodes = "rows" }',
        "knowledge counts for a walk with walk = 'gradient' only",
    ),
    "a part of a row": ("[0.15]", "[1.5]", "from 1 up a budget counts rows and must be whole"),
    "a seed twice": ("seeds = [0]\n", "seeds = [0, 0]\n", "seeds: a value is given twice"),
    "a sketch that does not divide": (
        'selector = "less"',
        'selector = "less"\nsketch_dim = 7',
        r"variants\.less: sketch_dim 7 does not divide gradients' \d+",
    ),
    "a sketch of nothing": (
        'selector = "random"',
        'selector = "random"\nsketch_dim = 8',
        "'random' reads no gradients",
    ),
    "an unknown option": (
        'selector = "less"',
        'selector = "g2is"\noptions = { redundancyy = 0.1 }',
        r"unknown setting 'variants\.less\.options\.redundancyy'",
    ),
    "a kind that is not stored": (
        'selector = "less"',
        'selector = "g2is"\noptions = { kind = "sgd" }',
        r"variants\.less: kind 'sgd' is not among gradients\.kinds",
    ),
    "a rate in the training": ("[variants.base]", "[finetune]\nseed = 1\n[variants.base]", "the seed from `seeds`"),
    "a budget twice": ("[0.15]", "[0.15, 0.15]", "budgets: a value is given twice"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_study_that_cannot_be_is_refused(make_project: Callable[[], Path], fault: str) -> None:
    old, new, message = FAULTS[fault]
    settings = make_project()
    (settings.parent / "studies").mkdir()
    (settings.parent / "studies" / "small.toml").write_text(STUDY.replace(old, new, 1))
    with pytest.raises(SettingsError, match=message):
        find_study(load_project(settings), "small")


def test_one_that_cannot_be_keeps_neither_definitions_nor_other_studies_from_loading(
    make_project: Callable[[], Path], caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_project()
    (settings.parent / "studies").mkdir()
    (settings.parent / "studies" / "small.toml").write_text(STUDY)
    (settings.parent / "studies" / "bad.toml").write_text(STUDY.replace('"less"', '"lesss"', 1))
    keys = {key.to_user_string() for key in build_defs(settings).resolve_asset_graph().get_all_asset_keys()}
    assert "study/leaderboard" in keys
    assert list(load_studies(load_project(settings))) == ["small"]
    assert "study left out" in caplog.text
    assert "bad.toml" in caplog.text
    assert [(f.state, "bad.toml" in f.said) for f in check_studies(load_project(settings))] == [
        ("warning", True),
        ("ok", False),
    ]
