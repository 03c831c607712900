"""`g2is demo`: a project of the sample data if there is none, a refresh of it, and a table of what came out."""

from pathlib import Path

from g2is_assets.cli.init import run_init
from g2is_assets.cli.refresh import asked_for, print_places, print_subset, run_refresh
from g2is_assets.cli.tables import print_table
from g2is_assets.errors import NoProjectError, command
from g2is_assets.reports.terminal import Terminal
from g2is_assets.reports.words import difference_to, verdict
from g2is_assets.settings.project import Project, load_project
from g2is_assets.store.lake import Lake


def run_demo(config: Path | None, domain: str | None, all_domains: bool) -> None:
    """Refresh the first domain by name, the one named, or all, of the project that is there or of one made here.

    Raises:
        NoProjectError: There is none, and this folder holds something else.
    """
    try:
        project = load_project(config)
    except NoProjectError as error:
        if any(not entry.name.startswith(".") for entry in Path.cwd().iterdir()):
            raise NoProjectError(
                f"{error}; none is made here, since {Path.cwd()} is not empty: run "
                f"{command('init demo --sample')}, then {command('demo --config demo/g2is.toml')}"
            ) from None
        run_init(Path(), sample=True)
        project = load_project()
    first = [] if domain or all_domains else sorted(project.domains)[:1]
    names = asked_for(project, [domain] if domain else first, all_domains=all_domains, pool=False)
    run_refresh(project, names, _print_outcome)


def _print_outcome(console: Terminal, project: Project, domain: str) -> None:
    lake = Lake(project.home / "lake")
    evaluation = lake.current("finetune/evaluation", domain).manifest.metrics
    subset, adapter = lake.current("selection/subset", domain), lake.current("finetune/adapter", domain)
    random_epoch = lake.current("finetune/baseline", domain).manifest.metrics["best_epoch"]
    n_rows = subset.manifest.n_rows["subset"]
    before = [("served", "", "")] if "nll_served" in evaluation else []
    rows = []
    for name, n_trained, epoch in (
        ("base", 0, ""),
        ("random", n_rows, random_epoch),
        *before,
        ("g2is", n_rows, adapter.manifest.metrics["best_epoch"]),
    ):
        interval = "" if name == "g2is" else str(difference_to(name, evaluation))
        label = "before" if name == "served" else name
        cells = {"model": label, "NLL": f"{evaluation[f'nll_{name}']:.4f}", "G2IS minus it, 95 % interval": interval}
        rows.append(cells | {"rows trained on": str(n_trained), "best epoch": str(epoch)})
    title = f"{project.domain(domain).title}: NLL on {evaluation['split']} rows (lower is better)"
    print_table("table", rows, right=rows[0].keys() - {"model"}, title=title)
    console.print(verdict(evaluation), markup=False)
    print_subset(console, project, domain)
    print_places(console, project, domain)
