"""Where heavy work runs: one seam between a list of items and the workers that process them.

Both engines give the same results in the same order, bit for bit with the same number of threads per worker; the
driver that calls them alone writes files.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Literal, TypeVar

import torch

from g2is_assets.errors import SettingsError

Item = TypeVar("Item")
Result = TypeVar("Result")

IN_FLIGHT: Final = 2
"""Items that each Ray worker has at hand: one in work and one waiting, so that results never pile up."""
MAX_RETRIES: Final = 3
"""How often Ray starts a dead worker again, and how often it repeats an item that died with it."""


def set_threads(threads: int) -> None:
    """Let torch use so many threads in this process; 0 leaves the choice to it."""
    if threads:
        torch.set_num_threads(threads)


def make_engine(name: Literal["in_process", "ray"], workers: int) -> "Engine":
    """The engine that the settings ask for; each worker uses as many threads as this process.

    Raises:
        SettingsError: Ray is asked for and not installed.
    """
    return RayEngine(workers, torch.get_num_threads()) if name == "ray" else Engine()


class Engine:
    """One worker in this process."""

    def map(self, make_worker: Callable[[], Callable[[Item], Result]], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items, computed as they are asked for; a worker is made once, with its model."""
        worker = make_worker()
        for item in items:
            yield worker(item)


class RayEngine(Engine):
    """Ray actors, on this machine or on the cluster that `RAY_ADDRESS` names; the model's files must be there too."""

    def __init__(self, workers: int, threads: int) -> None:
        try:
            import ray
        except ImportError:
            raise SettingsError("engine = 'ray' needs Ray: pip install 'g2is_assets[ray]'") from None
        self.ray, self.workers, self.threads = ray, workers, threads

    def map(self, make_worker: Callable[[], Callable[[Item], Result]], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items; a worker that dies is started again and its items are repeated."""
        ray = self.ray
        started = not ray.is_initialized()
        if started:
            ray.init(address=os.environ.get("RAY_ADDRESS"), include_dashboard=False, log_to_driver=False)
        # Retries cover machine faults only: an exception of the worker itself is raised here, as in process.
        options: dict[str, Any] = {"max_restarts": MAX_RETRIES, "max_task_retries": MAX_RETRIES}
        if torch.cuda.is_available():
            options["num_gpus"] = 1
        actor = ray.remote(**options)(_Worker)
        try:
            actors = [actor.remote(make_worker, self.threads) for _ in range(self.workers)]
            pending: deque[Any] = deque()
            for number, item in enumerate(items):
                if len(pending) == IN_FLIGHT * self.workers:
                    yield ray.get(pending.popleft())
                pending.append(actors[number % self.workers].run.remote(item))
            while pending:
                yield ray.get(pending.popleft())
        finally:
            if started:
                ray.shutdown()


class _Worker:
    """Lives in its own process and keeps what `make_worker` loaded."""

    def __init__(self, make_worker: Callable[[], Callable[[Any], Any]], threads: int) -> None:
        torch.set_num_threads(threads)
        self.worker = make_worker()

    def run(self, item: Any) -> Any:
        return self.worker(item)
