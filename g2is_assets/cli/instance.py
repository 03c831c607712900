"""The project's persistent Dagster instance: history survives in `<home>/.dagster`."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from g2is_assets.settings.project import Project
from g2is_assets.store.files import write_atomically, writing

if TYPE_CHECKING:
    import dagster as dg


def prepare_instance(project: Project) -> Path:
    """Make `<home>/.dagster` with the shipped `dagster.yaml` and point this process and its children to it."""
    folder = project.home / ".dagster"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        settings = folder / "dagster.yaml"
        if not settings.exists():
            write_atomically(
                settings, (Path(__file__).parents[1] / "orchestration" / "dagster.yaml").read_text(encoding="utf-8")
            )
    os.environ["DAGSTER_HOME"] = str(folder)
    os.environ["G2IS_CONFIG"] = str(project.path)
    return folder


@contextmanager
def open_instance(folder: Path) -> Iterator["dg.DagsterInstance"]:
    """The instance in the folder that `prepare_instance` made, after runs of killed processes were ended in it."""
    import dagster as dg
    from filelock import FileLock

    from g2is_assets.orchestration.runs import end_dead_runs

    with writing(folder), ExitStack() as stack:
        # Dagster creates its tables on first use, and two processes must not do so at once.
        with FileLock(folder / "opening.lock"):
            instance = stack.enter_context(dg.DagsterInstance.get())
            end_dead_runs(instance)
        yield instance
