"""The stored graph against brute-force cosines."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from g2is_assets.core.codes import quantise
from g2is_assets.core.edges import N_SPARE
from g2is_assets.core.features import ArrayFeatures
from g2is_assets.core.graph import Graph, build_graph, count_negative, duplicate_groups, known_rows

N, K, C = 23, 5, 4


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return quantise(np.random.default_rng(0).normal(size=(N, 6)) + 0.2)


@pytest.fixture(scope="module")
def cosines(rows: np.ndarray) -> np.ndarray:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit @ unit.T


def turned(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.column_stack([np.cos(angles), np.sin(angles)])


def groups(graph: Graph) -> list[int]:
    return duplicate_groups(len(graph.neighbors), graph.duplicates).tolist()


@pytest.mark.parametrize("block_rows", [1, 4, 23, 1024])
def test_edges_and_statistics_are_those_of_the_whole_matrix(rows: np.ndarray, cosines: np.ndarray, block_rows: int):
    graph = build_graph(rows, K, C, block_rows=block_rows)
    others = [[j for j in range(N) if j != i] for i in range(N)]
    for i in range(N):
        ranked = sorted(others[i], key=lambda j: -cosines[i, j])
        assert graph.neighbors[i].tolist() == ranked[:K]
        assert graph.conflicts[i].tolist() == ([j for j in ranked[::-1] if cosines[i, j] < 0] + [-1] * C)[:C]
    np.testing.assert_allclose(graph.neighbor_cosines, np.take_along_axis(cosines, graph.neighbors, 1), atol=1e-9)
    conflicts = np.where(graph.conflicts < 0, np.inf, np.take_along_axis(cosines, graph.conflicts, 1))
    np.testing.assert_allclose(graph.conflict_cosines, conflicts, atol=1e-9)
    np.testing.assert_allclose(graph.mean_cosine, (cosines.sum(axis=1) - 1) / (N - 1), atol=1e-6)
    np.testing.assert_allclose(graph.conflict_share, (cosines < 0).sum(axis=1) / (N - 1), atol=1e-12)
    assert graph.in_degree.tolist() == [int((graph.neighbors == i).sum()) for i in range(N)]
    assert groups(graph) == list(range(N))


def same_bytes(one: Graph, other: Graph) -> None:
    """Everything that is shown."""
    for name in (name for name in vars(one) if name not in ("near", "far")):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name


@pytest.mark.parametrize("mean", [None, np.full(40, 0.05)], ids=["raw", "mean-removed"])
def test_a_graph_is_the_same_to_the_bit_in_blocks_of_any_size_with_any_number_of_threads(mean: np.ndarray | None):
    rng = np.random.default_rng(0)
    rows = quantise(rng.normal(size=(90, 40)) + 0.1)
    rows[60:] = rows[:30]  # ties, which go to the lower index
    source, before = ArrayFeatures(rows, mean), torch.get_num_threads()
    first = build_graph(source, 12, 6)
    try:
        torch.set_num_threads(2 if before == 1 else 1)
        for block_rows in (50, 7):
            same_bytes(build_graph(source, 12, 6, block_rows=block_rows), first)
    finally:
        torch.set_num_threads(before)
    for block_rows in (7, 89):
        same_bytes(build_graph(source, 12, 6, block_rows=block_rows), first)
    assert first.neighbors[:30, 0].tolist() == list(range(60, 90))


def test_no_row_is_its_own_neighbour_or_conflict_even_among_equal_rows():
    graph = build_graph(np.ones((6, 3)), 5, 5)
    own = np.arange(6)[:, None]
    assert graph.neighbors.tolist() == [[j for j in range(6) if j != i] for i in range(6)]
    assert not (graph.neighbors == own).any()
    assert not (graph.conflicts == own).any()


@pytest.mark.parametrize("wanted", [22, 23, 1000])
def test_more_neighbours_than_there_are_others_gives_all_others(rows: np.ndarray, wanted: int):
    graph = build_graph(rows, wanted, wanted)
    assert graph.neighbors.shape == graph.conflicts.shape == (N, N - 1)
    for i in range(N):
        assert sorted(graph.neighbors[i]) == [j for j in range(N) if j != i]
        assert (graph.conflicts[i] >= 0).sum() == np.isfinite(graph.conflict_cosines[i]).sum() == graph.n_negative[i]
    assert (graph.in_degree == N - 1).all()


def test_no_conflicts_may_be_asked_for(rows: np.ndarray):
    graph = build_graph(rows, K, 0)
    assert graph.conflicts.shape == graph.conflict_cosines.shape == (N, 0)


def test_equal_rows_form_a_group_named_by_the_first_of_them():
    graph = build_graph([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [5.0, 0.0]], 2, 2)
    assert groups(graph) == [0, 1, 0, 1, 4, 0]


def test_near_duplicates_that_are_linked_through_others_form_one_group():
    # Two degrees apart is a cosine of .99939, four degrees .99756.
    graph = build_graph(turned(4, 90, 0, 2), 2, 1)
    assert groups(graph) == [0, 1, 0, 0]
    without_the_link = build_graph(turned(4, 90, 0), 2, 1)
    assert groups(without_the_link) == [0, 1, 2]


def test_a_chain_across_blocks_is_one_group():
    graph = build_graph(turned(*range(0, 40, 2)), 2, 1, block_rows=3)
    assert set(groups(graph)) == {0}


def test_the_threshold_decides_what_is_a_duplicate():
    rows = turned(0, 2, 10)
    assert groups(build_graph(rows, 1, 1, duplicate_cosine=0.9997)) == [0, 1, 2]
    assert groups(build_graph(rows, 1, 1, duplicate_cosine=0.98)) == [0, 0, 0]


def test_rows_of_zeros_are_no_duplicates_of_each_other():
    graph = build_graph([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]], 2, 2)
    assert groups(graph) == [0, 1, 2]
    assert graph.mean_cosine.tolist() == [0.0, 0.0, 0.0]


def test_the_norm_of_a_row_does_not_matter(rows: np.ndarray):
    scale = np.random.default_rng(1).uniform(0.01, 100, size=(N, 1))
    first, second = build_graph(rows, K, C), build_graph(rows * scale, K, C)
    assert first.neighbors.tolist() == second.neighbors.tolist()


def test_progress_counts_every_row_once(rows: np.ndarray):
    told: list[int] = []
    build_graph(rows, K, C, block_rows=10, progress=told.append)
    assert (len(told), sum(told)) == (6, N)  # six pairs of three blocks


def test_types_are_as_documented(rows: np.ndarray):
    graph = build_graph(rows, K, C)
    shown = Graph.__dataclass_fields__.keys() - {"near", "far"}
    kinds = {name: getattr(graph, name).dtype.name for name in shown}
    whole = {"neighbors", "conflicts", "in_degree", "n_negative", "duplicates"}
    assert {name for name, kind in kinds.items() if kind == "int64"} == whole
    assert kinds["neighbor_cosines"] == kinds["conflict_cosines"] == "float64"
    assert kinds["mean_cosine"] == graph.conflict_share.dtype.name == "float64"


@pytest.mark.parametrize("n", [0, 1])
def test_a_graph_of_fewer_than_two_rows_is_refused(n: int):
    with pytest.raises(ValueError, match=f"at least 2 rows, got {n}"):
        build_graph(np.ones((n, 3)), 1, 1)


@pytest.mark.parametrize("block_rows", [4, 1024])
@given(seed=st.integers(0, 2**32 - 1), n_gone=st.integers(0, 6), n_new=st.integers(0, 6))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_a_graph_that_goes_on_from_the_one_before_is_the_graph_made_anew(
    block_rows: int, seed: int, n_gone: int, n_new: int
):
    rng = np.random.default_rng(seed)
    before = quantise(rng.integers(-3, 5, size=(N, 3)))  # with ties
    kept = np.sort(rng.permutation(N)[n_gone:])
    places = np.sort(rng.permutation(len(kept) + n_new)[: len(kept)])  # where the kept rows stand today
    after = quantise(rng.integers(-3, 5, size=(len(kept) + n_new, 3)))
    after[places] = before[kept]
    today = np.full(N, -1)
    today[kept] = places
    gone = np.setdiff1d(np.arange(N), kept)
    negative = count_negative(ArrayFeatures(before), ArrayFeatures(before[gone]))

    previous = build_graph(before, K, C)
    grown = build_graph(after, K, C, block_rows=block_rows, known=known_rows(previous, today, len(after), negative))
    same_bytes(grown, build_graph(after, K, C))
    # And so on from there, though some lists now know less than those made anew.
    today = np.arange(len(after)) - 1
    negative = count_negative(ArrayFeatures(after), ArrayFeatures(after[:1]))
    again = build_graph(after[1:], K, C, known=known_rows(grown, today, len(after) - 1, negative))
    same_bytes(again, build_graph(after[1:], K, C))


def test_a_list_is_made_anew_only_when_it_lost_more_edges_than_it_had_to_spare():
    rows = quantise(np.random.default_rng(0).normal(size=(400, 8)) + 0.2)
    previous = build_graph(rows, K, C)
    for n_gone in (N_SPARE, N_SPARE + 1):
        today = np.full(400, -1)
        today[np.setdiff1d(np.arange(400), previous.near.others[0, :n_gone])] = np.arange(400 - n_gone)
        known = known_rows(previous, today, 400 - n_gone, np.zeros(400, dtype=np.int64))
        assert (today[0] in known.rows) == (n_gone == N_SPARE)
        assert len(known.rows) > 0.95 * (400 - n_gone)


def test_only_blocks_with_rows_that_lack_an_edge_are_multiplied(rows: np.ndarray):
    worked: list[tuple[int, int]] = []

    def watched(make_worker, pairs):
        worker = make_worker()
        for pair in pairs:
            worked.append(pair)
            yield worker(pair)

    previous = build_graph(rows[:-1], K, C)
    known = known_rows(previous, np.arange(N - 1), N, np.zeros(N - 1, dtype=np.int64))
    build_graph(rows, K, C, block_rows=4, known=known, map_blocks=watched)
    assert worked == [(0, j) for j in range(6)]  # one new row: its block with every other
    worked.clear()
    build_graph(rows, K, C, block_rows=4, map_blocks=watched)
    assert len(worked) == 21


def test_known_lists_without_conflicts_leave_room_for_new_ones():
    rows = np.array([[10, 0], [9, 1], [8, 3], [-10, 1]])
    known = known_rows(build_graph(rows[:3], 2, 2), np.arange(3), 4, np.zeros(3, dtype=np.int64))
    grown = build_graph(rows, 2, 2, known=known)
    assert grown.conflicts.tolist() == [[3, -1], [3, -1], [3, -1], [0, 1]]
    assert (grown.conflict_cosines[:3, 0] < 0).all()


def test_duplicates_are_pairs_of_which_the_lower_comes_first():
    graph = build_graph(turned(4, 90, 0, 2), 2, 1, block_rows=2)
    assert graph.duplicates.tolist() == [[0, 3], [2, 3]]
