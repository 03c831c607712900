"""Where heavy work runs: one seam between a list of items and the workers that process them; and how fast it runs.

Both engines give the same results in the same order, bit for bit with the same number of threads per worker; the
driver that calls them alone writes files.
"""

import os
import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, Final, Literal, TypeVar

import torch

from g2is_assets.core.codes import in_threads
from g2is_assets.errors import SettingsError
from g2is_assets.progress import say

Item = TypeVar("Item")
Result = TypeVar("Result")

IN_FLIGHT: Final = 2
"""Items that each thread of Ray's workers has at hand: one in work and one waiting, so that results never pile up."""
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

    def map(
        self, make_worker: Callable[[], Callable[[Item], Result]], items: Iterable[Item], *, threaded: bool = False
    ) -> Iterator[Result]:
        """Results in the order of the items, computed as they are asked for; a worker is made once, with its model.

        A worker has torch's threads for one item at a time; `threaded`, each thread has an item of its own.
        """
        yield from (in_threads if threaded else map)(make_worker(), items)


class RayEngine(Engine):
    """Ray actors, on this machine or on the cluster that `RAY_ADDRESS` names; the model's files must be there too."""

    def __init__(self, workers: int, threads: int) -> None:
        try:
            import ray
        except ImportError:
            raise SettingsError("engine = 'ray' needs Ray: pip install 'g2is_assets[ray]'") from None
        self.ray, self.workers, self.threads = ray, workers, threads

    def map(
        self, make_worker: Callable[[], Callable[[Item], Result]], items: Iterable[Item], *, threaded: bool = False
    ) -> Iterator[Result]:
        """Results in the order of the items; a worker that dies is started again and its items are repeated."""
        ray, at_once = self.ray, self.threads if threaded else 1
        started = not ray.is_initialized()
        if started:
            ray.init(address=os.environ.get("RAY_ADDRESS"), include_dashboard=False, log_to_driver=False)
        # Retries cover machine faults only: an exception of the worker itself is raised here, as in process.
        options: dict[str, Any] = {
            "max_restarts": MAX_RETRIES,
            "max_task_retries": MAX_RETRIES,
            "max_concurrency": at_once,
        }
        if torch.cuda.is_available():
            options["num_gpus"] = 1
        actor = ray.remote(**options)(_Worker)
        try:
            actors = [actor.remote(make_worker, self.threads // at_once) for _ in range(self.workers)]
            pending: deque[Any] = deque()
            for number, item in enumerate(items):
                if len(pending) == IN_FLIGHT * self.workers * at_once:
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
        self.threads = threads
        torch.set_num_threads(threads)
        self.worker = make_worker()

    def run(self, item: Any) -> Any:
        torch.set_num_threads(self.threads)  # of the thread that runs this, which need not be the one before
        return self.worker(item)


def flops(model: Any, n_tokens: float, n_loss: float, *, backward: bool = True) -> float:
    """Floating-point operations of a pass over so many tokens, of which so many carry loss.

    Forward 2·P a token: one multiplication and one addition for each weight of a matrix that it meets; the output
    layer's are met by tokens that carry loss alone, embeddings are looked up. Backward through the activations of
    frozen weights 2·P again, and 2·p for the gradients of the p LoRA weights, by row or summed. Attention between
    tokens, norms and what is done element by element are left out, and all of a layer's experts count.
    """
    head, looked_up = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    sizes = {
        name: p.numel() for name, p in model.named_parameters() if p.dim() > 1 and p is not head and p is not looked_up
    }
    forward = 2 * (sum(sizes.values()) * n_tokens + head.numel() * n_loss)
    lora = sum(size for name, size in sizes.items() if ".lora_" in name)
    return 2 * forward + 2 * lora * n_tokens if backward else forward


@cache
def peak_flops(device: str, compute: str) -> float:
    """Floating-point operations per second of a bare square product in a number format; measured once in a process."""
    size, best = 8192 if device.startswith("cuda") else 512, float("inf")
    factor = torch.ones(size, size, dtype=getattr(torch, compute), device=device)
    for _ in range(20):  # each short, so that the best of them is one that no other process broke into
        begun = time.perf_counter()
        product = factor @ factor
        product[-1, -1].item()  # on a GPU, when it is done
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best


def bfloat16_pays() -> bool:
    """Whether bfloat16 products are so much faster on this CPU that they make up for what else a pass costs."""
    return peak_flops("cpu", "bfloat16") > 1.5 * peak_flops("cpu", "float32")


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def speed(label: str, n_tokens: float, seconds: float, peak_share: float) -> dict[str, float]:
    """Metrics of a step in which the model passed so many tokens, which are told to whoever watches.

    `peak_share` is the share that the operations needed (`flops`) are of what a bare product (`peak_flops`) does in
    their time. Peak memory is of this process.
    """
    rate, memory = n_tokens / seconds if seconds else 0.0, peak_memory_bytes()
    if n_tokens:
        share = f"{100 * peak_share:.0f} % of the rate of a bare product"
        said = f"{rate:.0f} tokens/s, {share}, {memory / 1e9:.1f} GB at most"
        say(f"{label}: {n_tokens:.0f} tokens, {said}")
    return {"tokens_per_s": rate, "peak_share": peak_share, "peak_memory_bytes": float(memory)}
