"""Options that several commands share."""

from pathlib import Path

import click

config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Settings file; default: the variable G2IS_CONFIG, else data/g2is.toml.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
