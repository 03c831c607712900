"""The project's persistent Dagster instance: history survives in `<home>/.dagster`."""

import os
from pathlib import Path

from g2is_assets.config import Project
from g2is_assets.errors import SettingsError


def prepare_instance(project: Project) -> Path:
    """Make `<home>/.dagster` with the shipped `dagster.yaml` and point this process and its children to it."""
    folder = project.home / ".dagster"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        settings = folder / "dagster.yaml"
        if not settings.exists():
            settings.write_text((Path(__file__).parents[1] / "dagster.yaml").read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written: {error}; set G2IS_HOME to another place") from error
    os.environ["DAGSTER_HOME"] = str(folder)
    os.environ["G2IS_CONFIG"] = str(project.path)
    return folder
