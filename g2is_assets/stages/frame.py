"""The frame of all stages: what a version is made from now, and making it unless one from equal inputs is there."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

from g2is_assets.progress import say
from g2is_assets.stages.catalog import STAGES
from g2is_assets.stages.instructions import READ_EVERY_RUN
from g2is_assets.stages.stage import Place, Stage, Task
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.lake import Turn
from g2is_assets.store.manifest import Input
from g2is_assets.store.version import Draft, Recipe, Version, asset_of
from g2is_assets.trail.chain import mend

_BY_KEY: Mapping[str, Stage] = {stage.key: stage for stage in STAGES}


@dataclass(frozen=True)
class Made:
    """A version that now is current, whether it was written just now or an equal one serves, and what came of that."""

    version: Version
    written: bool
    told: Mapping[str, int | str]


def stage_of(key: str) -> Stage:
    """The stage of that key."""
    return _BY_KEY[key]


def recipe_of(workspace: Workspace, key: str, place: Place) -> Recipe:
    """The recipe of a stage from settings, files and current versions as they are now; no weights are loaded.

    Args:
        workspace: The project's.
        key: The stage's, such as `selection/subset`.
        place: Of which partition.

    Raises:
        MissingInputError: An upstream asset has not been materialised.
        SourceError: A source file is not there.
    """
    stage = stage_of(key)
    if stage.gather:
        versions = stage.gather(workspace, lambda key, place: recipe_of(workspace, key, place))
    else:
        names = stage.inputs(workspace.project, place)
        versions = {name: current(workspace, name, place) for name in names}
    made_from = stage.made_from(workspace, place, versions)
    inputs = {name: version.as_input_of(name) for name, version in versions.items()}
    outside = {name: Input(data_version=digest) for name, digest in made_from.outside.items()}
    return Recipe(
        asset=key,
        partition=place.partition,
        code_version=stage.code_version,
        settings=made_from.settings,
        inputs=inputs | outside,
        follows_inputs=stage.follows_inputs,
        versions=versions,
    )


def current(workspace: Workspace, name: str, place: Place) -> Version:
    """The current version of an input of a place.

    Raises:
        MissingInputError: It has not been materialised.
    """
    asset = asset_of(name)
    return workspace.lake.current(asset, place.of(stage_of(asset).partition).partition)


def make(
    workspace: Workspace,
    key: str,
    place: Place,
    run_id: str,
    *,
    force: bool = False,
    stop_at: float | None = None,
    unattended: bool = False,
    turn: Turn = nullcontext,
) -> Made:
    """Make the version that a stage's recipe describes now, or let an equal one serve.

    Args:
        workspace: The project's.
        key: The stage's.
        place: Of which partition.
        run_id: For the manifest; what lies behind URIs is read again for each.
        force: Make it anew in any case.
        stop_at: Time, in seconds since the epoch, after which a study begins nothing more.
        unattended: Whether a schedule or the sensor started it.
        turn: Entered around the work of a stage that takes turns.
    """
    stage, begun = stage_of(key), time.monotonic()
    recipe = _in_run(recipe_of(workspace, key, place), run_id)
    task = Task(workspace, place, recipe, stop_at, unattended)

    def intact(version: Version) -> bool:
        return stage.whole(task, version)

    def write(draft: Draft) -> None:
        if stage.uses_model:
            workspace.use_threads()
        stage.write(draft, task)

    waits = turn if stage.takes_turns else nullcontext
    version, written = workspace.lake.make(recipe, run_id, write, force=force, intact=intact, turn=waits)
    if not written:
        version = mend(workspace.lake, version, recipe, run_id)
    told = stage.finish(task, version) or {}
    label = f"{key}[{place.partition}]" if place.partition else key
    say(f"{label}: " + (f"done in {time.monotonic() - begun:.1f} s" if written else "unchanged"))
    return Made(version, written, told)


def _in_run(recipe: Recipe, run_id: str) -> Recipe:
    """The recipe in a run, which reads again what lies behind URIs."""
    now = Input(data_version=run_id)
    inputs = {name: now if value.data_version == READ_EVERY_RUN else value for name, value in recipe.inputs.items()}
    return replace(recipe, inputs=inputs)
