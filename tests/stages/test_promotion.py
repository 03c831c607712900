"""Which adapter is served after a refresh: compared with the one that is served, on the domain's rows of today."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from g2is_assets.contracts.finetune import SCORES, VALIDATION
from g2is_assets.store.serving import SERVED, served_folder
from support.projects import lake_of
from support.rows import arithmetic_row, write_jsonl
from support.runs import computed, run

STRONG = "[finetune]\nlearning_rate = 0.01\nepochs = 3\n"
"""Better than what the project's own settings make."""
BY_SCHEDULE = {"dagster/schedule_name": "refresh_words"}


class Words:
    """The domain `words` of a project, refreshed with one `domain.toml` after the other."""

    def __init__(self, settings: Path, instance: dg.DagsterInstance) -> None:
        self.settings, self.instance, self.lake = settings, instance, lake_of(settings)
        self.folder = settings.parent / "domains" / "words"

    def refresh(self, said: str, **tags: str) -> dict[str, bool]:
        """Refresh it; what was computed."""
        (self.folder / "domain.toml").write_text(said)
        result = run(self.settings, self.instance, "refresh_domain", "words", tags=tags)
        (event,) = result.asset_materializations_for_node("finetune__evaluation")
        self.told = {name: event.metadata[f"g2is/{name}"].value for name in ("is_served", "served")}
        done = computed(result)
        return {name: value for name, value in done.items() if not name.startswith("audit/lineage")}

    @property
    def adapter(self) -> str:
        """The newest adapter's version."""
        return self.lake.current("finetune/adapter", "words").folder.name

    @property
    def served(self) -> str:
        """The served adapter's version."""
        return str(served_folder(self.lake, "words")).rpartition("/")[2]

    @property
    def metrics(self) -> dict[str, Any]:
        """Of the last evaluation."""
        return dict(self.lake.current("finetune/evaluation", "words").manifest.metrics)


@pytest.fixture
def words(built: Path, instance: dg.DagsterInstance) -> Words:
    return Words(built, instance)


def test_a_schedule_serves_only_what_beats_the_served_adapter_and_people_decide_otherwise(words: Words) -> None:
    weak, before = words.adapter, words.metrics
    assert words.served == weak
    assert "nll_served" not in before
    words.refresh(STRONG)
    strong, metrics = words.adapter, words.metrics
    assert words.served == strong != weak
    assert metrics["served_version"] == weak
    assert metrics["nll_served"] == pytest.approx(before["nll_g2is"])
    assert (
        metrics["minus_served_low"]
        <= metrics["minus_served"]
        == pytest.approx(metrics["nll_g2is"] - metrics["nll_served"])
    )
    assert metrics["validation_minus_served"] < 0
    assert not any(words.refresh(STRONG).values())
    words.refresh("", **BY_SCHEDULE)
    assert (words.adapter, words.served) == (weak, strong)
    assert words.metrics["minus_served"] == pytest.approx(-metrics["minus_served"])
    for tags in (BY_SCHEDULE, {}):  # what was not served once is not served by starting again
        assert not any(words.refresh("", **tags).values())
        assert words.served == strong
        assert words.told == {"is_served": 0, "served": strong}
    words.refresh('promote = "always"\n')
    assert words.served == weak
    words.refresh(STRONG, **BY_SCHEDULE)
    assert words.served == strong
    assert words.told == {"is_served": 1, "served": strong}


def test_without_test_rows_the_served_adapter_is_scored_on_the_validation_rows(words: Words) -> None:
    (words.folder / "test.jsonl").unlink()
    weak, before = words.adapter, words.metrics
    words.refresh(f'promote = "if_better"\n{STRONG}')
    assert words.served == words.adapter != weak
    metrics = words.metrics
    assert metrics["split"] == "validation"
    assert metrics["nll_served"] == metrics["validation_nll_served"] == pytest.approx(before["validation_nll_g2is"])
    strong = words.adapter
    words.refresh('promote = "if_better"\n')
    assert words.served == strong != words.adapter


def test_a_run_killed_between_evaluation_and_promotion_is_made_good_by_the_next(words: Words) -> None:
    pointer = words.lake.place("finetune/adapter", "words") / SERVED
    before = pointer.read_text()
    words.refresh(STRONG)
    after = pointer.read_text()
    assert json.loads(after)["before"] == json.loads(before)["version"]
    pointer.write_text(before)  # as a kill just then leaves it
    assert not any(words.refresh(STRONG).values())
    assert pointer.read_text() == after


def test_changed_rows_are_what_all_adapters_are_scored_on_and_right_answers_are_counted(words: Words) -> None:
    rows = [arithmetic_row(n, "words") for n in range(400, 405)]
    for row in rows[:2]:
        row |= {"answer": str(row["output"]), "choices": [str(row["output"]), "no"]}
    rows[2]["answer"] = str(rows[2]["output"])
    write_jsonl(words.folder / "test.jsonl", rows)
    words.refresh(STRONG)
    evaluation = words.lake.current("finetune/evaluation", "words")
    scores, metrics = evaluation.read(SCORES), words.metrics
    own = words.lake.current("instructions/target", "words").manifest.n_rows["target"]
    assert (metrics["n_scored"], metrics["n_asked"]) == (5, 3)
    assert sorted(scores["model"].unique()) == ["base", "g2is", "random", "served"]
    for model, part in scores.group_by("model"):
        assert part["right"].count() == 3
        assert metrics[f"n_right_{model[0]}"] == part["right"].sum()
        if model[0] != "g2is":
            more = metrics["n_right_g2is"] - metrics[f"n_right_{model[0]}"]
            assert metrics[f"right_minus_{model[0]}"] == pytest.approx(more / 3)
        assert metrics[f"nll_{model[0]}"] == pytest.approx(part["nll"].mean())
    assert len(evaluation.read(VALIDATION)) == 4 * (own - 5)
