"""`rio co2s …` is `co2s …`: the plugin that rasterio's command line finds. The one module that knows click."""

from __future__ import annotations

import os
import sys

import click


@click.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    short_help="Land-cover maps of large imagery.",
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def co2s(words: tuple[str, ...]) -> None:
    """Run co2s in the place of this process: Typer has a click of its own, whose commands are none of rio's."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", "co2s_cli", *words])  # noqa: S606 - no shell, our own module
