"""`g2is refresh`: say what it will take, refresh the pool and domains, then say what came out."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click
import polars as pl

from g2is_assets.cli.checkup import EMBEDDED_PARAMETERS, check_warmup, look_at_weights, readable_version
from g2is_assets.cli.jobs import open_instance, run_job, watch_steps
from g2is_assets.cli.study_plan import SCORING_TOKENS_PER_S, TRAINING_TOKENS_PER_S
from g2is_assets.contracts.audit import PAGE
from g2is_assets.contracts.instructions import POOL
from g2is_assets.contracts.selection import SUBSET
from g2is_assets.errors import G2isError, ModelError, SettingsError, SourceError, command
from g2is_assets.reports.terminal import Terminal
from g2is_assets.reports.words import counted, printable, serving, verdict
from g2is_assets.settings.project import Domain, Project
from g2is_assets.stages.instructions import pool_files
from g2is_assets.stages.staleness import staleness
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.files import read_parquet
from g2is_assets.store.lake import Lake
from g2is_assets.store.records import about_rows
from g2is_assets.store.serving import served_folder
from g2is_assets.store.sources import find_files, is_remote

GRADIENT_TOKENS_PER_S: Final = 265.0
"""With the embedded model on two quiet CPU cores, as the other rates: 240 padded, 1.11 times as many packed."""
HALVED: Final = 1.9
"""Times as many in bfloat16, on a processor with matrix units for it."""
WARMUP_TOKENS_PER_S: Final = 165.0
"""A warmup pads its rows, where other trainings pack theirs."""
BYTES_PER_TOKEN: Final = 4.0
"""Of a JSONL file, what stands around the text included."""
ROW_TOKENS: Final = 100.0
"""Tokens of a row of which no more is known."""
ANSWER_S: Final = 0.6
"""Of an answer in words, one of fifty that are generated together."""
SCORED: Final = 3
"""Models that an evaluation scores, where none is served before."""
SCREENING: Final = {"bm25": 0.0, "embedding": 0.4, "early_exit": 0.3}
"""Of a row's gradient, what scoring the row by each `prescreen` takes."""
START_S: Final = 20.0
"""What a run takes even if it computes nothing."""
REDRAWN: Final = {"ops": {"warmup__sample": {"config": {"redraw": True}}}}


def asked_for(project: Project, domains: Sequence[str], *, all_domains: bool, pool: bool) -> list[str]:
    """The domains that a refresh was asked for; without a name, the only one that there is.

    Raises:
        click.UsageError: More than one of the three is given.
        SettingsError: There is no such domain, or which one is meant cannot be told.
    """
    if bool(domains) + all_domains + pool > 1:
        raise click.UsageError("--pool, --domain and --all exclude each other; a domain's refresh begins with the pool")
    known = sorted(project.domains)
    if pool:
        return []
    if not known:
        add = command("domain add NAME --validation rows.jsonl")
        raise SettingsError(f"{project.path.parent / project.settings.domains} holds no domain folder; {add} makes one")
    if len(known) > 1 and not domains and not all_domains:
        every = command("refresh --all")
        raise SettingsError(f"there are {len(known)} domains; name one with --domain ({', '.join(known)}), or {every}")
    return [project.domain(name).name for name in dict.fromkeys(domains)] or known


def run_refresh(
    project: Project,
    domains: Sequence[str],
    show: Callable[[Terminal, Project, str], None] | None = None,
    *,
    redraw: bool = False,
) -> None:
    """Materialise through Dagster, in this process, with progress; a failing domain does not stop the others.

    Args:
        project: The project.
        domains: Which, after the pool.
        show: Prints what came out for a domain; by default in a few lines.
        redraw: Draw the warmup sample again.
    """
    pool_files(Workspace(project, looking=True))  # which refuses sources of which no plan can be made
    console, begun, failed = Terminal(), time.monotonic(), {}
    config: dict[str, Any] = REDRAWN if redraw else {}
    watch_steps()
    with open_instance(project) as instance:
        for line in plan_lines(project, domains) if not redraw else ["The warmup is drawn again: all is made anew."]:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        console.rule("pool")
        run_job(instance, project, "refresh_pool", {}, config)
        for name in domains:
            console.rule(name)
            try:
                run_job(instance, project, "refresh_domain", {"dagster/partition": name})
            except G2isError as error:
                failed[name] = error
    for name in domains:
        if name not in failed:
            (show or _print_outcome)(console, project, name)
    for finding in check_warmup(project):
        console.print(f"Warmup: {finding.said}", markup=False, soft_wrap=True)
    took = f"Took {span(time.monotonic() - begun)}."
    console.print(f"{took} See it all, with history and lineage: {command('ui')}", markup=False, soft_wrap=True)
    if failed:
        raise G2isError("; ".join(f"domain '{name}' failed: {error}" for name, error in failed.items()))


