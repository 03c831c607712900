"""What each asset is made from: one function per asset gives its recipe, to make it or to tell whether it is stale.

Nothing is computed or written here, and no weights are loaded. A new asset gets its function, its code version and its
place in `SHARED` or `PER_DOMAIN`, after the assets that it is made from.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from g2is_assets.errors import SourceError
from g2is_assets.hashing import file_sha256, file_sha256_once, json_sha256
from g2is_assets.settings.config import FeatureKind, Source
from g2is_assets.settings.redaction import redacted
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.gradient_store import store_name
from g2is_assets.store.lake import Recipe, Version
from g2is_assets.store.manifest import Input
from g2is_assets.store.sources import find_files, relative_name
from g2is_assets.store.withholding import pool_withholding, target_withholding

CODE_VERSIONS: Final = {
    "instructions/pool": "2",
    "instructions/target": "2",
    "warmup/sample": "1",
    "warmup/checkpoint": "1",
    "gradients/pool": "2",
    "gradients/target": "1",
    "graph/neighbors": "3",
    "knowledge/components": "3",
    "selection/subset": "4",
    "finetune/adapter": "3",
    "finetune/baseline": "4",
    "finetune/evaluation": "2",
    "audit/lineage": "1",
    "audit/report": "1",
}
"""Raise an asset's when a change makes the same inputs give another payload."""

VECTORS_VERSION: Final = "1"
"""Part of the gradient store's address: raise it when the same row and settings give another vector. An asset's own
code version also covers its tables and leaves the vectors alone."""

READ_EVERY_RUN: Final = "read again in every run"
"""Stands in for the digest of what lies behind a URI; in a run, the run's id takes its place."""


def recipe_of(workspace: Workspace, asset: str, domain: str | None = None) -> Recipe:
    """The recipe of an asset from settings, files and current versions as they are now.

    Args:
        workspace: The project's resource.
        asset: Its key, such as `selection/subset`.
        domain: For an asset of a domain.

    Raises:
        MissingInputError: An upstream asset has not been materialised.
        SourceError: A source file is not there.
    """
    return RECIPES[asset](workspace, domain)


def in_run(recipe: Recipe, run_id: str) -> Recipe:
    """The recipe in a run, which reads again what lies behind URIs."""
    now = Input(data_version=run_id)
    inputs = {name: now if value.data_version == READ_EVERY_RUN else value for name, value in recipe.inputs.items()}
    return replace(recipe, inputs=inputs)


def pool_files(workspace: Workspace) -> list[tuple[str, Source]]:
    """Every file or URI of the pool, with the source that names it."""
    folder = workspace.project.path.parent
    sources = workspace.project.settings.instructions.sources
    return [(file, source) for source in sources for file in find_files(source, folder)]


def target_files(workspace: Workspace, domain: str) -> dict[str, tuple[Path, ...]]:
    """A domain's files by split; without a test file there is no test split.

    Raises:
        SourceError: One is not there.
    """
    found = workspace.project.domain(domain)
    splits = {"validation": found.validation} | ({"test": found.test} if found.test else {})
    for file in (file for files in splits.values() for file in files):
        if not file.is_file():
            raise SourceError(f"{file} is not there as a file; a domain needs validation.jsonl or validation.parquet")
    return splits


def _instructions_pool(workspace: Workspace, _: None) -> Recipe:
    settings = workspace.project.settings.instructions.model_dump(mode="json")
    # What manifests say of a source holds no credentials.
    settings["sources"] = [source | {"path": redacted(source["path"])} for source in settings["sources"]]
    settings |= pool_withholding(workspace.project, workspace.lake).settings
    files = [file for file, _ in pool_files(workspace)]
    return _recipe("instructions/pool", None, settings, _content(workspace, files))


def _instructions_target(workspace: Workspace, domain: str) -> Recipe:
    files = [file for split in target_files(workspace, domain).values() for file in split]
    settings = workspace.project.settings.instructions.model_dump(include={"max_length", "system"})
    settings |= target_withholding(workspace.project, files).settings
    return _recipe("instructions/target", domain, settings, _content(workspace, [str(file) for file in files]))


