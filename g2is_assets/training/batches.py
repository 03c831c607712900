"""Batches of rows of similar length, so that little is computed on padding."""

from collections.abc import Sequence


def plan_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Group positions, shortest rows first, so that rows × longest stays within `batch_tokens`.

    Equal lengths keep their order, so the plan depends on the lengths alone. A row longer than the budget is a batch
    of its own.

    Args:
        lengths: Tokens per row.
        batch_tokens: Padded tokens that one batch may hold.

    Returns:
        Positions into `lengths`, each exactly once.
    """
    batches: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        # Sorted by length, so the row at hand is the batch's longest.
        if batches and (len(batches[-1]) + 1) * lengths[position] <= batch_tokens:
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches
