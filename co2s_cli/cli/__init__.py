"""The `co2s` application and its global options; each command is a file. No heavy imports, so that `--help` is fast."""

from typing import Annotated

import typer

from co2s_cli import __version__, log
from co2s_cli.cli import common, options

app = typer.Typer(
    name="co2s",
    cls=common.Co2sGroup,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"co2s {__version__}")
        raise typer.Exit


@app.callback()
def main(
    verbose: options.Verbose = 0,
    quiet: options.Quiet = 0,
    version: Annotated[  # noqa: ARG001 - handled by its callback before this function runs
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Land-cover maps from large satellite and aerial imagery and few labels."""
    log.setup(verbose - quiet)


from co2s_cli.cli import (  # noqa: E402
    distill,  # noqa: F401 - importing a command's file registers it on `app`
    doctor,  # noqa: F401
    evaluate,  # noqa: F401
    export,  # noqa: F401
    fetch,  # noqa: F401
    import_,  # noqa: F401
    info,  # noqa: F401
    init,  # noqa: F401
    predict,  # noqa: F401
    pseudo_label,  # noqa: F401
    report,  # noqa: F401
    sample,  # noqa: F401
    sample_points,  # noqa: F401
    suggest,  # noqa: F401
    train,  # noqa: F401
    vectorize,  # noqa: F401
)
