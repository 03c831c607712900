"""Gradient-based graph instruction selection (G2IS) as Dagster assets; of its functions, `select` is for notebooks."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from g2is_assets.library import select

__version__ = "0.3.0"
__all__ = ["__version__", "select"]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    """`select`, imported when it is first asked for: whoever imports the package waits for nothing."""
    if name != "select":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from g2is_assets.library import select

    return select
