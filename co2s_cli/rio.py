"""The plugin of rasterio's command line by which `rio co2s …` runs `co2s …`. The only module that imports click."""

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
    """Replace this process by co2s: Typer brings its own click, whose commands cannot be added to rio's."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", "co2s_cli", *words])  # noqa: S606 - no shell, our own module