def _print_outcome(console: Terminal, project: Project, domain: str) -> None:
    evaluation = Lake(project.home / "lake").current("finetune/evaluation", domain).manifest.metrics
    nll = {name: f"{evaluation[f'nll_{name}']:.4f}" for name in ("g2is", "base", "random")}
    title = printable(project.domain(domain).title)
    console.print(
        f"{domain if title == domain else f'{domain} ({title})'}: NLL {nll['g2is']} on {evaluation['split']} rows, "
        f"base {nll['base']}, random rows {nll['random']}. {verdict(evaluation)}",
        markup=False,
        highlight=False,
    )
    print_subset(console, project, domain)
    print_places(console, project, domain)


def print_subset(console: Terminal, project: Project, domain: str) -> None:
    """Say how many rows were taken, and from which sources."""
    lake = Lake(project.home / "lake")
    subset, pool = lake.current("selection/subset", domain).read(SUBSET), lake.current("instructions/pool")
    sources = read_parquet(pool.folder / POOL.file, columns=["row_id", "sources"])
    mix = subset.join(sources, on="row_id").explode("sources")["sources"].value_counts()
    parts = [f"{printable(s)} {n}" for s, n in mix.sort("count", "sources", descending=[True, False]).iter_rows()]
    said = f"Subset: {len(subset)} of {counted(len(sources), 'row')}; by source: {', '.join(parts)}"
    console.print(said, markup=False, highlight=False)


def print_places(console: Terminal, project: Project, domain: str) -> None:
    """Say where a domain's adapter and report lie, and which adapter is served if that is another."""
    lake = Lake(project.home / "lake")
    adapter, served = lake.current("finetune/adapter", domain), served_folder(lake, domain)
    console.print(f"Adapter: {adapter.folder / 'adapter'}", soft_wrap=True, markup=False)
    evaluation = lake.current("finetune/evaluation", domain).manifest.metrics
    if served != adapter.folder or "nll_served" in evaluation:
        said = serving(served, adapter.folder, evaluation)
        console.print(said, soft_wrap=True, markup=False, highlight=False)
    page = lake.place("audit/report", domain) / PAGE
    console.print(f"Report, to open in a browser (the address stays the same): {page}", soft_wrap=True, markup=False)


def plan_lines(project: Project, domains: Sequence[str], only: Sequence[str] | None = None) -> list[str]:
    """One or two lines: what a refresh of these domains is to make, and about how long that takes on this machine.

    `only` are the assets that are refreshed, where they are not all.
    """
    from g2is_assets.training.model import pick_device

    table = staleness(Workspace(project, looking=True))
    table = table.filter(pl.col("domain").is_null() | pl.col("domain").is_in(domains))
    table = table if only is None else table.filter(pl.col("asset").is_in(only))
    to_make = table.filter(pl.col("state") != "current").select("asset", "domain").rows()
    if not to_make:
        return ["Nothing has changed since the last run: the versions that are there serve again."]
    n_rows, n_tokens = _pool_size(project)
    of = "" if not domains else f" and domain {domains[0]}" if len(domains) == 1 else f" and {len(domains)} domains"
    said = f"Pool of about {counted(n_rows, 'row')}{of}: at most {len(to_make)} of {len(table)} assets are to be made."
    try:
        weights = _parameters(project)
    except ModelError:
        return [said, "The model is fetched first; how long it will take is known once it is here."]
    if pick_device(project.settings.device).startswith("cuda"):
        return [said, "No estimate of the time: on a GPU it was not measured."]
    speed, source = _speed(project, weights)
    seconds = START_S + _seconds(project, set(to_make), domains, n_rows, n_tokens) / speed
    return [said, f"About {'a minute' if seconds < 90 else span(seconds)} {source}; Ctrl-C keeps what is finished."]


