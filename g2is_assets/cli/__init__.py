"""The command `g2is`. Heavy imports happen inside the commands, so that help answers at once."""

import sys
from pathlib import Path
from typing import Final

import click

from g2is_assets import __version__
from g2is_assets.errors import G2isError

STOPPED: Final = 130
"""Exit code after Ctrl-C, as shells have it."""


class _Group(click.Group):
    """Prints the project's own errors as one message, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except G2isError as error:
            raise click.ClickException(str(error)) from error


config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Settings file; default: the variable G2IS_CONFIG, else data/g2is.toml.",
)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="g2is")
def main() -> None:
    """Select the instructions that adapt a language model best to a domain, and prove it."""


@main.command()
@config_option
@click.option("--domain", help="The target domain; default: the first by name.")
@click.option("--all", "all_domains", is_flag=True, help="Every domain, one after the other.")
def demo(config: Path | None, domain: str | None, all_domains: bool) -> None:
    r"""Materialise everything for one domain and print what came out.

    \b
    Example: g2is demo --domain shop_arithmetic
    """
    try:
        from g2is_assets.cli.demo import run_demo

        run_demo(config, domain, all_domains)
    except KeyboardInterrupt:
        click.echo("Stopped. Finished work is kept: the same command goes on from there.", err=True)
        sys.exit(STOPPED)


@main.command()
@config_option
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535), help="Of the web server.")
def ui(config: Path | None, port: int) -> None:
    r"""Open Dagster's web server and daemon for this project, on this machine only.

    \b
    Example: g2is ui --port 3333
    """
    from g2is_assets.cli.ui import run_ui

    run_ui(config, port)
