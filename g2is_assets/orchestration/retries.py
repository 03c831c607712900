"""Which faults pass by themselves: a step that meets one is tried again, a little later each time.

Everything else is permanent: a wrong setting, a damaged file or a bug is the same in the next attempt.
"""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import dagster as dg

from g2is_assets.errors import G2isError
from g2is_assets.progress import say

MAX_RETRIES: Final = 3
FIRST_DELAY_S: Final = 5.0
"""Before the first retry, in seconds; it doubles with each."""
PASSING: Final = frozenset({errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET})
"""Faults of network file systems and connections."""


def is_transient(error: BaseException) -> bool:
    """Whether the same step may succeed if it is just tried again."""
    if isinstance(error, G2isError):
        return False
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError):
        return error.errno in PASSING
    if (ray := sys.modules.get("ray")) is None:
        return False
    lost = ray.exceptions
    if isinstance(error, lost.RayActorError):
        return not error.actor_init_failed  # a worker that cannot even start will not start later either
    return isinstance(error, lost.WorkerCrashedError | lost.NodeDiedError | lost.ObjectLostError)


@contextmanager
def retried(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Have the step tried again if what runs inside meets a fault that passes by itself, a few times.

    While the step waits, it holds no slot of a pool.

    Raises:
        RetryRequested: To Dagster, which runs the step again after a while.
    """
    try:
        yield
    except Exception as error:
        if not is_transient(error) or context.retry_number >= MAX_RETRIES:
            raise
        delay = FIRST_DELAY_S * 2**context.retry_number
        say(f"{context.asset_key.to_user_string()}: {error!r}; tried again in {delay:.0f} s")
        raise dg.RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=delay) from error
