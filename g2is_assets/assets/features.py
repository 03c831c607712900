"""Reading stored features: how graph, knowledge and selection get at unit vectors."""

import numpy as np
from numpy.typing import NDArray

from g2is_assets.contracts.gradients import INDEX
from g2is_assets.resources import Workspace
from g2is_assets.storage.gradient_store import STORE, read_features
from g2is_assets.storage.lake import Version


def stored_features(workspace: Workspace, gradients: Version, kind: str) -> tuple[list[str], NDArray[np.float16]]:
    """Row ids of a gradient version, in its order, and their (n, sketch_dim) unit vectors of one kind."""
    index = gradients.table("index", INDEX)
    store = workspace.lake.place(gradients.manifest.asset) / STORE / str(gradients.manifest.settings["store"])
    return index["row_id"].to_list(), read_features(store, index, kind)
