"""The stored graph against brute-force cosines."""

from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2is_assets.core.graph import Graph, build_graph, count_negative, duplicate_groups, known_rows
from g2is_assets.core.rows import ArrayFeatures

N, K, C = 23, 5, 4


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, 6)) + 0.2


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
        assert graph.conflicts[i].tolist() == ranked[::-1][:C]
    np.testing.assert_allclose(graph.neighbor_cosines, np.take_along_axis(cosines, graph.neighbors, 1), atol=1e-6)
    np.testing.assert_allclose(graph.conflict_cosines, np.take_along_axis(cosines, graph.conflicts, 1), atol=1e-6)
    np.testing.assert_allclose(graph.mean_cosine, (cosines.sum(axis=1) - 1) / (N - 1), atol=1e-6)
    np.testing.assert_allclose(graph.conflict_share, (cosines < 0).sum(axis=1) / (N - 1), atol=1e-12)
    assert graph.in_degree.tolist() == [int((graph.neighbors == i).sum()) for i in range(N)]
    assert groups(graph) == list(range(N))


def test_the_size_of_the_blocks_does_not_change_any_edge(rows: np.ndarray):
    first, second = build_graph(rows, K, C, block_rows=5), build_graph(rows, K, C, block_rows=1024)
    for one, other in zip(astuple(first), astuple(second), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_no_row_is_its_own_neighbour_or_conflict_even_among_equal_rows():
    graph = build_graph(np.ones((6, 3)), 5, 5)
    own = np.arange(6)[:, None]
    assert not (graph.neighbors == own).any()
    assert not (graph.conflicts == own).any()


@pytest.mark.parametrize("wanted", [22, 23, 1000])
def test_more_neighbours_than_there_are_others_gives_all_others(rows: np.ndarray, wanted: int):
    graph = build_graph(rows, wanted, wanted)
    assert graph.neighbors.shape == graph.conflicts.shape == (N, N - 1)
    for i in range(N):
        assert sorted(graph.neighbors[i]) == sorted(graph.conflicts[i]) == [j for j in range(N) if j != i]
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
    assert groups(build_graph(rows, 1, 1, duplicate_cosine=0.9995)) == [0, 1, 2]
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
    kinds = {name: getattr(graph, name).dtype.name for name in Graph.__dataclass_fields__}
    whole = {"neighbors", "conflicts", "in_degree", "n_negative", "duplicates"}
    assert {name for name, kind in kinds.items() if kind == "int64"} == whole
    assert kinds["neighbor_cosines"] == kinds["conflict_cosines"] == "float32"
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
    before = rng.normal(size=(N, 6)) + 0.2
    kept = np.sort(rng.permutation(N)[n_gone:])
    order = rng.permutation(len(kept) + n_new)  # where the kept rows and the new ones stand today
    after = np.empty((len(order), 6))
    after[order] = np.concatenate([before[kept], rng.normal(size=(n_new, 6)) + 0.2])
    today = np.full(N, -1)
    today[kept] = order[: len(kept)]
    gone = np.setdiff1d(np.arange(N), kept)
    negative = count_negative(ArrayFeatures(before), ArrayFeatures(before[gone]))

    previous = build_graph(before, K, C)
    grown = build_graph(after, K, C, block_rows=block_rows, known=known_rows(previous, today, len(after), negative))
    anew = build_graph(after, K, C)
    for name, one in vars(grown).items():
        np.testing.assert_allclose(one, getattr(anew, name), atol=1e-6, err_msg=name)


def test_a_row_whose_count_of_conflicts_would_fall_below_none_is_taken_anew(rows: np.ndarray):
    previous = build_graph(rows, K, C)
    today = np.arange(N) - 1  # row 0 is gone
    known = known_rows(previous, today, N - 1, previous.n_negative + 1)
    assert len(known.rows) == 0
    grown = build_graph(rows[1:], K, C, known=known)
    assert grown.n_negative.tolist() == build_graph(rows[1:], K, C).n_negative.tolist()


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


def test_known_conflicts_that_are_none_leave_room_for_new_ones():
    rows = np.array([[1.0, 0.0], [0.9, 0.1], [0.8, 0.3], [-1.0, 0.1]])
    previous = build_graph(rows[:3], 2, 2)
    padded = replace(previous, conflict_cosines=np.full_like(previous.conflict_cosines, np.inf))
    known = known_rows(padded, np.arange(3), 4, np.zeros(3, dtype=np.int64))
    grown = build_graph(rows, 2, 2, known=known)
    assert grown.conflicts[:3, 0].tolist() == [3, 3, 3]
    assert (grown.conflict_cosines[:3, 0] < 0).all()


def test_duplicates_are_pairs_of_which_the_lower_comes_first():
    graph = build_graph(turned(4, 90, 0, 2), 2, 1, block_rows=2)
    assert graph.duplicates.tolist() == [[0, 3], [2, 3]]
