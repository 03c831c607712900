"""Directions as integers: int8 codes of rows, and products of codes, which are exact whatever their order.

A row is told by its direction: its codes over their own length. Nothing here rounds but `quantise` and `planes_of`,
each entry by itself; so a product is the same in any block, with any number of threads, on any device.

Torch, which multiplies, takes seconds to import: who only reads a trace does not wait for it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")

ZERO_NORM: Final = 1e-10
"""A norm up to this counts as zero: its row has cosine 0 with everything (as in the published code)."""
LARGEST: Final = {8: 127, 4: 7}
"""The largest code by bits; codes lie evenly around 0."""
SHARES: Final = {8: (1.0,), 4: (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)}
"""Shares of a row's largest entry that may become the largest code; what lies above is cut. The one that keeps the
direction best is taken: with few codes it pays to cut a little."""
EXACT_COLUMNS: Final = 1024
"""Columns whose products float32 sums without rounding: 128 x 128 x 1,024 is 2 to the 24."""
MOST_COLUMNS: Final = 2**17 - 1
"""Columns whose products fit in int32: 128 x 128 times as many are below 2 to the 31."""
N_PLANES: Final = 3


def quantise(vectors: NDArray[np.generic], bits: int = 8) -> NDArray[np.int8]:
    """Codes of rows, of which only the direction is kept; codes stay what they are.

    Every entry goes to the nearest code. An entry's error is at most half a step, a step being the largest entry over
    the largest code, and as entries fall anywhere between two codes, errors add up to nothing in products with others.

    Args:
        vectors: (n, d) of any float type and any norm, or codes already, as whole numbers up to 127 are.
        bits: 8 or 4.

    Returns:
        (n, d) int8; zeros for a row of norm <= 1e-10.

    Raises:
        ValueError: An entry is not finite, or so large that a norm overflows float32.
    """
    if np.issubdtype(vectors.dtype, np.integer) and (vectors.dtype == np.int8 or np.abs(vectors).max(initial=0) <= 127):
        return vectors.astype(np.int8, copy=False)
    with np.errstate(over="ignore"):
        rows = np.asarray(vectors, dtype=np.float32)
        norms = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    if not np.isfinite(norms).all():
        raise ValueError(f"row {int((~np.isfinite(norms)).argmax())} is not finite or overflows float32")
    largest = np.where(norms > ZERO_NORM, np.abs(rows).max(axis=1, initial=0.0), np.inf).astype(np.float32)
    best, kept = np.zeros(rows.shape, dtype=np.int8), np.full(len(rows), -np.inf)
    for share in SHARES[bits]:
        top = LARGEST[bits]
        codes = np.clip(np.rint(rows * (top / (share * largest))[:, None]), -top, top)
        if len(SHARES[bits]) == 1:
            return codes.astype(np.int8)
        lengths = np.sqrt(np.einsum("nd,nd->n", codes, codes))
        alike = np.divide(np.einsum("nd,nd->n", rows, codes), lengths, out=np.zeros_like(lengths), where=lengths > 0)
        better = alike > kept
        best[better], kept[better] = codes[better].astype(np.int8), alike[better]
    return best


def to_bytes(codes: NDArray[np.int8], bits: int = 8) -> list[bytes]:
    """Codes (n, d) as they are stored, row by row: a byte each, or of 4 bits, d even, two in one, the first above."""
    stored = (codes[:, 0::2] << 4 | codes[:, 1::2] & 15).astype(np.int8) if bits == 4 else codes
    return [row.tobytes() for row in stored]


def from_bytes(stored: Sequence[bytes], bits: int = 8) -> NDArray[np.int8]:
    """The codes (n, d) that `to_bytes` stored."""
    read = np.frombuffer(b"".join(stored), dtype=np.int8).reshape(len(stored), -1 if len(stored) else 0)
    if bits == 8:
        return read
    codes = np.empty((len(read), 2 * read.shape[1]), dtype=np.int8)
    codes[:, 0::2], codes[:, 1::2] = read >> 4, (read << 4).astype(np.int8) >> 4
    return codes


def products(rows: NDArray[np.int8], others: NDArray[np.int8], n_parts: int = 1) -> NDArray[np.integer]:
    """(n_parts, n, k) dot products of rows (n, d) and (k, d), of each of so many parts of columns."""
    import torch

    device = product_device()
    parts = zip(*(torch.chunk(torch.from_numpy(side).to(device), n_parts, 1) for side in (rows, others)), strict=True)
    found = [int_products(*part).cpu().numpy() for part in parts]
    return found[0][None] if n_parts == 1 else np.stack(found)


@cache
def product_device() -> str:
    """Where products are taken: on a GPU whose int8 products are exact, else on the CPU; they are equal to the bit."""
    import torch

    return "cuda" if torch.cuda.is_available() and kernel_is_exact("cuda") else "cpu"


def squared_lengths(codes: NDArray[np.int8]) -> NDArray[np.float64]:
    """(n,) squared lengths of codes (n, d), exact: sums of so few columns at a time that float32 rounds nothing."""
    squared = np.zeros(len(codes))
    for start in range(0, len(codes), 64):  # whose floats fit in a processor's own cache
        few = codes[start : start + 64].astype(np.float32)
        for part in np.split(few, range(EXACT_COLUMNS, few.shape[1], EXACT_COLUMNS), axis=1):
            squared[start : start + 64] += np.einsum("nd,nd->n", part, part)
    return squared


def n_threads() -> int:
    """Threads that products use; what is done with them may use as many."""
    import torch

    return torch.get_num_threads()


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results in the order of the items, of which as many are in work as torch has threads, each on a single one.

    So nothing waits for the last of the threads that share a product. Of each thread one result may wait.
    """
    import torch

    n, begun = n_threads(), deque[Future[Result]]()
    if n == 1:
        yield from map(work, items)
        return
    try:
        with ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(1,)) as threads:
            for item in items:
                if len(begun) == 2 * n:
                    yield begun.popleft().result()
                begun.append(threads.submit(work, item))
            while begun:
                yield begun.popleft().result()
    finally:
        torch.set_num_threads(n)