def span(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _seconds(
    project: Project, to_make: set[tuple[str, str | None]], domains: Sequence[str], n_rows: int, n_tokens: float
) -> float:
    """Seconds of model work at the measured rates; the rest takes little beside it."""
    from g2is_assets.training.model import pick_compute

    settings, per_row, seconds = project.settings, n_tokens / max(1, n_rows), 0.0
    gradient_rate = _gradient_rate(pick_compute(settings.gradients.compute, settings.device))
    if ("warmup/checkpoint", None) in to_make:
        seconds += settings.warmup.share * n_tokens * settings.warmup.epochs / WARMUP_TOKENS_PER_S
    if ("gradients/pool", None) in to_make:
        # With the same checkpoint only new rows are computed.
        made = None if ("warmup/checkpoint", None) in to_make else readable_version(project, "gradients/pool")
        n_stored = made.manifest.n_rows.get("index", 0) if made else 0
        n_wanted = float(n_rows)
        if screen := settings.gradients.prescreen:
            n_wanted *= min(1.0, screen.keep * len(project.domains))
            seconds += SCREENING[screen.by] * n_rows * per_row / gradient_rate
        seconds += settings.warmup.checkpoints * max(0, n_wanted - n_stored) * per_row / gradient_rate
    for name in domains:
        domain = project.domains[name]
        n_validation, n_test = (_count(files) for files in (domain.validation, domain.test))
        if ("gradients/target", name) in to_make:
            seconds += settings.warmup.checkpoints * n_validation * ROW_TOKENS / gradient_rate
        for asset in ("finetune/adapter", "finetune/baseline"):
            if (asset, name) in to_make:
                seconds += _training_seconds(domain, n_rows, per_row, n_validation)
        if ("finetune/evaluation", name) in to_make:
            seconds += SCORED * (n_test + n_validation) * ROW_TOKENS / SCORING_TOKENS_PER_S
            seconds += SCORED * min(settings.evaluation.asked, n_test or n_validation) * ANSWER_S
    return seconds


def _training_seconds(domain: Domain, n_rows: int, per_row: float, n_validation: int) -> float:
    budget, epochs = domain.selection.budget, domain.finetune.epochs
    chosen = budget * n_rows if budget < 1 else budget
    scoring = (epochs + 1) * n_validation * ROW_TOKENS / SCORING_TOKENS_PER_S
    return chosen * per_row * epochs / TRAINING_TOKENS_PER_S + scoring


def _gradient_rate(compute: str) -> float:
    return GRADIENT_TOKENS_PER_S * (HALVED if compute == "bfloat16" else 1)


def _speed(project: Project, weights: float) -> tuple[float, str]:
    """How many times faster than the measured rates this will be, and by what that is told."""
    made = readable_version(project, "gradients/pool")
    if made and (rate := float(made.manifest.metrics.get("tokens_per_s", 0))) > 0:
        return (
            rate / _gradient_rate(made.manifest.settings.get("compute", "float32")),
            f"at the {rate:,.0f} tokens/s of the gradients made last, which other work may have slowed",
        )
    return EMBEDDED_PARAMETERS / weights, "on two quiet CPU cores like those it was measured on"


def _parameters(project: Project) -> float:
    """Parameters of the model; a ModelError if it is not here yet, or damaged."""
    from g2is_assets.training.model import model_folder
    from g2is_assets.training.packaged import PACKAGED

    if project.settings.model in PACKAGED:
        return PACKAGED[project.settings.model].n_parameters
    folder = model_folder(project.model, project.settings.revision)
    fault, n = look_at_weights(folder)
    if fault or not n:
        raise ModelError(fault or f"{folder} holds no weights")
    return n


def _pool_size(project: Project) -> tuple[int, float]:
    """About how many rows and tokens the pool's files hold; those behind addresses are not counted."""
    n_rows, n_tokens, settings = 0, 0.0, project.settings.instructions
    for source in settings.sources:
        try:
            files = [file for file in find_files(source, project.path.parent) if not is_remote(file)]
            for file in files:
                found = about_rows(Path(file))
                n_rows += found
                is_packed, n_bytes = file.endswith((".parquet", ".gz", ".zst")), Path(file).stat().st_size
                n_tokens += found * ROW_TOKENS if is_packed else n_bytes / BYTES_PER_TOKEN
        except SourceError:  # the refresh will say so
            continue
    if settings.limit and n_rows > settings.limit:
        n_rows, n_tokens = settings.limit, n_tokens * settings.limit / n_rows
    return n_rows, min(n_tokens, float(n_rows * settings.max_length))


def _count(files: Sequence[Path]) -> int:
    try:
        return sum(about_rows(file) for file in files)
    except SourceError:  # the refresh will say so
        return 0
