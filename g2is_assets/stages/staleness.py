"""Staleness: which versions are no longer what their inputs, settings and code would give, and because of what.

Told from manifests, settings and the digests of source files alone. No weights are loaded, nothing is fetched, and what
cannot be told is `unknown`, not an error.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl

from g2is_assets.contracts.audit import STALENESS, State
from g2is_assets.errors import G2isError, MissingInputError, StoreError
from g2is_assets.hashing import canonical_json
from g2is_assets.stages.catalog import refreshed
from g2is_assets.stages.frame import recipe_of
from g2is_assets.stages.instructions import READ_EVERY_RUN
from g2is_assets.stages.stage import PROJECT, Place, Stage
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.files import replacing
from g2is_assets.store.manifest import Manifest
from g2is_assets.store.version import Recipe, asset_of
from g2is_assets.store.views import staleness_file

DERIVED: Final = frozenset({"store", "checkpoint", "earlier", "weights"})
"""Settings of gradients that follow from others and from the checkpoints, which are an input."""
MAX_CAUSES: Final = 5
"""How many causes a reason spells out."""
SHOWN: Final = 12
"""Hex digits of a digest, as in the names of version folders."""


@dataclass(frozen=True)
class _Cause:
    reason: str
    input: str | None = None
    made_from: str | None = None
    now: str | None = None


def staleness(workspace: Workspace) -> pl.DataFrame:
    """Contract `audit staleness` for all assets of the project, as things stand now.

    An asset is stale if its recipe's digest differs from that of its version, or if an asset upstream is stale; what is
    remade on request only (`warmup/sample`) follows no inputs. Content behind a URI is not read, so that what depends
    on it is at best `unknown`.
    """
    if not workspace.looking:
        workspace = copy.copy(workspace)
        workspace.looking = True
    states: dict[str, State] = {}
    rows = list(_rows(workspace, refreshed("project"), PROJECT, states))
    for domain in sorted(workspace.project.domains):
        rows += _rows(workspace, refreshed("domain"), Place(domain), dict(states))
    return pl.DataFrame(rows, schema=STALENESS.schema)


def write_staleness(workspace: Workspace) -> None:
    """Put the table into the lake, for the view `audit_staleness`; of two runs at once the later one's stays."""
    table = STALENESS.validate(staleness(workspace))
    file = staleness_file(workspace.lake)
    with replacing(file, beside=file.parent) as scratch:
        file.parent.mkdir(parents=True, exist_ok=True)
        table.write_parquet(scratch)


def _rows(
    workspace: Workspace, stages: Iterable[Stage], place: Place, states: dict[str, State]
) -> Iterator[dict[str, Any]]:
    """Rows of these stages in order; `states` knows those upstream and learns these."""
    for asset in (stage.key for stage in stages):
        state, causes, direct = _look(workspace, asset, place, states)
        states[asset] = state
        first = next((cause for cause in causes if cause.input), _Cause(""))
        reasons = [cause.reason for cause in causes[:MAX_CAUSES]]
        if len(causes) > MAX_CAUSES:
            reasons.append(f"{len(causes) - MAX_CAUSES} more")
        yield {
            "asset": asset,
            "domain": place.partition,
            "state": state,
            "stale": state in ("missing", "stale"),
            "direct": direct,
            "reason": "; ".join(reasons) or None,
            "input": first.input,
            "made_from": first.made_from,
            "now": first.now,
        }


def _look(
    workspace: Workspace, asset: str, place: Place, states: Mapping[str, State]
) -> tuple[State, list[_Cause], bool]:
    """State, causes, and whether the asset's own recipe is among them."""
    try:
        version = workspace.lake.find(asset, place.partition)
    except StoreError as error:
        return "unknown", [_Cause(str(error))], False
    if version is None:
        return "missing", [_Cause("it has not been made yet")], True
    made = version.manifest
    try:
        recipe = recipe_of(workspace, asset, place)
    except MissingInputError as error:
        gone = [name for name in made.inputs if states.get(asset_of(name)) == "missing"]
        causes = [_Cause(f"upstream {name} is missing", name, made.inputs[name].data_version) for name in gone]
        return "stale", causes or [_Cause(str(error))], False
    except (G2isError, OSError) as error:
        return "unknown", [_Cause(str(error))], False
    unread = [name for name, value in recipe.inputs.items() if value.data_version == READ_EVERY_RUN]
    as_made = {name: made.inputs[name] for name in unread if name in made.inputs}
    recipe = replace(recipe, inputs={**recipe.inputs, **as_made})
    own = [] if recipe.input_digest == made.input_digest else _differences(recipe, made)
    upstream = [name for name in recipe.versions if recipe.follows_inputs]
    waiting = [
        _Cause(
            f"upstream {asset_of(name)} is {states[asset_of(name)]}",
            name,
            made.inputs[name].data_version if name in made.inputs else None,
        )
        for name in upstream
        if states[asset_of(name)] in ("missing", "stale")
    ]
    if own or waiting:
        return "stale", own + waiting, bool(own)
    unsure = [_Cause(f"{name} is {READ_EVERY_RUN}", name) for name in unread]
    unsure += [_Cause(f"upstream {name} is unknown", name) for name in upstream if states[asset_of(name)] == "unknown"]
    return ("unknown" if unsure else "current"), unsure, False


def _differences(recipe: Recipe, made: Manifest) -> list[_Cause]:
    """In what a recipe differs from that of a version: inputs, then settings, then code."""
    causes = list(_inputs(recipe, made)) if recipe.follows_inputs else []
    stage = recipe.asset.split("/")[0]
    before, after = _flat(made.settings, stage), _flat(recipe.settings, stage)
    for name in sorted(before.keys() | after.keys()):
        then, now = (_shown(values[name]) if name in values else "unset" for values in (before, after))
        if then != now:
            causes.append(_Cause(f"setting {name} {then} -> {now}"))
    if recipe.code_version != made.code_version:
        causes.append(_Cause(f"code version {made.code_version} -> {recipe.code_version}"))
    return causes or [_Cause("its recipe differs")]


def _inputs(recipe: Recipe, made: Manifest) -> Iterator[_Cause]:
    for name in sorted(recipe.inputs.keys() | made.inputs.keys()):
        then, now = (values[name].data_version if name in values else None for values in (made.inputs, recipe.inputs))
        if then == now:
            continue
        if then is None:
            yield _Cause(f"input {name} is new", name, None, now)
        elif now is None:
            yield _Cause(f"input {name} is gone", name, then)
        else:
            reason = f"input {name} is now version {now[:SHOWN]}, made from {then[:SHOWN]}"
            yield _Cause(reason, name, then, now)


def _flat(settings: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Settings by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and name not in DERIVED:
            flat |= _flat(value, f"{prefix}.{name}")
        elif name not in DERIVED:
            flat[f"{prefix}.{name}"] = value
    return flat


def _shown(value: Any) -> str:
    text = canonical_json(value)
    if isinstance(value, str) and len(value) == 64:  # a digest
        return value[:SHOWN]
    return text if len(text) <= 200 else f"{text[:200]}…"
