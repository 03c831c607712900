"""The card of an exported adapter: what it is, what it was trained on, what it is worth, how to load it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from jinja2 import Environment, FileSystemLoader

from g2is_assets.errors import StoreError
from g2is_assets.reports.audit import origins
from g2is_assets.reports.words import difference_to, printable
from g2is_assets.settings.parsing import license_name
from g2is_assets.settings.project import Domain, Project
from g2is_assets.store.lake import Lake
from g2is_assets.store.version import Version
from g2is_assets.store.versions import versions_of
from g2is_assets.trail.chain import Link, nearest

TEMPLATE: Final = Path(__file__).with_name("model_card.md.j2")
HUB_LICENSES: Final = frozenset(
    {
        *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "mpl-2.0", "unlicense", "wtfpl"),
        *("gpl", "gpl-2.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "odc-by", "odbl", "pddl", "unknown"),
        *("cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
        *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
        *("cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"),
    }
)
"""Licences that the Hugging Face hub knows by name; any other is `other` there, and stands in the card as it is."""


class Base(NamedTuple):
    """The model that an adapter belongs on.

    Attributes:
        name: As `adapter_config.json` has it.
        on_hub: Whether the name is a hub's, rather than a local folder's.
        quantised: Whether it was the embedded copy, whose weights are rounded to 4 bits.
    """

    name: str
    on_hub: bool
    quantised: bool


def base_of(project: Project, adapter: Version) -> Base:
    """The base model.

    Raises:
        StoreError: The adapter's config is damaged.
    """
    from g2is_assets.training.packaged import PACKAGED

    file = adapter.folder / "adapter" / "adapter_config.json"
    try:
        name = str(json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{file} is missing or damaged; materialise finetune/adapter again") from error
    said = PACKAGED.get(project.settings.model)
    return Base(name, "/" in name, quantised=said is not None and name == said.upstream)


def evaluation_of(lake: Lake, adapter: Version) -> Version | None:
    """The last evaluation of this very adapter, also if another one is current or it was pruned."""
    versions = versions_of(lake, "finetune/evaluation")[0]
    own = (version for version in versions if version.manifest.inputs.get("finetune/adapter") == adapter.as_input)
    return max(own, key=lambda version: version.manifest.created_at, default=None)


def model_card(lake: Lake, domain: Domain, adapter: Version, chain: Sequence[Link], base: Base, folder: str) -> str:
    """The text of README.md in a folder of that name, from the chain behind a domain's adapter.

    Raises:
        StoreError: A table behind the adapter is damaged.
    """
    mix, evaluation, links = origins(lake, chain), evaluation_of(lake, adapter), nearest(chain)
    subset = links["selection/subset"].version
    # No HTML, but Markdown: what others wrote goes through the filter `cell`.
    environment = Environment(loader=FileSystemLoader(TEMPLATE.parent), trim_blocks=True, keep_trailing_newline=True)
    environment.filters |= {"cell": _cell, "difference_to": difference_to}
    return environment.get_template(TEMPLATE.name).render(
        front_matter=_front_matter(base, list(mix.get("licenses", {}))),
        title=domain.title,
        base=base,
        folder=folder,
        adapter=adapter.manifest,
        digest=adapter.as_input.manifest_sha256,
        n_taken=subset.manifest.n_rows["subset"] if subset else None,
        evaluation=evaluation.manifest if evaluation else None,
        mix=mix,
        links=links,
    )


def _front_matter(base: Base, licenses: Sequence[str]) -> str:
    from huggingface_hub import ModelCardData

    names = [license_name(name) for name in licenses]
    known = sorted({name if name in HUB_LICENSES else "other" for name in names})
    data = ModelCardData(
        base_model=base.name if base.on_hub else None,
        library_name="peft",
        license=known if len(known) > 1 else next(iter(known), None),  # type: ignore[arg-type]
        pipeline_tag="text-generation",
        tags=["lora", "g2is", "data-selection"],
    )
    return str(data.to_yaml())


def _cell(text: Any) -> str:
    """Other people's words in a cell of a table."""
    return printable(str(text)).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
