"""The card of an exported adapter: what it is, what it was trained on, what it is worth, how to load it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from g2is_assets.errors import StoreError
from g2is_assets.reports.audit import origins
from g2is_assets.reports.words import difference_to, printable
from g2is_assets.settings.config import EMBEDDED_MODEL
from g2is_assets.settings.parsing import license_name
from g2is_assets.settings.project import Domain, Project
from g2is_assets.store.lake import Lake
from g2is_assets.store.version import Version
from g2is_assets.store.versions import versions_of
from g2is_assets.trail.chain import Link, nearest

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
    from g2is_assets.training.model import UPSTREAM_ID

    file = adapter.folder / "adapter" / "adapter_config.json"
    try:
        name = str(json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{file} is missing or damaged; materialise finetune/adapter again") from error
    return Base(name, "/" in name, quantised=name == UPSTREAM_ID and project.settings.model == EMBEDDED_MODEL)


def evaluation_of(lake: Lake, adapter: Version) -> Version | None:
    """The last evaluation of this very adapter, also if another one is current or it was pruned."""
    found = [
        version
        for version in versions_of(lake, "finetune/evaluation")[0]
        if version.manifest.inputs.get("finetune/adapter") == adapter.as_input
    ]
    return max(found, key=lambda version: version.manifest.created_at, default=None)


def model_card(lake: Lake, domain: Domain, adapter: Version, chain: Sequence[Link], base: Base, folder: str) -> str:
    """The text of README.md in a folder of that name, from the chain behind a domain's adapter.

    Raises:
        StoreError: A table behind the adapter is damaged.
    """
    mix = origins(lake, chain)
    evaluation = evaluation_of(lake, adapter)
    parts = [
        _front_matter(base, list(mix.get("licenses", {}))),
        f"# {_safe(domain.title)}: LoRA adapter for {base.name}\n\n{_about(adapter, chain, base)}",
        f"## Load it\n\n{_loading(base, folder)}",
        f"## What it is worth\n\n{_scores(evaluation)}",
        f"## What it was trained on\n\n{_data(adapter, chain, mix)}",
        f"## Limits\n\n{_limits(evaluation, base)}",
    ]
    return "\n\n".join(parts) + "\n"


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
    return f"---\n{data.to_yaml()}\n---"


def _about(adapter: Version, chain: Sequence[Link], base: Base) -> str:
    said = adapter.manifest.settings
    subset = nearest(chain)["selection/subset"].version
    n_rows = f"{subset.manifest.n_rows['subset']} rows" if subset else "rows"
    text = (
        f"Rank {said['rank']}, alpha {said['alpha']}, on {', '.join(said['targets'])}. It was trained on {n_rows} that "
        "G2IS (gradient-based graph instruction selection, arXiv 2502.11062) chose from a larger pool for this domain; "
        f"of {said['epochs']} epochs, number {adapter.manifest.metrics['best_epoch']} had the lowest validation loss "
        "and was kept (0 is the untouched base)."
    )
    if base.quantised:
        text += " The base weights in training were a 4-bit copy of the base model, turned back into float32."
    if not base.on_hub:
        text += f" The base is a local model, `{base.name}`: add `base_model` above if it is on a hub."
    return text


def _loading(base: Base, folder: str) -> str:
    return f"""```python
from peft import PeftModel
from transformers import AutoModelForCausalLM
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base.name}"), "{folder}")
```

The last name is this folder's, or the hub's once it is there. Prompts follow the base model's chat template."""


def _scores(evaluation: Version | None) -> str:
    if evaluation is None:
        return "It has not been evaluated."
    found = evaluation.manifest.metrics
    n_rows = evaluation.manifest.n_rows["evaluation"] // 3
    lines = [
        f"Mean negative log-likelihood of the responses of {n_rows} {found['split']} rows, nats per token (lower is "
        "better), with 95 % intervals over rows; `random` is an adapter of as many random rows, trained alike.",
        "",
        "| model | NLL | this adapter minus it |",
        "|---|---:|---:|",
    ]
    lines += [
        f"| {name} | {float(found[f'nll_{name}']):.4f} | {difference_to(name, found)} |" for name in ("base", "random")
    ]
    return "\n".join([*lines, f"| this adapter | {float(found['nll_g2is']):.4f} | |"])


def _data(adapter: Version, chain: Sequence[Link], mix: Mapping[str, Mapping[str, int]]) -> str:
    links = nearest(chain)
    lines = ["A row may have several sources or licences.", ""]
    for name, title in (("sources", "source"), ("licenses", "licence")):
        lines += [f"| {title} | rows |", "|---|---:|"]
        lines += [f"| {_safe(said)} | {n} |" for said, n in mix.get(name, {}).items()]
        lines.append("")
    lines += ["| version of | data version (SHA-256) |", "|---|---|"]
    lines.append(f"| finetune/adapter | `{adapter.manifest.data_version}` |")
    for asset in ("selection/subset", "instructions/pool", "warmup/checkpoint"):
        lines.append(f"| {asset} | `{links[asset].said.data_version}` |")
    lines.append(f"| model | `{adapter.manifest.inputs['model'].data_version}` |")
    subset = links["selection/subset"].place.name
    lines += ["", f"Subset version `{subset}`; manifest of the adapter `{adapter.as_input.manifest_sha256}`."]
    return "\n".join(lines)


def _limits(evaluation: Version | None, base: Base) -> str:
    said = [
        "The licences above are those of the rows as their sources state them. Which licence the adapter may have "
        "follows from them and from the base model's, and is for whoever publishes it to decide.",
        "Trained and measured on one domain with one seed; nothing was measured elsewhere, safety included.",
    ]
    if evaluation is not None and evaluation.manifest.metrics["split"] != "test":
        said.append("Measured on the validation rows that also steered the selection, so only indicative.")
    if base.quantised:
        said.append("On the base model's original weights the scores may differ a little from these.")
    return "\n".join(f"- {line}" for line in said)


def _safe(text: Any) -> str:
    """Other people's words in a cell of a table."""
    return printable(str(text)).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
