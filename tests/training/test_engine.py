"""Both engines: same order, same bytes, errors as they are; a killed Ray worker is survived."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from g2is_assets.training.engine import Engine, RayEngine, make_engine

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'g2is_assets[ray]'")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test module
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


class Multiplier:
    """Multiplies by a random matrix, with as many threads as it is given."""

    def __init__(self) -> None:
        self.matrix = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))

    def __call__(self, seed: int) -> torch.Tensor:
        return torch.randn(64, 256, generator=torch.Generator().manual_seed(seed)) @ self.matrix


class DiesOnce:
    """Kills its own process at item 3, the first time."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __call__(self, item: int) -> int:
        if item == 3 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return item * item


class Refuses:
    def __call__(self, item: int) -> int:
        raise ValueError(f"item {item} is wrong")


def test_ray_gives_the_same_bytes_in_the_same_order(cluster: None) -> None:
    threads = torch.get_num_threads()
    here = list(Engine().map(Multiplier, range(9)))
    there = list(RayEngine(2, threads).map(Multiplier, range(9)))
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


def test_a_killed_ray_worker_is_survived(cluster: None, tmp_path: Path) -> None:
    mark = tmp_path / "died"
    results = list(RayEngine(2, 1).map(lambda: DiesOnce(mark), range(8)))
    assert mark.exists()
    assert results == [n * n for n in range(8)]


@pytest.mark.parametrize("make", [Engine, lambda: RayEngine(1, 1)], ids=["in process", "ray"])
def test_an_error_of_the_worker_reaches_the_caller(cluster: None, make: Callable[[], Engine]) -> None:
    with pytest.raises(ValueError, match="item 0 is wrong"):
        list(make().map(Refuses, range(2)))


class Meets:
    """Ends only while another thread is in it too; says how many threads torch has there."""

    def __init__(self) -> None:
        self.both = threading.Barrier(2)

    def __call__(self, item: int) -> tuple[int, int]:
        self.both.wait(timeout=60)
        return item, torch.get_num_threads()


@pytest.mark.parametrize("make", [Engine, lambda: RayEngine(1, 2)], ids=["in process", "ray"])
def test_threads_that_have_an_item_each_work_at_the_same_time_with_one_thread_of_torch(
    cluster: None, make: Callable[[], Engine]
) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert list(make().map(Meets, range(10), threaded=True)) == [(item, 1) for item in range(10)]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_settings_choose_the_engine() -> None:
    assert type(make_engine("in_process", 1)) is Engine
    assert isinstance(make_engine("ray", 1), RayEngine)
