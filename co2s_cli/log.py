"""Verbosity to logging levels; every message goes to stderr, other libraries' only at `-v`."""

import logging
import os
import sys
import warnings

from co2s_cli.errors import printable

OURS = "co2s_cli"


class _Printable(logging.Formatter):
    """Messages repeat names from files that anybody may have made: their control characters are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return printable(super().format(record))


def setup(amount: int) -> None:
    """Send log records to stderr: ours from INFO, other libraries' from ERROR; each `-v` shows more, each `-q` less.

    Library warnings become log records, so that they obey the same rule instead of littering the terminal.
    Under torchrun, ranks above 0 say only what goes wrong.
    """
    if os.environ.get("RANK", "0").strip() not in ("0", ""):
        amount = min(amount, -2)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(message)s" if amount < 2 else "%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_level(logging.ERROR, amount))
    logging.getLogger(OURS).setLevel(_level(logging.INFO, amount))
    logging.captureWarnings(True)
    if not sys.warnoptions:
        warnings.simplefilter("default" if amount > 0 else "ignore")


def verbosity() -> int:
    """The verbosity in force, told from the level of our own logger."""
    return -(-(logging.INFO - logging.getLogger(OURS).getEffectiveLevel()) // 10)


def _level(base: int, amount: int) -> int:
    return max(1, base - 10 * amount)
