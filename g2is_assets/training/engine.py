"""Where heavy work runs: one seam between a list of items and the workers that process them."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Engine(Protocol):
    """Maps items through workers; the driver that calls it alone writes files."""

    def map(self, make_worker: Callable[[], Callable[[Item], Result]], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items; each worker is made once and keeps its model."""
        ...


class InProcessEngine:
    """One worker in this process."""

    def map(self, make_worker: Callable[[], Callable[[Item], Result]], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items, computed as they are asked for."""
        worker = make_worker()
        for item in items:
            yield worker(item)
