"""`g2is doctor`: is everything there that a refresh needs? One line per check, and what to do."""

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from g2is_assets.cli import checkup_machine as machine
from g2is_assets.cli import checkup_project as content
from g2is_assets.cli.checkup_machine import Finding
from g2is_assets.errors import SettingsError
from g2is_assets.settings.project import Project, load_project

COLOURS: Final = {"ok": "green", "warning": "yellow", "problem": "red"}


def run_doctor(config: Path | None, port: int, as_json: bool) -> None:
    """Look, print what was found, and exit with 1 if there is a problem."""
    findings = _guarded("python", machine.check_python)
    try:
        project = load_project(config)
    except SettingsError as error:
        findings.append(Finding("settings", "problem", str(error)))
    else:
        n = len(project.domains)
        findings.append(Finding("settings", "ok", f"{project.path}, {n} {'domain' if n == 1 else 'domains'}"))
        findings += _look(project, port)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            state = click.style(f"{finding.state:<8}", fg=COLOURS[finding.state])
            click.echo(f"{state} {finding.check:<10} {finding.said}{f'; {finding.remedy}' if finding.remedy else ''}")
    sys.exit(1 if any(finding.state == "problem" for finding in findings) else 0)


def _look(project: Project, port: int) -> list[Finding]:
    n_rows, weights = 0, None
    found: list[Finding] = []

    def model() -> list[Finding]:
        nonlocal weights
        findings, weights = content.check_model(project)
        return findings

    def sources() -> list[Finding]:
        nonlocal n_rows
        findings, n_rows = content.check_sources(project)
        return findings

    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        "torch": lambda: machine.check_torch(project),
        "model": model,
        "memory": lambda: machine.check_memory(weights),
        "pool": sources,
        "domains": lambda: content.check_domains(project),
        "studies": lambda: content.check_studies(project),
        "disk": lambda: machine.check_disk(project, n_rows),
        "dagster": lambda: content.check_dagster(project, port),
    }
    for name, check in checks.items():
        found += _guarded(name, check)
    return found


def _guarded(name: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """A check that breaks is a finding too: it keeps none of the others from being made."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        found.append(Finding(name, "problem", f"could not be looked at: {type(error).__name__}: {reason}"))
    return found
