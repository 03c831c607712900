"""Batches and the in-process engine."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from g2is_assets.training.batches import plan_batches
from g2is_assets.training.engine import InProcessEngine

lengths = st.lists(st.integers(1, 200), max_size=40)


def test_the_shortest_rows_come_first_and_fill_a_batch_up_to_its_tokens():
    # Padded tokens: 2 × 3 = 6 fits in 10, 3 × 4 = 12 does not; 2 × 5 = 10 just fits.
    assert plan_batches([5, 3, 4, 2], 10) == [[3, 1], [2, 0]]


def test_equal_lengths_keep_their_order():
    assert plan_batches([7, 7, 7, 7], 14) == [[0, 1], [2, 3]]


def test_a_row_longer_than_the_budget_is_a_batch_of_its_own():
    assert plan_batches([50, 3, 60], 10) == [[1], [0], [2]]


def test_no_rows_give_no_batches():
    assert plan_batches([], 10) == []


@given(lengths=lengths, batch_tokens=st.integers(1, 400))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_every_row_is_in_one_batch_and_no_batch_of_several_is_too_large(lengths: list[int], batch_tokens: int):
    batches = plan_batches(lengths, batch_tokens)
    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= batch_tokens
    sizes = [lengths[i] for batch in batches for i in batch]
    assert sizes == sorted(sizes)


@given(lengths=lengths, batch_tokens=st.integers(1, 400))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_no_two_batches_in_a_row_could_have_been_one(lengths: list[int], batch_tokens: int):
    batches = plan_batches(lengths, batch_tokens)
    for batch, following in pairwise(batches):
        assert (len(batch) + 1) * lengths[following[0]] > batch_tokens


def test_the_engine_makes_one_worker_and_computes_results_as_they_are_asked_for():
    made: list[int] = []
    seen: list[int] = []

    def worker(item: int) -> int:
        seen.append(item)
        return item * item

    def make_worker() -> object:
        made.append(1)
        return worker

    results = InProcessEngine().map(make_worker, [3, 1, 2])
    assert next(results) == 9
    assert seen == [3]
    assert list(results) == [1, 4]
    assert made == [1]
