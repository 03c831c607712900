"""Ways to select: each a function from a `Problem` to a `Selection`, under the name that the study calls it by.

A new selector is one file with a function `select` and one line here.
"""

from typing import Final

from g2is_assets.core.selectors import (
    all_rows,
    by_embedding,
    by_length,
    g2is,
    g2is_by_length,
    g2is_reference,
    g2is_without_gradient,
    g2is_without_graph,
    less,
    less_round_robin,
    random_rows,
)
from g2is_assets.core.selectors.problem import Selector
from g2is_assets.settings.config import SelectionSettings

SELECTORS: Final[dict[str, Selector]] = {
    "random": random_rows.select,
    "full": all_rows.select,
    "length": by_length.select,
    "embedding": by_embedding.select,
    "less": less.select,
    "less_round_robin": less_round_robin.select,
    "g2is_reference": g2is_reference.select,
    "g2is": g2is.select,
    "g2is_by_length": g2is_by_length.select,
    "g2is_without_graph": g2is_without_graph.select,
    "g2is_without_gradient": g2is_without_gradient.select,
}

_FEATURES: Final = frozenset({"kind", "mean_removed"})
_RULES: Final = frozenset(SelectionSettings.model_fields) - _FEATURES - {"budget", "allow_leaks"}
OPTIONS: Final = {
    "g2is": _FEATURES | _RULES,
    "g2is_by_length": _FEATURES | {"redundancy", "fair"},
    "g2is_without_graph": _FEATURES,
    "g2is_without_gradient": _RULES,
}
"""Keys of `Problem.options` that a selector reads; the others read none."""

WALK: Final = ("g2is", "g2is_without_gradient")
"""Those for which `Problem.knowledge` counts, where their walk starts from domain nodes."""

USE_ADAM: Final = ("less", "less_round_robin", "g2is_reference")
"""Those that read the Adam mix, whatever the options."""

USE_EMBEDDINGS: Final = ("embedding", "g2is_without_gradient")
"""Those that read embeddings instead of gradients."""

USE_GRADIENTS: Final = tuple(sorted({*USE_ADAM, *OPTIONS} - set(USE_EMBEDDINGS)))
"""Those that read gradients."""

DRAW: Final = ("random",)
"""Those whose rows depend on the seed."""
