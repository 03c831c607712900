"""The sketch: unbiased, within its documented variance, and a fixed function of seed and parameter name."""

import numpy as np
import pytest
import torch
from torch import Tensor

from g2is_assets.core import projection
from g2is_assets.core.features import ArrayFeatures, FoldedFeatures
from g2is_assets.core.projection import Sketch

SIZES = {"layers.0.lora_A.weight": 50, "layers.0.lora_B.weight": 23}
K = 16


def project(sketch: Sketch, parts: dict[str, Tensor]) -> Tensor:
    into = sketch.zeros(len(next(iter(parts.values()))))
    for name, values in parts.items():
        sketch.add(into, name, values)
    return into


def split(rows: Tensor, sizes: dict[str, int] = SIZES) -> dict[str, Tensor]:
    return dict(zip(sizes, rows.split(list(sizes.values()), dim=1), strict=True))


def matrix(sketch: Sketch, sizes: dict[str, int] = SIZES) -> Tensor:
    """The projection written out, (p, sketch_dim): what it makes of every basis vector."""
    return project(sketch, split(torch.eye(sum(sizes.values())), sizes))


def gaussian(n_rows: int, seed: int = 0, sizes: dict[str, int] = SIZES) -> Tensor:
    return torch.randn(n_rows, sum(sizes.values()), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("nnz", [1, 3])
def test_it_is_the_dense_matrix_that_the_basis_vectors_give(nnz: int):
    sketch = Sketch(SIZES, K, nnz=nnz, seed=5)
    rows = gaussian(7)
    torch.testing.assert_close(project(sketch, split(rows)), rows @ matrix(sketch), atol=1e-5, rtol=1e-5)


def test_it_is_linear():
    sketch = Sketch(SIZES, K, nnz=2)
    x, y = gaussian(4, 1), gaussian(4, 2)
    together = project(sketch, split(2 * x - 3 * y))
    torch.testing.assert_close(
        together, 2 * project(sketch, split(x)) - 3 * project(sketch, split(y)), atol=1e-5, rtol=1e-5
    )


def test_every_entry_goes_to_one_bucket_with_its_sign_and_a_run_of_entries_to_consecutive_buckets():
    sketch = Sketch({"w": 4 * K + 5}, K, seed=1)
    dense = matrix(sketch, {"w": 4 * K + 5})
    assert dense.abs().sum(dim=1).tolist() == [1.0] * len(dense)
    assert dense.abs().amax(dim=1).tolist() == [1.0] * len(dense)
    buckets = dense.abs().argmax(dim=1)
    wrapped = 0
    for run in buckets.split(K):
        assert run.tolist() == [(int(run[0]) + i) % K for i in range(len(run))]
        wrapped += int(run[-1] < run[0])
    assert wrapped > 0, "no run of the example goes round the end"
    assert len({int(run[0]) for run in buckets.split(K)}) > 1, "every run has its own start"
    assert 0.3 < (dense.sum(dim=1) > 0).float().mean() < 0.7


@pytest.mark.parametrize("size", [1, K - 1, K, K + 1, 3 * K, 3 * K + 7])
def test_any_size_is_covered_whether_or_not_it_is_a_multiple_of_the_sketch(size: int):
    for seed in range(5):
        dense = matrix(Sketch({"w": size}, K, seed=seed), {"w": size})
        assert dense.abs().sum(dim=1).tolist() == [1.0] * size


def test_repetitions_are_scaled_so_that_the_expected_norm_stays():
    for nnz in (1, 4, 9):
        dense = matrix(Sketch({"w": 400}, 4096, nnz=nnz), {"w": 400})
        shares = dense.abs().amax(dim=1)
        # Where no two repetitions meet, an entry has nnz non-zeros of 1/sqrt(nnz).
        assert shares.median().item() == pytest.approx(nnz**-0.5)
        assert (dense != 0).sum(dim=1).median().item() == nnz
        assert dense.square().sum(dim=1).mean().item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("nnz", [1, 4])
def test_inner_products_are_unbiased(nnz: int):
    x, y = gaussian(1, 1)[0], gaussian(1, 2)[0] + 0.3
    sketched = [project(Sketch(SIZES, K, nnz=nnz, seed=s), split(torch.stack([x, y]))) for s in range(1500)]
    found = np.array([(pair[0].double() @ pair[1].double()).item() for pair in sketched])
    error = found.std(ddof=1) / np.sqrt(len(found))
    assert abs(found.mean() - (x @ y).item()) < 4 * error, f"{found.mean()} for {x @ y} ± {error}"


def test_a_folded_sketch_is_a_sketch_of_fewer_buckets():
    x, y = gaussian(1, 1)[0], gaussian(1, 2)[0] + 0.3
    found = np.empty(3000)
    for seed in range(len(found)):
        wide = project(Sketch(SIZES, 2 * K, seed=seed), split(torch.stack([x, y]))).numpy()
        first, second = FoldedFeatures(ArrayFeatures(wide), K).rows(np.arange(2)).astype(np.float64)
        found[seed] = first @ second
    error = found.std(ddof=1) / np.sqrt(len(found))
    assert abs(found.mean() - (x @ y).item()) < 4 * error, f"{found.mean()} for {x @ y} ± {error}"
    variance = ((x @ x) * (y @ y) + (x @ y) ** 2 - 2 * (x**2 * y**2).sum()).item() / K
    assert found.var(ddof=1) == pytest.approx(variance, rel=0.2)


@pytest.mark.parametrize("spread", ["even", "sparse"])
def test_the_variance_is_at_most_the_documented_one(spread: str):
    x, y = gaussian(1, 3)[0].double(), gaussian(1, 4)[0].double() + 0.3
    if spread == "sparse":  # few large entries, far apart
        keep = torch.zeros_like(x)
        keep[[0, 7, 30, 55, 70]] = 1
        x, y = x * keep, y * keep
    rows = torch.stack([x, y]).float()
    found = np.empty(3000)
    for seed in range(len(found)):
        first, second = project(Sketch(SIZES, K, seed=seed), split(rows)).double()
        found[seed] = first @ second
    x, y = rows.double()
    bound = ((x @ x) * (y @ y) + (x @ y) ** 2 - 2 * (x**2 * y**2).sum()).item() / K
    deviations = (found - (x @ y).item()) ** 2
    error = deviations.std(ddof=1) / np.sqrt(len(found))
    assert deviations.mean() - 4 * error <= bound, f"variance {deviations.mean()} ± {error}, documented {bound}"
    assert deviations.mean() > 0.3 * bound, "the formula should say something about the case"


def test_the_order_in_which_parameters_arrive_does_not_matter():
    parts = split(gaussian(3))
    backwards = dict(reversed(parts.items()))
    first = project(Sketch(SIZES, K, nnz=2), parts)
    second = project(Sketch(dict(reversed(SIZES.items())), K, nnz=2), backwards)
    torch.testing.assert_close(first, second, atol=1e-6, rtol=1e-6)


def test_a_parameter_is_projected_alike_whatever_others_there_are():
    name, size = next(iter(SIZES.items()))
    values = gaussian(2)[:, :size]
    alone, among = Sketch({name: size}, K), Sketch({"another": 99, **SIZES}, K)
    assert torch.equal(project(alone, {name: values}), project(among, {name: values}))


def test_a_row_is_projected_alike_alone_and_in_a_batch():
    sketch, rows = Sketch(SIZES, K, nnz=2), gaussian(6)
    together = project(sketch, split(rows))
    assert torch.equal(together, torch.cat([project(sketch, split(row[None])) for row in rows]))


def test_the_values_given_are_not_changed():
    values = gaussian(2)
    before = values.clone()
    project(Sketch(SIZES, K), split(values))
    assert torch.equal(values, before)


def test_the_same_seed_gives_the_same_projection_and_another_seed_or_name_another():
    dense = matrix(Sketch(SIZES, K, seed=7))
    assert torch.equal(dense, matrix(Sketch(SIZES, K, seed=7)))
    assert not torch.equal(dense, matrix(Sketch(SIZES, K, seed=8)))
    renamed = {f"{name}.b": size for name, size in SIZES.items()}
    assert not torch.equal(dense, matrix(Sketch(renamed, K, seed=7), renamed))


def test_repetitions_differ_from_each_other():
    dense = matrix(Sketch({"w": 200}, 512, nnz=2), {"w": 200})
    assert ((dense != 0).sum(dim=1) == 2).float().mean() > 0.9


def test_other_generators_neither_change_it_nor_are_changed_by_it():
    torch.manual_seed(0)
    np.random.seed(0)
    first = matrix(Sketch(SIZES, K))
    drawn = torch.rand(1).item()
    torch.manual_seed(0)
    assert torch.rand(1).item() == drawn
    assert torch.equal(first, matrix(Sketch(SIZES, K)))


@pytest.mark.parametrize(
    ("nnz", "expected"), [(1, [8.0, 7.0, 2.0, 6.0]), (4, [12.5, 2.5, -11.0, -2.0])], ids=["nnz=1", "nnz=4"]
)
def test_stored_sketches_stay_comparable_across_versions(nnz: int, expected: list[float]):
    # With other numbers, every stored gradient would be incomparable with new ones.
    sketch = Sketch({"w": 10}, 4, nnz=nnz, seed=3)
    assert project(sketch, {"w": torch.arange(1.0, 11.0)[None]})[0].tolist() == expected


def test_signs_unpacked_at_each_use_are_those_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(3, 1003, generator=torch.Generator().manual_seed(0))
    tabled = Sketch({"a": 1003}, sketch_dim=64, nnz=2)
    monkeypatch.setattr(projection, "TABLE_BYTES", 0)
    unpacked = Sketch({"a": 1003}, sketch_dim=64, nnz=2)
    first, second = tabled.zeros(3), unpacked.zeros(3)
    tabled.add(first, "a", values)
    unpacked.add(second, "a", values)
    assert torch.equal(first, second)
    assert first.abs().max() > 0