def int_products(rows: "Tensor", others: "Tensor") -> "Tensor":
    """(n, k) dot products of int8 rows (n, d) and (k, d), exact: int32, or int64 where d is too large for that."""
    import torch

    if rows.shape[1] > MOST_COLUMNS:
        parts = zip(torch.split(rows, MOST_COLUMNS, 1), torch.split(others, MOST_COLUMNS, 1), strict=True)
        return sum((int_products(*part).long() for part in parts), torch.zeros((), dtype=torch.int64))
    return _by_kernel(rows, others) if kernel_is_exact(str(rows.device)) else by_float32(rows, others)


def _by_kernel(rows: "Tensor", others: "Tensor") -> "Tensor":
    import torch

    if rows.device.type == "cpu":
        return torch._int_mm(rows, others.T)
    n, k, d = len(rows), len(others), rows.shape[1]
    # GPU kernels ask for more than 16 rows, and for multiples of 8.
    rows = torch.nn.functional.pad(rows, (0, -d % 8, 0, max(0, 17 - n)))
    return torch._int_mm(rows, torch.nn.functional.pad(others, (0, -d % 8, 0, -k % 8)).T)[:n, :k]


def by_float32(rows: "Tensor", others: "Tensor") -> "Tensor":
    """The same by float32 products of so few columns that nothing is rounded."""
    import torch

    found = torch.zeros(len(rows), len(others), dtype=torch.int32, device=rows.device)
    for part, other in zip(torch.split(rows, EXACT_COLUMNS, 1), torch.split(others, EXACT_COLUMNS, 1), strict=True):
        found += (part.float() @ other.float().T).int()
    return found


SLOW: Final = (
    "this processor's int8 products are not exact, so codes are multiplied in float32: the same values, several times "
    "slower"
)
"""What is said where `kernel_is_exact` is false."""


@cache
def kernel_is_exact(device: str) -> bool:
    """Whether this machine's int8 products hold with the largest codes: some kernels for old processors saturate."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for n, d, k in ((64, 8192, 64), (40, 4097, 5), (1, 300, 1)):
        rows, others = (
            torch.tensor([-128, -127, 127], dtype=torch.int8)[torch.randint(3, (m, d), generator=generator)]
            for m in (n, k)
        )
        rows[:8], others[:8] = 127, -128
        rows[8:16], others[8:16] = -127, 127
        try:
            found = _by_kernel(rows.to(device), others.to(device)).cpu()
        except (RuntimeError, NotImplementedError):
            return False
        if not torch.equal(found, by_float32(rows, others)):
            return False
    return True


def planes_of(vectors: NDArray[np.floating]) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """A few vectors (k, d) in 24 bits: as near to them as float32 is, and yet multiplied as integers.

    Returns:
        Three int8 planes (3, k, d), and a step (k,): a vector is its step times 65,536, 256 and 1 times its planes.
    """
    steps = np.abs(vectors).max(axis=1, initial=0.0).astype(np.float64) / (127 * 2**16)
    whole = np.rint(np.divide(vectors, steps[:, None], out=np.zeros(vectors.shape), where=steps[:, None] > 0))
    rest, planes = whole.astype(np.int64), []
    for _ in range(N_PLANES):
        rest, low = (rest + 128) >> 8, ((rest + 128) & 255) - 128
        planes.append(low.astype(np.int8))
    return np.stack(planes[::-1]), steps


def joined(products: NDArray[np.integer]) -> NDArray[np.float64]:
    """(n, k) products with whole vectors, of those (n, 3 k) with their planes, one plane after the other."""
    high, middle, low = np.split(products.astype(np.int64), N_PLANES, axis=1)
    return (((high << 8) + middle << 8) + low).astype(np.float64)
