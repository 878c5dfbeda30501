"""`python -m co2s_cli.jobs.gpu [FOLDER]`: what `make gpu` runs; without a GPU it says so and is content."""

import sys
from pathlib import Path

from co2s_cli import log
from co2s_cli.errors import Co2sError
from co2s_cli.jobs.gpu import proof


def main(arguments: list[str]) -> int:
    """Check and measure; the exit code."""
    log.setup(0)
    try:
        result = proof.run(Path(arguments[0] if arguments else "build/gpu"))
    except Co2sError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return error.exit_code
    sys.stdout.write(result.text() + "\n")
    return 1 if result.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
