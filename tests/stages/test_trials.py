"""The cells of a domain, with a tiny model: the rule of rates, sharing, and going on after a kill or a pause."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from g2is_assets.contracts.instructions import POOL, TARGET
from g2is_assets.errors import SourceError, StoreError, StudyPaused
from g2is_assets.settings.config import FinetuneSettings, Source
from g2is_assets.settings.project import load_project
from g2is_assets.stages.stage import Place
from g2is_assets.stages.studies import Study, StudyFile, Variant
from g2is_assets.stages.trainings import pool_rows, tuned
from g2is_assets.stages.trials import DomainTrials, Made, Work
from g2is_assets.stages.variants import adapter_table, score_tables
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.measured import Cell, CellKey
from g2is_assets.store.sources import read_rows
from g2is_assets.training import evaluate
from g2is_assets.training import fit as training
from g2is_assets.training.model import pick_compute
from g2is_assets.training.text import examples

RATES = (0.03, 0.001)


def table(workspace: Workspace, splits: dict[str, Path], schema: pl.Schema) -> pl.DataFrame:
    from g2is_assets.training.text import normalise

    records = []
    for split, file in splits.items():
        found = normalise(read_rows(str(file), Source(path=file.name), file.parent), workspace.template)
        records += [{**row, "split": split, "domain": "sums"} for row in found.rows.to_dicts()]
    return pl.DataFrame([{name: row[name] for name in schema} for row in records], schema=schema)


@pytest.fixture
def cells(make_project: Callable[..., Path], tmp_path: Path) -> DomainTrials:
    settings = make_project()
    workspace, folder = Workspace(load_project(settings)), settings.parent
    with (folder / "domains" / "sums" / "test.jsonl").open("a") as file:
        file.write('{"instruction": "Is 2 even?", "output": "Yes", "answer": "Yes", "choices": ["No", "Yes"]}\n')
        file.write('{"instruction": "What is 2 + 2?", "output": "The answer is 4.", "answer": "4"}\n')
    variants = {"less": Variant(selector="less")}
    said = StudyFile(variants=variants, rates=RATES, cells="cells", answer_tokens=8, general_rows=5)
    finetune = FinetuneSettings(rank=2, alpha=4, epochs=2)
    study = Study(name="small", file=folder / "small.toml", said=said, domains=("sums",), finetune=finetune)
    domain = folder / "domains" / "sums"
    return DomainTrials(
        workspace,
        study,
        "sums",
        table(workspace, {"pool": folder / "pool" / "sums.jsonl"}, POOL.schema).sort("row_id"),
        table(workspace, {s: domain / f"{s}.jsonl" for s in ("validation", "test")}, TARGET.schema),
    )


def rows_of(cells: DomainTrials, first: int = 0) -> list[str]:
    return cells.pool["row_id"][first : first + 6].to_list()


def made_so_far(cells: DomainTrials) -> dict[str, Cell]:
    return cells.measured.all()


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("trained or scored again")

        monkeypatch.setattr(training, "fit_lora", refuse)
        monkeypatch.setattr(evaluate, "nll_and_choices", refuse)

    return forbid


def by_trial(made: list[Made]) -> dict[tuple[int, float], Made]:
    return {(one.trial.seed, one.trial.rate): one for one in made}


def test_every_rate_is_trained_at_the_first_seed_and_only_the_best_is_scored_and_repeated(
    cells: DomainTrials, tmp_path: Path
) -> None:
    chosen = {0.1: dict.fromkeys((0, 1), rows_of(cells))}
    assert (cells.missing(chosen).n_trainings, cells.missing(chosen).n_scorings) == (3, 2)
    made = by_trial(cells.make(chosen, tmp_path / "adapters"))
    assert {trial for trial in made if trial[0] == 0} == {(0, rate) for rate in RATES}
    best = min(RATES, key=lambda rate: made[0, rate].cell.best_validation_nll)
    assert made[0, 0.03].cell.best_validation_nll != made[0, 0.001].cell.best_validation_nll
    assert set(made) == {(0, RATES[0]), (0, RATES[1]), (1, best)}
    assert {trial for trial, one in made.items() if one.chosen} == {(0, best), (1, best)}
    assert {trial for trial, one in made.items() if one.cell.scores} == {(0, best), (1, best)}
    assert {one.cell.made["device"] for one in made.values()} == {"cpu"}
    kept = {folder.name for folder in (tmp_path / "adapters").iterdir()}
    assert kept == {made[seed, best].cell.digest[:16] for seed in (0, 1)}
    assert cells.missing(chosen).n_trainings == cells.missing(chosen).n_scorings == 0


def test_of_equally_good_rates_the_smaller_wins(cells: DomainTrials, tmp_path: Path) -> None:
    chosen = {0.1: {0: rows_of(cells)}}
    made = cells.make(chosen, tmp_path / "first")
    for one in made:
        cells.measured.put(one.cell.model_copy(update={"validation_nll": [1.0] * 3, "best_epoch": 1}))
    again = by_trial(cells.make(chosen, tmp_path / "second"))
    assert (again[0, 0.001].chosen, again[0, 0.03].chosen) == (True, False)


def test_scores_are_those_of_every_test_row_and_of_its_choices(cells: DomainTrials, tmp_path: Path) -> None:
    made = cells.make({0.1: {0: rows_of(cells)}}, tmp_path / "adapters")
    scores = next(one.cell.scores for one in made if one.chosen)
    test = cells.target.filter(pl.col("split") == "test")
    assert scores
    assert scores.row_id == test["row_id"].to_list()
    asked = [choices is not None for choices in test["choices"]]
    assert sum(asked) == 1
    assert [right is not None for right in scores.correct] == asked


def test_rows_without_choices_are_answered_and_rows_of_the_pool_scored(
    cells: DomainTrials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = cells.target.filter(answer="4")["row_id"].to_list()
    monkeypatch.setattr(evaluate, "answer", lambda _, __, found, *___: [("4", True) for _ in found])
    cell = next(one.cell for one in cells.make({0.1: {0: rows_of(cells)}}, tmp_path / "adapters") if one.chosen)
    assert cell.answers
    assert (cell.answers.row_id, cell.answers.right) == (asked, [True])
    assert cell.general
    assert len(cell.general.nll) == 5
    assert set(cell.general.row_id) < set(cells.pool["row_id"])
    rows = examples(pool_rows(cells.pool, cell.general.row_id, "nothing"), cells.workspace.template)
    model = tuned(cells.workspace, tmp_path / "adapters" / cell.digest[:16])
    alone = evaluate.nll_and_choices(model, cells.workspace.template, rows, (), 64)[0]
    assert cell.general.nll == pytest.approx(alone, abs=1e-5)


def test_a_study_that_asks_for_more_makes_only_what_is_missing(
    cells: DomainTrials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {0.1: {0: rows_of(cells)}}
    made = cells.make(chosen, tmp_path / "first")
    assert len(cells.keep(made, tmp_path / "first", "run")) == 1
    first = next(one.cell for one in made if one.chosen)
    more = replace(cells, study=asking(cells, answer_tokens=9, general_rows=7))
    work = more.missing(chosen)
    assert (work.n_trainings, work.n_scorings) == (0, 1)
    assert 0 < work.scoring_tokens < cells.tokens_of_scoring()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("scored again")

    monkeypatch.setattr(DomainTrials, "_scores", refuse)
    second = next(one.cell for one in more.make(chosen, tmp_path / "adapters") if one.chosen)
    assert second.scores == first.scores
    assert first.general
    assert second.general
    before, after = (dict(zip(g.row_id, g.nll, strict=True)) for g in (first.general, second.general))
    assert after.items() > before.items()
    assert len(second.general.nll) == 7
    assert second.answers
    assert first.answers
    assert second.answers.asked != first.answers.asked
    over = replace(cells, study=asking(cells, answer_tokens=9, general_rows=8), stop_at=time.time() - 1)
    with pytest.raises(StudyPaused):
        over.make(chosen, tmp_path / "adapters")
    # What asks for less is content, and keeps what there is.
    less = replace(cells, study=asking(cells, answer_tokens=0, general_rows=0))
    assert less.missing(chosen) == Work()
    assert next(one.cell for one in less.make(chosen, tmp_path / "adapters") if one.chosen) == second


@pytest.mark.parametrize("part", ["scores", "answers", "general"])
def test_tables_hold_all_that_the_study_asks_for_or_none_is_made(
    cells: DomainTrials, tmp_path: Path, part: str
) -> None:
    made, place = cells.make({0.1: {0: rows_of(cells)}}, tmp_path / "adapters"), Place("sums", cells.study, "less")
    trainings, by_digest = adapter_table(place, made), {one.cell.digest: one.cell for one in made}
    scores, general = score_tables(place, trainings, by_digest, [], cells.exam.test)
    assert scores.filter(pl.col("correct").is_not_null()).height == 2  # one with choices, one that was answered
    assert general.height == 5
    lacking = {digest: cell.model_copy(update={part: None}) for digest, cell in by_digest.items()}
    with pytest.raises(StoreError, match=r"lacks scores that the study asks for; materialise study/adapter"):
        score_tables(place, trainings, lacking, [], cells.exam.test)
    silent = replace(place, of_study=asking(cells, answer_tokens=0, general_rows=0))
    scores, general = score_tables(silent, trainings, by_digest, [], cells.exam.test)
    assert (scores.filter(pl.col("correct").is_not_null()).height, general.height) == (1, 0)


def asking(cells: DomainTrials, **more: int) -> Study:
    return cells.study.model_copy(update={"said": cells.study.said.model_copy(update=more)})


def test_the_same_rows_in_the_same_order_are_trained_once(
    cells: DomainTrials, tmp_path: Path, no_training: Callable[[], None]
) -> None:
    first = cells.make({0.1: {0: rows_of(cells)}}, tmp_path / "first")
    before = made_so_far(cells)
    no_training()
    second = cells.make({6.0: {0: rows_of(cells)}}, tmp_path / "second")
    assert [one.cell for one in second] == [one.cell for one in first]
    assert made_so_far(cells) == before
    with pytest.raises(AssertionError, match="trained or scored again"):
        cells.make({0.1: {0: rows_of(cells)[::-1]}}, tmp_path / "third")


def test_a_training_is_repeated_to_the_digit(cells: DomainTrials, tmp_path: Path) -> None:
    chosen = {0.1: {0: rows_of(cells), 3: rows_of(cells)}}
    first = cells.make(chosen, tmp_path / "first")
    cells.measured.file.unlink()
    second = cells.make(chosen, tmp_path / "second")
    for one, other in zip(first, second, strict=True):
        assert one.cell.validation_nll == other.cell.validation_nll
        assert (one.cell.scores and one.cell.scores.nll) == (other.cell.scores and other.cell.scores.nll)
    # Another seed is another training.
    of_seed = {one.trial.seed: one.cell.scores.nll for one in first if one.cell.scores}
    assert of_seed[0] != of_seed[3]


def test_killed_in_the_second_training_the_first_is_not_lost(
    cells: DomainTrials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = training.fit_lora, []

    def killed(*given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*given, **named)

    monkeypatch.setattr(training, "fit_lora", killed)
    with pytest.raises(KeyboardInterrupt):
        cells.make({0.1: {0: rows_of(cells)}}, tmp_path / "first")
    before = made_so_far(cells)
    assert len(before) == 1
    made = cells.make({0.1: {0: rows_of(cells)}}, tmp_path / "second")
    # Only the second rate was left to train, unless the first one won: its adapter was lost with the process.
    lost = next(one for one in made if one.chosen).cell.digest in before
    assert len(calls) == 3 + lost
    assert sum(one.cell.scores is not None for one in made) == 1


def test_a_trained_cell_without_scores_is_trained_again_to_the_same_numbers(
    cells: DomainTrials, tmp_path: Path
) -> None:
    chosen = {0.1: {0: rows_of(cells)}}
    first = next(one.cell for one in cells.make(chosen, tmp_path / "first") if one.chosen)
    cells.measured.put(first.model_copy(update={"scores": None}))
    assert (cells.missing(chosen).n_trainings, cells.missing(chosen).n_scorings) == (1, 1)
    assert cells.missing(chosen).scoring_tokens == cells.tokens_of_scoring()  # of another training, hence all
    second = next(one.cell for one in cells.make(chosen, tmp_path / "second") if one.chosen)
    assert first.scores
    assert second.scores
    assert (second.validation_nll, second.scores.nll) == (first.validation_nll, first.scores.nll)


def test_other_test_rows_are_scored_anew_in_the_same_cell(cells: DomainTrials, tmp_path: Path) -> None:
    chosen = {0.1: {0: rows_of(cells)}}
    cells.make(chosen, tmp_path / "first")
    names = set(made_so_far(cells))
    fewer = replace(cells, target=cells.target.filter(pl.col("answer").is_null()))
    made = next(one.cell for one in fewer.make(chosen, tmp_path / "second") if one.chosen)
    assert set(made_so_far(cells)) == names
    assert made.scores
    assert len(made.scores.row_id) == fewer.target.filter(pl.col("split") == "test").height


def test_an_adapter_of_an_earlier_version_is_scored_without_training(
    cells: DomainTrials, tmp_path: Path, no_training: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, scoring = {0.1: {0: rows_of(cells)}}, evaluate.nll_and_choices
    made = cells.make(chosen, tmp_path / "first")
    assert len(cells.keep(made, tmp_path / "first", "run")) == 1
    first = next(one.cell for one in made if one.chosen)
    cells.measured.put(first.model_copy(update={"scores": None}))
    work = cells.missing(chosen)
    assert (work.n_trainings, work.n_scorings) == (0, 1)
    # With the adapter at hand the answers and rows of the pool that are there need not be made again.
    assert work.scoring_tokens < cells.tokens_of_scoring()
    no_training()
    monkeypatch.setattr(evaluate, "nll_and_choices", scoring)
    again = next(one.cell for one in cells.make(chosen, tmp_path / "adapters") if one.chosen)
    assert first.scores
    assert again.scores
    assert again.scores.nll == first.scores.nll


def test_the_base_model_is_scored_without_a_training(cells: DomainTrials, tmp_path: Path) -> None:
    chosen: dict[float, dict[int, list[str]]] = {0.1: {0: []}, 0.2: {0: []}}
    work = cells.missing(chosen)
    assert (work.n_trainings, work.n_scorings) == (0, 1)
    made = cells.make(chosen, tmp_path / "adapters")
    assert len(made) == 2
    assert len(made_so_far(cells)) == 1
    cell = made[0].cell
    assert (cell.n_rows, cell.n_tokens, cell.best_epoch, cell.finetune) == (0, 0, 0, {})
    # An adapter at its start is the base model, but for what passes in bfloat16 round.
    trained = cells.make({0.1: {0: rows_of(cells)}}, tmp_path / "adapters")[0].cell
    assert trained.validation_nll[0] == pytest.approx(cell.validation_nll[0], abs=5e-4)


def test_when_the_time_is_over_nothing_more_is_begun_and_what_is_made_is_kept(
    cells: DomainTrials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {0.1: {0: rows_of(cells)}}
    with pytest.raises(StudyPaused, match=r"'small' stopped in domain 'sums'.*goes on from there"):
        replace(cells, stop_at=time.time() - 1).make(chosen, tmp_path / "first")
    assert made_so_far(cells) == {}
    running, train = replace(cells, stop_at=time.time() + 1000), training.fit_lora

    def train_until_it_is_over(*given: Any, **named: Any) -> Any:
        running.stop_at = 0.0
        return train(*given, **named)

    monkeypatch.setattr(training, "fit_lora", train_until_it_is_over)
    with pytest.raises(StudyPaused):
        running.make(chosen, tmp_path / "second")
    assert len(made_so_far(cells)) == 1


def test_a_domain_without_test_rows_is_refused(cells: DomainTrials, tmp_path: Path) -> None:
    without = replace(cells, target=cells.target.filter(pl.col("split") == "validation"))
    with pytest.raises(SourceError, match=r"'sums' has no test rows.*add test\.jsonl"):
        without.make({0.1: {0: rows_of(cells)}}, tmp_path)


def test_a_row_that_left_the_pool_is_refused(cells: DomainTrials, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="1 chosen rows left the pool"):
        cells.make({0.1: {0: ["gone", *rows_of(cells)]}}, tmp_path)


def test_the_key_holds_what_the_workspace_and_the_study_say(cells: DomainTrials, tmp_path: Path) -> None:
    made = cells.make({0.1: {5: rows_of(cells)}}, tmp_path)[0]
    # `auto` is another training on another device.
    here = {"seed": 5, "learning_rate": made.trial.rate, "compute": pick_compute("auto", "cpu")}
    key = CellKey(
        "sums",
        cells.workspace.model.digest,
        cells.workspace.template_digest,
        rows_of(cells),
        cells.study.finetune.model_copy(update=here).model_dump(mode="json"),
        cells.target.filter(pl.col("split") == "validation")["row_id"].to_list(),
    )
    assert cells.measured.find(key) == made.cell
