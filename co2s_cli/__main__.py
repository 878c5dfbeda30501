"""`python -m co2s_cli`: the `co2s` command, also under torchrun."""

from co2s_cli.cli import app

if __name__ == "__main__":
    app(prog_name="co2s")
