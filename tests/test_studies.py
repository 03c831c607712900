"""Study files that say what cannot be: refused with file, place and reason when the definitions load."""

from collections.abc import Callable
from pathlib import Path

import pytest
from assets.test_study import STUDY

from g2is_assets.definitions import build_defs
from g2is_assets.errors import G2isError

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
        "knowledge counts for a walk with next_row = 'coherence' only",
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
def test_a_study_that_cannot_be_is_refused_when_the_definitions_load(
    make_project: Callable[[], Path], fault: str
) -> None:
    old, new, message = FAULTS[fault]
    settings = make_project()
    (settings.parent / "studies").mkdir()
    (settings.parent / "studies" / "small.toml").write_text(STUDY.replace(old, new, 1))
    with pytest.raises(G2isError, match=message):
        build_defs(settings)
