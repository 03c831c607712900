"""`g2is demo`: refresh the pool and one domain, or all, then print what came out."""

import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from g2is_assets.cli.demo_plan import plan_lines
from g2is_assets.cli.instance import open_instance, prepare_instance
from g2is_assets.cli.jobs import run_job, watch_steps
from g2is_assets.contracts.audit import PAGE
from g2is_assets.contracts.instructions import POOL
from g2is_assets.contracts.selection import SUBSET
from g2is_assets.errors import G2isError, SettingsError
from g2is_assets.reports.words import printable, verdict
from g2is_assets.settings.project import Project, load_project
from g2is_assets.store.lake import Lake
from g2is_assets.store.serving import served_folder


def run_demo(config: Path | None, domain: str | None, all_domains: bool) -> None:
    """Materialise through Dagster, in this process, with progress; a failing domain does not stop the others.

    Raises:
        G2isError: The settings are wrong, the pool failed, or a domain did; the message says which and why.
    """
    project = load_project(config)
    if not project.domains:
        raise SettingsError(f"{project.path.parent / project.settings.domains} holds no domain folder; add one")
    chosen = sorted(project.domains) if all_domains else [domain or sorted(project.domains)[0]]
    for name in chosen:
        project.domain(name)
    folder = prepare_instance(project)
    console = Console()
    watch_steps()
    for line in plan_lines(project, chosen):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    begun, failed = time.monotonic(), {}
    with open_instance(folder) as instance:
        console.rule("pool")
        run_job(instance, project, "refresh_pool", {})
        for name in chosen:
            console.rule(name)
            try:
                run_job(instance, project, "refresh_domain", {"dagster/partition": name})
            except G2isError as error:
                failed[name] = error
    for name in chosen:
        if name not in failed:
            _print_outcome(console, project, name)
    console.print(f"Took {time.monotonic() - begun:.0f} s. See it all, with history and lineage: g2is ui")
    if failed:
        raise G2isError("; ".join(f"domain '{name}' failed: {error}" for name, error in failed.items()))


def _print_outcome(console: Console, project: Project, domain: str) -> None:
    lake = Lake(project.home / "lake")
    evaluation = lake.current("finetune/evaluation", domain).manifest.metrics
    subset = lake.current("selection/subset", domain)
    adapter = lake.current("finetune/adapter", domain)
    random_epoch = lake.current("finetune/baseline", domain).manifest.metrics["best_epoch"]
    n_rows = subset.manifest.n_rows["subset"]
    # Titles and sources are other people's words: printed as they are, not as markup.
    title = printable(project.domain(domain).title)
    table = Table(title=escape(f"{title}: NLL on {evaluation['split']} rows (lower is better)"))
    for column in ("model", "rows trained on", "best epoch", "NLL", "G2IS minus it, 95 % interval over rows"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, rows, epoch in (("base", 0, ""), ("random", n_rows, random_epoch)):
        low, high = (evaluation[f"minus_{name}_{end}"] for end in ("low", "high"))
        interval = f"{evaluation[f'minus_{name}']:+.4f} [{low:+.4f}, {high:+.4f}]"
        table.add_row(name, str(rows), str(epoch), f"{evaluation[f'nll_{name}']:.4f}", interval)
    best = adapter.manifest.metrics["best_epoch"]
    table.add_row("g2is", str(n_rows), str(best), f"{evaluation['nll_g2is']:.4f}", "")
    console.print(table)
    console.print(verdict(evaluation))
    pool = lake.current("instructions/pool").read(POOL)
    sources = subset.read(SUBSET).join(pool, on="row_id").explode("sources")["sources"]
    mix = sources.value_counts().sort("count", "sources", descending=[True, False])
    parts = [f"{printable(source)} {count}" for source, count in mix.iter_rows()]
    console.print(f"Subset: {n_rows} of {len(pool)} rows; by source: {', '.join(parts)}", markup=False)
    console.print(f"Adapter: {adapter.folder / 'adapter'}", soft_wrap=True, markup=False)
    served = served_folder(lake, domain)
    if served != adapter.folder:
        instead = f"{served / 'adapter'} is still served" if served else "none is served yet"
        console.print(f"It was not promoted (domain.toml: promote); {instead}.", soft_wrap=True, markup=False)
    page = lake.place("audit/report", domain) / PAGE
    console.print(f"Report, to open in a browser (the address stays the same): {page}", soft_wrap=True, markup=False)