def _warmup_sample(workspace: Workspace, _: None) -> Recipe:
    warmup = workspace.project.settings.warmup
    # With another template or length, rows of the old sample might not fit any more.
    settings = {"share": warmup.share, "seed": warmup.seed, "template": workspace.template.digest}
    recipe = _recipe("warmup/sample", None, settings, current(workspace, "instructions/pool"))
    return replace(recipe, follows_inputs=False)


def _warmup_checkpoint(workspace: Workspace, _: None) -> Recipe:
    settings = workspace.project.settings.warmup.model_dump(mode="json", exclude={"share"})
    settings |= {"template": workspace.template.digest}
    inputs = current(workspace, "warmup/sample") | {"model": workspace.model.digest}
    return _recipe("warmup/checkpoint", None, settings, inputs)


def _gradients_pool(workspace: Workspace, _: None) -> Recipe:
    inputs = current(workspace, "instructions/pool", "warmup/checkpoint", "warmup/sample")
    kinds = workspace.project.settings.gradients.kinds
    return _recipe("gradients/pool", None, _vectors(workspace, kinds, inputs["warmup/checkpoint"]), inputs)


def _gradients_target(workspace: Workspace, domain: str) -> Recipe:
    inputs = current(workspace, "instructions/target", domain=domain) | current(workspace, "warmup/checkpoint")
    return _recipe("gradients/target", domain, _vectors(workspace, ("sgd",), inputs["warmup/checkpoint"]), inputs)


def _graph_neighbors(workspace: Workspace, _: None) -> Recipe:
    settings = workspace.project.settings.graph.model_dump(mode="json")
    return _recipe("graph/neighbors", None, settings, current(workspace, "gradients/pool", "instructions/pool"))


def _knowledge_components(workspace: Workspace, domain: str) -> Recipe:
    settings = workspace.project.domain(domain).knowledge.model_dump(mode="json")
    return _recipe("knowledge/components", domain, settings, current(workspace, "gradients/target", domain=domain))


def _selection_subset(workspace: Workspace, domain: str) -> Recipe:
    settings = workspace.project.domain(domain).selection.model_dump(mode="json")
    inputs = current(workspace, "gradients/pool", "graph/neighbors", "instructions/pool")
    inputs |= current(workspace, "knowledge/components", "instructions/target", "gradients/target", domain=domain)
    return _recipe("selection/subset", domain, settings, inputs)


def _finetune_adapter(workspace: Workspace, domain: str) -> Recipe:
    return _training("finetune/adapter", workspace, domain)


def _finetune_baseline(workspace: Workspace, domain: str) -> Recipe:
    return _training("finetune/baseline", workspace, domain, "gradients/pool")


def _training(asset: str, workspace: Workspace, domain: str, *more: str) -> Recipe:
    """Training on the subset's rows, or on as many others."""
    settings = workspace.project.domain(domain).finetune.model_dump(mode="json")
    settings |= {"template": workspace.template.digest}
    inputs = current(workspace, "selection/subset", "instructions/target", domain=domain)
    inputs |= current(workspace, "instructions/pool", *more)
    return _recipe(asset, domain, settings, inputs | {"model": workspace.model.digest})


def _finetune_evaluation(workspace: Workspace, domain: str) -> Recipe:
    inputs = current(workspace, "finetune/baseline", "finetune/adapter", "instructions/target", domain=domain)
    settings = {"template": workspace.template.digest}
    return _recipe("finetune/evaluation", domain, settings, inputs | {"model": workspace.model.digest})


def _audit_lineage(workspace: Workspace, domain: str) -> Recipe:
    versions = current(workspace, "finetune/adapter", "finetune/evaluation", domain=domain)
    # Equal content may be described by another manifest, and what stands here are manifests.
    settings = {"manifests": {asset: version.as_input.manifest_sha256 for asset, version in versions.items()}}
    folder = workspace.project.path.parent
    domain_file = folder / workspace.project.settings.domains / domain / "domain.toml"
    files = [file for file in (workspace.project.path, domain_file) if file.exists()]
    digests = {f"file:{relative_name(str(file), folder)}": file_sha256(file) for file in files}
    digests |= {f"model:{name}": digest for name, digest in workspace.model.files.items()}
    return _recipe("audit/lineage", domain, settings, {**versions, **digests})


def _audit_report(workspace: Workspace, domain: str) -> Recipe:
    # All that the page says of manifests stands in the lineage.
    versions = current(workspace, "audit/lineage", "finetune/evaluation", "selection/subset", domain=domain)
    versions |= current(workspace, "knowledge/components", "instructions/target", domain=domain)
    versions |= current(workspace, "graph/neighbors", "instructions/pool")
    settings = {"title": workspace.project.domain(domain).title, "model": redacted(workspace.project.settings.model)}
    return _recipe("audit/report", domain, settings, versions)


def _recipe(asset: str, domain: str | None, settings: Mapping[str, Any], inputs: Mapping[str, Version | str]) -> Recipe:
    return recipe_from(asset, CODE_VERSIONS[asset], domain, settings, inputs)


def recipe_from(
    asset: str,
    code_version: str,
    partition: str | None,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Version | str],
) -> Recipe:
    """A recipe from upstream versions by asset, and content digests of files and models by name."""
    return Recipe(
        asset=asset,
        partition=partition,
        code_version=code_version,
        settings=settings,
        inputs={n: v.as_input if isinstance(v, Version) else Input(data_version=v) for n, v in inputs.items()},
        versions={name: value for name, value in inputs.items() if isinstance(value, Version)},
    )


def current(workspace: Workspace, *assets: str, domain: str | None = None) -> dict[str, Version]:
    """The current versions of these assets, of a domain or shared ones, by asset."""
    return {asset: workspace.lake.current(asset, domain) for asset in assets}


def _content(workspace: Workspace, files: list[str]) -> dict[str, str]:
    """Content digests of the files, by path relative to the settings, and of what turns text into tokens."""
    folder, sha256 = workspace.project.path.parent, file_sha256_once if workspace.looking else file_sha256

    def digest(file: str) -> str:
        try:
            return READ_EVERY_RUN if "://" in file else sha256(Path(file))
        except OSError as error:
            raise SourceError(f"{file} cannot be read: {error.strerror}; put it back, or correct `sources`") from error

    digests = {f"file:{relative_name(file, folder)}": digest(file) for file in files}
    return digests | {"tokenizer": json_sha256([workspace.model.digest, workspace.template.digest])}


def _vectors(workspace: Workspace, kinds: tuple[FeatureKind, ...], checkpoint: Version) -> dict[str, Any]:
    """What a row's vector depends on besides the row, and the name of the store that this gives."""
    from g2is_assets.training.model import pick_compute

    settings = workspace.project.settings.gradients
    compute = pick_compute(settings.compute, workspace.project.settings.device)
    vectors = {
        "kinds": list(kinds),
        **settings.model_dump(mode="json", include={"sketch_dim", "nnz", "seed"}),
        "model": workspace.model.digest,
        "template": workspace.template.digest,
        "checkpoint": {n: f.sha256 for n, f in checkpoint.manifest.files.items() if not n.endswith(".parquet")},
        "loss": "row mean over response tokens",
        "code_version": VECTORS_VERSION,
        **({} if compute == "float32" else {"compute": compute}),
    }
    return vectors | {"store": store_name(vectors)}


SHARED: Final[dict[str, Callable[[Workspace, Any], Recipe]]] = {
    "instructions/pool": _instructions_pool,
    "warmup/sample": _warmup_sample,
    "warmup/checkpoint": _warmup_checkpoint,
    "gradients/pool": _gradients_pool,
    "graph/neighbors": _graph_neighbors,
}
"""Recipes of what all domains share, each after those that it is made from."""

PER_DOMAIN: Final[dict[str, Callable[[Workspace, Any], Recipe]]] = {
    "instructions/target": _instructions_target,
    "gradients/target": _gradients_target,
    "knowledge/components": _knowledge_components,
    "selection/subset": _selection_subset,
    "finetune/adapter": _finetune_adapter,
    "finetune/baseline": _finetune_baseline,
    "finetune/evaluation": _finetune_evaluation,
    "audit/lineage": _audit_lineage,
    "audit/report": _audit_report,
}
"""Recipes of a domain's own assets, in the same order."""

RECIPES: Final = SHARED | PER_DOMAIN
